"""Encodes a request's JSON without scanning or copying the megabytes of base64 in it.

Pure. A photo's base64 needs no escapes. Encoding it with the rest of a request would copy it several times, and block
the event loop meanwhile; here it is one of several pieces that are written one after the other.
"""

from collections.abc import Mapping
from secrets import token_hex
from typing import Any, TypeAlias

import msgspec

#: A body to be sent: in one piece, or in several if it is large.
Body: TypeAlias = bytes | tuple[bytes | bytearray | memoryview, ...]
#: Up to this size, a copy costs less than handling a separate piece.
ONE_PIECE_BYTES = 256 * 1024


class LongText:
    """A text value in a request's JSON: a prefix and data, both without characters to escape."""

    # Not a dataclass: msgspec would encode its fields.
    __slots__ = ("data", "prefix")

    def __init__(self, prefix: str, data: bytes | bytearray | memoryview) -> None:
        self.prefix = prefix
        self.data = data


def encoded(value: Mapping[str, Any]) -> Body:
    """The JSON of a request; values may be LongTexts."""
    texts: list[LongText] = []
    mark = ""

    def marked(found: Any) -> str:
        nonlocal mark
        # A random placeholder for a text, so that a request can't contain it.
        mark = mark or token_hex(16)
        if not isinstance(found, LongText):
            raise TypeError(f"a {type(found).__name__} can't be encoded as JSON")
        texts.append(found)
        return mark

    rest = msgspec.json.encode(value, enc_hook=marked)
    if not texts:
        return rest
    before, *behind = rest.split(mark.encode())
    pieces: list[bytes | bytearray | memoryview] = [before]
    for text, piece in zip(texts, behind, strict=True):
        pieces += (text.prefix.encode(), text.data, piece)
    return b"".join(pieces) if size_of(pieces) <= ONE_PIECE_BYTES else tuple(pieces)


def size_of(body: "Body | list[bytes | bytearray | memoryview]") -> int:
    """The size of a body in bytes."""
    return len(body) if isinstance(body, bytes) else sum(map(len, body))


def in_one(body: Body) -> bytes:
    """The body in one piece."""
    return body if isinstance(body, bytes) else b"".join(body)
