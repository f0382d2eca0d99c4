"""An effort over every way to ask, and what else OpenAI's dialect passes on: penalties and tokens' probabilities."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from archer_ws.client.archer import Effort, connect
from archer_ws.client.events import Started
from tests.conftest import Archer, StartArcher
from tests.fakes import anthropic_api
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.openai_api import (
    DONE,
    chunk,
    completion,
    ending,
    error_event,
    event,
    finish,
    stream,
    text_stream,
    usage,
)
from tests.fakes.scripted_server import ScriptedServer, Step, Wait, scripted_server

HELLO: Sequence[Any] = [{"role": "user", "content": "Hi"}]
NATIVE = "/api/v1/chat/completions"
DIALECT = "/v1/chat/completions"


@asynccontextmanager
async def before(
    start_archer: StartArcher, *replies: Any, **settings: Any
) -> AsyncIterator[tuple[Archer, ScriptedServer]]:
    """The application before a server that is both OpenAI and Anthropic."""
    async with (
        asyncio.timeout(60),
        scripted_server(*replies) as provider,
        start_archer(
            openai_base_url=f"{provider.url}/v1",
            openai_api_key="sk-test",
            anthropic_base_url=provider.url,
            anthropic_api_key="sk-test",
            **settings,
        ) as archer,
    ):
        yield archer, provider


def sdk(archer: Archer) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://{archer.address}/v1", api_key="any", max_retries=0)


async def test_the_client_s_stream_tells_what_the_effort_became(start_archer: StartArcher) -> None:
    efforts: list[tuple[Effort | None, str | None]] = [("max", "high"), (None, None)]
    async with (
        before(start_archer, *[text_stream(["Hello"])] * 2) as (archer, provider),
        connect(f"ws://{archer.address}") as client,
    ):
        for asked, told in efforts:
            answer = client.chat("Hi", model="openai/gpt-5.1", reasoning_effort=asked)
            (started,) = [each async for each in answer.events() if isinstance(each, Started)]
            assert started.reasoning_effort == told
            assert provider.exchanges[-1].json().get("reasoning_effort") == told


async def test_events_over_http_tell_it_too_and_the_same_request_attaches(start_archer: StartArcher) -> None:
    async with before(start_archer, text_stream(["Hello"])) as (archer, _):
        body = {"messages": HELLO, "model": "openai/gpt-5", "reasoning_effort": "none", "stream_id": "s"}
        refused = await archer.http.post(f"{NATIVE}/stream", json=body)
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert (error["kind"], error["errors"][0]["path"]) == ("unsupported", "reasoning_effort")
        assert "minimal" in error["hint"]
        body["reasoning_effort"] = "max"
        events = (await archer.http.post(f"{NATIVE}/stream", json=body)).text
        started = json.loads(events.split("event: started\n")[1].split("data: ")[1].split("\n")[0])
        assert started["reasoning_effort"] == "high"
        # The fingerprint is of what was sent: the effort that it became is another request's.
        again = await archer.http.post(NATIVE, json=body)
        assert (again.status_code, again.json()["content"]) == (200, "Hello")
        other = await archer.http.post(NATIVE, json={**body, "reasoning_effort": "high"})
        assert (other.status_code, other.json()["error"]["kind"]) == (409, "stream_id_conflict")


@pytest.mark.parametrize("asked", ["minimal", "low", "xhigh"])
async def test_openai_s_sdk_sends_an_effort_and_the_provider_sees_it(start_archer: StartArcher, asked: Any) -> None:
    async with before(start_archer, *[text_stream(["Hello"])] * 2) as (archer, provider), sdk(archer) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="openai/gpt-5", messages=HELLO, reasoning_effort=asked
        )
        assert raw.headers.get("X-Archer-Ignored") is None
        await client.chat.completions.create(model="openai/gpt-5", messages=HELLO, reasoning_effort=asked, stream=True)
        told = "high" if asked == "xhigh" else asked
        assert [each.json()["reasoning_effort"] for each in provider.exchanges] == [told] * 2


@pytest.mark.parametrize(
    ("model", "fields", "param"),
    [
        ("openai/gpt-5", {"reasoning_effort": "none"}, "reasoning_effort"),
        ("openai/gpt-4o", {"reasoning_effort": "low"}, "reasoning_effort"),
        ("local/SmolLM2-135M-Instruct", {"reasoning_effort": "low"}, "reasoning_effort"),
        ("openai/gpt-5", {"presence_penalty": 0.1}, "presence_penalty"),
        ("openai/o3", {"logprobs": True}, "logprobs"),
        ("openai/gpt-5.1", {"logprobs": True, "reasoning_effort": "low"}, "logprobs"),
        ("anthropic/claude-opus-5-5", {"frequency_penalty": -0.1}, "frequency_penalty"),
        ("anthropic/claude-3-5-sonnet-latest", {"logprobs": True}, "logprobs"),
        ("ollama/llama3.2", {"logprobs": True, "top_logprobs": 2}, "logprobs"),
        ("anthropic/claude-sonnet-4-5", {"reasoning_effort": "low", "max_tokens": 100}, "reasoning_effort"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
async def test_what_a_model_does_not_take_is_refused_by_name(
    start_archer: StartArcher, model: str, fields: dict[str, Any], param: str, streams: bool
) -> None:
    async with before(start_archer) as (archer, provider):
        answer = await archer.http.post(DIALECT, json={"model": model, "messages": HELLO, "stream": streams, **fields})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (400, param, "unsupported_parameter")
        assert not provider.exchanges


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"frequency_penalty": "much"}, "frequency_penalty"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"reasoning_effort": "ultra"}, "reasoning_effort"),
    ],
)
async def test_a_value_that_is_none_is_refused_at_its_place(
    start_archer: StartArcher, fields: dict[str, Any], param: str
) -> None:
    async with before(start_archer) as (archer, _):
        answer = await archer.http.post(DIALECT, json={"model": "openai/gpt-4o", "messages": HELLO, **fields})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")


async def test_penalties_reach_openai_and_ollama_and_zeros_nobody(start_archer: StartArcher) -> None:
    penalties = {"presence_penalty": 0.1, "frequency_penalty": -0.2}
    async with before(start_archer, *[text_stream(["Hello"])] * 2) as (archer, provider):
        body = {"model": "openai/gpt-4o-mini", "messages": HELLO}
        for fields in (penalties, {"presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False}):
            assert (await archer.http.post(DIALECT, json={**body, **fields})).status_code == 200
        sent, zeros = (each.json() for each in provider.exchanges)
        assert {name: sent[name] for name in penalties} == penalties
        assert not {*penalties, "logprobs", "top_logprobs"} & zeros.keys()
        archer.answer(ollama_stream("Hello"))
        answer = await archer.http.post(DIALECT, json={"model": "llama3.2", "messages": HELLO, **penalties})
        assert "X-Archer-Ignored" not in answer.headers
        assert (await archer.ollama.exchange(0)).json()["options"] == penalties


async def test_what_a_thinking_claude_is_not_sent_is_named(start_archer: StartArcher) -> None:
    async with before(start_archer, *[anthropic_api.text_stream(["Hello"])] * 2) as (archer, provider):
        body = {"model": "anthropic/claude-sonnet-4-5", "messages": HELLO, "temperature": 0.5}
        answer = await archer.http.post(DIALECT, json={**body, "reasoning_effort": "low"})
        assert answer.headers["X-Archer-Ignored"] == "temperature"
        answer = await archer.http.post(DIALECT, json={**body, "reasoning_effort": "none"})
        assert "X-Archer-Ignored" not in answer.headers
        assert [each.json().get("temperature") for each in provider.exchanges] == [None, 0.5]


def token(text: str, logprob: float = -0.1, *others: str) -> dict[str, Any]:
    said = {"token": text, "logprob": logprob, "bytes": list(text.encode())}
    return {**said, "top_logprobs": [{"token": each, "logprob": -2.0, "bytes": None} for each in others]}


def scored(text: str | None, *tokens: dict[str, Any], delta: dict[str, Any] | None = None) -> bytes:
    """A chunk whose tokens have probabilities, with a field that OpenAI does not have, as llama.cpp's."""
    content = [{"id": 7, **each} for each in tokens]
    delta = delta or {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": {"content": content}, "finish_reason": None}
    return event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


async def chunks_of(archer: Archer, **fields: Any) -> list[Any]:
    async with sdk(archer) as client:
        asked: Any = {"model": "openai/gpt-4o", "messages": HELLO, "logprobs": True, "top_logprobs": 2, **fields}
        return [each async for each in await client.chat.completions.create(**asked, stream=True)]


async def test_probabilities_come_back_whole_and_streamed_with_their_text(start_archer: StartArcher) -> None:
    tokens = [token("Hel", -0.5, "Hel", "Hi"), token("lo", -0.25, "lo"), token(" 🎉", -3)]
    steps: list[Step] = [chunk({"role": "assistant", "content": ""}), scored("Hel", tokens[0])]
    steps += [scored("lo", tokens[1]), scored(" 🎉", tokens[2]), *ending()]
    async with before(start_archer, *[stream(*steps)] * 2) as (archer, provider):
        async with sdk(archer) as client:
            whole = await client.chat.completions.create(
                model="openai/gpt-4o", messages=HELLO, logprobs=True, top_logprobs=2
            )
        assert whole.choices[0].message.content == "Hello 🎉"
        assert whole.choices[0].logprobs is not None
        assert whole.choices[0].logprobs.model_dump() == {"content": tokens, "refusal": None}
        seen = []
        for each in await chunks_of(archer):
            choice = each.choices[0]
            said = [] if choice.logprobs is None else choice.logprobs.content
            if choice.delta.content:
                assert "".join(one.token for one in said) == choice.delta.content
            seen += [one.model_dump() for one in said]
        assert seen == tokens
        for exchange in provider.exchanges:
            assert (exchange.json()["logprobs"], exchange.json()["top_logprobs"]) == (True, 2)


@pytest.mark.parametrize(("asked", "told"), [({}, []), ({"top_logprobs": 0}, []), ({"top_logprobs": 1}, ["Hello"])])
async def test_alternatives_that_were_not_asked_for_are_not_told(
    start_archer: StartArcher, asked: dict[str, int], told: list[str]
) -> None:
    """llama.cpp's server sends twenty if none are asked for."""
    async with before(start_archer, stream(scored("Hello", token("Hello", -0.5, "Hello", "Hi")), *ending())) as (
        archer,
        _,
    ):
        body = {"model": "openai/gpt-4o", "messages": HELLO, "logprobs": True, **asked}
        answer = await archer.http.post(DIALECT, json=body)
        assert answer.json()["choices"][0]["logprobs"]["content"] == [token("Hello", -0.5, *told)]


@pytest.mark.parametrize("is_one_read", [True, False], ids=["in one read", "in reads of their own"])
async def test_reasoning_text_and_calls_have_their_own_probabilities(
    start_archer: StartArcher, is_one_read: bool
) -> None:
    # vLLM's and llama.cpp's, which score every token.
    deltas: list[dict[str, Any]] = [{"reasoning_content": "h"}, {"reasoning_content": "m"}, {"content": "Hel"}]
    deltas += [{"content": "lo"}, {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}]
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}]
    tokens = [token(each) for each in ("h", "m", "Hel", "lo", "<call>", "{}")]
    steps = [scored(None, one, delta=delta) for delta, one in zip(deltas, tokens, strict=True)]
    steps = [b"".join(steps)] if is_one_read else steps
    tools = [{"type": "function", "function": {"name": "f"}}]
    async with before(start_archer, *[stream(*steps, *ending("tool_calls"))] * 2) as (archer, _):
        chunks = [each.choices[0] for each in await chunks_of(archer, tools=tools)]
        for field, text in (("reasoning_content", "hm"), ("content", "Hello")):
            own = [each for each in chunks if getattr(each.delta, field, None)]
            assert "".join(getattr(each.delta, field) for each in own) == text
            assert "".join(one.token for each in own for one in each.logprobs.content) == text
        assert [one.token for one in chunks[-1].logprobs.content] == ["<call>", "{}"]
        answer = await archer.http.post(DIALECT, json={"model": "openai/gpt-4o", "messages": HELLO, "logprobs": True})
        assert answer.json()["choices"][0]["logprobs"]["content"] == tokens


