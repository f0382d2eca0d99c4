"""An event that goes on with text or arguments, as Anthropic itself sends it: the fields that are used of it, for the
decoder's quick way. Pure.

What is text is looked at when it is used; what does not fit the shape is left to the decoder's slow way.
"""

from typing import Any

import msgspec

from archer_ws.llm_gateway.decoding.alike import Subject


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


def piece_in(data: bytes) -> tuple[Subject, str] | None:
    """What an event has a piece of, and its text; None where it is any other."""
    try:
        event = PLAIN_EVENT.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    match event:
        case PlainEvent(type="content_block_delta", delta=_Piece(type="text_delta", text=str(text))):
            return "content", text
        case PlainEvent(
            type="content_block_delta", index=int(index), delta=_Piece(type="input_json_delta", partial_json=str(text))
        ):
            return index, text
    return None
