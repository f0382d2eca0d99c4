"""What decoders keep of answers that call tools, and of which they keep nothing."""

import json
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from archer_ws.core.limits import PROVIDER_PARTS
from archer_ws.llm_gateway.anthropic.decoder import MessageStreamDecoder
from archer_ws.llm_gateway.anthropic.native import KeptContent, goes_on_without_thinking, refuses_thoughts
from archer_ws.llm_gateway.native_turns import NATIVE_BYTES_MAX, NativeBlocks, call_hash
from archer_ws.llm_gateway.ollama.native import KeptThought
from archer_ws.llm_gateway.openai.decoder import ChatStreamDecoder
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, MessageRole, StreamChunk
from tests.fakes import anthropic_api as claude
from tests.fakes import openai_api as gpt
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_anthropic import arguments, call_events, call_start
from tests.fakes.tools_openai import call_delta

TIME = MadeCall("get_time", '{"city": "Oslo"}')
THOUGHT: list[bytes] = [
    claude.block_start(0, type="thinking", thinking="", signature=""),
    claude.thinking("Hm.", 0),
    claude.block_delta({"type": "signature_delta", "signature": "abc=="}, 0),
    claude.block_stop(0),
]
CALL = [*call_events(1, TIME), claude.block_stop(1)]


def kept_of(events: Sequence[bytes], *, ending: Sequence[bytes] | None = None) -> list[Any] | None:
    decoder = MessageStreamDecoder(keeps_native=True)
    for event in (claude.start(), *events, *(ending or (claude.finish("tool_use"), claude.STOP))):
        decoder.feed(event)
    decoder.finish()
    return None if decoder.native is None else json.loads(decoder.native.blocks)


def test_a_thought_its_signature_and_the_call_are_kept_as_they_came() -> None:
    assert kept_of([*THOUGHT, *CALL]) == [
        {"type": "thinking", "thinking": "Hm.", "signature": "abc=="},
        {"type": "tool_use", "id": "toolu_1", "name": "get_time", "input": {"city": "Oslo"}},
    ]


def test_further_fields_of_blocks_are_kept_too() -> None:
    call = call_start(1, TIME, caller={"type": "direct"})
    kept = kept_of([*THOUGHT, call, arguments('{"b":1,"a":2.0}', 1)])
    assert kept is not None
    assert json.dumps(kept[1]["input"]) == '{"b": 1, "a": 2.0}'
    assert kept[1]["caller"] == {"type": "direct"}


def test_citations_are_kept_and_texts_that_say_nothing_are_not() -> None:
    cited = {"type": "citations_delta", "citation": {"cited_text": "sun"}}
    text = [claude.block_start(2), claude.delta("Sun.", 2), claude.block_delta(cited, 2)]
    kept = kept_of([*THOUGHT, claude.block_start(3), claude.delta("\n", 3), *CALL, *text])
    assert kept is not None
    assert [block["type"] for block in kept] == ["thinking", "tool_use", "text"]
    assert kept[2] == {"type": "text", "text": "Sun.", "citations": [{"cited_text": "sun"}]}


def test_a_character_whose_halves_came_apart_is_kept_whole() -> None:
    halves = [
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"thinking_delta","thinking":"\\' + half + b'"}}\n\n'
        for half in (b"ud83c", b"udf1e")
    ]
    kept = kept_of([THOUGHT[0], *halves, *CALL])
    assert kept is not None
    assert kept[0]["thinking"] == "\N{SUN WITH FACE}"


