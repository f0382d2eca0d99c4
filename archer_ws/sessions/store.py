"""Conversations: the protocol of a store, and the one in memory.

A store keeps sessions and their messages per principal. It does not know streams; that one session runs one stream at
a time is the manager's rule. Every operation is atomic for its session.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import InvalidParams, Overloaded, SessionNotFound
from archer_ws.core.ids import new_id
from archer_ws.llm_gateway.types import ChatMessage, MessageRole, StreamStatus
from archer_ws.sessions.models import Session, SessionPage, StoredMessage

PAGE_MAX = 200
#: What a stored message costs beside its text, about, in bytes (measured): without it, empty ones would cost nothing.
MESSAGE_OVERHEAD_BYTES = 1024


class SessionStore(Protocol):
    """What the manager needs of any store. All but `create` and `page` raise SessionNotFound for an unknown session."""

    async def create(
        self, principal: str, session_id: str | None, title: str | None, metadata: dict[str, Any] | None
    ) -> tuple[Session, bool]:
        """The session, and whether it is new; an existing one is left as it is.

        Raises:
            Overloaded: the store is full.
        """

    async def get(self, principal: str, session_id: str) -> Session:
        """The session without its messages."""

    async def messages(self, principal: str, session_id: str, before: str | None = None) -> list[StoredMessage]:
        """The messages in order, up to (and without) `before`."""

    async def page(self, principal: str, limit: int, cursor: str | None) -> SessionPage:
        """Sessions, newest first.

        Raises:
            InvalidParams: the cursor is none of ours.
        """

    async def update(
        self, principal: str, session_id: str, title: str | None, metadata: dict[str, Any] | None
    ) -> Session:
        """The session with what is not None changed."""

    async def delete(self, principal: str, session_id: str) -> None:
        """Forget the session and its messages."""

    async def append_turn(
        self,
        principal: str,
        session_id: str,
        messages: Sequence[ChatMessage],
        *,
        stream_id: str,
        replace_from: str | None,
    ) -> list[StoredMessage]:
        """Store a turn's messages, after dropping `replace_from` and what follows it.

        Raises:
            InvalidParams: `replace_from` is no message of the session.
            Overloaded: the store is full.
        """

    async def append_answer(
        self, principal: str, session_id: str, content: str, *, after: str, stream_id: str, status: StreamStatus
    ) -> None:
        """Store a turn's answer behind its last message; nothing happens if that message is gone by now."""


@dataclass
class _Conversation:
    session_id: str
    ordinal: int
    title: str | None
    metadata: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    used_at: float
    messages: list[StoredMessage] = field(default_factory=list)

    def as_session(self) -> Session:
        return Session(
            session_id=self.session_id,
            title=self.title,
            metadata=self.metadata,
            created_at=self.created_at,
            updated_at=self.updated_at,
            message_count=len(self.messages),
        )

    def position_of(self, message_id: str) -> int | None:
        for position, message in enumerate(self.messages):
            if message.message_id == message_id:
                return position
        return None


