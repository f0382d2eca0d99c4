"""One conversation of the store in memory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from archer_ws.core.ids import new_id
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.types import ASSISTANT, SYSTEM, TOOL, USER, ChatMessage, StreamStatus
from archer_ws.sessions.history import History, fit_history, message_tokens, native_turns, without_refused
from archer_ws.sessions.models import FoundMessage, Session, StoredMessage
from archer_ws.sessions.storage.message import as_stored, chat_bytes, completion_bytes, completion_of, ids_for
from archer_ws.sessions.storage.refusals import no_message, nothing_asked, taken_message_id
from archer_ws.sessions.storage.values import EarlierMessage, StoredCompletion
from archer_ws.sessions.storage.words import PREVIEW_MESSAGES, preview, snippet

#: For how many streams of a session their messages' ids are remembered, for retries, which come within a minute.
STREAMS_REMEMBERED = 256
#: The approximate overhead of a session in a list, in bytes.
SESSION_LISTED_BYTES = 256


@dataclass(slots=True)
class Entry:
    """A stored message, in the form in which a provider gets it, so that a turn need not convert it."""

    chat: ChatMessage
    #: Empty if it was imported without one.
    stream_id: str
    status: StreamStatus
    created_at: datetime
    message_id: str
    #: Its size in memory, in bytes, and its approximate tokens.
    size: int
    tokens: int
    #: The completion, if a model generated it.
    completion: StoredCompletion | None = None
    #: Its number in the order of storing, over all sessions.
    number: int = 0

    @classmethod
    def of(cls, chat: ChatMessage, stream_id: str, status: StreamStatus, created_at: datetime) -> "Entry":
        """An entry for a new message, which keeps the id that its client gave it."""
        chat = chat.without_place()
        return cls(
            chat,
            stream_id,
            status,
            created_at,
            chat.message_id or new_id("msg"),
            chat_bytes(chat),
            message_tokens(chat),
        )

    @classmethod
    def of_left(cls, left: EarlierMessage, message_id: str, stream_id: str, created_at: datetime) -> "Entry":
        """An entry for a message that a stream leaves."""
        entry = cls.of(left.chat, stream_id, left.status, created_at)
        entry.message_id = message_id
        if left.completion is not None:
            entry._tell(left.completion)
        return entry

    @classmethod
    def of_stored(cls, message: StoredMessage) -> "Entry":
        """An entry for an exported message."""
        chat = message.as_chat()
        entry = cls.of(chat, message.stream_id or "", message.status, message.created_at)
        entry.message_id = message.message_id
        if message.role is ASSISTANT:
            entry._tell(completion_of(message))
        return entry

    def _tell(self, completion: StoredCompletion) -> None:
        self.completion = completion
        self.size += completion_bytes(completion)

    @property
    def is_refused(self) -> bool:
        """Whether it is a refusal of the model."""
        return self.completion is not None and self.completion.refusal is not None

    @property
    def native(self) -> NativeTurn | None:
        """Its native turn, if it has one."""
        return self.completion.native if self.completion is not None else None

    @property
    def native_size(self) -> int:
        """The size of its native turn, in bytes."""
        return native.size if (native := self.native) is not None else 0

    def forget_native(self) -> None:
        """Remove its native turn."""
        self.size -= self.native_size
        self.completion = self.completion and replace(self.completion, native=None)

    def as_found(self, session_id: str, query: str) -> FoundMessage:
        """The message as a result of a search."""
        return FoundMessage(
            session_id=session_id,
            message_id=self.message_id,
            role=self.chat.role,
            snippet=snippet(self.chat.content, query),
            created_at=self.created_at,
        )

    def as_stored(self, parent_id: str | None) -> StoredMessage:
        """The message as clients see it."""
        return as_stored(
            self.chat,
            message_id=self.message_id,
            stream_id=self.stream_id or None,
            status=self.status,
            created_at=self.created_at,
            parent_id=parent_id,
            completion=self.completion,
        )


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
    #: The size of title and metadata, in bytes.
    described_bytes: int = 0
    messages: list[Entry] = field(default_factory=list)
    #: The system messages among them.
    system: list[Entry] = field(default_factory=list)
    #: The number of refusals among them.
    refused: int = 0
    #: The messages among them that have a native turn.
    native: list[Entry] = field(default_factory=list)
    version: int = 1
    archived: bool = False
    #: The ids of the messages that the latest streams left, by stream and question; also of replaced messages.
    _left_by_stream: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    #: The numbers of the last messages of the latest streams' turns, by stream and message.
    _asked: dict[tuple[str, str], int] = field(default_factory=dict)

    def as_session(self) -> Session:
        """The session without its messages."""
        return Session(
            session_id=self.session_id,
            title=self.title,
            metadata=self.metadata,
            created_at=self.created_at,
            updated_at=self.updated_at,
            message_count=len(self.messages),
            version=self.version,
            archived=self.archived or None,
            preview=self._preview(),
        )

    def _preview(self) -> str | None:
        for entry in self.messages[: -PREVIEW_MESSAGES - 1 : -1]:
            if (shown := preview(entry.chat.content)) is not None:
                return shown
        return None

    def position_of(self, message_id: str) -> int | None:
        """The position of a message; None if there is none. Searched from the end, since recent messages are asked
        for."""
        for position in range(len(self.messages) - 1, -1, -1):
            if self.messages[position].message_id == message_id:
                return position
        return None

    def position_given(self, message_id: str, field_name: str) -> int:
        """The position of a message that a client named in a field.

        Raises:
            InvalidParams: there is no such message.
        """
        position = self.position_of(message_id)
        if position is None:
            raise no_message(message_id, field_name)
        return position

    def check_ids(self, turn: Sequence[ChatMessage], kept: int) -> None:
        """Refuse a turn with a message whose id one of the first `kept` messages, or another one of the turn, has.

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
                raise taken_message_id(message_id, place)
            taken.add(message_id)

    def asked_before(self, position: int) -> int:
        """The position of the question of the completion at `position`.

        Raises:
            InvalidParams: there is no completion at `position`, or no question before it.
        """
        if self.messages[position].chat.role is ASSISTANT:
            for begin in range(position - 1, -1, -1):
                if self.messages[begin].chat.role is USER:
                    return begin
        raise nothing_asked()

    def history_before(self, end: int, turn_tokens: int, budget_tokens: int | None) -> History:
        """The history before the turn that begins at `end`, cut to the budget."""
        native = native_turns(self.messages) if self.native else {}
        own = sum(1 for entry in self.messages[end:] if entry.chat.role is SYSTEM)
        system = self.system[: len(self.system) - own]
        goes_on = self.messages[end].chat.role is TOOL
        before_turn: Sequence[Entry] = self.messages[:end]
        # Only if there is a refusal, since this scans all messages.
        told = without_refused(before_turn) if self.refused else before_turn
        return replace(fit_history(told, system, turn_tokens, budget_tokens, goes_on=goes_on), native_turns=native)

    def left_before(self, stream_id: str, after: str) -> list[str] | None:
        """The ids of the messages that the stream left after that message; None if they have not been stored."""
        return self._left_by_stream.get((stream_id, after))

    def begin_anew(self, stream_id: str) -> None:
        """Note that a stream begins whose turn ends with the last message. What an earlier stream with its id left
        there is not what this one leaves: an id may come again once its stream was forgotten."""
        last = self.messages[-1]
        key = (stream_id, last.message_id)
        self._left_by_stream.pop(key, None)
        self._asked.pop(key, None)
        self._asked[key] = last.number
        if len(self._asked) > STREAMS_REMEMBERED:
            del self._asked[next(iter(self._asked))]

    def asked_at(self, message_id: str, stream_id: str) -> int | None:
        """The position of a stream's question; None if it was deleted or replaced, also if a later stream's question
        has its id."""
        position = self.position_of(message_id)
        if position is None:
            return None
        number = self.messages[position].number
        return position if self._asked.get((stream_id, message_id), number) == number else None

    def add_left(
        self, position: int, left: Sequence[EarlierMessage], stream_id: str, created_at: datetime
    ) -> list[Entry]:
        """Insert what a stream leaves after the message at `position`."""
        ids = ids_for(left, lambda message_id: self.position_of(message_id) is not None)
        entries = [
            Entry.of_left(each, message_id, stream_id, created_at) for each, message_id in zip(left, ids, strict=True)
        ]
        self._left_by_stream[stream_id, self.messages[position].message_id] = ids
        if len(self._left_by_stream) > STREAMS_REMEMBERED:
            del self._left_by_stream[next(iter(self._left_by_stream))]
        self.messages[position + 1 : position + 1] = entries
        self.refused += sum(1 for entry in entries if entry.is_refused)
        self.native += (entry for entry in entries if entry.native is not None)
        return entries

    def stored(self, start: int, end: int) -> list[StoredMessage]:
        """The messages from `start` to before `end`, as clients see them."""
        parent = self.messages[start - 1].message_id if start > 0 else None
        found = []
        for entry in self.messages[start:end]:
            found.append(entry.as_stored(parent))
            parent = entry.message_id
        return found

    def changed(self, now: datetime) -> None:
        """Count a change."""
        # A wall clock that is set back must not make it older.
        self.updated_at = max(self.updated_at, now)
        self.version += 1

    def past_native(self, kept: int, turn: Sequence[Entry]) -> list[Entry]:
        """The messages, of the first `kept` ones, whose native turn is no longer needed once `turn` follows them, since
        it belongs to an earlier tool loop."""
        if not self.native:
            return []
        messages = [*self.messages[:kept], *turn]
        current = {id(native) for native in native_turns(messages).values()}
        return [entry for entry in messages if entry.native is not None and id(entry.native) not in current]

    def forget_native(self, past: Sequence[Entry]) -> None:
        """Remove the native turns of these messages."""
        for entry in past:
            entry.forget_native()
        if past:
            self.native = [entry for entry in self.native if entry.native is not None]

    def replace_end(self, position: int, turn: Sequence[Entry]) -> None:
        """Replace the messages from `position` on with a turn."""
        gone = sum(1 for entry in self.messages[position:] if entry.chat.role is SYSTEM)
        self.refused -= sum(1 for entry in self.messages[position:] if entry.is_refused)
        if self.native:
            replaced = {id(entry) for entry in self.messages[position:]}
            self.native = [entry for entry in self.native if id(entry) not in replaced]
        del self.system[len(self.system) - gone :]
        self.messages[position:] = turn
        self.system += (entry for entry in turn if entry.chat.role is SYSTEM)


def described_bytes(title: str | None, metadata: dict[str, Any] | None) -> int:
    """The approximate bytes of a session's title and metadata."""
    size = len(title.encode()) if title else 0
    return size + (len(json.dumps(metadata, ensure_ascii=False).encode()) if metadata else 0)