@pytest.mark.parametrize(
    "events",
    [
        [*THOUGHT, call_start(1, TIME), arguments('{"city": ', 1)],
        [*THOUGHT, call_start(1, TIME), arguments("[]", 1)],
        [*THOUGHT, *CALL, claude.block_delta({"type": "new_delta", "new": "…"}, 0)],
        [*THOUGHT, *CALL, claude.block_delta({"type": "signature_delta", "signature": "…"}, 7)],
        [*THOUGHT, *CALL, claude.thinking("x" * (NATIVE_BYTES_MAX + 1), 0)],
        [*THOUGHT, *CALL, *call_events(2, TIME), call_start(3, TIME, id="toolu_1")],
        [THOUGHT[0], claude.block_delta({"type": "thinking_delta", "thinking": "\ud800"}, 0), *CALL],
        [claude.block_start(0), claude.delta("No calls.")],
        [claude.block_start(0, type=7), *CALL],
        [*THOUGHT, *CALL, claude.block_start(2, type=None)],
        [*THOUGHT, arguments('{"city": ', 0), *CALL],
        [*THOUGHT, claude.block_start(2, type="server_tool_use", input={}), arguments('{"q', 2), *CALL],
        [*THOUGHT, call_start(1, MadeCall("functions.get_time", ""))],
        [*THOUGHT, call_start(1, TIME, id=["toolu_1"])],
        [*(claude.block_start(number, type="new") for number in range(2, PROVIDER_PARTS + 2)), *CALL],
    ],
    ids=[
        *("broken", "no object", "unknown piece", "no such block", "too much", "an id twice", "half", "no calls"),
        *("a type of a number", "no type", "a thought's arguments", "the server's call is broken"),
        *("a name that was made up", "an id that is no text", "without end"),
    ],
)
def test_of_an_answer_that_cannot_be_sent_again_whole_nothing_is_kept(events: list[bytes]) -> None:
    assert kept_of(events) is None


@pytest.mark.parametrize("reason", ["tool_use", "end_turn", None])
def test_an_answer_that_ended_well_is_kept_whatever_its_reason(reason: str | None) -> None:
    assert kept_of([*THOUGHT, *CALL], ending=[claude.finish(reason), claude.STOP]) is not None


@pytest.mark.parametrize("reason", ["max_tokens", "refusal"])
def test_of_an_answer_that_stopped_for_another_reason_nothing_is_kept(reason: str | None) -> None:
    assert kept_of([*THOUGHT, *CALL], ending=[claude.finish(reason), claude.STOP]) is None


def test_of_an_answer_without_an_end_nothing_is_kept() -> None:
    assert kept_of([*THOUGHT, *CALL], ending=[claude.PING]) is None


def test_a_whole_answer_is_kept_as_one_in_pieces() -> None:
    call = {"type": "tool_use", "id": "t", "name": "now"}
    blocks = [{"type": "thinking", "thinking": "", "signature": "abc=="}, call]
    decoder = MessageStreamDecoder(keeps_native=True)
    decoder.feed(json.dumps(claude.message([*blocks], stop_reason="tool_use")).encode())
    decoder.finish()
    assert decoder.native is not None
    assert json.loads(decoder.native.blocks) == [blocks[0], {**call, "input": {}}]


def test_nothing_is_kept_where_nobody_asked_for_it() -> None:
    decoder = MessageStreamDecoder()
    for event in (claude.start(), *THOUGHT, *CALL, claude.finish("tool_use"), claude.STOP):
        decoder.feed(event)
    assert decoder.native is None


@pytest.mark.parametrize(
    ("blocks", "lacks"),
    [
        ([{"type": "thinking"}, {"type": "tool_use"}], False),
        ([{"type": "redacted_thinking"}, {"type": "tool_use"}], False),
        ([{"type": "text"}, {"type": "thinking"}, {"type": "tool_use"}], True),
        (None, True),
    ],
)
def test_a_loop_that_does_not_begin_with_its_thinking_is_known(blocks: list[Any] | None, lacks: bool) -> None:
    calling = ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=[ToolCall(call_id="one", name="now")])
    messages = [ChatMessage(role=MessageRole.USER, content="?"), calling]
    replayed = {} if blocks is None else {1: NativeBlocks(json.dumps(blocks).encode(), {}, {})}
    assert goes_on_without_thinking(messages, replayed) is lacks
    assert not goes_on_without_thinking(messages[:1], replayed)


