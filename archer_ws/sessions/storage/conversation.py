"""One conversation in memory: its messages, in the forms in which they are asked for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import Conflict, FieldError, InvalidParams
from archer_ws.core.ids import new_id
from archer_ws.llm_gateway.content import MediaPart, Part, TextPart
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, MessageRole, Refusal, StreamStatus
from archer_ws.sessions.history import message_tokens, native_turns
from archer_ws.sessions.models import Session, StoredMessage

#: What a stored message costs beside its text, about, in bytes (measured): without it, empty ones would cost nothing.
MESSAGE_OVERHEAD_BYTES = 1024
#: What each of its calls costs beside the arguments, likewise.
CALL_OVERHEAD_BYTES = 768
#: What each of its parts costs, likewise.
PART_OVERHEAD_BYTES = 768
#: What a session takes in a list beside its title and metadata, about, in bytes.
SESSION_LISTED_BYTES = 256


@dataclass(slots=True)
class Entry:
    """A stored message: kept as a provider gets it, so that a turn copies and checks nothing."""

    chat: ChatMessage
    stream_id: str
    status: StreamStatus
    created_at: datetime
    message_id: str
    #: What it costs in memory, and what it takes of a model's context.
    size: int
    tokens: int
    #: That the model declined to give this answer.
    refusal: Refusal | None = None
    #: What its provider must see again of it.
    native: NativeTurn | None = None

    @classmethod
    def of(cls, chat: ChatMessage, stream_id: str, status: StreamStatus, created_at: datetime) -> "Entry":
        """A new message; it keeps the id that its client gave it."""
        chat = chat.without_place()
        size = chat.text_bytes + MESSAGE_OVERHEAD_BYTES + CALL_OVERHEAD_BYTES * len(chat.tool_calls or ())
        if chat.parts is not None:
            size += sum(map(_part_bytes, chat.parts))
        return cls(chat, stream_id, status, created_at, chat.message_id or new_id("msg"), size, message_tokens(chat))

    @classmethod
    def answer(
        cls,
        content: str,
        calls: Sequence[ToolCall],
        stream_id: str,
        status: StreamStatus,
        refusal: Refusal | None = None,
        *,
        native: NativeTurn | None = None,
    ) -> "Entry":
        """A stream's answer."""
        # Validated as it came.
        chat = ChatMessage.model_construct(
            role=MessageRole.ASSISTANT, content=content, name=None, tool_calls=list(calls) or None
        )
        entry = cls.of(chat, stream_id, status, utc_now())
        if refusal is not None:
            entry.refusal = refusal
            entry.size += len((refusal.text or "").encode())
        if native is not None:
            entry.native = native
            entry.size += native.size
        return entry

    @property
    def is_refused(self) -> bool:
        """Whether it is an answer that the model declined to give."""
        return self.refusal is not None

    @property
    def native_size(self) -> int:
        """What its native turn takes in memory, in bytes."""
        return self.native.size if self.native is not None else 0

    def forget_native(self) -> None:
        """Keep its native turn no longer."""
        self.size -= self.native_size
        self.native = None

    def as_stored(self) -> StoredMessage:
        """The message as clients see it."""
        return StoredMessage.model_construct(
            message_id=self.message_id,
            role=self.chat.role,
            content=self.chat.content,
            parts=list(self.chat.parts) if self.chat.parts else None,
            name=self.chat.name,
            tool_calls=self.chat.tool_calls,
            refusal=self.refusal,
            call_id=self.chat.call_id,
            result_status=(self.chat.status or "ok") if self.chat.role is MessageRole.TOOL else None,
            stream_id=self.stream_id,
            status=self.status,
            created_at=self.created_at,
        )


def _part_bytes(part: Part) -> int:
    """What a part costs in memory: its text stands beside the message's own."""
    match part:
        case TextPart(text=held) | MediaPart(url=str(held)):
            return PART_OVERHEAD_BYTES + len(held.encode())
    return PART_OVERHEAD_BYTES


