"""What every provider's adapter makes of a model's calls, and of calls and results in a conversation.

Each provider speaks for itself over a real socket (fakes/tool_dialects.py); how its requests look in full is tested
with the adapter.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from archer_ws.llm_gateway.base import BaseLLMAdapter
from archer_ws.llm_gateway.decoding.completion import folded
from archer_ws.llm_gateway.tools import Tool, ToolCall
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, StreamChunk
from tests.fakes import tools_anthropic, tools_ollama, tools_openai, tools_responses
from tests.fakes.dialects import reply_of, streamed_and_whole
from tests.fakes.scripted_server import ScriptedServer, Step, forever, scripted_server
from tests.fakes.tool_dialects import MadeCall, Said, ToolDialect

#: A dialect is added here.
every_tool_dialect = pytest.mark.parametrize(
    "dialect",
    [tools_openai.OPENAI, tools_responses.RESPONSES, tools_anthropic.ANTHROPIC, tools_ollama.OLLAMA],
    ids=repr,
)

WEATHER = MadeCall("get_weather", '{"city": "Tromsø", "days": 3}')
TIME = MadeCall("get_time", '{"city": "Oslo"}')
NOW = MadeCall("now")
TOOLS = tuple(
    Tool(name=name, description="Looks it up.", parameters={"type": "object", "properties": {}})
    for name in ("get_weather", "get_time", "now")
)
QUESTION = [ChatMessage.model_validate({"role": "user", "content": "How is it in Tromsø?"})]


@dataclass
class Outcome:
    """What an adapter made of an answer; `calls` only where they are to be run."""

    text: str = ""
    finish_reason: str | None = None
    calls: list[ToolCall] = field(default_factory=list)
    chunks: list[StreamChunk] = field(default_factory=list)


@asynccontextmanager
async def playing(dialect: ToolDialect, *steps: Step) -> AsyncIterator[tuple[ScriptedServer, BaseLLMAdapter]]:
    """The provider, that answers with these steps, and an adapter to talk to it."""
    async with (
        asyncio.timeout(20),
        scripted_server(
            responder=lambda asked: dialect.asides.get(asked.path) or reply_of(dialect.dialect, *steps)
        ) as server,
        dialect.dialect.adapter(server) as adapter,
    ):
        yield server, adapter


async def asked(dialect: ToolDialect, steps: Sequence[Step], *, is_streamed: bool = True) -> Outcome:
    options = ChatOptions(tools=TOOLS)
    async with playing(dialect, *steps) as (_, adapter):
        if not is_streamed:
            whole = await adapter.chat(QUESTION, options=options)
            return Outcome(whole.content, whole.finish_reason, whole.tool_calls or [])
        chunks = [chunk async for chunk in adapter.stream_chat(QUESTION, options=options)]
        answer = folded(chunks)
        return Outcome(answer.content, answer.finish_reason, answer.tool_calls or [], chunks)


def made(outcome: Outcome) -> list[tuple[str, object]]:
    return [(call.name, json.loads(call.arguments)) for call in outcome.calls]


@every_tool_dialect
@streamed_and_whole
async def test_a_call_comes_with_its_name_and_arguments(dialect: ToolDialect, is_streamed: bool) -> None:
    outcome = await asked(dialect, dialect.answer(WEATHER), is_streamed=is_streamed)
    assert made(outcome) == [("get_weather", {"city": "Tromsø", "days": 3})]
    assert (outcome.text, outcome.finish_reason) == ("", "tool_calls")
    # Ours, in a form that every provider takes.
    assert len(outcome.calls[0].call_id) == 9


@every_tool_dialect
async def test_each_piece_of_arguments_names_its_call_and_the_pieces_are_the_whole(dialect: ToolDialect) -> None:
    outcome = await asked(dialect, dialect.answer(WEATHER, TIME))
    pieces = [chunk for chunk in outcome.chunks if chunk.arguments is not None]
    assert all(chunk.content == "" and chunk.reasoning is None for chunk in pieces)
    for call in outcome.calls:
        own = [chunk for chunk in pieces if chunk.call_id == call.call_id]
        assert {chunk.name for chunk in own} == {call.name}
        assert "".join(chunk.arguments or "" for chunk in own) == call.arguments


@every_tool_dialect
@streamed_and_whole
async def test_parallel_calls_stay_apart_and_in_order(dialect: ToolDialect, is_streamed: bool) -> None:
    # BerriAI/litellm#33678, BerriAI/litellm#20711
    again = MadeCall("get_weather", '{"city": "Bodø", "days": 1}')
    outcome = await asked(dialect, dialect.answer(WEATHER, TIME, again), is_streamed=is_streamed)
    assert made(outcome) == [
        ("get_weather", {"city": "Tromsø", "days": 3}),
        ("get_time", {"city": "Oslo"}),
        ("get_weather", {"city": "Bodø", "days": 1}),
    ]
    assert len({call.call_id for call in outcome.calls}) == 3
    assert outcome.finish_reason == "tool_calls"


@every_tool_dialect
@streamed_and_whole
async def test_a_call_without_arguments_has_an_empty_object(dialect: ToolDialect, is_streamed: bool) -> None:
    # agentgateway/agentgateway#3002
    outcome = await asked(dialect, dialect.answer(NOW, TIME), is_streamed=is_streamed)
    assert [(call.name, call.arguments) for call in outcome.calls][:1] == [("now", "{}")]
    assert [name for name, _ in made(outcome)] == ["now", "get_time"]


@every_tool_dialect
@streamed_and_whole
async def test_text_before_a_call_is_the_answers_text(dialect: ToolDialect, is_streamed: bool) -> None:
    # BerriAI/litellm#35663, ollama/ollama#7963, maximhq/bifrost#6123: with text, some say that they just stopped.
    outcome = await asked(dialect, dialect.answer(TIME, text="Let me look."), is_streamed=is_streamed)
    assert (outcome.text, made(outcome)) == ("Let me look.", [("get_time", {"city": "Oslo"})])
    assert outcome.finish_reason == "tool_calls"
    kinds = ["text" if chunk.content else "arguments" for chunk in outcome.chunks if chunk.content or chunk.arguments]
    assert kinds == sorted(kinds, reverse=True)


@every_tool_dialect
@streamed_and_whole
async def test_an_answer_without_calls_just_stops(dialect: ToolDialect, is_streamed: bool) -> None:
    outcome = await asked(dialect, dialect.answer(text="It is cold."), is_streamed=is_streamed)
    assert (outcome.text, outcome.calls, outcome.finish_reason) == ("It is cold.", [], "stop")


@every_tool_dialect
@streamed_and_whole
async def test_a_call_that_became_too_long_is_no_call_to_run(dialect: ToolDialect, is_streamed: bool) -> None:
    # vllm-project/vllm#58228, ahwurm/localharness#77
    outcome = await asked(dialect, [*dialect.begun(WEATHER), dialect.cut()], is_streamed=is_streamed)
    assert (outcome.calls, outcome.finish_reason) == ([], "length")


@every_tool_dialect
async def test_leaving_amid_the_arguments_closes_the_connection(dialect: ToolDialect) -> None:
    async with playing(dialect, *dialect.begun(WEATHER), forever()) as (server, adapter):
        async with aclosing(adapter.stream_chat(QUESTION, options=ChatOptions(tools=TOOLS))) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                if chunk.arguments:
                    break
        await (await server.exchange(len(dialect.asides))).client_left.wait()


@every_tool_dialect
async def test_a_cancel_amid_the_arguments_closes_the_connection(dialect: ToolDialect) -> None:
    heard = asyncio.Event()

    async def read(adapter: BaseLLMAdapter) -> None:
        async for chunk in adapter.stream_chat(QUESTION, options=ChatOptions(tools=TOOLS)):
            if chunk.arguments:
                heard.set()

    async with playing(dialect, *dialect.begun(WEATHER), forever()) as (server, adapter):
        reading = asyncio.create_task(read(adapter))
        await heard.wait()
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        await (await server.exchange(len(dialect.asides))).client_left.wait()


@every_tool_dialect
async def test_results_are_sent_under_their_calls_ids_and_in_the_calls_order(dialect: ToolDialect) -> None:
    # JustVugg/colibri#118, can1357/oh-my-pi#11179: in the order in which they came they would be paired by place.
    conversation = [
        *QUESTION,
        _calling({"aaaaaaaa1": WEATHER, "bbbbbbbb2": TIME}),
        _result("bbbbbbbb2", "noon"),
        _result("aaaaaaaa1", "cold"),
    ]
    assert await _sent(dialect, conversation) == [
        Said("call", "aaaaaaaa1", json.dumps(json.loads(WEATHER.arguments))),
        Said("call", "bbbbbbbb2", json.dumps(json.loads(TIME.arguments))),
        Said("result", "aaaaaaaa1", "cold"),
        Said("result", "bbbbbbbb2", "noon"),
    ]


@every_tool_dialect
@pytest.mark.parametrize(
    "call_id", ["functions.get_time:0", "call_" + "x" * 200, "é ü", "toolu_01A09q90qw90lq917835lq9"]
)
async def test_foreign_ids_are_made_to_fit_in_call_and_result_alike(dialect: ToolDialect, call_id: str) -> None:
    # maximhq/bifrost#5097, vercel/ai#5171, nearai/ironclaw#1241
    call, result = await _sent(dialect, [*QUESTION, _calling({call_id: TIME}), _result(call_id, "noon")])
    assert (call.kind, result.kind, result.what) == ("call", "result", "noon")
    assert call.call_id == result.call_id


@every_tool_dialect
async def test_a_call_that_nobody_answered_gets_a_result_and_a_result_without_call_is_left_out(
    dialect: ToolDialect,
) -> None:
    # letta-ai/letta#3308, posit-dev/positron#15719
    conversation = [
        *QUESTION,
        _result("zzzzzzzz9", "of a call that is gone"),
        _calling({"aaaaaaaa1": TIME}),
        ChatMessage.model_validate({"role": "user", "content": "Never mind."}),
    ]
    call, result = await _sent(dialect, conversation)
    assert (call.call_id, result.call_id) == ("aaaaaaaa1", "aaaaaaaa1")
    assert "no result" in result.what


@every_tool_dialect
async def test_text_between_a_call_and_its_result_does_not_part_them(dialect: ToolDialect) -> None:
    # leookun/cursor-byok#307
    conversation = [
        *QUESTION,
        _calling({"aaaaaaaa1": TIME}),
        ChatMessage.model_validate({"role": "assistant", "content": "One moment."}),
        _result("aaaaaaaa1", "noon"),
    ]
    assert [said.kind for said in await _sent(dialect, conversation)] == ["call", "result"]


@every_tool_dialect
async def test_broken_arguments_of_an_answered_call_do_not_break_the_next_request(dialect: ToolDialect) -> None:
    # BerriAI/litellm#33678; llama.cpp answers 500 to them.
    conversation = [*QUESTION, _calling({"aaaaaaaa1": MadeCall("get_time", '{"a"}{')}), _result("aaaaaaaa1", "what?")]
    call, result = await _sent(dialect, conversation)
    assert call.what == "{}"
    assert '{"a"}{' in result.what


def _calling(calls: dict[str, MadeCall]) -> ChatMessage:
    listed = [{"call_id": call_id, "name": call.name, "arguments": call.arguments} for call_id, call in calls.items()]
    return ChatMessage.model_validate({"role": "assistant", "tool_calls": listed})


def _result(call_id: str, text: str) -> ChatMessage:
    return ChatMessage.model_validate({"role": "tool", "call_id": call_id, "content": text})


async def _sent(dialect: ToolDialect, conversation: Sequence[ChatMessage]) -> list[Said]:
    """The calls and results in the request that an adapter makes of a conversation."""
    async with playing(dialect, *dialect.answer(text="ok")) as (server, adapter):
        async for _ in adapter.stream_chat(conversation, options=ChatOptions(tools=TOOLS)):
            pass
        return dialect.history((await server.exchange(len(dialect.asides))).json())
