"""An event that goes on with text or arguments, as OpenAI itself sends it: the fields that are used of it, for the
decoder's quick way. Pure.

What is text is looked at when it is used; what does not fit the shape is left to the decoder's slow way.
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
