"""What OpenAI's SDK is told of a model's calls when all does not go well: in the middle of one, it ends, breaks, or is
cancelled; with each provider on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.conftest import Archer, StartArcher
from tests.fakes.any_provider import settings_for
from tests.fakes.dialects import reply_of
from tests.fakes.scripted_server import Exchange, Reply, ScriptedServer, Step, forever, scripted_server
from tests.fakes.tool_dialects import MadeCall, ToolDialect
from tests.fakes.tools_anthropic import ANTHROPIC
from tests.fakes.tools_ollama import OLLAMA
from tests.fakes.tools_openai import OPENAI
from tests.fakes.tools_responses import RESPONSES
from tests.test_api.openai_callers import Caller, calling

every_tool_dialect = pytest.mark.parametrize("dialect", [OPENAI, RESPONSES, ANTHROPIC, OLLAMA], ids=repr)

WEATHER = MadeCall("get_weather", '{"city": "Tromsø", "days": 3}')
TIME = MadeCall("get_time", '{"city": "Oslo"}')
NOW = MadeCall("now")
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": call.name, "parameters": {"type": "object", "properties": {}}}}
    for call in (WEATHER, TIME, NOW)
]


class Running:
    """The application before the provider, an SDK to ask it with, and how it is asked."""

    def __init__(self, archer: Archer, sdk: Caller, provider: ScriptedServer, model: str) -> None:
        self.archer, self.sdk, self.provider = archer, sdk, provider
        self.asked: dict[str, Any] = {"model": model, "tools": TOOLS}


@asynccontextmanager
async def before(start_archer: StartArcher, dialect: ToolDialect, steps: Sequence[Step]) -> AsyncIterator[Running]:
    def respond(exchange: Exchange) -> Reply:
        return dialect.asides.get(exchange.path) or reply_of(dialect.dialect, *steps)

    async with (
        asyncio.timeout(30),
        scripted_server(responder=respond) as provider,
        start_archer(
            **settings_for(provider.url),
            **dialect.dialect.settings,
            openai_api_key="sk-test",
            anthropic_api_key="sk-test",
        ) as archer,
        calling("async", f"http://{archer.address}/v1") as sdk,
    ):
        yield Running(archer, sdk, provider, f"{dialect.dialect.provider or dialect}/m")


def pieces(chunks: Sequence[ChatCompletionChunk]) -> list[tuple[int, str | None, str | None, str]]:
    """Index, id, name and text of each piece of a call."""
    return [
        (call.index, call.id, call.function.name, call.function.arguments or "")
        for chunk in chunks
        for choice in chunk.choices
        for call in choice.delta.tool_calls or ()
        if call.function is not None
    ]


def reasons(chunks: Sequence[ChatCompletionChunk]) -> list[str]:
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]


@every_tool_dialect
async def test_calls_are_the_same_whole_and_in_pieces(start_archer: StartArcher, dialect: ToolDialect) -> None:
    made = (WEATHER, NOW, TIME)
    async with before(start_archer, dialect, dialect.answer(*made)) as running:
        whole = (await running.sdk.complete(**running.asked)).choices[0]
        chunks = await running.sdk.chunks(**running.asked)
    assert (whole.finish_reason, whole.message.content) == ("tool_calls", None)
    calls = [call.function for call in whole.message.tool_calls or () if call.type == "function"]
    assert [call.name for call in calls] == [call.name for call in made]
    told = pieces(chunks)
    assert reasons(chunks) == ["tool_calls"]
    assert [(index, name) for index, call_id, name, _ in told if call_id] == [*enumerate(call.name for call in made)]
    assert not [name for _, call_id, name, _ in told if name and not call_id]
    for index, call in enumerate(calls):
        assert "".join(text for place, _, _, text in told if place == index) == call.arguments


@every_tool_dialect
async def test_an_answer_that_ends_in_mid_call_is_too_long_and_gives_no_call_to_run(
    start_archer: StartArcher, dialect: ToolDialect
) -> None:
    # vllm-project/vllm#58228, ahwurm/localharness#77
    steps = [*dialect.begun(WEATHER), dialect.cut()]
    async with before(start_archer, dialect, steps) as running:
        whole = (await running.sdk.complete(**running.asked)).choices[0]
        chunks = await running.sdk.chunks(**running.asked)
    assert (whole.finish_reason, whole.message.tool_calls) == ("length", None)
    assert reasons(chunks) == ["length"]


@every_tool_dialect
async def test_a_provider_that_breaks_in_mid_call_is_an_error_behind_the_pieces(
    start_archer: StartArcher, dialect: ToolDialect
) -> None:
    async with before(start_archer, dialect, dialect.begun(WEATHER)) as running:
        chunks: list[ChatCompletionChunk] = []
        with pytest.raises(openai.APIError) as caught:
            await running.sdk.stream(chunks, **running.asked)
        with pytest.raises(openai.InternalServerError) as whole:
            await running.sdk.complete(**running.asked)
    assert (caught.value.code, whole.value.code) == ("upstream_truncated", "upstream_truncated")
    assert pieces(chunks)
    assert reasons(chunks) == []


@every_tool_dialect
async def test_a_cancel_in_mid_call_closes_the_provider_and_is_an_error_behind_the_pieces(
    start_archer: StartArcher, dialect: ToolDialect
) -> None:
    async with before(start_archer, dialect, [*dialect.begun(WEATHER), forever()]) as running:
        chunks: list[ChatCompletionChunk] = []
        reading = asyncio.create_task(running.sdk.stream(chunks, **running.asked))
        stream_id = await with_arguments(running)
        await running.archer.http.delete(f"/api/v1/streams/{stream_id}")
        with pytest.raises(openai.APIError) as caught:
            await reading
        await running.provider.exchanges[-1].client_left.wait()
    assert caught.value.code == "cancelled"
    assert pieces(chunks)
    assert reasons(chunks) == []


@every_tool_dialect
@pytest.mark.usefixtures("every_reader_stops_when_told")
async def test_leaving_in_mid_call_closes_the_provider(start_archer: StartArcher, dialect: ToolDialect) -> None:
    async with before(start_archer, dialect, [*dialect.begun(WEATHER), forever()]) as running:
        reading = asyncio.create_task(running.sdk.chunks(**running.asked))
        await with_arguments(running)
        reading.cancel()
        await running.provider.exchanges[-1].client_left.wait()


async def with_arguments(running: Running) -> str:
    """The id of the one stream, once some arguments of it have come."""
    await running.provider.exchange(0)
    manager = running.archer.app.state.services.manager
    (info,) = manager.list_streams("local").items
    stream = manager.find("local", info.stream_id)
    grown = asyncio.Event()
    unwatch = stream.log.watch(grown.set)
    while not stream.log.text_bytes:
        await grown.wait()
        grown.clear()
    unwatch()
    return str(stream.stream_id)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"tool_choice": "required"}, "tool_choice"), ({"parallel_tool_calls": False}, "parallel_tool_calls")],
)
@pytest.mark.parametrize("call", ["complete", "chunks"])
async def test_what_a_provider_cannot_do_is_refused_by_openai_s_name(
    start_archer: StartArcher, fields: dict[str, Any], param: str, *, call: str
) -> None:
    async with before(start_archer, OLLAMA, OLLAMA.answer(NOW)) as running:
        with pytest.raises(openai.BadRequestError) as caught:
            await getattr(running.sdk, call)(**running.asked, **fields)
    assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
    assert not [each for each in running.provider.exchanges if each.path == "/api/chat"]
