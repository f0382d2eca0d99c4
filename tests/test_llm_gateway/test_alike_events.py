"""Events that are alike but for their text are read by comparing them: what comes of a stream must be the same, read by
read, as where each event is decoded by itself."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.llm_gateway.anthropic.decoder import MessageStreamDecoder
from archer_ws.llm_gateway.decoding import alike
from archer_ws.llm_gateway.openai.decoder import ChatStreamDecoder
from archer_ws.llm_gateway.openai.logprobs import LogprobsDecoder
from archer_ws.llm_gateway.openai.plain_chunk import piece_in

Decoder: TypeAlias = ChatStreamDecoder | MessageStreamDecoder
#: What a reader has of an answer: content, reasoning, and the arguments of each call in the order of the calls.
Read: TypeAlias = tuple[str, str, list[tuple[str, str]]]


def openai_event(delta: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return b"data: %b\n\n" % json.dumps({"id": "c", "choices": [choice], "usage": None, **more}).encode()


def arguments(text: object, index: int | None = 0, **more: Any) -> bytes:
    call = {} if index is None else {"index": index}
    return openai_event({"tool_calls": [{**call, "function": {"arguments": text}, **more}]})


def begin(index: int = 0) -> bytes:
    function = {"name": f"tool_{index}", "arguments": ""}
    return openai_event({"tool_calls": [{"index": index, "id": f"call_{index}", "function": function}]})


def content(text: str, **more: Any) -> bytes:
    return openai_event({"content": text}, **more)


def ending(reason: str = "tool_calls") -> bytes:
    choice = {"index": 0, "delta": {}, "finish_reason": reason}
    return b"data: %b\n\ndata: [DONE]\n\n" % json.dumps({"id": "c", "choices": [choice]}).encode()


def anthropic_event(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def anthropic_delta(delta: dict[str, Any], index: int = 0) -> bytes:
    return anthropic_event({"type": "content_block_delta", "index": index, "delta": delta})


def anthropic_text(text: str) -> bytes:
    return anthropic_delta({"type": "text_delta", "text": text})


def anthropic_thinking(text: str, index: int = 0) -> bytes:
    return anthropic_delta({"type": "thinking_delta", "thinking": text}, index)


def anthropic_arguments(text: str, index: int = 1) -> bytes:
    return anthropic_delta({"type": "input_json_delta", "partial_json": text}, index)


def anthropic_begin(index: int = 1) -> bytes:
    block = {"type": "tool_use", "id": f"toolu_{index}", "name": f"tool_{index}", "input": {}}
    return anthropic_event({"type": "content_block_start", "index": index, "content_block": block})


ANTHROPIC_ENDING = anthropic_event(
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}
) + anthropic_event({"type": "message_stop"})


def read_by_read(decoder: Decoder, reads: Sequence[bytes]) -> tuple[list[Read], str | None, str, bytes | None]:
    """What a reader has after each read and at the end, why the model stopped, the fault, and what is kept for the
    provider."""
    said: dict[str, str] = {"content": "", "reasoning": ""}
    calls: dict[str, tuple[str, str]] = {}
    had: list[Read] = []
    for chunks in (*(decoder.feed(read) for read in reads), decoder.finish()):
        for chunk in chunks:
            said["content"] += chunk.content
            said["reasoning"] += chunk.reasoning or ""
            if chunk.arguments is not None:
                name, text = calls.get(chunk.call_id or "", (chunk.name or "", ""))
                calls[chunk.call_id or ""] = name, text + chunk.arguments
        whole = [(name, joined(text)) for name, text in calls.values()]
        had.append((joined(said["content"]), joined(said["reasoning"]), whole))
    return had, decoder.finish_reason, repr(decoder.fault), kept_by(decoder)


def kept_by(decoder: Decoder) -> bytes | None:
    """The blocks and arguments that are kept of the answer, with numbers in the place of ids that are made anew."""
    native = decoder.native
    if native is None:
        return None
    kept = native.blocks + b"|".join(native.call_hashes.values())
    for number, call_id in enumerate(native.call_ids):
        kept = kept.replace(call_id.encode(), b"%d" % number)
    return kept


def chat_decoder() -> ChatStreamDecoder:
    return ChatStreamDecoder(keeps_native=True)


def message_decoder() -> MessageStreamDecoder:
    return MessageStreamDecoder(keeps_native=True)


def joined(text: str) -> str:
    """The text with the halves of characters put together."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def both_ways(make: Callable[[], Decoder], reads: Sequence[bytes]) -> list[Read]:
    """What comes of the reads, which must be the same with and without a look at events that are alike."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alike, "_MOST_GUESSES", 0)
        one_by_one = read_by_read(make(), reads)
    compared = read_by_read(make(), reads)
    assert compared == one_by_one
    return compared[0]


TEXTS = [
    "a",
    "",
    ' {"',
    '"}',
    "\\",
    "\\\\",
    '\\"',
    "é😀",
    "\ud83d",
    "\ude00",
    "\n",
    "data: ",
    '"content":"x"',
    "\x00",
    "]}",
]
OPENAI = [
    begin(0),
    begin(1),
    *(arguments(text, index) for text in TEXTS for index in (0, 1)),
    *map(content, TEXTS),
    *(content(text, obfuscation=padding) for text in ("b", 'c"') for padding in ("", "xY9", 'a"', "\\")),
    *(openai_event({name: text}) for name in ("reasoning_content", "reasoning") for text in ("why", '"')),
    openai_event({"reasoning": "why", "reasoning_content": "why"}),
    openai_event({"reasoning": "why", "reasoning_details": [{"type": "reasoning.text", "text": "why"}]}),
    *(openai_event({"content": "g", name: "why"}) for name in ("reasoning_content", "thinking", "thoughts")),
    openai_event({"content": "f", "extra_content": {"google": {"thought_signature": "c2ln"}}}),
    arguments("id again", id="call_0"),
    arguments("id of another", id="call_9"),
    arguments("no index", None),
    arguments(None),
    arguments({"an": "object"}),
    openai_event({"content": "beside", "tool_calls": [{"index": 0, "function": {"arguments": "a call"}}]}),
    openai_event({"tool_calls": [{"index": n, "function": {"arguments": "two"}} for n in (0, 1)]}),
    openai_event({"content": "d", "refusal": "no"}),
    openai_event({"content": "e"}, usage={"prompt_tokens": 1, "completion_tokens": 2}),
    content("end of a line", service_tier="default").replace(b"\n\n", b"\r\n\r\n"),
    content("no space").replace(b"data: ", b"data:"),
    content("single")[:-1],
    content("last").replace(b'"finish_reason": null', b'"finish_reason": "stop"'),
    b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "open\\"}}]}\n\n',
    b": comment\n\n",
    b"\n",
    b"data: [DONE]\n",
    ending(),
    ending("length"),
]
ANTHROPIC = [
    anthropic_begin(1),
    anthropic_begin(2),
    *(anthropic_arguments(text, index) for text in TEXTS for index in (1, 2)),
    *map(anthropic_text, TEXTS),
    *(anthropic_thinking(text, index) for text in TEXTS for index in (0, 3)),
    anthropic_delta({"type": "thinking_delta", "thinking": "why", "signature": "c2ln"}),
    anthropic_delta({"type": "thinking_delta", "thinking": "why", "text": "beside"}),
    anthropic_delta({"type": "thinking_delta", "thinking": None}),
    anthropic_delta({"type": "signature_delta", "signature": "c2ln"}),
    anthropic_delta({"type": "input_json_delta"}, 1),
    anthropic_event({"type": "ping"}),
    anthropic_event({"type": "content_block_stop", "index": 1}),
    anthropic_text("other name").replace(b"event: content_block_delta\n", b""),
    anthropic_text("end of a line").replace(b"\n", b"\r\n"),
    b"event: error\n" + anthropic_text("an error").partition(b"\n")[2],
    ANTHROPIC_ENDING,
]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


PLACES = st.lists(st.integers(min_value=0, max_value=100_000), max_size=12)


@given(st.lists(st.sampled_from(OPENAI), max_size=20), PLACES, st.booleans())
def test_whatever_stands_between_and_however_it_is_cut_openai_s_events_say_the_same(
    events: list[bytes], places: list[int], each_alone: bool
) -> None:
    stream = [begin(0), arguments("{"), *events, ending()]
    both_ways(chat_decoder, stream if each_alone else cut(b"".join(stream), places))


@given(st.lists(st.sampled_from(ANTHROPIC), max_size=20), PLACES, st.booleans())
def test_whatever_stands_between_and_however_it_is_cut_anthropic_s_events_say_the_same(
    events: list[bytes], places: list[int], each_alone: bool
) -> None:
    stream = [anthropic_begin(1), anthropic_arguments("{"), *events, ANTHROPIC_ENDING]
    both_ways(message_decoder, stream if each_alone else cut(b"".join(stream), places))


@given(st.lists(st.sampled_from([*map(arguments, TEXTS), *map(content, TEXTS)]), max_size=30), PLACES)
def test_long_runs_of_events_that_are_alike_say_the_same(events: list[bytes], places: list[int]) -> None:
    runs = sorted(events, key=lambda event: b"arguments" in event)
    both_ways(chat_decoder, cut(b"".join([begin(0), *runs, ending()]), places))


@pytest.mark.parametrize(
    ("make", "first", "piece"),
    [
        (ChatStreamDecoder, begin(0), arguments),
        (ChatStreamDecoder, b"", content),
        (ChatStreamDecoder, b"", lambda text: content(text, obfuscation="x" * (len(text) % 5))),
        (MessageStreamDecoder, anthropic_begin(1), anthropic_arguments),
        (MessageStreamDecoder, b"", anthropic_text),
        (MessageStreamDecoder, b"", anthropic_thinking),
    ],
)
def test_a_read_of_a_thousand_pieces_is_decoded_as_one(
    make: Callable[[], Decoder], first: bytes, piece: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = make()
    decoder.feed(first)
    decoder.feed(piece("0"))
    looks = 0

    def counted(data: bytes) -> list[Any]:
        nonlocal looks
        looks += 1
        return []

    monkeypatch.setattr(decoder._events, "feed", counted)
    (chunk,) = decoder.feed(b"".join(piece(f'"{number}\n') for number in range(1000)))
    assert (chunk.arguments or chunk.reasoning or chunk.content) == "".join(f'"{number}\n' for number in range(1000))
    assert looks == 0


def test_a_piece_waits_for_no_other_read() -> None:
    """An event that begins as those before, and ends otherwise, is told with its read."""
    last = content("!").replace(b'"finish_reason": null', b'"finish_reason": "stop"')
    had = both_ways(chat_decoder, [content("a"), content("b") + last, ending("stop")])
    assert [text for text, _, _ in had] == ["a", "ab!", "ab!", "ab!"]


@pytest.mark.parametrize("events", [[content("a"), content("b")], [anthropic_text("a"), anthropic_text("b")]])
def test_the_last_event_may_lack_its_blank_line(events: list[bytes]) -> None:
    make = MessageStreamDecoder if events[0].startswith(b"event") else ChatStreamDecoder
    *_, (text, _, _) = both_ways(make, [*events, b"".join(events)[:-2]])
    assert text == "abab"


def test_a_text_that_is_none_of_the_answer_is_not_taken_for_it() -> None:
    """The name of the answer's text is escaped here; the text that stands under its own name is another one."""
    events = [
        b'data: {"choices":[{"index":0,"delta":{"cont\\u0065nt":"a"}}],"text":"%b"}\n\n' % other
        for other in (b"x", b"y")
    ]
    *_, (text, _, _) = both_ways(chat_decoder, [*events, ending("stop")])
    assert text == "aa"


