"""The JSON of a request, in which megabytes of base64 stand as they are: not looked through, and not copied.

Pure. A photo's base64 needs no escapes. Encoded with the rest of a request it would be copied several times, in calls
during which nobody else has a turn; here it is one of the pieces that are written one after the other.
"""

from collections.abc import Mapping
from secrets import token_hex
from typing import Any, TypeAlias

import msgspec

#: A body that is sent: in one piece, or in several where it is large.
Body: TypeAlias = bytes | tuple[bytes | bytearray | memoryview, ...]
#: Up to here one copy costs less than what is done for each piece.
ONE_PIECE_BYTES = 256 * 1024


class LongText:
    """A text that is a value in a request's JSON: a prefix and data, neither with anything to escape."""

    # No dataclass: msgspec would write its fields.
    __slots__ = ("data", "prefix")

    def __init__(self, prefix: str, data: bytes | bytearray | memoryview) -> None:
        self.prefix = prefix
        self.data = data


def encoded(value: Mapping[str, Any]) -> Body:
    """The JSON of a request; values may be LongTexts."""
    texts: list[LongText] = []
    # Where a text will stand: what nobody who writes a request can know.
    mark = token_hex(16)

    def marked(found: Any) -> str:
        if not isinstance(found, LongText):
            raise TypeError(f"no JSON can be made of a {type(found).__name__}")
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
    """How many bytes a body has."""
    return len(body) if isinstance(body, bytes) else sum(map(len, body))


def in_one(body: Body) -> bytes:
    """The body in one piece."""
    return body if isinstance(body, bytes) else b"".join(body)
