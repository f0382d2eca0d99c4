"""An event that goes on with text or arguments, as Anthropic itself sends it: the fields that are used of it, for the
decoder's quick way. Pure.

What is text is looked at when it is used; what does not fit the shape is left to the decoder's slow way.
"""

from typing import Any

import msgspec


class _Piece(msgspec.Struct, gc=False):
    type: Any = None
    text: Any = None
    partial_json: Any = None


class PlainEvent(msgspec.Struct, gc=False):
    """The event."""

    type: Any = None
    index: int | None = None
    delta: _Piece | None = None


#: Raises msgspec.DecodeError, ValueError or RecursionError for anything else.
PLAIN_EVENT = msgspec.json.Decoder(PlainEvent)
