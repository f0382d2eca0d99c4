"""What clients see of streams and sessions (protocol sections 3 and 10)."""

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import from_json

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.llm_gateway.types import (
    ChatMessage,
    Identifier,
    MessageRole,
    StreamStatus,
    Text,
    TokenUsage,
    WireModel,
    optional,
)

#: The most a session's metadata may take as JSON, in bytes.
METADATA_BYTES_MAX = 16 * 1024


def _bounded(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    try:
        encoded = json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise ValueError("must be plain JSON of whole Unicode characters") from None
    if len(encoded) > METADATA_BYTES_MAX:
        raise ValueError(f"must be at most {METADATA_BYTES_MAX} bytes of JSON, got {len(encoded)}")
    try:
        from_json(encoded)
    except ValueError:
        # Pydantic writes no more than 255 levels: what is stored must be readable again, within a page too.
        raise ValueError("must be nested at most 200 deep") from None
    return metadata


Title = Annotated[Text, Field(max_length=512)]
Metadata = Annotated[dict[str, Any], AfterValidator(_bounded)]


class SessionCreate(WireModel):
    """A new conversation; creating one that exists gives the existing one, so that a client may repeat the call."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Sky questions"}]})

    session_id: Identifier | None = None
    title: Title | None = None
    metadata: Metadata | None = None


class SessionUpdate(WireModel):
    """What to change; fields left out (or null) stay."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Blue skies"}]})

    title: Title | None = None
    metadata: Metadata | None = None


class StoredMessage(BaseModel):
    """One message of a conversation; `status` is that of the stream that made it, `completed` for the user's own."""

    message_id: str
    role: MessageRole
    content: str
    stream_id: str | None = optional("The stream that produced or carried the message.")
    status: StreamStatus
    created_at: datetime

    def as_chat(self) -> ChatMessage:
        """The message as a provider gets it."""
        # Validated when it was stored.
        return ChatMessage.model_construct(role=self.role, content=self.content, name=None)


class Session(BaseModel):
    """A conversation, without its messages."""

    session_id: str
    title: str | None = optional("A name for people.")
    metadata: dict[str, Any] | None = optional("Whatever the client keeps with it.")
    created_at: datetime
    updated_at: datetime
    message_count: int


class SessionDetail(Session):
    """A conversation with its messages and the ids of its running streams."""

    messages: list[StoredMessage]
    active_streams: list[str]


class SessionPage(BaseModel):
    """Some sessions, newest first; pass `next_cursor` as `cursor` for those that follow."""

    items: list[Session]
    next_cursor: str | None = optional("Absent on the last page.")


class StreamInfo(BaseModel):
    """A stream from outside: its state, not its text."""

    stream_id: str
    session_id: str | None = optional("The conversation it belongs to.")
    provider: str
    model: str
    status: StreamStatus
    head_seq: int
    created_at: datetime
    ended_at: datetime | None = optional("Absent while it runs.")
    text_bytes: int
    usage: TokenUsage | None = optional("Known at the end at the latest.")
    error: ErrorInfo | None = optional("Why it failed or is incomplete.")


class StreamPage(BaseModel):
    """The principal's streams, running or still kept."""

    items: list[StreamInfo]


class CancelResult(BaseModel):
    """What a cancel found; harmless to repeat."""

    outcome: Literal["cancelling", "already_ended", "not_found"]
    status: StreamStatus | None = optional("The stream's status, where there is one.")
