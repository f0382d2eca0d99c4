"""The conversation store in memory (see storage/store.py)."""

import asyncio
import heapq
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from copy import copy
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import ArcherError, Overloaded, Unsupported
from archer_ws.core.ids import new_id
from archer_ws.core.limits import PAGE_BYTES_MAX, PAGE_ITEMS_MAX
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.history import NO_HISTORY, History
from archer_ws.sessions.models import (
    ExportedSession,
    FoundMessage,
    SearchPage,
    Session,
    SessionPage,
    StoredMessage,
)
from archer_ws.sessions.results import check_open
from archer_ws.sessions.shares import Shares
from archer_ws.sessions.storage.conversation import SESSION_LISTED_BYTES, Conversation, Entry, described_bytes
from archer_ws.sessions.storage.cursors import SessionPlace, cursor_of, microseconds, ordinal_of, place_of
from archer_ws.sessions.storage.journal import LogEnd, StreamJournal, StreamRecord
from archer_ws.sessions.storage.message import MESSAGE_OVERHEAD_BYTES, left_by
from archer_ws.sessions.storage.refusals import check_count, check_exported, check_version, no_session, taken_session_id
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.storage.values import SessionOrder, StoredCompletion, StoredTurn
from archer_ws.sessions.storage.words import finder

__all__ = ["MESSAGE_OVERHEAD_BYTES", "PAGE_MAX", "MemoryStore", "SessionStore"]

PAGE_MAX = PAGE_ITEMS_MAX
#: The approximate amount of text that is searched in one loop iteration, in characters; takes some milliseconds. A
#: longer message is searched in a thread.
SEARCH_SLICE_CHARS = 128 * 1024
#: How many messages are copied or converted in one loop iteration; takes some milliseconds.
_MESSAGES_AT_ONCE = 200

Value = TypeVar("Value")
Converted = TypeVar("Converted")