def fields_of(*chunks: dict[str, Any], read_at_once: bool = False) -> Any:
    events = [*map(gpt.chunk, chunks), *gpt.ending("tool_calls")]
    decoder = ChatStreamDecoder(keeps_native=True)
    for data in [b"".join(events)] if read_at_once else events:
        decoder.feed(data)
    decoder.finish()
    if decoder.native is None:
        return None
    (call_id, hashed), *_ = decoder.native.call_hashes.items()
    assert hashed == call_hash(TIME.name, TIME.arguments)
    (sent,) = json.loads(decoder.native.blocks)
    return sent["message"], sent["calls"].get(call_id)


def _call(**further: Any) -> dict[str, Any]:
    return {"tool_calls": [{**call_delta(0, TIME.arguments, call_id="call_1", name=TIME.name), **further}]}


@pytest.mark.parametrize("read_at_once", [True, False])
@pytest.mark.parametrize(
    ("chunks", "message", "extra"),
    [
        ([{"reasoning_content": "H"}, {"reasoning_content": "m."}, _call()], {"reasoning_content": "Hm."}, None),
        ([{"reasoning": "Hm."}, _call()], {"reasoning": "Hm."}, None),
        (
            [{"reasoning": "Hm.", "reasoning_content": "Hm."}, {"content": "I look."}, _call()],
            {"reasoning": "Hm.", "reasoning_content": "Hm."},
            None,
        ),
        ([{"reasoning_content": "Hm.", "content": "I look."}, _call()], {"reasoning_content": "Hm."}, None),
        ([{"content": "I look.", "extra_content": {"g": 1}}, _call()], {"extra_content": {"g": 1}}, None),
        ([_call(extra_content={"g": 1})], {}, {"extra_content": {"g": 1}}),
        (
            [{"reasoning_details": [{"data": "a"}]}, _call()],
            {"reasoning_details": [{"data": "a"}]},
            None,
        ),
        ([_call()], {}, None),
    ],
    ids=["content", "reasoning", "both", "with text", "of the message", "of the call", "details", "nothing"],
)
def test_each_server_of_the_chat_api_gets_back_the_field_that_it_sent(
    chunks: list[dict[str, Any]], message: dict[str, Any], extra: object, read_at_once: bool
) -> None:
    assert fields_of(*chunks, read_at_once=read_at_once) == (message, extra)


def test_a_long_thought_in_small_details_is_kept_whole() -> None:
    """What is around each piece counted as much as it: of fifteen thousand words nothing was kept."""
    begun = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0, "signature": None}
    pieces = [{"reasoning_details": [{**begun, "text": " word"}]} for _ in range(15_000)]
    signed = {"reasoning_details": [{**begun, "signature": "abc=="}]}
    kept = fields_of(*pieces, signed, _call(), read_at_once=True)
    assert kept is not None
    assert kept[0] == {"reasoning_details": [{**begun, "text": " word" * 15_000, "signature": "abc=="}]}


@pytest.mark.parametrize("number", [0, 1])
def test_a_text_in_a_million_pieces_takes_little_more_memory_than_its_length(number: int) -> None:
    kept = (KeptThought(), KeptContent())[number]
    tracemalloc.start()
    for place in range(100_000):
        text = chr(0x4E00 + place % 5000)
        if isinstance(kept, KeptThought):
            kept.add(StreamChunk(content="", reasoning=text))
        else:
            kept.go_on(0, "thinking_delta", text)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 1_000_000


def test_signatures_of_parallel_calls_stay_with_their_calls_where_all_have_one_index() -> None:
    calls = [
        {**call_delta(0, TIME.arguments, call_id=f"call_{number}", name=TIME.name), "extra_content": {"g": number}}
        for number in (1, 2)
    ]
    decoder = ChatStreamDecoder(keeps_native=True)
    for event in (*(gpt.chunk({"tool_calls": [call]}) for call in calls), *gpt.ending("tool_calls")):
        decoder.feed(event)
    assert decoder.native is not None
    (sent,) = json.loads(decoder.native.blocks)
    ours = {foreign_id: our_id for our_id, foreign_id in decoder.native.call_ids.items()}
    assert sent["calls"] == {ours[f"call_{number}"]: {"extra_content": {"g": number}} for number in (1, 2)}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_details", "extra_content"])