async def test_an_attempt_that_fails_before_its_text_leaves_no_probabilities_and_no_counts(
    start_archer: StartArcher,
) -> None:
    failing = stream(scored("", token("Bad")), usage(300, 200), error_event("overloaded", kind="server_error"))
    going_well = stream(scored("Hello", token("Hello")), finish(), DONE)
    async with before(start_archer, failing, going_well, max_retries=1) as (archer, provider):
        answer = await archer.http.post(DIALECT, json={"model": "openai/gpt-4o", "messages": HELLO, "logprobs": True})
        assert answer.json()["choices"][0]["logprobs"]["content"] == [token("Hello")]
        assert answer.json()["usage"]["prompt_tokens"] < 300
        assert len(provider.exchanges) == 2


async def test_a_whole_answer_has_the_probabilities_of_the_step_whose_text_it_has(start_archer: StartArcher) -> None:
    steered = asyncio.Event()
    first = stream(scored("Hello", token("Hello")), Wait(steered), finish(), DONE)
    second = stream(scored("Bye", token("Bye")), finish(), DONE)
    async with before(start_archer, first, second) as (archer, provider):
        body = {"model": "openai/gpt-4o", "messages": HELLO, "logprobs": True}
        asking = asyncio.create_task(archer.http.post(DIALECT, json=body))
        await provider.exchange(0)
        (running,) = archer.app.state.services.manager.list_streams("local").items
        message = {"message_id": "m1", "content": "And now?"}
        told = await archer.http.post(f"/api/v1/streams/{running.stream_id}/steer", json=message)
        assert told.json()["outcome"] == "accepted"
        steered.set()
        (choice,) = (await asking).json()["choices"]
        assert choice["message"]["content"] == "Bye"
        assert choice["logprobs"]["content"] == [token("Bye")]


