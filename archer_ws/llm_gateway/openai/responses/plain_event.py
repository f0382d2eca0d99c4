"""The common event as OpenAI sends it, a piece of text or arguments: only the fields that the decoder's fast path uses.
Pure.

Texts are type-checked when they are used. An event of another shape is left to the decoder's slow path.
"""

from typing import Any

import msgspec


class PlainEvent(msgspec.Struct, gc=False):
    """The event."""

    type: str | None = None
    delta: Any = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None


#: Raises msgspec.DecodeError, ValueError or RecursionError for anything else.
PLAIN_EVENT = msgspec.json.Decoder(PlainEvent)