@pytest.mark.parametrize("said", ["@", "a"])
def test_a_text_beside_the_answer_is_not_taken_for_it_whatever_the_answer_says(said: str) -> None:
    events = [
        b'data: {"choices":[{"index":0,"delta":{"cont\\u0065nt":"%b"}}],"text":"%b"}\n\n' % (said.encode(), other)
        for other in (b"x", b"y", b"z")
    ]
    *_, (text, _, _) = both_ways(chat_decoder, [*events, ending("stop")])
    assert text == 3 * said


def test_a_piece_that_ends_in_a_half_character_is_joined_with_the_next_one() -> None:
    halves = [arguments("\ud83d"), arguments("\ude00")]
    for reads in ([*halves], [b"".join(halves)], [arguments("a"), *halves], [arguments("a"), b"".join(halves)]):
        *_, (_, _, calls) = both_ways(chat_decoder, [begin(0), *reads, ending()])
        assert calls[0][1].removeprefix("a") == "😀"


@pytest.mark.parametrize("more", [{}, {"obfuscation": "xY9"}])
def test_events_that_come_in_one_read_behind_one_that_came_alone_are_all_read(more: dict[str, Any]) -> None:
    reads = [content("a", **more), content("b", **more), content("c", **more) + content("d", **more)]
    assert [text for text, _, _ in both_ways(chat_decoder, reads)] == ["a", "ab", "abcd", "abcd"]


