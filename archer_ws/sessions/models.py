"""What clients see of streams and sessions (protocol sections 3 and 10)."""

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import from_json

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.core.ids import DOT_SEGMENTS
from archer_ws.core.wire_model import NUMBER, Identifier, WireModel, optional
from archer_ws.core.wire_types import Count, NamedType
from archer_ws.examples.sessions import (
    ACTIVE,
    ARCHIVED,
    CHANGES,
    COMPLETED,
    EXPORTED_SESSION,
    FORK,
    FOUND,
    IMPORT_FAILURE,
    RUNNING,
    SESSION,
    SESSION_CREATES,
    SESSION_DETAILS,
    SESSION_UPDATES,
    STORED_MESSAGES,
    STREAM_MESSAGES,
    STREAMS,
)
from archer_ws.llm_gateway.content import AnyParts, Part
from archer_ws.llm_gateway.tools import ResultStatus, ToolCall
from archer_ws.llm_gateway.types import ChatMessage, FinishReasonText, MessageRole, Refusal, StreamStatus, TokenUsage

#: The other routes below `/api/v1/sessions/`: a session with such an id would be unreachable over REST.
RESERVED_IDS = frozenset({"search", "export", "import"})

#: The limit of a session's metadata as JSON, in bytes.
METADATA_BYTES_MAX = 16 * 1024


def _bounded(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    try:
        encoded = json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise ValueError("must be plain JSON, without lone surrogates") from None
    if len(encoded) > METADATA_BYTES_MAX:
        raise ValueError(f"must be at most {METADATA_BYTES_MAX} bytes of JSON, got {len(encoded)}")
    try:
        from_json(encoded)
    except ValueError:
        # Pydantic writes at most 255 levels, and the metadata must also fit within a page.
        raise ValueError("must be nested at most 200 deep") from None
    return metadata


def _not_reserved(session_id: str) -> str:
    if session_id in RESERVED_IDS:
        raise ValueError(f"{session_id!r} is the name of a REST route; choose another id")
    if session_id in DOT_SEGMENTS:
        raise ValueError(f"{session_id!r} can't be in a URL, so REST could not reach it; choose another id")
    return session_id


NewSessionId = Annotated[Identifier, AfterValidator(_not_reserved)]
ListOrder = Annotated[
    Literal["updated", "created"],
    NamedType(
        "SessionOrder", "What a list of sessions is sorted by, newest first: their last change, or their creation."
    ),
]
Query = Annotated[str, Field(min_length=1, max_length=1000)]
Version = Annotated[int, Field(ge=0, le=2**53 - 1), NUMBER]
Title = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[str, Any], AfterValidator(_bounded)]


class SessionCreate(WireModel):
    """A new conversation. If its id exists, the existing one is returned, so that a client may repeat the call."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_CREATES]})

    session_id: NewSessionId | None = Field(
        default=None,
        description="An id of your own; by default the server makes one. Not `search`, `export` or `import`: those are "
        "routes. Not `.` or `..`: URLs can't have them.",
    )
    title: Title | None = Field(default=None, description="A name for people, at most 512 characters.")
    metadata: Metadata | None = Field(
        default=None, description="Whatever you want to store with it: at most 16 KiB of JSON, nested at most 200 deep."
    )


class SessionUpdate(WireModel):
    """What to change; fields that are left out or null stay as they are."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_UPDATES]})

    title: Title | None = Field(default=None, description="The new name for people, at most 512 characters.")
    metadata: Metadata | None = Field(
        default=None,
        description="Replaces the old metadata: at most 16 KiB of JSON, nested at most 200 deep.",
    )
    archived: bool | None = Field(default=None, description="True archives it; false undoes that.")
    version: Version | None = Field(
        default=None,
        description="The `version` that it must have; otherwise nothing is changed, and the error is `conflict`.",
    )


