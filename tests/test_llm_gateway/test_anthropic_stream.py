"""The decoder of Anthropic's streams, by itself and held to the SDK's own parsing of the same bytes."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archer_ws.llm_gateway.anthropic_stream import (
    Answer,
    ErrorSaid,
    MessageStreamDecoder,
    Unreadable,
    answer_of,
    finish_reason_of,
    usage_of,
)
from archer_ws.llm_gateway.types import StreamChunk, TokenUsage
from tests.fakes import anthropic_api as api

HEAD = api.start() + api.block_start()


def decoded(*reads: bytes) -> tuple[list[StreamChunk], MessageStreamDecoder]:
    decoder = MessageStreamDecoder()
    return [chunk for read in reads for chunk in decoder.feed(read)], decoder


def test_the_text_of_one_read_is_one_chunk() -> None:
    decoder = MessageStreamDecoder()
    decoder.feed(HEAD)

    assert decoder.feed(api.delta("a") + api.delta("b") + api.PING + api.delta("c")) == [StreamChunk(content="abc")]


def test_a_read_with_reasoning_and_text_gives_a_chunk_for_each_run() -> None:
    decoder = MessageStreamDecoder()
    decoder.feed(HEAD)
    read = api.thinking("x") + api.thinking("y") + api.delta("a") + api.thinking("z")

    assert decoder.feed(read) == [
        StreamChunk(content="", reasoning="xy"),
        StreamChunk(content="a"),
        StreamChunk(content="", reasoning="z"),
    ]


@pytest.mark.parametrize("event", [api.PING, api.block_stop(), api.event({"type": "of_the_future", "x": 1})])
def test_an_event_without_text_shows_that_the_provider_is_alive(event: bytes) -> None:
    chunks, decoder = decoded(event)

    assert chunks == [StreamChunk(content="")]
    assert not decoder.done


def test_half_an_event_gives_nothing_yet() -> None:
    assert decoded(api.delta("abc")[:-4])[0] == []


def test_the_halves_of_a_surrogate_pair_are_passed_on_as_they_come() -> None:
    # json.dumps, which the fake uses, writes each half as an escape of its own, as the API does.
    chunks, decoder = decoded(api.delta("\ud83d"), api.delta("\ude00"))

    assert [chunk.content for chunk in chunks] == ["\ud83d", "\ude00"]
    assert decoder.fault is None


def test_nothing_is_read_after_the_end_marker() -> None:
    chunks, decoder = decoded(HEAD + api.STOP + api.delta("late"), api.delta("later"))

    assert decoder.done
    assert "".join(chunk.content for chunk in chunks) == ""


def test_the_text_before_an_error_is_handed_on_with_it() -> None:
    chunks, decoder = decoded(HEAD + api.delta("Hel") + api.error_event("overloaded_error", "Overloaded"))

    assert chunks[-1].content == "Hel"
    assert isinstance(decoder.fault, ErrorSaid)
    assert decoder.fault.error == {"type": "overloaded_error", "message": "Overloaded"}


def test_an_error_event_need_not_be_json() -> None:
    decoder = decoded(b"event: error\ndata: upstream went away\n\n")[1]

    assert isinstance(decoder.fault, ErrorSaid)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"null",
        b"\xff{}",
        b"[" * 100_000,
        b'{"type":"message_start"}',
        b'{"type":"content_block_delta"}',
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":7}}',
    ],
)
def test_what_cannot_be_read_is_a_fault_after_the_text_before_it(data: bytes) -> None:
    chunks, decoder = decoded(HEAD + api.delta("Hel") + b"event: x\ndata: " + data + b"\n\n")

    assert chunks[-1].content == "Hel"
    assert isinstance(decoder.fault, Unreadable)


def test_a_body_without_a_single_event_is_no_event_stream() -> None:
    decoder = decoded(b"<h1>Log in</h1>")[1]

    with pytest.raises(Unreadable):
        decoder.finish()


@pytest.mark.parametrize("body", [b"", HEAD])
def test_a_body_that_is_empty_or_was_an_event_stream_is_not_called_something_else(body: bytes) -> None:
    decoder = MessageStreamDecoder()
    if body:
        decoder.feed(body)

    decoder.finish()


def test_usage_is_the_newest_of_each_figure() -> None:
    chunks, _ = decoded(
        api.start(input_tokens=7, cache_creation_input_tokens=20, cache_read_input_tokens=300, output_tokens=1),
        api.finish(output_tokens=50, cache_read_input_tokens=None, output_tokens_details={"thinking_tokens": 9}),
        api.finish(input_tokens=8, output_tokens=60),
    )

    assert [chunk.usage for chunk in chunks] == [
        TokenUsage(prompt_tokens=327, completion_tokens=1, total_tokens=328, cached_tokens=300),
        TokenUsage(prompt_tokens=327, completion_tokens=50, total_tokens=377, cached_tokens=300, reasoning_tokens=9),
        TokenUsage(prompt_tokens=328, completion_tokens=60, total_tokens=388, cached_tokens=300, reasoning_tokens=9),
    ]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("of_the_future", "stop"),
    ],
)
def test_reasons_are_normalised(theirs: str, ours: str) -> None:
    assert decoded(api.finish(theirs))[0][-1].finish_reason == ours
    assert finish_reason_of(theirs) == ours


def test_a_whole_answer_without_figures_or_names_is_still_one() -> None:
    assert answer_of(b'{"content": []}') == Answer("", None, None, None, None, None)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"content": "text"}', b'{"content": ["text"]}'])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        answer_of(body)


def test_an_error_may_come_in_place_of_an_answer() -> None:
    with pytest.raises(ErrorSaid):
        answer_of(b'{"type": "error", "error": {"type": "api_error", "message": "x"}}')


# Parity with the SDK.

RECORDED = (
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-sonnet-5","id":"msg_01",'
    b'"type":"message","role":"assistant","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":'
    b'41,"cache_creation_input_tokens":0,"cache_read_input_tokens":1024,"cache_creation":{"ephemeral_5m_input_tokens":0},'
    b'"output_tokens":2,"service_tier":"standard"}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"thinking",'
    b'"thinking":"","signature":""}}\n\n'
    b'event: ping\ndata: {"type": "ping"}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta",'
    b'"thinking":"Light scatters"}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta",'
    b'"thinking":" \xe2\x80\xa8 by \\u03bb\\u207b\\u2074."}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta",'
    b'"signature":"EqQBCg=="}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":1,"content_block":{"type":"text",'
    b'"text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":'
    b'"Because \\ud83d\\ude00"}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":'
    b'" \xf0\x9f\x8c\x8d\\nblue."}     }\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":1   }\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
    b'"usage":{"output_tokens":37,"output_tokens_details":{"thinking_tokens":21}}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"   }\n\n'
)


def sdks_answer(reads: list[bytes]) -> Answer:
    """What the official SDK's own stream objects make of the bytes."""

    class Body(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from reads

    def reply(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Body())

    with (
        httpx2.Client(transport=httpx2.MockTransport(reply)) as http,
        anthropic.Anthropic(api_key="k", max_retries=0, http_client=http) as client,
        client.messages.stream(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]) as stream,
    ):
        message = stream.get_final_message()
    return Answer(
        content="".join(block.text for block in message.content if block.type == "text"),
        reasoning="".join(block.thinking for block in message.content if block.type == "thinking") or None,
        finish_reason=None if message.stop_reason is None else finish_reason_of(message.stop_reason),
        usage=usage_of(message.usage.model_dump()),
        id=None,
        model=None,
    )


