"""The common event as Anthropic sends it, a piece of text, thinking or arguments: only the fields that the decoder's
fast path uses. Pure.

Texts are type-checked when they are used. An event of another shape is left to the decoder's slow path.
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
    """Identifies a piece: the index of its block, and its kind."""

    block: int | None
    kind: str


def piece_in(data: bytes) -> tuple[BlockPiece, str] | None:
    """The piece in an event, and its text; None for any other event."""
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
