"""Converts rows to values, and values to rows. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.llm_gateway.content import Part, Parts
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import USER, ChatMessage, MessageRole, Refusal, StreamStatus, TokenUsage
from archer_ws.sessions.history import message_tokens
from archer_ws.sessions.models import Session, StoredMessage
from archer_ws.sessions.storage.cursors import microseconds, moment_of
from archer_ws.sessions.storage.message import as_stored, completion_bytes, parts_bytes
from archer_ws.sessions.storage.values import StoredCompletion

#: The approximate overhead of a message in the file, in bytes, and the factor for its text, which includes the index.
ROW_BYTES, TEXT_FACTOR = 512, 2
#: How much of a long conversation is stored or removed in one transaction, in bytes as messages count, which takes some
#: 30 ms, during which other requests wait; but at least one message.
STEP_BYTES = 256 * 1024
#: The approximate overhead of a session, in bytes.
SESSION_BYTES = 1024

SESSION_COLUMNS = (
    "pk, principal_pk, session_id, title, metadata, created_at, updated_at, archived, version, message_count, "
    "system_count, refused_count, preview, bytes"
)
MESSAGE_COLUMNS = (
    "pk, position, message_id, parent_id, role, stream_id, status, created_at, content, said, told, reasoning"
)
HISTORY_COLUMNS = "role, stream_id, created_at, refused, tokens, content, said, native"
#: The messages of a session that a client sees: those that were not replaced.
VISIBLE = "session_pk = ? AND hidden = 0"

#: The fields that the column `said` may have, with their defaults.
_NOTHING_SAID: dict[str, Any] = {
    name: field.default for name, field in ChatMessage.model_fields.items() if name not in {"role", "content"}
}
_SAID_PLAINLY = ChatMessage.model_construct(role=USER, content="", **_NOTHING_SAID)
_PARTS: TypeAdapter[list[Part]] = TypeAdapter(Parts)
_ROLES = {role.value: role for role in MessageRole}
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class SessionRow(NamedTuple):
    """A row of the table of sessions."""

    pk: int
    principal_pk: int
    session_id: str
    title: str | None
    metadata: str | None
    created_at: int
    updated_at: int
    archived: int
    version: int
    message_count: int
    system_count: int
    refused_count: int
    preview: str | None
    bytes: int

    def as_session(self) -> Session:
        """The session as clients see it."""
        return Session.model_construct(
            session_id=self.session_id,
            title=self.title,
            metadata=None if self.metadata is None else json.loads(self.metadata),
            created_at=moment_of(self.created_at),
            updated_at=moment_of(self.updated_at),
            message_count=self.message_count,
            version=self.version,
            archived=bool(self.archived) or None,
            preview=self.preview,
        )


class MessageRow(NamedTuple):
    """A row of the table of messages."""

    pk: int
    position: int
    message_id: str
    parent_id: str | None
    role: str
    stream_id: str | None
    status: StreamStatus
    created_at: int
    content: str
    said: str | None
    told: str | None
    reasoning: str | None

    def as_message(self) -> StoredMessage:
        """The message as clients see it."""
        return as_stored(
            _chat(self.role, self.content, self.said),
            message_id=self.message_id,
            stream_id=self.stream_id,
            status=self.status,
            created_at=moment_of(self.created_at),
            parent_id=self.parent_id,
            completion=None if self.told is None else _completion(self.content, self.status, self.told, self.reasoning),
        )


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A message of a history (see history.HistoryMessage)."""

    chat: ChatMessage
    stream_id: str
    #: In microseconds.
    created_at: int
    is_refused: bool
    tokens: int
    native: NativeTurn | None

    @classmethod
    def of(cls, row: tuple[str, str | None, int, int, int, str, str | None, bytes | None]) -> "HistoryRow":
        """Convert a row with HISTORY_COLUMNS."""
        role, stream_id, created_at, refused, tokens, content, said, native = row
        kept = None if native is None else NativeTurn.unpacked(native)
        return cls(_chat(role, content, said), stream_id or "", created_at, bool(refused), tokens, kept)


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be stored."""

    message_id: str
    chat: ChatMessage
    stream_id: str | None
    status: StreamStatus
    created_at: datetime
    completion: StoredCompletion | None = None
    #: If a stream left it: its index among the stream's messages, and the id of the message that these follow.
    ordinal: int | None = None
    after_id: str | None = None

    @property
    def bytes(self) -> int:
        """The approximate bytes that it takes in the file."""
        size = TEXT_FACTOR * self.chat.text_bytes + ROW_BYTES + parts_bytes(self.chat.parts)
        return size + completion_bytes(self.completion) if self.completion else size

    @property
    def is_refused(self) -> bool:
        """Whether it is a refusal of the model."""
        return self.completion is not None and self.completion.refusal is not None

    def as_row(self, session_pk: int, position: int, parent_id: str | None) -> dict[str, Any]:
        """The message as a row of the table of messages."""
        completion = self.completion
        return {
            "session_pk": session_pk,
            "position": position,
            "message_id": self.message_id,
            "parent_id": parent_id,
            "role": str(self.chat.role),
            "stream_id": self.stream_id,
            "ordinal": self.ordinal,
            "after_id": self.after_id,
            "status": self.status,
            "refused": int(self.is_refused),
            "tokens": message_tokens(self.chat),
            "bytes": self.bytes,
            "created_at": microseconds(self.created_at),
            "content": self.chat.content,
            "said": _said(self.chat),
            "told": None if completion is None else _told(completion),
            "reasoning": None if completion is None else completion.reasoning,
            "native": None if completion is None or completion.native is None else completion.native.packed(),
        }


def metadata_text(metadata: dict[str, Any] | None) -> str | None:
    """A session's metadata as JSON."""
    return None if metadata is None else _JSON.encode(metadata)


