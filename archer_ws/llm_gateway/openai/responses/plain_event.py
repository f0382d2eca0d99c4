"""An event that goes on with text or arguments, as OpenAI itself sends it: the fields that are used of it, for the
decoder's quick way; and the items of an answer as they came, byte for byte. Pure.

What is text is looked at when it is used; what does not fit the shape is left to the decoder's slow way.
"""

from typing import Any

import msgspec


class PlainEvent(msgspec.Struct, gc=False):
    """The event."""

    type: Any = None
    delta: Any = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None


class _ItemEvent(msgspec.Struct, gc=False):
    item: msgspec.Raw


class _Output(msgspec.Struct, gc=False):
    output: list[msgspec.Raw]


class _ResponseEvent(msgspec.Struct, gc=False):
    response: _Output


#: Raises msgspec.DecodeError, ValueError or RecursionError for anything else.
PLAIN_EVENT = msgspec.json.Decoder(PlainEvent)
_ITEM: msgspec.json.Decoder[_ItemEvent] = msgspec.json.Decoder(_ItemEvent)
_WHOLE: tuple[msgspec.json.Decoder[_ResponseEvent], msgspec.json.Decoder[_Output]] = (
    msgspec.json.Decoder(_ResponseEvent),
    msgspec.json.Decoder(_Output),
)


def item_in(data: bytes) -> bytes | None:
    """The JSON of the `item` in an event; None where it can't be had as it stands there."""
    try:
        return bytes(_ITEM.decode(data).item)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def items_in(data: bytes) -> list[bytes] | None:
    """The JSON of each item in the `output` of a response, or of the response in an event."""
    for decoder in _WHOLE:
        try:
            found = decoder.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
        output = found.response.output if isinstance(found, _ResponseEvent) else found.output
        return [bytes(item) for item in output]
    return None
