"""Conversations in this process's memory (see storage/store.py for what a store is)."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import InvalidParams, Overloaded, SessionNotFound
from archer_ws.core.ids import new_id
from archer_ws.core.limits import PAGE_BYTES_MAX, PAGE_ITEMS_MAX
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, MessageRole, Refusal, StreamStatus
from archer_ws.sessions.history import NO_HISTORY, History, fit_history, without_refused
from archer_ws.sessions.models import Session, SessionPage, StoredMessage
from archer_ws.sessions.results import check_open
from archer_ws.sessions.shares import Shares
from archer_ws.sessions.storage.conversation import (
    MESSAGE_OVERHEAD_BYTES,
    SESSION_LISTED_BYTES,
    Conversation,
    Entry,
    described_bytes,
)
from archer_ws.sessions.storage.store import SessionStore

__all__ = ["MESSAGE_OVERHEAD_BYTES", "PAGE_MAX", "MemoryStore", "SessionStore"]

PAGE_MAX = PAGE_ITEMS_MAX


class MemoryStore:
    """Conversations in this process's memory, bounded in number, bytes and age, with a share for every principal.

    Args:
        sessions_max: sessions over all principals.
        bytes_max: all sessions together: their messages' UTF-8 bytes, MESSAGE_OVERHEAD_BYTES for each, titles and
            metadata. Answers are kept even beyond it.
        idle_ttl_s: a session untouched for so long is forgotten.
        principals: those known beforehand, each with a share of its own of sessions and bytes (see Shares).
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        sessions_max: int = 10_000,
        bytes_max: int = 256 * 1024 * 1024,
        idle_ttl_s: float = 86_400,
        principals: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = Shares(sessions_max, principals)
        self._sizes = Shares(bytes_max, principals)
        self._idle_ttl_s = idle_ttl_s
        self._clock = clock
        # Least recently used first, over all principals.
        self._conversations: OrderedDict[tuple[str, str], Conversation] = OrderedDict()
        # In the order of their creation, by principal and ordinal.
        self._by_principal: dict[str, dict[int, Conversation]] = {}
        self._next_ordinal = 1
        #: How many messages name each file.
        self._files: Counter[str] = Counter()

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
        if not self._counts.has_room(principal, 1):
            raise Overloaded(
                f"{self._counts.taken} sessions are stored, the most this server keeps"
                if self._counts.is_full(1)
                else f"{self._counts.of(principal)} of your sessions are stored: the others' share is left",
                hint="Delete sessions that are no longer needed, or raise SESSIONS_MAX.",
            )
        now = utc_now()
        conversation = Conversation(key[1], self._next_ordinal, None, None, now, now, self._clock())
        self._describe(principal, conversation, title, metadata)
        self._next_ordinal += 1
        self._conversations[key] = conversation
        self._by_principal.setdefault(principal, {})[conversation.ordinal] = conversation
        self._counts.take(principal, 1)
        return conversation.as_session(), True

    async def get(self, principal: str, session_id: str) -> Session:
        """The session without its messages."""
        return self._use(principal, session_id).as_session()

    async def messages(
        self, principal: str, session_id: str, before: str | None = None, limit: int | None = None
    ) -> list[StoredMessage]:
        """The messages in order, up to (and without) `before`; with a limit the newest of them.

        Raises:
            InvalidParams: `before` is no message of the session.
        """
        conversation = self._use(principal, session_id)
        end = len(conversation.messages) if before is None else conversation.position_given(before, "cursor")
        start = 0 if limit is None else max(0, end - limit)
        return [entry.as_stored() for entry in conversation.messages[start:end]]

    async def history(
        self, principal: str, session_id: str, *, before: str, turn_tokens: int, budget_tokens: int | None
    ) -> History:
        """What goes before the turn that begins with message `before`."""
        conversation = self._use(principal, session_id)
        end = conversation.position_of(before)
        if not end:
            return NO_HISTORY
        own = sum(1 for entry in conversation.messages[end:] if entry.chat.role is MessageRole.SYSTEM)
        system = conversation.system[: len(conversation.system) - own]
        goes_on = conversation.messages[end].chat.role is MessageRole.TOOL
        before_turn: Sequence[Entry] = conversation.messages[:end]
        # Looked for only where there is one: that takes a look at every message.
        told = without_refused(before_turn) if conversation.refused else before_turn
        return fit_history(told, system, turn_tokens, budget_tokens, goes_on=goes_on)

    async def page(self, principal: str, limit: int, cursor: str | None) -> SessionPage:
        """Sessions, newest first; no more than PAGE_BYTES_MAX of them, but one at least.

        Raises:
            InvalidParams: the cursor is none of ours.
        """
        self._expire()
        before = self._next_ordinal if cursor is None else ordinal_of(cursor)
        items: list[Session] = []
        last, size = 0, 0
        for ordinal, conversation in reversed(self._by_principal.get(principal, {}).items()):
            if ordinal >= before:
                continue
            size += SESSION_LISTED_BYTES + conversation.described_bytes
            if len(items) == limit or (items and size > PAGE_BYTES_MAX):
                return SessionPage(items=items, next_cursor=str(last))
            items.append(conversation.as_session())
            last = ordinal
        return SessionPage(items=items)

    async def update(
        self, principal: str, session_id: str, title: str | None, metadata: dict[str, Any] | None
    ) -> Session:
        """The session with what is not None changed."""
        conversation = self._use(principal, session_id)
        self._describe(principal, conversation, title, metadata)
        conversation.updated_at = utc_now()
        return conversation.as_session()

    async def delete(self, principal: str, session_id: str) -> None:
        """Forget the session and its messages."""
        self._use(principal, session_id)
        self._forget((principal, session_id))

    async def named_files(self, principal: str | None = None, session_id: str | None = None) -> set[str]:
        """The ids of the files that stored messages name: those of one session, or of all of all principals."""
        if principal is None or session_id is None:
            return set(self._files)
        return set(_files_of(self._use(principal, session_id).messages))

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
            InvalidParams: `replace_from` is no message of the session, or without messages no answer of it; or a result
                answers no open call.
            Conflict: another message has the message_id.
            Overloaded: the store is full.
        """
        conversation = self._use(principal, session_id)
        if replace_from is None:
            kept = len(conversation.messages)
        else:
            kept = conversation.position_given(replace_from, "replace_from")
        begin = kept if messages else conversation.asked_before(kept)
        conversation.check_ids(messages, kept)
        check_open(messages, conversation.messages if replace_from is None else conversation.messages[:kept])
        now = utc_now()
        turn = [Entry.of(message, stream_id, "completed", now) for message in messages]
        change = _size(turn) - _size(conversation.messages[kept:])
        self._check_room(principal, change)
        self._name_files(turn, conversation.messages[kept:])
        conversation.replace_end(kept, turn)
        conversation.updated_at = now
        self._sizes.take(principal, change)
        return [entry.as_stored() for entry in conversation.messages[begin:]]

    async def append_answer(
        self,
        principal: str,
        session_id: str,
        content: str,
        *,
        calls: Sequence[ToolCall] = (),
        after: str,
        stream_id: str,
        status: StreamStatus,
        refusal: Refusal | None = None,
    ) -> None:
        """Store a turn's answer behind its last message; nothing happens if that message is gone by now.

        Repeated for the same stream it changes nothing.
        """
        conversation = self._use(principal, session_id)
        position = conversation.position_of(after)
        if position is None or conversation.has_answer(position, stream_id):
            return
        answer = Entry.answer(content, calls, stream_id, status, refusal)
        conversation.messages.insert(position + 1, answer)
        conversation.refused += answer.is_refused
        conversation.updated_at = answer.created_at
        self._sizes.take(principal, answer.size)

    def _use(self, principal: str, session_id: str) -> Conversation:
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

    def _describe(
        self, principal: str, conversation: Conversation, title: str | None, metadata: dict[str, Any] | None
    ) -> None:
        """Set what is not None.

        Raises:
            Overloaded: there is no room for it.
        """
        title = conversation.title if title is None else title
        metadata = conversation.metadata if metadata is None else metadata
        size = described_bytes(title, metadata)
        change = size - conversation.described_bytes
        self._check_room(principal, change)
        conversation.title, conversation.metadata, conversation.described_bytes = title, metadata, size
        self._sizes.take(principal, change)

    def _check_room(self, principal: str, change: int) -> None:
        if change > 0 and not self._sizes.has_room(principal, change):
            raise Overloaded(
                "the stored sessions take all the memory they may"
                if self._sizes.is_full(change)
                else "your stored sessions take all the memory they may: the others' share is left",
                hint="Delete sessions that are no longer needed, or raise SESSION_BYTES_MAX.",
            )

    def _name_files(self, come: Sequence[Entry], gone: Sequence[Entry]) -> None:
        self._files.update(_files_of(come))
        for file_id in _files_of(gone):
            self._files[file_id] -= 1
            if not self._files[file_id]:
                del self._files[file_id]

    def _expire(self) -> None:
        oldest = self._clock() - self._idle_ttl_s
        while self._conversations:
            key, conversation = next(iter(self._conversations.items()))
            if conversation.used_at > oldest:
                break
            self._forget(key)

    def _forget(self, key: tuple[str, str]) -> None:
        principal, _ = key
        conversation = self._conversations.pop(key)
        self._sizes.take(principal, -_size(conversation.messages) - conversation.described_bytes)
        self._name_files((), conversation.messages)
        self._counts.take(principal, -1)
        mine = self._by_principal[principal]
        del mine[conversation.ordinal]
        if not mine:
            del self._by_principal[principal]


def ordinal_of(cursor: str) -> int:
    """The ordinal that stands in a list's cursor.

    Raises:
        InvalidParams: the cursor is none of ours.
    """
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 20):
        raise InvalidParams("cursor is not one that this server gave", hint="Pass next_cursor as it came.")
    return int(cursor)


def _size(messages: Sequence[Entry]) -> int:
    return sum(entry.size for entry in messages)


def _files_of(messages: Sequence[Entry]) -> list[str]:
    return [file_id for entry in messages if entry.chat.parts for file_id in entry.chat.file_ids]