async def test_a_whole_answer_without_a_stream_has_its_probabilities(start_archer: StartArcher) -> None:
    reply = completion("Hello")
    body = json.loads(b"".join(step for step in reply.steps if isinstance(step, bytes)))
    body["choices"][0]["logprobs"] = {"content": [token("Hello")], "refusal": None}
    reply.steps = [json.dumps(body).encode()]
    async with before(start_archer, reply) as (archer, _):
        answer = await archer.http.post(DIALECT, json={"model": "openai/gpt-4o", "messages": HELLO, "logprobs": True})
        assert answer.json()["choices"][0]["logprobs"]["content"] == [token("Hello")]


async def test_a_server_that_tells_none_and_one_that_tells_nonsense(start_archer: StartArcher) -> None:
    odd: list[Any] = [None, 1, "x", [], {"content": None}, {"content": [3, {"token": 1}, {"token": "a"}]}]
    odd += [{"content": [{"token": "a", "logprob": 10**400}]}, {"content": [{"token": "a", "logprob": True}]}]
    odd += [{"content": [{"token": "a", "logprob": "1"}]}, {"tokens": ["a"], "token_logprobs": [-1]}]
    fine = {
        "token": "b",
        "logprob": -1,
        "bytes": [98, 256],
        "top_logprobs": [4, {"token": "c"}, {"token": "d", "logprob": 0}],
    }
    choices = [{"index": 0, "delta": {"content": "a"}, "logprobs": each} for each in [*odd, {"content": [fine]}]]
    steps = [event({"object": "chat.completion.chunk", "choices": [choice]}) for choice in choices]
    async with before(start_archer, text_stream(["Hello"]), stream(*steps, *ending())) as (archer, _):
        assert all(each.choices[0].logprobs is None for each in await chunks_of(archer))
        told = [each.choices[0].logprobs for each in await chunks_of(archer) if each.choices[0].logprobs]
        assert [one.model_dump() for each in told for one in each.content] == [
            {
                "token": "b",
                "logprob": -1,
                "bytes": None,
                "top_logprobs": [{"token": "d", "logprob": 0, "bytes": None}],
            }
        ]


