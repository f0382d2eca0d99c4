"""An event that goes on with text, thinking or arguments, as Anthropic itself sends it: the fields that are used of it,
for the decoder's quick way. Pure.

What is text is looked at when it is used; what does not fit the shape is left to the decoder's slow way.
"""

from typing import Any, NamedTuple

import msgspec


class _Piece(msgspec.Struct, gc=False):
    type: Any = None
    text: Any = None
    thinking: Any = None
    partial_json: Any = None


class PlainEvent(msgspec.Struct, gc=False):
    """The event."""

    type: Any = None
    index: int | None = None
    delta: _Piece | None = None


#: Raises msgspec.DecodeError, ValueError or RecursionError for anything else.
PLAIN_EVENT = msgspec.json.Decoder(PlainEvent)


class BlockPiece(NamedTuple):
    """What an event has a piece of: a block, by its index, and how it goes on."""

    block: int | None
    kind: str


def piece_in(data: bytes) -> tuple[BlockPiece, str] | None:
    """What an event has a piece of, and its text; None where it is any other."""
    try:
        event = PLAIN_EVENT.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    match event:
        case PlainEvent("content_block_delta", index, _Piece("text_delta" as kind, text=str(text))):
            return BlockPiece(index, kind), text
        case PlainEvent("content_block_delta", index, _Piece("thinking_delta" as kind, thinking=str(text))):
            return BlockPiece(index, kind), text
        case PlainEvent("content_block_delta", index, _Piece("input_json_delta" as kind, partial_json=str(text))):
            return BlockPiece(index, kind), text
    return None
