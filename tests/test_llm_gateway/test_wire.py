"""The stream decoders give the same, wherever the reads are cut."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.llm_gateway.decoding.framing import EventDecoder, LineDecoder
from archer_ws.llm_gateway.decoding.json_documents import LineTooLong, decode_json

#: Few bytes, so that terminators, colons and field names come often and next to each other.
LINE_BYTES = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b":", b" ", b"data:", b"data", b"event:", b"event", b"\xc3\xa9", b""])
).map(b"".join)


@st.composite
def cut(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    """Bytes, and the reads they come in (some of them empty)."""
    data = draw(whole)
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def lines_of(reads: list[bytes]) -> list[bytes]:
    decoder = LineDecoder()
    lines = [line for read in reads for line in decoder.feed(read)]
    return [*lines, decoder.flush()]


def events_of(reads: list[bytes]) -> list[tuple[str, bytes]]:
    decoder = EventDecoder()
    return [event for read in reads for event in decoder.feed(read)]


def reference_events(data: bytes) -> list[tuple[str, bytes]]:
    """The HTML standard's algorithm, read off line by line."""
    lines = re.split(rb"\r\n|\r|\n", data.removeprefix(b"\xef\xbb\xbf"))[:-1]
    events, kind, buffer = [], b"", b""
    for line in lines:
        if not line:
            if buffer:
                events.append((kind.decode(), buffer.removesuffix(b"\n")))
            kind, buffer = b"", b""
            continue
        field, colon, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if not field and colon:
            continue
        if field == b"event":
            kind = value
        elif field == b"data":
            buffer += value + b"\n"
    return events


@given(cut(LINE_BYTES))
def test_lines_do_not_depend_on_where_reads_are_cut(reads: list[bytes]) -> None:
    assert lines_of(reads) == re.split(rb"\r\n|\r|\n", b"".join(reads))


@given(cut(LINE_BYTES))
def test_events_are_those_of_the_standard_wherever_reads_are_cut(reads: list[bytes]) -> None:
    assert events_of(reads) == reference_events(b"".join(reads))


def test_an_event_is_told_as_soon_as_its_blank_line_ends_in_cr() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: one\r\n\r") == [("", b"one")]
    assert decoder.feed(b"\ndata: two\r\n\r\n") == [("", b"two")]


def test_reads_of_one_event_are_decoded_as_any_others() -> None:
    reads = [
        b"data: one\n\n",
        b"data: two\n\n",
        b"data:  \xc3\xa9 \n\n",
        b"data: \n\n",
        b"event: named\ndata: three\n\n",
        b"data: four\n\n",
        b"data: of\ndata: lines\n\n",
        b"data: five\r\n\r\n",
        b"data: six\n\n",
        b"data: seven\r\r",
        b"data: eight\n\n",
        b"data: a\rdata: b\n\n",
        b"event: kept\n",
        b"data: nine\n\n",
        b"data: un",
        b"data: finished\n\n",
        b"data: ten\n\n",
    ]
    whole, one_by_one = EventDecoder(), EventDecoder()
    found = [event for read in reads for event in whole.feed(read)]
    assert found == [event for byte in b"".join(reads) for event in one_by_one.feed(bytes([byte]))]
    assert [data for _, data in found][:4] == [b"one", b"two", b" \xc3\xa9 ", b""]


ODD_LINES = st.sampled_from(
    [b"", b": alive\n\n", b"event: a\n", b"data: more\n", b"\n", b"data: c\r\n\r\n", b"data:d\n\n", b"id: 1\n\n"]
)


@given(st.lists(st.tuples(st.integers(0, 3), ODD_LINES), max_size=6), st.lists(st.integers(0, 200), max_size=6))
def test_many_events_in_a_read_are_those_that_come_byte_by_byte(parts: list[tuple[int, bytes]], at: list[int]) -> None:
    body = b"".join(b"".join(b'data: {"n": %d}\n\n' % number for number in range(many)) + odd for many, odd in parts)
    ends = sorted({cut % (len(body) + 1) for cut in at} | {len(body)})

    reads = [body[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    assert events_of(reads) == events_of([bytes([byte]) for byte in body])


def test_data_lines_are_joined_and_comments_ignored() -> None:
    assert events_of([b": hello\nevent: error\ndata: {\ndata:}\nid: 7\nretry: 5\n\n"]) == [("error", b"{\n}")]


def test_an_event_name_lasts_for_one_event() -> None:
    assert events_of([b"event: ping\n\ndata: 1\n\nevent: a\ndata: 2\n\ndata: 3\n\n"]) == [
        ("", b"1"),
        ("a", b"2"),
        ("", b"3"),
    ]


def test_a_byte_order_mark_is_ignored_at_the_start_only() -> None:
    assert events_of([b"\xef\xbb", b"\xbfdata: 1\n\n\xef\xbb\xbfdata: 2\n\n"]) == [("", b"1")]


def test_an_unfinished_event_is_dropped() -> None:
    assert events_of([b"data: 1\n\ndata: 2\n"]) == [("", b"1")]


def test_flush_tells_the_last_line_once() -> None:
    decoder = LineDecoder()
    assert decoder.feed(b"one\ntw") == [b"one"]
    assert decoder.feed(b"o") == []
    assert decoder.flush() == b"two"
    assert decoder.flush() == b""


def test_an_endless_line_is_refused() -> None:
    decoder = LineDecoder(max_bytes=10)
    for _ in range(5):
        decoder.feed(b"xx")
    with pytest.raises(LineTooLong):
        decoder.feed(b"x")


def test_many_short_lines_are_no_long_line() -> None:
    decoder = LineDecoder(max_bytes=10)
    assert [line for _ in range(50) for line in decoder.feed(b"12345\n1234")] == [b"12345", *[b"123412345"] * 49]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    )
)
def test_json_is_decoded_as_the_standard_library_does(value: object) -> None:
    text = json.dumps(value)
    decoded = decode_json(text.encode())
    assert decoded == json.loads(text)
    assert repr(decoded) == repr(json.loads(text))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"caf\xe9": "\xff"}', {"caf\ufffd": "\ufffd"}),
        (b'"a\tb\0c"', "a\tb\0c"),
        (b"\xef\xbb\xbf\0[1]\0\0", [1]),
    ],
)
def test_bytes_that_json_has_not_are_no_reason_to_lose_the_rest(data: bytes, value: object) -> None:
    assert decode_json(data) == value


def test_half_a_surrogate_pair_is_kept() -> None:
    assert decode_json(b'"\\ud83d"') == "\ud83d"
    assert decode_json(b'"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize("data", [b"", b"{", b"nope", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 200_000, b'{"a":1} {}'])
def test_what_is_not_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each way of being wrong has its own words
        decode_json(data)