def our_answer(reads: list[bytes]) -> Answer:
    chunks, decoder = decoded(*reads)
    assert decoder.done
    assert decoder.fault is None
    reasons = [chunk.finish_reason for chunk in chunks if chunk.finish_reason]
    assert len(reasons) <= 1
    return Answer(
        content="".join(chunk.content for chunk in chunks),
        reasoning="".join(chunk.reasoning or "" for chunk in chunks) or None,
        finish_reason=reasons[0] if reasons else None,  # type: ignore[arg-type]  # a chunk's is any string
        usage=[chunk.usage for chunk in chunks if chunk.usage][-1],
        id=None,
        model=None,
    )


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(place % len(data) for place in places)})
    return [data[start:end] for start, end in pairwise(bounds)]


@settings(max_examples=50, deadline=None)
@given(places=st.lists(st.integers(0, 10_000), max_size=20))
def test_a_recorded_stream_reads_as_the_sdk_reads_it_however_it_is_cut(places: list[int]) -> None:
    reads = cut(RECORDED, places)

    ours = our_answer(reads)
    assert ours == sdks_answer(reads)
    assert ours.content == "Because \N{GRINNING FACE} \N{EARTH GLOBE EUROPE-AFRICA}\nblue."
    assert ours.usage == TokenUsage(
        prompt_tokens=1065, completion_tokens=37, total_tokens=1102, cached_tokens=1024, reasoning_tokens=21
    )


def test_a_recorded_stream_reads_the_same_byte_by_byte() -> None:
    assert our_answer([bytes([byte]) for byte in RECORDED]) == our_answer([RECORDED])


_TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=12), max_size=4)
_FIGURES = st.none() | st.integers(0, 10**6)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A whole stream as the API may send it, in any of the framings that server-sent events allow."""
    usage = {"cache_creation_input_tokens": draw(_FIGURES), "cache_read_input_tokens": draw(_FIGURES)}
    message = api.message([], stop_reason=None, input_tokens=draw(st.integers(0, 10**6)), **usage)
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["text", "thinking", "redacted_thinking", "tool_use"]))
        first, pieces = draw(st.text(st.characters(codec="utf-8"), max_size=5)), draw(_TEXTS)
        blocks: dict[str, dict[str, Any]] = {
            "text": {"text": first},
            "thinking": {"thinking": first, "signature": ""},
            "redacted_thinking": {"data": first},
            "tool_use": {"id": "toolu_1", "name": "t", "input": {}},
        }
        events.append({"type": "content_block_start", "index": index, "content_block": {"type": kind, **blocks[kind]}})
        deltas: list[dict[str, Any]] = []
        if kind == "text":
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        elif kind == "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
            deltas.append({"type": "signature_delta", "signature": "x"})
        elif kind == "tool_use":
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", '{"a"', ": 1}")]
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
        if draw(st.booleans()):
            events.append({"type": "ping"})
    reason = draw(st.sampled_from([None, "end_turn", "max_tokens", "tool_use", "refusal", "pause_turn"]))
    final = {"output_tokens": draw(st.integers(0, 10**6)), "input_tokens": draw(_FIGURES)}
    events.append({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": final})
    events.append({"type": "message_stop"})
    end, ascii_only = draw(st.sampled_from(["\n", "\r\n"])), draw(st.booleans())
    lines = [
        f"event: {event['type']}{end}data: {json.dumps(event, ensure_ascii=ascii_only)}{end}{end}" for event in events
    ]
    if draw(st.booleans()):
        lines.insert(draw(st.integers(0, len(lines))), f": a comment{end}{end}")
    return "".join(lines).encode()


@settings(max_examples=150, deadline=None)
@given(data=streams(), places=st.lists(st.integers(0, 10_000), max_size=12))
def test_any_stream_reads_as_the_sdk_reads_it_however_it_is_cut(data: bytes, places: list[int]) -> None:
    reads = cut(data, places)

    assert our_answer(reads) == sdks_answer(reads)