def described_bytes(title: str | None, metadata: str | None) -> int:
    """The approximate bytes of a session without its messages."""
    return SESSION_BYTES + sum(len(text.encode()) for text in (title or "", metadata or ""))


def _said(chat: ChatMessage) -> str | None:
    """The JSON of what a provider gets of a message besides role and text; None if there is nothing."""
    said: dict[str, Any] = {"name": chat.name, "call_id": chat.call_id, "status": chat.status}
    if chat.tool_calls:
        said["tool_calls"] = [[call.call_id, call.name, call.arguments] for call in chat.tool_calls]
    if chat.parts:
        said["parts"] = [part.model_dump(exclude_none=True) for part in chat.parts]
    return _encoded(said)


def file_ids_in(said: str | None) -> list[str]:
    """The ids of the files that a message names, by its column `said`."""
    parts = json.loads(said).get("parts", ()) if said is not None else ()
    return [part["file_id"] for part in parts if "file_id" in part]


def _chat(role: str, content: str, said: str | None) -> ChatMessage:
    # Everything was validated before it was stored, and copying is many times faster than constructing.
    if said is None:
        return _SAID_PLAINLY.model_copy(update={"role": _ROLES[role], "content": content})
    fields: dict[str, Any] = {**_NOTHING_SAID, **json.loads(said)}
    if fields["tool_calls"]:
        fields["tool_calls"] = [
            ToolCall.model_construct(call_id=call_id, name=name, arguments=arguments)
            for call_id, name, arguments in fields["tool_calls"]
        ]
    if fields["parts"]:
        fields["parts"] = _PARTS.validate_python(fields["parts"])
    return ChatMessage.model_construct(role=_ROLES[role], content=content, **fields)


def _told(completion: StoredCompletion) -> str:
    told: dict[str, Any] = {
        "provider": completion.provider,
        "model": completion.model,
        "finish_reason": completion.finish_reason,
        "usage": completion.usage and completion.usage.model_dump(exclude_none=True),
        "error": completion.error and completion.error.model_dump(exclude_none=True),
    }
    if completion.refusal is not None:
        told["refusal"] = completion.refusal.model_dump(exclude_none=True)
    return _encoded(told) or "{}"


def _completion(content: str, status: StreamStatus, told: str, reasoning: str | None) -> StoredCompletion:
    fields: dict[str, Any] = json.loads(told)
    usage, error, refusal = fields.get("usage"), fields.get("error"), fields.get("refusal")
    return StoredCompletion(
        content,
        status,
        refusal=None if refusal is None else Refusal.model_validate(refusal),
        reasoning=reasoning,
        provider=fields.get("provider"),
        model=fields.get("model"),
        finish_reason=fields.get("finish_reason"),
        usage=None if usage is None else TokenUsage.model_validate(usage),
        error=None if error is None else ErrorInfo.model_validate(error),
    )


def _encoded(fields: Mapping[str, Any]) -> str | None:
    given = {name: value for name, value in fields.items() if value is not None}
    return _JSON.encode(given) if given else None