@pytest.mark.parametrize("value", [7, [1], [{"a": 1}], {"a": [{}]}, True, "x" * (NATIVE_BYTES_MAX + 1)], ids=repr)
def test_odd_values_of_these_fields_break_no_answer(field: str, value: object) -> None:
    decoder = ChatStreamDecoder(keeps_native=True)
    for event in (gpt.chunk({**_call(), field: value}), *gpt.ending("tool_calls")):
        decoder.feed(event)
    if decoder.fault is None:
        assert decoder.finish_reason == "tool_calls"
        assert decoder.native is None or json.loads(decoder.native.blocks)


@pytest.mark.parametrize("size", [1, 50, 173, 400, 100_000])
def test_what_is_kept_is_the_same_wherever_its_bytes_are_cut(size: int) -> None:
    text, pieces = 'It is "warm" \N{SUN WITH FACE} in Tromsø.\n' * 4, range(0, 120, 3)
    thought = [claude.thinking(text[start : start + 3], 0) for start in pieces]
    spoken = [claude.delta(text[start : start + 3], 1) for start in pieces]
    call = [*call_events(2, TIME, size=1), claude.finish("tool_use"), claude.STOP]
    body = b"".join([claude.start(), THOUGHT[0], *thought, *THOUGHT[2:], claude.block_start(1), *spoken, *call])
    decoder = MessageStreamDecoder(keeps_native=True)
    for start in range(0, len(body), size):
        decoder.feed(body[start : start + size])
    assert decoder.native is not None
    assert json.loads(decoder.native.blocks) == [
        {"type": "thinking", "thinking": text[:120], "signature": "abc=="},
        {"type": "text", "text": text[:120]},
        {"type": "tool_use", "id": "toolu_2", "name": "get_time", "input": {"city": "Oslo"}},
    ]

    called = [{"tool_calls": [call_delta(0, piece)]} for piece in TIME.arguments]
    chunks = [*({"reasoning": text[start : start + 3]} for start in pieces), *_called(), *called]
    body = b"".join([*map(gpt.chunk, chunks), *gpt.ending("tool_calls")])
    chat = ChatStreamDecoder(keeps_native=True)
    for start in range(0, len(body), size):
        chat.feed(body[start : start + size])
    assert chat.native is not None
    assert json.loads(chat.native.blocks)[0]["message"] == {"reasoning": text[:120]}
    assert list(chat.native.call_hashes.values()) == [call_hash(TIME.name, TIME.arguments)]


def _called() -> list[dict[str, Any]]:
    return [{"tool_calls": [call_delta(0, "", call_id="call_1", name=TIME.name)]}]


@pytest.mark.parametrize(
    ("said", "is_of_thoughts"),
    [
        ("messages.1.content.0: Invalid `signature` in `thinking` block", True),
        ("messages.1.content.0.thinking.signature: Field required", True),
        ("messages.3: `thinking` or `redacted_thinking` blocks in the latest message cannot be modified", True),
        ("Expected `thinking` or `redacted_thinking`, but found `tool_use`: it must start with a thinking block", True),
        ("messages.1 and messages.2: a signature is missing", True),
        (f"messages.1 {'a' * 200} messages.2.content.0.thinking: Field required", True),
        (f"messages.1 {'a' * 200} thinking: Field required", False),
        ("thinking: Extra inputs are not permitted", False),
        ("thinking.budget_tokens: must be less than max_tokens", False),
        ("messages.1.content.0.text: Field required", False),
    ],
)
def test_a_refusal_of_thoughts_is_told_from_one_of_the_parameter(said: str, is_of_thoughts: bool) -> None:
    refusal = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": said}}).encode()
    assert refuses_thoughts(400, refusal) is is_of_thoughts
    assert not refuses_thoughts(500, refusal)
