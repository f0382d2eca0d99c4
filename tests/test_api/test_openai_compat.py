"""OpenAI's official SDKs for Python against the real server, before an Ollama that plays its part on a real socket."""

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import (
    ollama_error,
    ollama_error_line,
    ollama_line,
    ollama_server,
    ollama_show,
    ollama_stream,
    ollama_tags,
)
from tests.fakes.scripted_server import Reply, Wait, forever
from tests.test_api.openai_callers import HELLO, Caller, calling, text_of

TOOL = {"type": "function", "function": {"name": "f"}}
NAMED = {"type": "function", "function": {"name": "other"}}
CALL_AND_RESULT = [
    {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{"}}]},
    {"role": "tool", "content": "x"},
]
PIECES = ("Hel", "lo\u2028", '"quoted"\n', "\\ \x7f", "🎉", "e\u0301")
BOTH = pytest.mark.parametrize("kind", ["async", "sync"])


@pytest.fixture(params=["async", "sync"])
async def sdk(request: pytest.FixtureRequest, archer: Archer) -> AsyncIterator[Caller]:
    """Each of the two SDKs, with the server's base URL and some key."""
    async with calling(request.param, f"http://{archer.address}/v1") as caller:
        yield caller


async def test_a_whole_answer_has_openai_s_form(archer: Archer, sdk: Caller) -> None:
    archer.answer(ollama_stream(ollama_line(thinking="hm"), "Hel", "lo", prompt_tokens=5, completion_tokens=7))
    answer = await sdk.complete()
    assert (answer.object, answer.model) == ("chat.completion", "llama3.2")
    assert answer.created > 1_700_000_000
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert choice.message.model_dump(exclude_unset=True) == {
        "role": "assistant", "content": "Hello", "refusal": None, "reasoning_content": "hm",
    }  # fmt: skip
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 7, 12)
    stream = archer.app.state.services.manager.find("local", answer.id)
    assert stream.status == "completed"


async def test_a_stream_comes_in_chunks_of_one_id_and_ends_with_its_reason(archer: Archer, sdk: Caller) -> None:
    archer.answer(ollama_stream(ollama_line(thinking="hm"), "Hel", "lo", done_reason="length"))
    chunks = await sdk.chunks()
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    deltas = [chunk.choices[0].delta.model_dump(exclude_unset=True) for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert deltas[1] == {"reasoning_content": "hm"}
    assert deltas[-1] == {}
    assert text_of(chunks) == "Hello"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]


async def test_the_text_is_byte_for_byte_that_of_our_own_routes(archer: Archer, sdk: Caller) -> None:
    archer.answer(ollama_stream(*PIECES))
    ours = (await archer.http.post("/api/v1/chat/completions", json={"messages": HELLO})).json()["content"]
    assert ours == "".join(PIECES)
    assert text_of(await sdk.chunks()) == ours
    assert (await sdk.complete()).choices[0].message.content == ours


async def test_the_tokens_of_a_stream_come_only_when_asked_for(archer: Archer, sdk: Caller) -> None:
    archer.answer(ollama_stream("Hi", prompt_tokens=5))
    assert not [chunk for chunk in await sdk.chunks(stream_options=None) if chunk.usage or not chunk.choices]
    *others, last = await sdk.chunks(stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (5, 1, 6)
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in others)


@pytest.mark.usefixtures("every_reader_stops_when_told")
async def test_leaving_in_mid_stream_closes_the_provider(archer: Archer, sdk: Caller) -> None:
    archer.answer(ollama_stream("first", forever()))
    assert await sdk.leave_after_first_text() == "first"
    exchange = await archer.ollama.exchange(0)
    async with asyncio.timeout(10):
        await exchange.client_left.wait()


@pytest.mark.usefixtures("every_reader_stops_when_told")
async def test_a_cancelled_call_closes_the_provider_before_its_first_text(archer: Archer) -> None:
    archer.answer(ollama_stream(before_headers=[forever()]))
    async with calling("async", f"http://{archer.address}/v1") as caller:
        for number, waiting in enumerate((caller.chunks(), caller.complete())):
            call = asyncio.create_task(waiting)
            exchange = await archer.ollama.exchange(number)
            call.cancel()
            async with asyncio.timeout(10):
                await exchange.client_left.wait()
            with pytest.raises(asyncio.CancelledError):
                await call


async def test_every_listed_model_works_when_it_is_sent_back(archer: Archer, sdk: Caller) -> None:
    names = ("llama3.2:latest", "hf.co/someone/tiny:Q4_K_M", "gpt-4o")
    chat = ollama_stream("Hi")
    archer.ollama.responder = ollama_server(
        {"/api/chat": chat, "/api/show": ollama_show(4096), "/api/tags": ollama_tags(*names)}
    )
    listed = [model for model in await sdk.models() if model.owned_by == "ollama"]
    assert [model.id for model in listed] == [f"ollama/{name}" for name in names]
    for model, name in zip(listed, names, strict=True):
        assert isinstance(model.created, int)
        assert await sdk.model(model.id) == model
        await sdk.complete(model=model.id)
        assert archer.ollama.exchanges[-1].json()["model"] == name
    for bare in ("llama3.2", "llama3.2:latest", "hf.co/someone/tiny:Q4_K_M"):
        assert (await sdk.model(bare)).id in {model.id for model in listed}
    with pytest.raises(openai.NotFoundError, match="GET /v1/models") as caught:
        await sdk.model("ollama/nope/at:all")
    assert caught.value.code == "model_not_found"


class TestErrors:
    """Each failure as the exception that a user of the SDK expects."""

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("reply", "expected", "code"),
        [
            (ollama_error("model not found", 404), openai.NotFoundError, "model_not_found"),
            (ollama_error("slow down", 429), openai.RateLimitError, "rate_limit_exceeded"),
            (ollama_error("broken", 500), openai.InternalServerError, "provider_error"),
            # No retry helps, and other clients than OpenAI's SDKs retry each 5xx.
            (ollama_error("invalid option", 400), openai.BadRequestError, "provider_error"),
            (ollama_error("unauthorized", 401), openai.BadRequestError, "provider_auth"),
            (ollama_stream(end=False), openai.InternalServerError, "upstream_truncated"),
        ],
    )
    async def test_before_the_first_text(
        self,
        archer: Archer,
        sdk: Caller,
        reply: Reply,
        *,
        expected: type[openai.APIStatusError],
        code: str,
        stream: bool,
    ) -> None:
        archer.answer(reply)
        with pytest.raises(expected) as caught:
            await (sdk.chunks() if stream else sdk.complete())
        assert caught.value.code == code
        assert caught.value.request_id == caught.value.response.headers["x-request-id"]
        assert caught.value.response.headers["x-stream-id"]

    @pytest.mark.parametrize(
        ("reply", "code"),
        [
            (ollama_stream("some", ollama_error_line("out of memory"), end=False), "provider_error"),
            (ollama_stream("some", end=False), "upstream_truncated"),
        ],
    )
    async def test_in_mid_stream(self, archer: Archer, sdk: Caller, reply: Reply, code: str) -> None:
        archer.answer(reply)
        chunks: list[ChatCompletionChunk] = []
        with pytest.raises(openai.APIError) as caught:
            await sdk.stream(chunks)
        assert caught.value.code == code
        assert not isinstance(caught.value, openai.APIConnectionError)
        assert text_of(chunks) == "some"
        assert not [chunk for chunk in chunks if chunk.choices[0].finish_reason]

    async def test_of_a_whole_answer_that_stopped_in_the_middle(self, archer: Archer, sdk: Caller) -> None:
        archer.answer(ollama_stream("some", end=False))
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.complete()
        assert caught.value.code == "upstream_truncated"

    async def test_of_a_request_that_is_not_served_names_the_parameter(self, sdk: Caller) -> None:
        for fields, param in (
            ({"n": 2}, "n"),
            ({"functions": [{"name": "f"}]}, "functions"),
            ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
            ({"messages": [*HELLO, {"role": "function", "content": "x", "name": "f"}]}, "messages[1].role"),
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                await sdk.complete(**fields)
            assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
            assert caught.value.type == "invalid_request_error"

    async def test_of_a_value_out_of_range_names_the_parameter(self, sdk: Caller) -> None:
        for fields, param in (
            ({"temperature": 3}, "temperature"),
            ({"max_completion_tokens": 0}, "max_completion_tokens"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
            ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
            ({"stop": ["x"] * 17}, "stop"),
            ({"tool_choice": "required"}, "tool_choice"),
            ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
            ({"tools": [TOOL], "tool_choice": NAMED}, "tool_choice.function.name"),
            ({"messages": [*HELLO, *CALL_AND_RESULT[1:]]}, "messages[1].tool_call_id"),
            ({"messages": [*HELLO, CALL_AND_RESULT[0]]}, "messages[1].tool_calls[0].function.arguments"),
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                await sdk.complete(**fields)
            assert (caught.value.param, caught.value.code) == (param, "invalid_value")

    @BOTH
    async def test_of_a_wrong_key_where_one_is_needed(self, start_archer: StartArcher, kind: str) -> None:
        async with start_archer(auth_token="the-real-token") as archer:
            archer.answer(ollama_stream("Hi"))
            async with calling(kind, f"http://{archer.address}/v1") as caller:
                with pytest.raises(openai.AuthenticationError) as caught:
                    await caller.complete()
                assert (caught.value.code, caught.value.type) == ("invalid_api_key", "authentication_error")
                with pytest.raises(openai.AuthenticationError):
                    await caller.models()
            async with calling(kind, f"http://{archer.address}/v1", api_key="the-real-token") as caller:
                assert text_of(await caller.chunks()) == "Hi"

    @BOTH
    async def test_that_no_retry_can_help_is_not_tried_again(self, archer: Archer, kind: str) -> None:
        async with calling(kind, f"http://{archer.address}/v1", max_retries=2) as caller:
            with pytest.raises(openai.BadRequestError, match="OPENAI_API_KEY") as caught:
                await caller.complete(model="openai/gpt-4o")
        assert caught.value.code == "provider_not_configured"
        assert caught.value.request.headers["x-stainless-retry-count"] == "0"

    @BOTH
    async def test_that_may_pass_is_tried_again_by_the_sdk(self, archer: Archer, kind: str) -> None:
        replies = [ollama_error("busy", 503), ollama_stream("yes")]
        archer.answer(lambda _: replies.pop(0))
        async with calling(kind, f"http://{archer.address}/v1", max_retries=1) as caller:
            assert text_of(await caller.chunks()) == "yes"


class TestCancelledElsewhere:
    """An answer that somebody cancels is never taken for a whole one."""

    async def test_a_stream(self, archer: Archer, sdk: Caller) -> None:
        archer.answer(ollama_stream("some", forever()))
        chunks: list[ChatCompletionChunk] = []
        reading = asyncio.create_task(sdk.stream(chunks))
        stream_id = await running_stream(archer)
        assert (await archer.http.delete(f"/api/v1/streams/{stream_id}")).json()["outcome"] == "cancelling"
        with pytest.raises(openai.APIError) as caught:
            await reading
        assert (caught.value.code, text_of(chunks)) == ("cancelled", "some")

    async def test_a_whole_answer(self, archer: Archer, sdk: Caller) -> None:
        archer.answer(ollama_stream("some", forever()))
        waiting = asyncio.create_task(sdk.complete())
        await archer.http.delete(f"/api/v1/streams/{await running_stream(archer)}")
        with pytest.raises(openai.APIStatusError) as caught:
            await waiting
        assert (caught.value.status_code, caught.value.code) == (499, "cancelled")

    async def test_by_the_server_s_stop(self, archer: Archer, sdk: Caller) -> None:
        archer.answer(ollama_stream("some", forever()))
        chunks: list[ChatCompletionChunk] = []
        reading = asyncio.create_task(sdk.stream(chunks))
        await running_stream(archer)
        await archer.app.state.services.manager.aclose()
        with pytest.raises(openai.APIError) as caught:
            await reading
        assert (caught.value.code, text_of(chunks)) == ("draining", "some")
        with pytest.raises(openai.InternalServerError) as refused:
            await sdk.complete()
        assert refused.value.code == "draining"
        assert int(refused.value.response.headers["retry-after-ms"]) > 0
        assert "x-should-retry" not in refused.value.response.headers


async def test_the_texts_of_two_steps_are_told_apart_by_an_empty_line(archer: Archer, sdk: Caller) -> None:
    steered = asyncio.Event()
    archer.answer(ollama_stream("The sky.", Wait(steered)))
    reading = asyncio.create_task(sdk.chunks())
    stream_id = await running_stream(archer)
    message = {"message_id": "m1", "content": "Briefly"}
    told = await archer.http.post(f"/api/v1/streams/{stream_id}/steer", json=message)
    assert told.json()["outcome"] == "accepted"
    archer.answer(ollama_stream("Briefly:", " blue."))
    steered.set()
    assert text_of(await reading) == "The sky.\n\nBriefly: blue."


async def running_stream(archer: Archer) -> str:
    """The id of the one stream, once some text of it has come."""
    await archer.ollama.exchange(0)
    manager = archer.app.state.services.manager
    (info,) = manager.list_streams("local").items
    stream = manager.find("local", info.stream_id)
    grown = asyncio.Event()
    unwatch = stream.log.watch(grown.set)
    async with asyncio.timeout(10):
        while not stream.log.content_bytes:
            grown.clear()
            await grown.wait()
    unwatch()
    return str(info.stream_id)


class TestAWrongBaseUrl:
    """The SDK's own exception says which one is right."""

    @pytest.mark.parametrize("wrong", ["/api/v1", "", "/api", "/openai/v1"])
    async def test_is_told_the_right_one(self, archer: Archer, wrong: str) -> None:
        for kind in ("async", "sync"):
            async with calling(kind, f"http://{archer.address}{wrong}") as caller:
                for asking in (caller.complete(), caller.chunks(), caller.models(), caller.model("local/smollm2")):
                    with pytest.raises(openai.NotFoundError, match=f"http://{archer.address}/v1"):
                        await asking
        assert not archer.ollama.exchanges

    async def test_is_told_to_what_is_no_sdk_where_nothing_is(self, archer: Archer) -> None:
        answer = await archer.http.post("/chat/completions", json={"messages": HELLO})
        assert answer.status_code == 404
        assert f"http://{archer.address}/v1" in answer.json()["error"]["hint"]

    async def test_leaves_our_own_clients_and_other_sdks_alone(self, archer: Archer) -> None:
        archer.answer(ollama_stream("Hi"))
        for headers in ({}, {"x-stainless-lang": "python", "anthropic-version": "2023-06-01"}):
            answer = await archer.http.post("/api/v1/chat/completions", json={"messages": HELLO}, headers=headers)
            assert answer.json()["content"] == "Hi"


async def test_the_sdk_s_own_stream_accumulator_understands_the_chunks(archer: Archer) -> None:
    archer.answer(ollama_stream("Hel", Wait(_set()), "lo"))
    async with (
        openai.AsyncOpenAI(base_url=f"http://{archer.address}/v1", api_key="x", max_retries=0) as client,
        client.chat.completions.stream(
            model="llama3.2", messages=HELLO, stream_options={"include_usage": True}
        ) as stream,
    ):
        completion = await stream.get_final_completion()
    assert completion.choices[0].message.content == "Hello"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 2


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
