"""A request's JSON with long texts in it. Pure."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.llm_gateway.transport.json_body import ONE_PIECE_BYTES, LongText, encoded, in_one, size_of

LONG = b"A" * ONE_PIECE_BYTES


def test_without_long_texts_it_is_one_piece() -> None:
    assert encoded({"a": "é"}) == '{"a":"é"}'.encode()


def test_a_short_text_is_one_piece_too_and_a_long_one_is_not_copied() -> None:
    assert encoded({"a": LongText("data:,", b"QQ==")}) == b'{"a":"data:,QQ=="}'
    body = encoded({"a": LongText("data:,", LONG), "b": 1})
    assert isinstance(body, tuple)
    assert any(piece is LONG for piece in body)
    assert json.loads(in_one(body)) == {"a": "data:," + LONG.decode(), "b": 1}
    assert size_of(body) == len(in_one(body))


@given(
    st.recursive(
        st.text() | st.integers(-5, 5) | st.binary(max_size=9).map(lambda data: LongText("p:", data.hex().encode())),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_stands_around_them_long_texts_stand_where_they_should(value: Any) -> None:
    def plain(found: Any) -> Any:
        match found:
            case LongText():
                return found.prefix + bytes(found.data).decode()
            case list():
                return [plain(each) for each in found]
            case dict():
                return {key: plain(each) for key, each in found.items()}
        return found

    assert json.loads(in_one(encoded({"value": value}))) == {"value": plain(value)}


def test_what_no_json_can_be_made_of_is_an_error() -> None:
    with pytest.raises(TypeError):
        encoded({"a": object()})