class SessionFork(WireModel):
    """Which of a conversation's messages to copy into a new one, and the new one's id."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, FORK]})

    before: Identifier | None = Field(default=None, description="Copy the messages before this one; by default all.")
    new_session_id: NewSessionId | None = Field(
        default=None, description="The new conversation's id, which must not exist; by default the server makes one."
    )


class ActiveStream(BaseModel):
    """A stream of a conversation that has not ended."""

    model_config = ConfigDict(json_schema_extra={"examples": [ACTIVE]})

    stream_id: str = Field(description="The stream's id.")
    status: StreamStatus = Field(description="Its status.")


class StoredMessage(BaseModel):
    """One message of a conversation; `status` is that of the stream whose last completion it is, else `completed`."""

    model_config = ConfigDict(json_schema_extra={"examples": [*STORED_MESSAGES]})

    message_id: str = Field(description="The message's id: what `replace_from` takes.")
    role: MessageRole = Field(description="The role of its author.")
    content: str = Field(description="Its text.")
    parts: AnyParts | None = optional("Text, pictures and files in order, if it has more than text.")
    name: str | None = optional("The name of its author, if several have that role.")
    tool_calls: list[ToolCall] | None = optional("The tool calls that the model made in it.")
    refusal: Refusal | None = optional("The model refused to generate it: its turn is not sent to a model again.")
    call_id: str | None = optional("The id of the call that it is the result of.")
    result_status: ResultStatus | None = optional("How that call ended.")
    stream_id: str | None = optional("The stream that produced or carried the message.")
    status: StreamStatus = Field(description="How the stream ended whose last completion it is; else `completed`.")
    created_at: datetime = Field(description="When it was stored, RFC 3339 in UTC.")
    parent_id: str | None = optional("The message before it; absent for the first.")
    provider: str | None = optional("The provider that generated it.")
    model: str | None = optional("The model that generated it.")
    finish_reason: FinishReasonText | None = optional("Why the model stopped; absent if it did not say.")
    usage: TokenUsage | None = optional("What it cost, in tokens.")
    reasoning: str | None = optional("The model's visible reasoning.")
    error: ErrorInfo | None = optional("Why it failed or is incomplete.")

    def as_chat(self) -> ChatMessage:
        """The message as a provider gets it."""
        return ChatMessage.model_construct(
            role=self.role,
            content=self.content,
            # A store has known parts only.
            parts=[part for part in self.parts if isinstance(part, Part)] if self.parts else None,
            name=self.name,
            tool_calls=self.tool_calls,
            call_id=self.call_id,
            status=self.result_status,
        )


class _SessionHead(BaseModel):
    """A conversation without its messages."""

    session_id: str = Field(description="The conversation's id.")
    title: str | None = optional("A name for people.")
    metadata: dict[str, Any] | None = optional("Whatever the client has stored with it.")
    created_at: datetime = Field(description="When it was created, RFC 3339 in UTC.")
    updated_at: datetime = Field(description="When it last changed, RFC 3339 in UTC.")
    message_count: Count = Field(description="How many messages it has.")
    version: Count | None = optional("Grows by one with each change.")
    archived: bool | None = optional("True if it is archived.")
    preview: str | None = optional("The beginning of its last message with text, on one line.")


class Session(_SessionHead):
    """A conversation, without its messages."""

    model_config = ConfigDict(json_schema_extra={"examples": [SESSION, ARCHIVED]})

    active: list[ActiveStream] | None = optional("Its running streams.")


class SessionDetail(Session):
    """A conversation with a page of its messages (the newest, unless a cursor said otherwise) and the ids of its
    running streams."""

    model_config = ConfigDict(json_schema_extra={"examples": [*SESSION_DETAILS]})

    messages: list[StoredMessage] = Field(description="The messages of this page, oldest first.")
    active_streams: list[str] = Field(description="The ids of its running streams.")
    next_cursor: str | None = optional(
        "What to pass as `cursor` for the page of older messages; absent if there are none."
    )


class SessionPage(BaseModel):
    """Some sessions, the last changed (or created) first; pass `next_cursor` as `cursor` for those that follow."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [SESSION, ARCHIVED], "next_cursor": "20"}, {"items": []}]}
    )

    items: list[Session] = Field(description="The sessions of this page.")
    next_cursor: str | None = optional("What to pass as `cursor` for the next page; absent on the last one.")


class FoundMessage(BaseModel):
    """A message that a search found."""

    model_config = ConfigDict(json_schema_extra={"examples": [FOUND]})

    session_id: str = Field(description="The conversation that has it.")
    message_id: str = Field(description="The message's id.")
    role: MessageRole = Field(description="The role of its author.")
    snippet: str = Field(description="The text around what was found, on one line.")
    created_at: datetime = Field(description="When it was stored, RFC 3339 in UTC.")


class SearchPage(BaseModel):
    """A page of the messages that a search found, the last stored first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [FOUND], "next_cursor": "71"}, {"items": []}]})

    items: list[FoundMessage] = Field(description="The messages of this page.")
    next_cursor: str | None = optional("What to pass as `cursor` for the next page; absent on the last one.")


class SessionChanged(BaseModel):
    """A conversation's current state. It is no log of changes: an older state may be skipped for a newer one."""

    model_config = ConfigDict(json_schema_extra={"examples": [*CHANGES]})

    session_id: str = Field(description="The conversation's id.")
    version: Count = Field(description="Its version; if it was deleted, the last known one.")
    updated_at: datetime = Field(description="When it last changed, RFC 3339 in UTC.")
    title: str | None = optional("A name for people.")
    deleted: bool | None = optional("True: it was deleted.")
    active: list[ActiveStream] = Field(description="Its running streams.")