async def test_a_key_that_the_model_says_in_tokens_is_masked_in_them_too(start_archer: StartArcher) -> None:
    key = "sk-proj-4f9a7c21d0be"
    pieces = ["The", " key", " sk-", "proj-4f9", "a7c21d0be", " is it"]
    steps = [scored(each, token(each)) for each in pieces]
    async with (
        scripted_server(stream(*steps, *ending())) as provider,
        start_archer(openai_base_url=f"{provider.url}/v1", openai_api_key=key) as archer,
    ):
        answer = await archer.http.post(DIALECT, json={"model": "openai/gpt-4o", "messages": HELLO, "logprobs": True})
    assert answer.json()["choices"][0]["message"]["content"] == "The key [redacted] is it"
    told = [each["token"] for each in answer.json()["choices"][0]["logprobs"]["content"]]
    assert "proj-4f9" not in told
    assert "a7c21d0be" not in told
    assert (told[0], told[-1]) == ("The", " is it")


async def test_more_probabilities_than_may_wait_end_the_answer(
    start_archer: StartArcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.streams.logprobs.WAITING_BYTES_MAX", 400)
    steps = [scored("a", token("a", -1, "a", "b")) for _ in range(20)]
    async with before(start_archer, stream(*steps, *ending())) as (archer, _):
        answer = await archer.http.post(DIALECT, json={"model": "openai/gpt-4o", "messages": HELLO, "logprobs": True})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "output_too_long")
        assert "top_logprobs" in answer.json()["error"]["message"]
