"""The calls in Anthropic's answers: pieces of arguments, and why the model stopped."""

import asyncio
import json
from typing import Any

import pytest

from archer_ws.core.exceptions import UpstreamTruncated
from archer_ws.llm_gateway.anthropic.decoder import MessageStreamDecoder
from archer_ws.llm_gateway.anthropic.tool_use import CalledTools
from archer_ws.llm_gateway.chunks import LeanChunk
from archer_ws.llm_gateway.decoding.completion import Unreadable, folded
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from tests.fakes import anthropic_api as api
from tests.fakes.scripted_server import scripted_server
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_anthropic import answer, arguments, call_events, call_start

TIME = MadeCall("get_time", '{"city": "Oslo"}')
WEATHER = MadeCall("get_weather", '{"city": "Rome"}')


def decoded(*reads: bytes) -> tuple[list[LeanChunk], MessageStreamDecoder]:
    decoder = MessageStreamDecoder()
    chunks = [chunk for read in reads for chunk in decoder.feed(read)]
    return [*chunks, *decoder.finish()], decoder


def calls_in(chunks: list[LeanChunk]) -> list[tuple[str, object]]:
    """The calls to be run."""
    return [(call.name, json.loads(call.arguments)) for call in folded(chunks).tool_calls or ()]


def test_a_read_with_text_and_arguments_gives_a_chunk_for_each_run() -> None:
    read = api.delta("I look.") + b"".join(call_events(1, TIME)) + b"".join(call_events(2, WEATHER))
    chunks, _ = decoded(api.start() + api.block_start(), read)
    assert [(chunk.content, chunk.name, chunk.arguments) for chunk in chunks[1:-1]] == [
        ("I look.", None, None),
        ("", "get_time", TIME.arguments),
        ("", "get_weather", WEATHER.arguments),
    ]
    assert chunks[2].call_id != chunks[3].call_id


def test_each_piece_of_arguments_and_each_ping_shows_that_the_provider_is_alive() -> None:
    # github/copilot-cli#4286, AntigmaLabs/ante#187
    decoder = MessageStreamDecoder()
    decoder.feed(api.start() + call_start(0, TIME))
    assert decoder.feed(api.PING) == [LeanChunk()]
    assert decoder.feed(arguments("", 0)) == [LeanChunk()]
    (piece,) = decoder.feed(arguments('{"city', 0))
    assert (piece.content, piece.arguments, piece.name) == ("", '{"city', "get_time")
    assert decoder.feed(arguments('": "Oslo"}', 0)) == [
        LeanChunk(arguments='": "Oslo"}', call_id=piece.call_id, name=piece.name)
    ]


@pytest.mark.parametrize("pieces", [[], [""], ["", ""], ["{}"], ["{", "}"]])
def test_a_call_without_arguments_has_an_empty_object(pieces: list[str]) -> None:
    # agentgateway/agentgateway#3002
    events = [call_start(0, TIME), *(arguments(piece, 0) for piece in pieces), api.block_stop()]
    chunks, _ = decoded(api.start(), *events, api.finish("tool_use"), api.STOP)
    assert "".join(chunk.arguments or "" for chunk in chunks) == "{}"
    assert calls_in(chunks) == [("get_time", {})]


def test_arguments_may_stand_whole_in_the_beginning_of_the_block() -> None:
    start = call_start(0, TIME, input={"city": "Oslo"})
    for repeated in ([], [arguments(TIME.arguments, 0)]):
        chunks, _ = decoded(api.start(), start, *repeated, api.finish("tool_use"), api.STOP)
        assert calls_in(chunks) == [("get_time", {"city": "Oslo"})]


def test_text_may_follow_a_call() -> None:
    # leookun/cursor-byok#307
    events = [*call_events(0, TIME), api.block_stop(0), api.block_start(1), api.delta("One moment.", 1)]
    chunks, _ = decoded(api.start(), *events, api.finish("tool_use"), api.STOP)
    assert folded(chunks).content == "One moment."
    assert calls_in(chunks) == [("get_time", {"city": "Oslo"})]


def test_pieces_of_several_calls_may_be_mixed() -> None:
    first, second = call_events(0, TIME), call_events(1, WEATHER)
    mixed = [event for pair in zip(first, second, strict=True) for event in pair]
    chunks, _ = decoded(api.start(), *mixed, api.finish("tool_use"), api.STOP)
    assert calls_in(chunks) == [("get_time", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})]


def test_what_the_server_runs_itself_is_no_call() -> None:
    # WordPress/ai-provider-for-anthropic#29: such an answer may end with pause_turn.
    block = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    events = [api.block_start(0, **block), arguments('{"query": "x"}', 0), api.block_start(1, **found)]
    chunks, decoder = decoded(api.start(), *events, api.block_start(2), api.delta("Hi", 2), *api.ending("pause_turn"))
    assert decoder.fault is None
    assert (folded(chunks).content, folded(chunks).tool_calls, decoder.finish_reason) == ("Hi", None, "stop")


