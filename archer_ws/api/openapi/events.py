"""What the data of server-sent events holds (protocol section 10), for the documents and whoever checks against them.

The bytes are made in sse.py, by hand for their speed; the tests hold both to each other.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from archer_ws.llm_gateway.examples import UNAVAILABLE
from archer_ws.llm_gateway.types import FinishReasonText, StreamChunk
from archer_ws.rpc.messages import StreamEnded, StreamProgress, StreamStarted

_EMPTY: Any = Field(description="Empty: only plain messages have text.")
_NULL: Any = Field(description="Null: only the end has one.")


class TextEvent(StreamChunk):
    """A plain message: a piece of the answer's text, or of the model's visible reasoning."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"content": "Because", "finish_reason": None},
                {"content": "", "finish_reason": None, "reasoning": "They ask about Rayleigh."},
            ]
        }
    )


class StartedEvent(StreamStarted):
    """`event: started`: the provider answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "content": "",
                    "finish_reason": None,
                    "stream_id": "sky-1",
                    "seq": 1,
                    "session_id": "sky",
                    "provider": "ollama",
                    "model": "llama3.2",
                }
            ]
        }
    )

    content: Literal[""] = _EMPTY
    finish_reason: None = _NULL


class ProgressEvent(StreamProgress):
    """`event: progress`: what happens before the first text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "content": "",
                    "finish_reason": None,
                    "stream_id": "sky-1",
                    "seq": 1,
                    "phase": "queued",
                    "detail": "ollama is busy with other requests",
                },
            ]
        }
    )

    content: Literal[""] = _EMPTY
    finish_reason: None = _NULL


class EndedEvent(StreamEnded):
    """`event: ended`, the last one; after it comes `data: [DONE]`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
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
            ]
        }
    )

    content: Literal[""] = _EMPTY
    finish_reason: FinishReasonText | None = Field(description="Why the model stopped; null where it did not.")


#: By the event's name; plain text has none.
EVENT_MODELS: dict[str, type[BaseModel]] = {
    "message": TextEvent,
    "started": StartedEvent,
    "progress": ProgressEvent,
    "ended": EndedEvent,
}
