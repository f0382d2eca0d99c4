"""The data of server-sent events (protocol section 10), for the documents and for tests that check against them.

The fields are those of the events' definitions, added to a chunk's.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from archer_ws.examples.events import ENDED_DATA, TEXT_DATA, beside_a_chunk
from archer_ws.llm_gateway.types import FinishReasonText, StreamChunk
from archer_ws.sessions.streams.events import (
    EVENTS,
    ControlEvent,
    StreamEnded,
    StreamStarted,
    StreamToolResult,
    model_of,
)

_Empty = Annotated[Literal[""], Field(description="Empty: only plain messages have text.")]
_Result = Annotated[str, Field(description="The first 64 KiB of the result's text.")]
_Null = Annotated[None, Field(description="Null: only the end has a finish_reason.")]
_WhyItStopped = Annotated[FinishReasonText | None, Field(description="Why the model stopped; null if it did not.")]


class TextEvent(StreamChunk):
    """A plain message: a piece of the completion's text, of the model's visible reasoning, or of a call's arguments."""

    model_config = ConfigDict(json_schema_extra={"examples": [*TEXT_DATA]})


#: Descriptions that differ from those of the event's definition.
_DESCRIPTIONS: dict[type[ControlEvent], str] = {
    StreamStarted: "`event: started`: the provider has begun to respond.",
    StreamEnded: "`event: ended`, the last one; after it comes `data: [DONE]`.",
}


def _as_data(event: type[ControlEvent]) -> type[BaseModel]:
    """The model of the data of `event: KIND`."""
    said = event.__doc__ or ""
    return model_of(
        event,
        name=f"{event.__name__.removeprefix('Stream')}Event",
        description=_DESCRIPTIONS.get(event, f"`event: {event.kind}`: {said[:1].lower()}{said[1:]}"),
        examples=ENDED_DATA
        if event is StreamEnded
        else [beside_a_chunk(example, has_text=event is StreamToolResult) for example in event.examples],
        replaced={
            # A tool result's own text is in `content`; for every other event it is empty.
            "content": (_Result if event is StreamToolResult else _Empty, ...),
            "finish_reason": (_WhyItStopped if event is StreamEnded else _Null, ...),
        },
    )


#: By the event's name; plain text has no name.
EVENT_MODELS: dict[str, type[BaseModel]] = {
    "message": TextEvent,
    **{event.kind: _as_data(event) for event in EVENTS if issubclass(event, ControlEvent)},
}
