"""The data of server-sent events (protocol section 10), for the documents and for tests that check against them.

The fields are those of the events' definitions, added to a chunk's.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from archer_ws.llm_gateway.examples import UNAVAILABLE
from archer_ws.llm_gateway.types import FinishReasonText, StreamChunk
from archer_ws.sessions.streams.event_examples import STEERED
from archer_ws.sessions.streams.events import (
    EVENTS,
    ControlEvent,
    StreamEnded,
    StreamProgress,
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

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"content": "Because", "finish_reason": None},
                {"content": "", "finish_reason": None, "reasoning": "They ask about Rayleigh."},
                {
                    "content": "",
                    "finish_reason": None,
                    "arguments": '{"city": "Os',
                    "call_id": "k3Zq9TxB1",
                    "name": "get_weather",
                },
                {"content": "Because", "finish_reason": None, "reset": True},
            ]
        }
    )


#: Descriptions and examples that differ from those of the event's definition.
_DESCRIPTIONS: dict[type[ControlEvent], str] = {
    StreamStarted: "`event: started`: the provider has begun to respond.",
    StreamEnded: "`event: ended`, the last one; after it comes `data: [DONE]`.",
}
_EXAMPLES: dict[type[ControlEvent], list[JsonDict]] = {
    StreamStarted: [
        {
            "content": "",
            "finish_reason": None,
            "stream_id": "sky-1",
            "seq": 1,
            "session_id": "sky",
            "provider": "openai",
            "model": "gpt-5.1",
            "reasoning_effort": "low",
        }
    ],
    StreamProgress: [
        {
            "content": "",
            "finish_reason": None,
            "stream_id": "sky-1",
            "seq": 1,
            "phase": "queued",
            "detail": "ollama is busy with other requests",
        },
    ],
    StreamEnded: [
        {
            "content": "",
            "finish_reason": "stop",
            "stream_id": "sky-1",
            "seq": 3,
            "status": "completed",
            "usage": {"prompt_tokens": 14, "completion_tokens": 8, "total_tokens": 22},
            "text_bytes": 37,
            "history_dropped": 2,
            "stored": False,
            "message_ids": ["msg_9mK3vQx0bTzLw2RfY7cN"],
        },
        {
            "content": "",
            "finish_reason": "stop",
            "stream_id": "sky-1",
            "seq": 31,
            "status": "completed",
            "text_bytes": 46,
            "steps": 3,
            "unsteered": [STEERED],
        },
        {
            "content": "",
            "finish_reason": "stop",
            "stream_id": "sky-1",
            "seq": 3,
            "status": "completed",
            "text_bytes": 35,
            "format_valid": False,
            "format_errors": [{"path": "people", "message": 'it is not of type "integer"'}],
        },
        {
            "content": "",
            "finish_reason": "content_filter",
            "stream_id": "sky-1",
            "seq": 2,
            "status": "completed",
            "text_bytes": 0,
            "refusal": {"text": "I can't help with that."},
        },
        {
            "content": "",
            "finish_reason": None,
            "stream_id": "sky-1",
            "seq": 2,
            "status": "cancelled",
            "reason": "client",
            "text_bytes": 0,
        },
        {
            "content": "",
            "finish_reason": None,
            "stream_id": "sky-1",
            "seq": 1,
            "status": "failed",
            "text_bytes": 0,
            "error": UNAVAILABLE,
        },
    ],
}


def _as_data(event: type[ControlEvent]) -> type[BaseModel]:
    """The model of the data of `event: KIND`."""
    said = event.__doc__ or ""
    return model_of(
        event,
        name=f"{event.__name__.removeprefix('Stream')}Event",
        description=_DESCRIPTIONS.get(event, f"`event: {event.kind}`: {said[:1].lower()}{said[1:]}"),
        examples=_EXAMPLES.get(event)
        or [_beside_a_chunk(example, has_text=event is StreamToolResult) for example in event.examples],
        replaced={
            # A tool result's own text is in `content`; for every other event it is empty.
            "content": (_Result if event is StreamToolResult else _Empty, ...),
            "finish_reason": (_WhyItStopped if event is StreamEnded else _Null, ...),
        },
    )


def _beside_a_chunk(example: JsonDict, *, has_text: bool) -> JsonDict:
    return {"finish_reason": None, **example, **({} if has_text else {"content": ""})}


#: By the event's name; plain text has no name.
EVENT_MODELS: dict[str, type[BaseModel]] = {
    "message": TextEvent,
    **{event.kind: _as_data(event) for event in EVENTS if issubclass(event, ControlEvent)},
}