class MemoryStore:
    """Conversations in this process's memory, bounded in number, bytes and age.

    Args:
        sessions_max: sessions over all principals.
        bytes_max: all messages together: their UTF-8 bytes, and MESSAGE_OVERHEAD_BYTES for each. Answers are kept even
            beyond it.
        idle_ttl_s: a session untouched for so long is forgotten.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        sessions_max: int = 10_000,
        bytes_max: int = 256 * 1024 * 1024,
        idle_ttl_s: float = 86_400,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions_max = sessions_max
        self._bytes_max = bytes_max
        self._idle_ttl_s = idle_ttl_s
        self._clock = clock
        # Least recently used first, over all principals.
        self._conversations: OrderedDict[tuple[str, str], _Conversation] = OrderedDict()
        self._bytes = 0
        self._next_ordinal = 1

    async def create(
        self, principal: str, session_id: str | None, title: str | None, metadata: dict[str, Any] | None
    ) -> tuple[Session, bool]:
        """The session, and whether it is new; an existing one is left as it is.

        Raises:
            Overloaded: the store is full.
        """
        self._expire()
        key = (principal, session_id or new_id("ses"))
        if key in self._conversations:
            return self._use(*key).as_session(), False
        if len(self._conversations) >= self._sessions_max:
            raise Overloaded(
                f"{self._sessions_max} sessions are stored, the most this server keeps",
                hint="Delete sessions that are no longer needed, or raise SESSIONS_MAX.",
            )
        now = utc_now()
        conversation = _Conversation(key[1], self._next_ordinal, title, metadata, now, now, self._clock())
        self._next_ordinal += 1
        self._conversations[key] = conversation
        return conversation.as_session(), True

    async def get(self, principal: str, session_id: str) -> Session:
        """The session without its messages."""
        return self._use(principal, session_id).as_session()

    async def messages(self, principal: str, session_id: str, before: str | None = None) -> list[StoredMessage]:
        """The messages in order, up to (and without) `before`."""
        conversation = self._use(principal, session_id)
        end = conversation.position_of(before) if before is not None else None
        return conversation.messages[:end]

    async def page(self, principal: str, limit: int, cursor: str | None) -> SessionPage:
        """Sessions, newest first.

        Raises:
            InvalidParams: the cursor is none of ours.
        """
        self._expire()
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 20):
            raise InvalidParams("cursor is not one that this server gave", hint="Pass next_cursor as it came.")
        before = int(cursor) if cursor is not None else self._next_ordinal
        mine = sorted(
            (c for (owner, _), c in self._conversations.items() if owner == principal and c.ordinal < before),
            key=lambda c: c.ordinal,
            reverse=True,
        )
        items = mine[:limit]
        return SessionPage(
            items=[conversation.as_session() for conversation in items],
            next_cursor=str(items[-1].ordinal) if len(mine) > limit else None,
        )

    async def update(
        self, principal: str, session_id: str, title: str | None, metadata: dict[str, Any] | None
    ) -> Session:
        """The session with what is not None changed."""
        conversation = self._use(principal, session_id)
        if title is not None:
            conversation.title = title
        if metadata is not None:
            conversation.metadata = metadata
        conversation.updated_at = utc_now()
        return conversation.as_session()

    async def delete(self, principal: str, session_id: str) -> None:
        """Forget the session and its messages."""
        self._use(principal, session_id)
        self._forget((principal, session_id))

    async def append_turn(
        self,
        principal: str,
        session_id: str,
        messages: Sequence[ChatMessage],
        *,
        stream_id: str,
        replace_from: str | None,
    ) -> list[StoredMessage]:
        """Store a turn's messages, after dropping `replace_from` and what follows it.

        Raises:
            InvalidParams: `replace_from` is no message of the session.
            Overloaded: the store is full.
        """
        conversation = self._use(principal, session_id)
        kept = len(conversation.messages)
        if replace_from is not None:
            position = conversation.position_of(replace_from)
            if position is None:
                raise InvalidParams(
                    f"replace_from: the session has no message {replace_from!r}",
                    hint="GET the session: its messages carry their message_id.",
                )
            kept = position
        now = utc_now()
        turn = [
            StoredMessage(
                message_id=new_id("msg"),
                role=message.role,
                content=message.content,
                stream_id=stream_id,
                status="completed",
                created_at=now,
            )
            for message in messages
        ]
        change = _size(turn) - _size(conversation.messages[kept:])
        if change > 0 and self._bytes + change > self._bytes_max:
            raise Overloaded(
                "the stored sessions take all the memory they may",
                hint="Delete sessions that are no longer needed, or raise SESSION_BYTES_MAX.",
            )
        conversation.messages[kept:] = turn
        conversation.updated_at = now
        self._bytes += change
        return turn

    async def append_answer(
        self, principal: str, session_id: str, content: str, *, after: str, stream_id: str, status: StreamStatus
    ) -> None:
        """Store a turn's answer behind its last message; nothing happens if that message is gone by now."""
        conversation = self._use(principal, session_id)
        position = conversation.position_of(after)
        if position is None:
            return
        answer = StoredMessage(
            message_id=new_id("msg"),
            role=MessageRole.ASSISTANT,
            content=content,
            stream_id=stream_id,
            status=status,
            created_at=utc_now(),
        )
        conversation.messages.insert(position + 1, answer)
        conversation.updated_at = answer.created_at
        self._bytes += _size([answer])

    def _use(self, principal: str, session_id: str) -> _Conversation:
        self._expire()
        conversation = self._conversations.get((principal, session_id))
        if conversation is None:
            raise SessionNotFound(
                f"there is no session {session_id!r}",
                hint="Create it first (POST /api/v1/sessions takes a session_id of your own), or leave session_id out.",
            )
        conversation.used_at = self._clock()
        self._conversations.move_to_end((principal, session_id))
        return conversation

    def _expire(self) -> None:
        oldest = self._clock() - self._idle_ttl_s
        while self._conversations:
            key, conversation = next(iter(self._conversations.items()))
            if conversation.used_at > oldest:
                break
            self._forget(key)

    def _forget(self, key: tuple[str, str]) -> None:
        self._bytes -= _size(self._conversations.pop(key).messages)


def _size(messages: Sequence[StoredMessage]) -> int:
    return sum(len(message.content.encode()) + MESSAGE_OVERHEAD_BYTES for message in messages)