@dataclass
class Conversation:
    """A session and its messages."""

    session_id: str
    ordinal: int
    title: str | None
    metadata: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    used_at: float
    #: What title and metadata take.
    described_bytes: int = 0
    messages: list[Entry] = field(default_factory=list)
    #: Those of them that are system messages.
    system: list[Entry] = field(default_factory=list)
    #: How many of them are refusals.
    refused: int = 0
    #: Those of them that have a native turn.
    native: list[Entry] = field(default_factory=list)

    def as_session(self) -> Session:
        """The session without its messages."""
        return Session(
            session_id=self.session_id,
            title=self.title,
            metadata=self.metadata,
            created_at=self.created_at,
            updated_at=self.updated_at,
            message_count=len(self.messages),
        )

    def position_of(self, message_id: str) -> int | None:
        """Where the message stands. The newest are asked for: they are looked at first."""
        for position in range(len(self.messages) - 1, -1, -1):
            if self.messages[position].message_id == message_id:
                return position
        return None

    def position_given(self, message_id: str, field_name: str) -> int:
        """Where the message stands that a client named in a field.

        Raises:
            InvalidParams: nowhere.
        """
        position = self.position_of(message_id)
        if position is None:
            message = f"the session has no message {message_id!r}"
            raise InvalidParams(
                f"{field_name}: {message}",
                hint="GET the session: its messages carry their message_id.",
                errors=[FieldError(path=field_name, message=message)],
            )
        return position

    def check_ids(self, turn: Sequence[ChatMessage], kept: int) -> None:
        """Refuse a message of a turn whose id is taken, by one of the first `kept` messages or by another of the turn.

        Raises:
            Conflict: with the path of the id.
        """
        given = [message.message_id for message in turn]
        if not any(given):
            return
        taken = {entry.message_id for entry in self.messages[:kept]}
        for place, message_id in enumerate(given):
            if message_id is None:
                continue
            if message_id in taken:
                path = f"messages.{place}.message_id"
                message = f"the session has a message {message_id!r}"
                raise Conflict(
                    f"{path}: {message}",
                    hint="Mint a fresh id for each message; to say one anew, name it in replace_from.",
                    errors=[FieldError(path=path, message=message)],
                )
            taken.add(message_id)

    def asked_before(self, position: int) -> int:
        """Where the turn begins whose answer stands at `position`.

        Raises:
            InvalidParams: no answer stands there, or nothing was asked before it.
        """
        if self.messages[position].chat.role is MessageRole.ASSISTANT:
            for begin in range(position - 1, -1, -1):
                if self.messages[begin].chat.role is MessageRole.USER:
                    return begin
        message = "without messages, replace_from names the answer that is to be given again"
        raise InvalidParams(
            f"replace_from: {message}",
            hint="Name a message of the assistant, or send messages.",
            errors=[FieldError(path="replace_from", message=message)],
        )

    def has_answer(self, position: int, stream_id: str) -> bool:
        """Whether the stream's answer stands behind the message at `position`."""
        behind = self.messages[position + 1 : position + 2]
        return any(entry.chat.role is MessageRole.ASSISTANT and entry.stream_id == stream_id for entry in behind)

    def past_native(self, kept: int, turn: Sequence[Entry]) -> list[Entry]:
        """Which of the first `kept` messages have a native turn that no provider sees again once the turn stands behind
        them, since it is of an earlier tool loop."""
        if not self.native:
            return []
        messages = [*self.messages[:kept], *turn]
        current = {id(native) for native in native_turns(messages).values()}
        return [entry for entry in messages if entry.native is not None and id(entry.native) not in current]

    def forget_native(self, past: Sequence[Entry]) -> None:
        """Keep the native turns of these messages no longer."""
        for entry in past:
            entry.forget_native()
        if past:
            self.native = [entry for entry in self.native if entry.native is not None]

    def replace_end(self, position: int, turn: Sequence[Entry]) -> None:
        """Put a turn in the place of whatever stands at `position` and behind it."""
        gone = sum(1 for entry in self.messages[position:] if entry.chat.role is MessageRole.SYSTEM)
        self.refused -= sum(1 for entry in self.messages[position:] if entry.is_refused)
        if self.native:
            replaced = {id(entry) for entry in self.messages[position:]}
            self.native = [entry for entry in self.native if id(entry) not in replaced]
        del self.system[len(self.system) - gone :]
        self.messages[position:] = turn
        self.system += (entry for entry in turn if entry.chat.role is MessageRole.SYSTEM)


def described_bytes(title: str | None, metadata: dict[str, Any] | None) -> int:
    """What a session's title and metadata take, about, in bytes."""
    size = len(title.encode()) if title else 0
    return size + (len(json.dumps(metadata, ensure_ascii=False).encode()) if metadata else 0)
