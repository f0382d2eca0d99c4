from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.sessions.streams.scalars import ScalarEncoder

HIGH, LOW = "\ud83d", "\ude00"
SMILE = "\U0001f600"
LONE = "\ufffd"


def encode_all(pieces: list[str]) -> str:
    encoder = ScalarEncoder()
    return b"".join([*(encoder.encode(piece) for piece in pieces), encoder.flush()]).decode()


def whole_scalars(units: str) -> str:
    """The rule itself, unit by unit: a first half and a second half are one character, any other half is U+FFFD."""
    scalars: list[str] = []
    position = 0
    while position < len(units):
        this, following = units[position], units[position + 1 : position + 2]
        if "\ud800" <= this <= "\udbff" and "\udc00" <= following <= "\udfff":
            scalars.append(chr(0x10000 + ((ord(this) - 0xD800) << 10) + (ord(following) - 0xDC00)))
            position += 2
            continue
        scalars.append(LONE if "\ud800" <= this <= "\udfff" else this)
        position += 1
    return "".join(scalars)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([HIGH, LOW], SMILE),
        (["a" + HIGH, LOW + "b"], f"a{SMILE}b"),
        ([HIGH, "", LOW], SMILE),
        ([HIGH + LOW], SMILE),
        ([HIGH + LOW + HIGH, LOW], SMILE * 2),
        ([SMILE + HIGH, LOW + SMILE], SMILE * 3),
    ],
)
def test_halves_of_a_pair_are_joined_over_chunks(pieces: list[str], text: str) -> None:
    assert encode_all(pieces) == text


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([HIGH], LONE),
        ([LOW], LONE),
        ([HIGH, "a"], f"{LONE}a"),
        ([HIGH, HIGH, LOW], LONE + SMILE),
        ([LOW, HIGH], LONE * 2),
        (["a" + LOW + "b"], f"a{LONE}b"),
        ([HIGH, SMILE], LONE + SMILE),
    ],
)
def test_a_half_that_stays_alone_becomes_a_replacement_character(pieces: list[str], text: str) -> None:
    assert encode_all(pieces) == text


def test_only_a_trailing_first_half_is_held_back() -> None:
    encoder = ScalarEncoder()

    assert encoder.encode("a" + HIGH) == b"a"
    assert encoder.encode(LOW + "b") == f"{SMILE}b".encode()
    assert encoder.encode("c" + LOW) == f"c{LONE}".encode()
    assert encoder.flush() == b""


def test_what_was_flushed_does_not_come_again() -> None:
    encoder = ScalarEncoder()
    encoder.encode(HIGH)

    assert encoder.flush() == LONE.encode()
    assert encoder.flush() == b""
    assert encoder.encode(LOW) == LONE.encode()


units = st.one_of(
    st.sampled_from(["\ud800", "\udbff", "\udc00", "\udfff", HIGH, LOW, "a", "\ufeff", "\x00", SMILE]),
    st.integers(0, 0xFFFF).map(chr),
)


@given(st.lists(units, max_size=30), st.lists(st.integers(0, 30), max_size=10))
def test_any_split_of_any_text_gives_the_text_encoded_as_a_whole(written: list[str], cuts: list[int]) -> None:
    text = "".join(written)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]

    assert encode_all([text[start:end] for start, end in pairwise(edges)]) == whole_scalars(text)