def test_blocks_that_all_have_one_index_stay_apart() -> None:
    # BerriAI/litellm#33678
    def under_0(call: MadeCall, call_id: str, kind: str = "tool_use") -> list[bytes]:
        return [call_start(0, call, id=call_id, type=kind), arguments(call.arguments, 0), api.block_stop()]

    events = [*under_0(TIME, "toolu_1"), *under_0(WEATHER, "srvtoolu_1", "server_tool_use"), *under_0(TIME, "toolu_2")]
    chunks, _ = decoded(api.start(), *events, api.finish("tool_use"), api.STOP)
    assert calls_in(chunks) == [("get_time", {"city": "Oslo"}), ("get_time", {"city": "Oslo"})]


@pytest.mark.parametrize(
    ("theirs", "ours", "is_to_be_run"),
    [
        ("tool_use", "tool_calls", True),
        ("end_turn", "tool_calls", True),
        ("pause_turn", "tool_calls", True),
        ("max_tokens", "length", False),
        ("model_context_window_exceeded", "length", False),
        ("refusal", "content_filter", False),
    ],
)
def test_calls_are_to_be_run_where_the_answer_ended_well(theirs: str, ours: str, is_to_be_run: bool) -> None:
    # BerriAI/litellm#35663, vllm-project/vllm#58228, ahwurm/localharness#77
    chunks, decoder = decoded(api.start(), *call_events(0, TIME), *api.ending(theirs))
    assert decoder.finish_reason == ours
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == [ours]
    assert bool(calls_in(chunks)) is is_to_be_run


@pytest.mark.parametrize("end", [[api.STOP], [api.finish(None), api.STOP], [b"data: [DONE]\n\n"]])
@pytest.mark.parametrize("text", ["", "I look."], ids=["alone", "behind text"])
def test_calls_are_to_be_run_where_the_answer_ended_without_a_reason(text: str, end: list[bytes]) -> None:
    said = [api.block_start(1), api.delta(text, 1)] if text else []
    chunks, decoder = decoded(api.start(), *said, *call_events(0, TIME), *end)
    assert (decoder.is_whole, decoder.finish_reason) == (True, "tool_calls")
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["tool_calls"]
    assert (folded(chunks).content, calls_in(chunks)) == (text, [("get_time", {"city": "Oslo"})])


def test_a_call_that_was_cut_before_its_arguments_is_not_told_at_all() -> None:
    chunks, _ = decoded(api.start(), call_start(0, TIME), *api.ending("max_tokens"))
    assert all(chunk.arguments is None for chunk in chunks)


def test_tool_use_without_a_call_is_a_plain_stop() -> None:
    chunks, decoder = decoded(api.start(), api.block_start(), api.delta("Hi"), *api.ending("tool_use"))
    assert (decoder.finish_reason, folded(chunks).tool_calls) == ("stop", None)


@pytest.mark.parametrize("block", [{"name": ""}, {"name": 7}, {"input": 7}, {"input": "{}", "name": None}])
def test_a_call_that_nobody_could_run_is_no_answer(block: dict[str, Any]) -> None:
    _, decoder = decoded(api.start(), call_start(0, TIME, **block), *api.ending("tool_use"))
    assert isinstance(decoder.fault, Unreadable)


def test_a_whole_answer_has_its_calls_in_order() -> None:
    blocks: list[dict[str, Any]] = [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_1", "name": "get_time", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    ]
    body = json.dumps(api.message(blocks, stop_reason="tool_use")).encode()
    chunks, decoder = decoded(body)
    assert decoder.is_whole
    assert folded(chunks).content == "I look."
    assert calls_in(chunks) == [("get_time", {"city": "Oslo"}), ("now", {})]


def test_calls_of_a_whole_answer_behind_its_pieces_come_once() -> None:
    block = {"type": "tool_use", "id": "toolu_0", "name": "get_time", "input": {"city": "Oslo"}}
    again = api.event(api.message([block], stop_reason="tool_use"))
    chunks, decoder = decoded(api.start(), *call_events(0, TIME), again, api.finish("tool_use"), api.STOP)
    assert decoder.fault is None
    assert calls_in(chunks) == [("get_time", {"city": "Oslo"})]


async def test_an_answer_that_stops_without_its_end_marker_has_no_calls() -> None:
    messages = [ChatMessage(role=MessageRole.USER, content="Hi")]
    steps = answer(TIME)[:-1]
    async with (
        asyncio.timeout(10),
        scripted_server(api.stream(*steps), api.stream(*steps)) as server,
        api.adapter_at(server.url) as adapter,
    ):
        with pytest.raises(UpstreamTruncated):
            await adapter.chat(messages)
        came: list[str] = []

        async def read() -> None:
            async for chunk in adapter.stream_chat(messages):
                came.extend(filter(None, [chunk.arguments]))

        with pytest.raises(UpstreamTruncated):
            await read()
    assert "".join(came) == TIME.arguments


def test_a_number_as_long_as_a_text_is_not_kept() -> None:
    called, number = CalledTools(), "7" * 1_000_000
    assert list(called.begin(number, {"type": "tool_use", "id": "a", "name": "look"})) == []
    assert [piece.text for piece in called.go_on(number, "{")] == ["{"]
    assert called._open == {None}