class DeletedSessions(BaseModel):
    """The result of deleting all conversations."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"deleted": 12}]})

    deleted: Count = Field(description="How many were deleted.")


class ImportFailure(BaseModel):
    """A line of an import that failed; nothing of it is stored."""

    model_config = ConfigDict(json_schema_extra={"examples": [IMPORT_FAILURE]})

    line: Count = Field(description="The number of the line, from 1; empty lines count.")
    session_id: str | None = optional("The conversation's id, if it could be read.")
    error: ErrorInfo = Field(description="What is wrong with it.")


class ImportResult(BaseModel):
    """The result of an import."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"imported": 12, "failed": 0, "failures": []}]})

    imported: Count = Field(description="How many conversations were stored.")
    failed: Count = Field(description="How many lines failed.")
    failures: list[ImportFailure] = Field(description="The first 200 failures, in order.")


class ExportedSession(_SessionHead):
    """A whole conversation: one line of an export or import."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXPORTED_SESSION]})

    messages: list[StoredMessage] = Field(description="All its messages, oldest first.")


class StreamMessage(BaseModel):
    """A message that a stream generated; its session stores the same messages when the stream has ended."""

    model_config = ConfigDict(json_schema_extra={"examples": [*STREAM_MESSAGES]})

    role: MessageRole = Field(description="The role of its author.")
    content: str = Field(description="Its text.")
    parts: AnyParts | None = optional("Text, pictures and files in order, if it has more than text.")
    message_id: str | None = optional("Its id, if its sender gave it one.")
    reasoning: str | None = optional("The model's visible reasoning.")
    tool_calls: list[ToolCall] | None = optional("The tool calls that the model made in it.")
    refusal: Refusal | None = optional("The model refused to generate it.")
    call_id: str | None = optional("The id of the call that it is the result of.")
    result_status: ResultStatus | None = optional("How that call ended.")

    def as_chat(self) -> ChatMessage:
        """The message as a provider gets it."""
        return ChatMessage.model_construct(
            role=self.role,
            content=self.content,
            parts=[part for part in self.parts if isinstance(part, Part)] if self.parts else None,
            name=None,
            message_id=self.message_id,
            tool_calls=self.tool_calls,
            call_id=self.call_id,
            status=self.result_status,
        )


class StreamInfo(BaseModel):
    """A stream's state, without its text."""

    model_config = ConfigDict(json_schema_extra={"examples": [*STREAMS]})

    stream_id: str = Field(description="The stream's id.")
    session_id: str | None = optional("The conversation it belongs to.")
    provider: str = Field(description="The provider.")
    model: str = Field(description="The model.")
    status: StreamStatus = Field(description="The stream's state.")
    head_seq: Count = Field(description="Its newest event's number; 0 before the first.")
    created_at: datetime = Field(description="When the request was accepted, RFC 3339 in UTC.")
    ended_at: datetime | None = optional("When it ended, RFC 3339 in UTC; absent while it runs.")
    text_bytes: Count = Field(description="The length of the completion so far, in bytes of UTF-8.")
    usage: TokenUsage | None = optional(
        "What it cost, in tokens; known at the end at the latest, unless the server was lost meanwhile."
    )
    error: ErrorInfo | None = optional("Why it failed or is incomplete.")
    messages: list[StreamMessage] | None = optional(
        "The messages that it has generated so far, oldest first, if the request asked for them."
    )
    next_cursor: str | None = optional("What to pass as `cursor` for the next page of messages.")


class StreamPage(BaseModel):
    """A page of the principal's streams, running or retained, the last accepted first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [RUNNING, COMPLETED]}, {"items": [RUNNING], "next_cursor": "7"}]}
    )

    items: list[StreamInfo] = Field(description="The streams of this page.")
    next_cursor: str | None = optional("What to pass as `cursor` for the next page; absent on the last one.")


CancelOutcome = Annotated[
    Literal["cancelling", "already_ended", "not_found"],
    NamedType("CancelOutcome", "The outcome of a cancel. More may be added."),
]


class CancelResult(BaseModel):
    """The outcome of a cancel, which is harmless to repeat."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"outcome": "cancelling", "status": "cancelling"},
                {"outcome": "already_ended", "status": "completed"},
                {"outcome": "not_found"},
            ]
        }
    )

    outcome: CancelOutcome = Field(description="Whether the stream is being cancelled, had ended, or is unknown.")
    status: StreamStatus | None = optional("The stream's status, if there is one.")
