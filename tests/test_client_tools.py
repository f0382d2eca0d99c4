"""The Python client and tools: what is asked, the pieces of arguments, and the calls to be run."""

import asyncio
from typing import cast

import pytest

from archer_ws.client import Archer, ArgumentsDelta, Backoff, ChatStream, Delta, Ended, StreamEvent, ToolCall, connect
from archer_ws.client.link import Link
from archer_ws.llm_gateway.tools import NamedTool, ResultStatus, Tool
from archer_ws.llm_gateway.tools import ToolCall as MadeCall
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from tests.fakes.calling_log import CALLS, LOG, RESET_CALLS, RESET_LOG, RESET_TEXT, SEQS, TEXT
from tests.fakes.newer_server import newer_server

LIMIT_S = 60
RESUMABLE = SEQS[:-1]


def impatient(url: str) -> Archer:
    """A client that connects again without waiting."""
    return connect(url, backoff=Backoff(0, 0))


def arguments_in(events: list[StreamEvent]) -> dict[str, str]:
    """The arguments' pieces put together, since the last reset."""
    whole: dict[str, str] = {}
    for event in events:
        if isinstance(event, Delta) and event.reset:
            whole.clear()
        if isinstance(event, ArgumentsDelta):
            whole[event.call_id] = whole.get(event.call_id, "") + event.arguments
    return whole


def calls_in(events: list[StreamEvent]) -> list[tuple[str, str, str]]:
    return [(event.call_id, event.name, event.arguments) for event in events if isinstance(event, ToolCall)]


@pytest.mark.parametrize("cuts", [(), *((seq,) for seq in RESUMABLE), RESUMABLE], ids=str)
async def test_behind_a_cut_at_any_event_arguments_are_whole_and_no_call_comes_twice(cuts: tuple[int, ...]) -> None:
    async with asyncio.timeout(LIMIT_S), newer_server(cuts, log=LOG) as server, impatient(server.url) as client:
        stream = client.chat("Rain?")
        events = [event async for event in stream.events()]
    assert stream.text == TEXT
    assert arguments_in(events) == {call_id: arguments for call_id, _, arguments in CALLS}
    assert {(event.call_id, event.name) for event in events if isinstance(event, ArgumentsDelta)} == {
        (call_id, name) for call_id, name, _ in CALLS
    }
    assert calls_in(events) == list(CALLS)
    assert stream.tool_calls == [event for event in events if isinstance(event, ToolCall)]
    assert isinstance(events[-1], Ended)
    assert events[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize("after", [seq for seq in SEQS if seq < 9])
async def test_a_stream_resumed_in_the_midst_of_arguments_has_whole_calls(after: int) -> None:
    async with asyncio.timeout(LIMIT_S), newer_server(log=LOG) as server, impatient(server.url) as client:
        stream = client.resume("mine", after)
        assert calls_in([event async for event in stream.events()]) == list(CALLS)
    assert [call.call_id for call in stream.tool_calls] == ["c1", "c2"]


async def test_a_reset_discards_arguments_and_calls_read_or_not() -> None:
    async with asyncio.timeout(LIMIT_S), newer_server(log=RESET_LOG) as server, impatient(server.url) as client:
        stream = client.chat("Rain?")
        events = [event async for event in stream.events()]
    assert stream.text == RESET_TEXT
    assert arguments_in(events) == {call_id: arguments for call_id, _, arguments in RESET_CALLS}
    assert [(call.call_id, call.name, call.arguments) for call in stream.tool_calls] == [*RESET_CALLS]


async def test_a_call_that_was_not_read_before_a_reset_is_not_told() -> None:
    stream = ChatStream(cast(Link, None), "mine", None)
    stream.attached()
    for method, params in RESET_LOG:
        stream.take(method, params)
    events = [event async for event in stream.events()]
    assert calls_in(events) == [*RESET_CALLS]
    assert arguments_in(events) == {call_id: arguments for call_id, _, arguments in RESET_CALLS}


async def test_who_reads_the_text_alone_gets_the_text_alone() -> None:
    async with asyncio.timeout(LIMIT_S), newer_server(log=LOG) as server, impatient(server.url) as client:
        assert [text async for text in client.chat("Rain?")] == [TEXT]


@pytest.mark.parametrize("as_models", [True, False])
async def test_tools_and_results_are_asked_with_as_models_or_as_plain_dicts(as_models: bool) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    status: ResultStatus = "ok"
    async with asyncio.timeout(LIMIT_S), newer_server(log=LOG) as server, impatient(server.url) as client:
        answer = client.chat("Rain?", stream_id="first")
        assert [text async for text in answer]
        stream = client.chat(
            [
                ChatMessage(role=MessageRole.USER, content="Rain?")
                if as_models
                else {"role": "user", "content": "Rain?"},
                answer.message,
                ChatMessage(role=MessageRole.TOOL, content="4 °C", call_id="c1", status=status)
                if as_models
                else {"role": "tool", "content": "4 °C", "call_id": "c1", "status": status},
            ],
            stream_id="second",
            instructions="Be brief.",
            tools=[
                Tool(name="get_weather", parameters=schema)
                if as_models
                else {"name": "get_weather", "parameters": schema}
            ],
            tool_choice=NamedTool(name="get_weather") if as_models else {"name": "get_weather"},
            parallel_tool_calls=False,
        )
        assert [text async for text in stream]
    made = [{"call_id": call_id, "name": name, "arguments": arguments} for call_id, name, arguments in CALLS]
    assert server.request == {
        "messages": [
            {"role": "user", "content": "Rain?"},
            {"role": "assistant", "content": TEXT, "tool_calls": made},
            {"role": "tool", "content": "4 °C", "call_id": "c1", "status": "ok"},
        ],
        "stream_id": "second",
        "instructions": "Be brief.",
        "tools": [{"name": "get_weather", "parameters": schema}],
        "tool_choice": {"name": "get_weather"},
        "parallel_tool_calls": False,
    }


async def test_an_answer_without_calls_is_a_plain_message() -> None:
    log = [*LOG[:2], ("stream/ended", {"seq": 3, "status": "completed", "text_bytes": len(TEXT)})]
    async with asyncio.timeout(LIMIT_S), newer_server(log=log) as server, impatient(server.url) as client:
        stream = client.chat("Rain?", tool_choice="none")
        assert [text async for text in stream] == [TEXT]
    assert stream.tool_calls == []
    assert stream.message == ChatMessage(role=MessageRole.ASSISTANT, content=TEXT)
    assert server.request["tool_choice"] == "none"


def test_a_call_is_a_message_s_call_by_its_three_fields() -> None:
    call = ToolCall(stream_id="s", seq=9, call_id="c1", name="get_weather", arguments="{}", by="client")
    assert MadeCall.model_validate({"call_id": call.call_id, "name": call.name, "arguments": call.arguments})