@pytest.mark.parametrize("more", [{}, {"obfuscation": "xY9"}])
def test_an_end_marker_that_comes_before_its_line_end_is_no_text(more: dict[str, Any]) -> None:
    reads = [content("a", **more), content("b", **more), b"data: [DONE]", b"\n\n"]
    assert [text for text, _, _ in both_ways(chat_decoder, reads)] == ["a", *["ab"] * 4]


def test_a_text_whose_last_quotation_mark_is_escaped_ends_no_event() -> None:
    """Joined with the next one it would be JSON."""
    broken = content("x").replace(b'"x"', b'"x\\"')
    decoder = ChatStreamDecoder()
    decoder.feed(content("a"))
    decoder.feed(broken + content("n"))
    assert decoder.fault is not None


OPENAI_LOOP = [
    *(openai_event({"reasoning_content": text}) for text in ("why", " not", "?")),
    *(content(text) for text in ("a", "b", "c")),
    begin(0),
    *(arguments(text) for text in ("{", '"a":', "1}")),
    arguments(" ", extra_content={"signature": "s1"}),
    arguments(" ", extra_content={"signature": "s1"}),
    ending(),
]
ANTHROPIC_LOOP = [
    anthropic_event({"type": "message_start", "message": {"role": "assistant", "content": []}}),
    *(
        anthropic_event({"type": "content_block_start", "index": index, "content_block": {"type": kind, kind: ""}})
        for index, kind in enumerate(("text", "thinking", "thinking"))
    ),
    *map(anthropic_text, ("a", "b", "c")),
    *(anthropic_thinking(text, index) for index in (1, 2) for text in ("why", " not", "?")),
    anthropic_begin(3),
    *(anthropic_arguments(text, 3) for text in ("{", '"a":', "1}")),
    ANTHROPIC_ENDING,
]


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(("make", "events"), [(ChatStreamDecoder, OPENAI_LOOP), (MessageStreamDecoder, ANTHROPIC_LOOP)])
def test_what_goes_back_in_a_tool_loop_is_kept_of_events_that_are_alike(
    make: Callable[..., Decoder], events: list[bytes], at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    for guesses in (8, 0):
        monkeypatch.setattr(alike, "_MOST_GUESSES", guesses)
        decoder = make(keeps_native=True)
        decoder.feed(events[0])
        for read in [b"".join(events[1:])] if at_once else events[1:]:
            decoder.feed(read)
        assert decoder.native is not None
        (our_id,) = decoder.native.call_ids
        blocks = decoder.native.blocks.replace(our_id.encode(), b"ID")
        kept.append((blocks, *decoder.native.call_ids.values(), *decoder.native.call_hashes.values()))
    assert kept[0] == kept[1]


def test_probabilities_are_handed_on_though_all_events_have_the_same() -> None:
    handed: list[Any] = []
    decoder = LogprobsDecoder(lambda tokens, kind: handed.append((kind, [each["token"] for each in tokens])))
    scored = content("a").replace(b'"logprobs": null', b'"logprobs": {"content": [{"token": "a", "logprob": -1}]}')
    for _ in range(3):
        decoder.feed(scored)
    assert handed == [("content", ["a"])] * 3


def test_where_no_event_is_like_another_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def counted(data: bytes) -> Any:
        nonlocal looks
        looks += 1
        return piece_in(data)

    monkeypatch.setattr("archer_ws.llm_gateway.openai.decoder.piece_in", counted)
    decoder = ChatStreamDecoder()
    texts = [chunk.content for n in range(1000) for chunk in decoder.feed(content(f"{n} ", created=n))]
    assert "".join(texts) == "".join(f"{n} " for n in range(1000))
    assert looks <= alike._MOST_GUESSES