class MemoryStore:
    """Conversations in memory, with limits of number, bytes and age, which principals share (see Shares).

    Args:
        sessions_max: the limit of sessions of all principals.
        bytes_max: the limit of all sessions together, in bytes: the text of messages in UTF-8, MESSAGE_OVERHEAD_BYTES
            for each message, titles and metadata. Completions are stored even beyond the limit.
        idle_ttl_s: a session that is not used for so long, and in which no stream runs, is deleted, in seconds.
        principals: the configured principals.
        clock: a monotonic clock, in seconds.
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
        self._is_busy: Callable[[str, str], bool] = lambda _principal, _session_id: False
        # In order of use over all principals, the least recent first.
        self._conversations: OrderedDict[tuple[str, str], Conversation] = OrderedDict()
        # In the order of their creation, by principal and ordinal.
        self._by_principal: dict[str, dict[int, Conversation]] = {}
        self._next_ordinal = 1
        #: The number of messages that name each file.
        self._files: Counter[str] = Counter()
        # The number of the next message.
        self._next_number = 1

    @property
    def trouble(self) -> ArcherError | None:
        """None: it can always write."""
        return None

    @property
    def journal(self) -> StreamJournal | None:
        """None: streams do not outlive the process."""
        return None

    @property
    def place(self) -> Mapping[str, str]:
        """In memory, and how to change that."""
        return {
            "place": "memory",
            "hint": "They are lost when this process ends. ARCHER_STORE=sqlite stores them in a file.",
        }

    @property
    def is_whole(self) -> bool:
        """True: there is no file that could be damaged."""
        return True

    def use_while(self, is_busy: Callable[[str, str], bool]) -> None:
        """Count a session as used as long as `is_busy` returns True for its principal and id."""
        self._is_busy = is_busy

    def open_now(self) -> None:
        """Does nothing."""

    async def open(self) -> None:
        """Does nothing."""

    async def aclose(self) -> None:
        """Does nothing: the conversations stay in memory until the process ends."""

    async def create(
        self, principal: str, session_id: str | None, title: str | None, metadata: dict[str, Any] | None
    ) -> tuple[Session, bool]:
        """Create a session. Returns it, and whether it is new; an existing session is returned unchanged.

        Raises:
            Overloaded: the store is full.
        """
        self._expire()
        key = (principal, session_id or new_id("ses"))
        if key in self._conversations:
            return self._use(*key).as_session(), False
        conversation = self._begin(key, title, metadata)
        return conversation.as_session(), True

    async def get(self, principal: str, session_id: str) -> Session:
        """The session without its messages."""
        return self._use(principal, session_id).as_session()

    async def messages(
        self, principal: str, session_id: str, before: str | None = None, limit: int | None = None
    ) -> list[StoredMessage]:
        """The messages in order: those before the message `before`, or all; with a limit the newest of these.

        Raises:
            InvalidParams: `before` is not a message of the session.
        """
        conversation = self._use(principal, session_id)
        end = len(conversation.messages) if before is None else conversation.position_given(before, "cursor")
        return conversation.stored(0 if limit is None else max(0, end - limit), end)

    async def detail(
        self, principal: str, session_id: str, before: str | None, limit: int
    ) -> tuple[Session, list[StoredMessage]]:
        """`get` and `messages` of the same moment."""
        return await self.get(principal, session_id), await self.messages(principal, session_id, before, limit)

    async def history(
        self, principal: str, session_id: str, *, before: str, turn_tokens: int, budget_tokens: int | None
    ) -> History:
        """The history before the turn that begins with message `before`, cut to the budget."""
        conversation = self._use(principal, session_id)
        end = conversation.position_of(before)
        return NO_HISTORY if end is None else conversation.history_before(end, turn_tokens, budget_tokens)

    async def page(
        self,
        principal: str,
        limit: int,
        cursor: str | None,
        *,
        order: SessionOrder = "created",
        archived: bool | None = None,
    ) -> SessionPage:
        """A page of sessions, newest first, of at most PAGE_BYTES_MAX, but at least one session.

        Raises:
            InvalidParams: the cursor is not valid, or belongs to another order.
        """
        self._expire()
        items: list[Session] = []
        last, size = "", 0
        for conversation in self._behind(principal, limit, cursor, order, archived):
            size += SESSION_LISTED_BYTES + conversation.described_bytes
            if len(items) == limit or (items and size > PAGE_BYTES_MAX):
                return SessionPage(items=items, next_cursor=last)
            items.append(conversation.as_session())
            last = str(conversation.ordinal) if order == "created" else cursor_of(_place(conversation))
        return SessionPage(items=items)

    def _behind(
        self, principal: str, limit: int, cursor: str | None, order: SessionOrder, archived: bool | None
    ) -> Iterable[Conversation]:
        """The sessions after a cursor in the list's order. May end after `limit` + 1 sessions."""
        mine = self._by_principal.get(principal, {})
        wanted = (each for each in reversed(mine.values()) if archived is None or each.archived is archived)
        if order == "created":
            before = self._next_ordinal if cursor is None else ordinal_of(cursor)
            return (each for each in wanted if each.ordinal < before)
        place = None if cursor is None else place_of(cursor)
        return heapq.nlargest(limit + 1, (each for each in wanted if place is None or _place(each) < place), key=_place)

    async def search(self, principal: str, query: str, limit: int, cursor: str | None) -> SearchPage:
        """The messages that contain all words of the query, the last stored first.

        Raises:
            InvalidParams: the query is blank, or the cursor is not valid.
        """
        self._expire()
        before = self._next_number if cursor is None else ordinal_of(cursor)
        found: list[tuple[int, FoundMessage]] = []
        has = finder(query)

        def look(entry: Entry, session_id: str) -> None:
            if has(entry.chat.content):
                found.append((entry.number, entry.as_found(session_id, query)))

        looked_at = 0
        for conversation in list(self._by_principal.get(principal, {}).values()):
            for entry in list(conversation.messages):
                if entry.number >= before:
                    continue
                if len(entry.chat.content) > SEARCH_SLICE_CHARS:
                    await asyncio.to_thread(look, entry, conversation.session_id)
                    continue
                look(entry, conversation.session_id)
                looked_at += len(entry.chat.content) + MESSAGE_OVERHEAD_BYTES
                if looked_at > SEARCH_SLICE_CHARS:
                    # Let other tasks run.
                    looked_at = 0
                    await asyncio.sleep(0)
        first = heapq.nlargest(limit + 1, found, key=itemgetter(0))
        return SearchPage(
            items=[message for _, message in first[:limit]],
            next_cursor=str(first[limit - 1][0]) if len(first) > limit else None,
        )

    async def update(
        self,
        principal: str,
        session_id: str,
        title: str | None,
        metadata: dict[str, Any] | None,
        *,
        archived: bool | None = None,
        version: int | None = None,
    ) -> Session:
        """Change what is not None, and return the session.

        Raises:
            Conflict: the session has another version.
            Overloaded: there is no room for the change.
        """
        conversation = self._use(principal, session_id)
        check_version(version, conversation.version)
        self._describe(principal, conversation, title, metadata)
        if archived is not None:
            conversation.archived = archived
        conversation.changed(utc_now())
        return conversation.as_session()

    async def delete(self, principal: str, session_id: str, *, version: int | None = None) -> None:
        """Delete the session and its messages.

        Raises:
            Conflict: the session has another version.
        """
        check_version(version, self._use(principal, session_id).version)
        self._forget((principal, session_id))

    async def named_files(self, principal: str | None = None, session_id: str | None = None) -> set[str]:
        """The ids of the files that stored messages name: of one session, or of all sessions of all principals."""
        if principal is None or session_id is None:
            return set(self._files)
        return set(_files_of(self._use(principal, session_id).messages))

    async def delete_all(self, principal: str) -> int:
        """Delete all of a principal's sessions, and return their number."""
        self._expire()
        mine = [each.session_id for each in self._by_principal.get(principal, {}).values()]
        for session_id in mine:
            self._forget((principal, session_id))
        return len(mine)

    async def fork(
        self, principal: str, session_id: str, *, before: str | None = None, new_session_id: str | None = None
    ) -> Session:
        """Create a session with copies of this one's messages: of those before the message `before`, or of all.

        Raises:
            InvalidParams: `before` is not a message of the session.
            Conflict: a session with the new id exists.
            Overloaded: the store is full.
        """
        source = self._use(principal, session_id)
        end = len(source.messages) if before is None else source.position_given(before, "before")
        key = (principal, new_session_id or new_id("ses"))
        if key in self._conversations:
            raise taken_session_id(key[1], "new_session_id")
        messages = await _in_slices(copy, source.messages[:end])
        if self._conversations.get((principal, session_id)) is not source:
            raise no_session(session_id)
        if key in self._conversations:
            raise taken_session_id(key[1], "new_session_id")
        self._check_room(principal, _size(messages) + source.described_bytes)
        conversation = self._begin(key, source.title, source.metadata)
        self._fill(principal, conversation, messages)
        return conversation.as_session()

    async def begin_turn(
        self,
        principal: str,
        session_id: str,
        messages: Sequence[ChatMessage],
        *,
        stream_id: str,
        replace_from: str | None = None,
        version: int | None = None,
        turn_tokens: int = 0,
        budget_tokens: int | None = None,
        record: StreamRecord | None = None,
    ) -> StoredTurn:
        """Store a turn's messages, and read the history before them. With `replace_from`, that message and all that
        follow it are replaced.

        Raises:
            InvalidParams: `replace_from` is not a message of the session, or, without messages, not a completion of it;
                or a tool result is for no open call.
            Conflict: another message has the message_id, or the session has another version.
            Overloaded: the store, or the principal's share of it, is full.
        """
        conversation = self._use(principal, session_id)
        check_version(version, conversation.version)
        if replace_from is None:
            kept = len(conversation.messages)
        else:
            kept = conversation.position_given(replace_from, "replace_from")
        begin = kept if messages else conversation.asked_before(kept)
        conversation.check_ids(messages, kept)
        check_open(messages, conversation.messages if replace_from is None else conversation.messages[:kept])
        now = utc_now()
        turn = [Entry.of(message, stream_id, "completed", now) for message in messages]
        past = conversation.past_native(kept, turn)
        change = _size(turn) - _size(conversation.messages[kept:]) - sum(entry.native_size for entry in past)
        self._check_room(principal, change)
        self._name_files(turn, conversation.messages[kept:])
        self._number(turn)
        conversation.replace_end(kept, turn)
        conversation.begin_anew(stream_id)
        conversation.changed(now)
        conversation.forget_native(past)
        self._sizes.take(principal, change)
        again = 0 if messages else sum(entry.tokens for entry in conversation.messages[begin:])
        return StoredTurn(
            conversation.stored(begin, len(conversation.messages)),
            conversation.history_before(begin, turn_tokens + again, budget_tokens),
        )

    async def append_completion(
        self,
        principal: str,
        session_id: str,
        completion: StoredCompletion,
        *,
        after: str,
        stream_id: str,
        end: LogEnd | None = None,
    ) -> list[str]:
        """Store what a stream leaves after its turn's last message; does nothing if that message was deleted.

        Idempotent for the same stream and message.
        """
        conversation = self._use(principal, session_id)
        position = conversation.asked_at(after, stream_id)
        left = left_by(completion)
        if position is None or not left:
            return []
        if (known := conversation.left_before(stream_id, after)) is not None:
            return list(known)
        now = utc_now()
        entries = conversation.add_left(position, left, stream_id, now)
        self._number(entries)
        self._name_files(entries, ())
        conversation.changed(now)
        self._sizes.take(principal, _size(entries))
        return [entry.message_id for entry in entries]

    async def principals(self) -> list[str]:
        """All principals that have sessions, sorted."""
        self._expire()
        return sorted(self._by_principal)

    async def export(self, principal: str) -> AsyncIterator[ExportedSession]:
        """All of a principal's conversations, oldest first."""
        last = 0
        while found := [each for each in self._by_principal.get(principal, {}).values() if each.ordinal > last][:1]:
            (conversation,) = found
            last = conversation.ordinal
            session = conversation.as_session()
            parents = [None, *(entry.message_id for entry in conversation.messages)]
            messages = await _in_slices(_as_stored, list(zip(conversation.messages, parents, strict=False)))
            yield ExportedSession.model_construct(**session.__dict__, messages=messages)

    async def import_session(self, principal: str, exported: ExportedSession) -> Session:
        """Store an exported conversation.

        Raises:
            Conflict: a session with its id exists, or two of its messages have the same id.
            Overloaded: the store is full.
        """
        self._expire()
        key = (principal, exported.session_id)
        if key in self._conversations:
            raise taken_session_id(exported.session_id, "session_id")
        check_exported(exported)
        messages = await _in_slices(Entry.of_stored, exported.messages)
        if key in self._conversations:
            raise taken_session_id(exported.session_id, "session_id")
        self._check_room(principal, _size(messages) + described_bytes(exported.title, exported.metadata))
        conversation = self._begin(key, exported.title, exported.metadata)
        self._fill(principal, conversation, messages)
        conversation.created_at, conversation.updated_at = exported.created_at, exported.updated_at
        conversation.version, conversation.archived = exported.version or 1, bool(exported.archived)
        return conversation.as_session()

    async def backup(self, path: Path) -> None:
        """Not supported: there is no file.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(
            "conversations are only in memory, so there is no file to back up",
            hint="Set ARCHER_STORE=sqlite, or export the conversations.",
        )

    def _begin(self, key: tuple[str, str], title: str | None, metadata: dict[str, Any] | None) -> Conversation:
        """Add a new session.

        Raises:
            Overloaded: the store is full.
        """
        principal, session_id = key
        check_count(self._counts, principal)
        now = utc_now()
        conversation = Conversation(session_id, self._next_ordinal, None, None, now, now, self._clock())
        self._describe(principal, conversation, title, metadata)
        self._next_ordinal += 1
        self._conversations[key] = conversation
        self._by_principal.setdefault(principal, {})[conversation.ordinal] = conversation
        self._counts.take(principal, 1)
        return conversation

    def _fill(self, principal: str, conversation: Conversation, messages: list[Entry]) -> None:
        self._number(messages)
        self._name_files(messages, ())
        conversation.replace_end(0, messages)
        conversation.refused = sum(1 for entry in messages if entry.is_refused)
        conversation.native = [entry for entry in messages if entry.native is not None]
        self._sizes.take(principal, _size(messages))

    def _number(self, entries: Sequence[Entry]) -> None:
        """Give each message its number in the order of storing."""
        for entry in entries:
            entry.number = self._next_number
            self._next_number += 1

    def _use(self, principal: str, session_id: str) -> Conversation:
        self._expire()
        conversation = self._conversations.get((principal, session_id))
        if conversation is None:
            raise no_session(session_id)
        conversation.used_at = self._clock()
        self._conversations.move_to_end((principal, session_id))
        return conversation

    def _describe(
        self, principal: str, conversation: Conversation, title: str | None, metadata: dict[str, Any] | None
    ) -> None:
        """Set title and metadata, unless they are None.

        Raises:
            Overloaded: there is no room for the change.
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
                "the stored sessions have reached their limit of memory"
                if self._sizes.is_full(change)
                else "your stored sessions have reached their limit of memory; the rest is reserved for others",
                hint="Delete sessions that are no longer needed, or raise SESSION_BYTES_MAX.",
            )

    def _name_files(self, come: Sequence[Entry], gone: Sequence[Entry]) -> None:
        self._files.update(_files_of(come))
        for file_id in _files_of(gone):
            self._files[file_id] -= 1
            if not self._files[file_id]:
                del self._files[file_id]

    def _expire(self) -> None:
        now = self._clock()
        oldest = now - self._idle_ttl_s
        while self._conversations:
            key, conversation = next(iter(self._conversations.items()))
            if conversation.used_at > oldest:
                break
            if self._is_busy(*key):
                conversation.used_at = now
                self._conversations.move_to_end(key)
            else:
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


async def _in_slices(convert: Callable[[Value], Converted], values: Sequence[Value]) -> list[Converted]:
    """Convert values, and let other tasks run in between."""
    found: list[Converted] = []
    for start in range(0, len(values), _MESSAGES_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        found += map(convert, values[start : start + _MESSAGES_AT_ONCE])
    return found


def _as_stored(entry_and_parent: tuple[Entry, str | None]) -> StoredMessage:
    entry, parent_id = entry_and_parent
    return entry.as_stored(parent_id)


def _place(conversation: Conversation) -> SessionPlace:
    return SessionPlace(microseconds(conversation.updated_at), conversation.ordinal)


def _size(messages: Sequence[Entry]) -> int:
    return sum(entry.size for entry in messages)


def _files_of(messages: Sequence[Entry]) -> list[str]:
    return [file_id for entry in messages if entry.chat.parts for file_id in entry.chat.file_ids]
