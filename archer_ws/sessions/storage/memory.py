"""The conversation store in memory (see storage/store.py)."""

import asyncio
import heapq
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from copy import copy
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, TypeVar

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import ArcherError, Unsupported
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
from archer_ws.sessions.storage.conversation import SESSION_LISTED_BYTES, Conversation, Entry, described_bytes
from archer_ws.sessions.storage.conversation_table import ConversationTable, files_of, size_of
from archer_ws.sessions.storage.cursors import SessionPlace, cursor_of, microseconds, ordinal_of, place_of
from archer_ws.sessions.storage.journal import LogEnd, StreamJournal, StreamRecord
from archer_ws.sessions.storage.message import MESSAGE_OVERHEAD_BYTES, left_by
from archer_ws.sessions.storage.refusals import check_exported, check_version, no_session, taken_session_id
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
_ORDINAL = attrgetter("ordinal")

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
        self._table = ConversationTable(
            sessions_max=sessions_max, bytes_max=bytes_max, idle_ttl_s=idle_ttl_s, principals=principals, clock=clock
        )

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
        self._table.is_busy = is_busy

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
        self._table.expire()
        key = (principal, session_id or new_id("ses"))
        if key in self._table:
            return self._table.use(*key).as_session(), False
        conversation = self._table.begin(key, title, metadata)
        return conversation.as_session(), True

    async def get(self, principal: str, session_id: str) -> Session:
        """The session without its messages."""
        return self._table.use(principal, session_id).as_session()

    async def messages(
        self, principal: str, session_id: str, before: str | None = None, limit: int | None = None
    ) -> list[StoredMessage]:
        """The messages in order: those before the message `before`, or all; with a limit the newest of these.

        Raises:
            InvalidParams: `before` is not a message of the session.
        """
        conversation = self._table.use(principal, session_id)
        end = len(conversation.messages) if before is None else conversation.position_given(before, "cursor")
        return conversation.stored(0 if limit is None else max(0, end - limit), end)

    async def detail(
        self, principal: str, session_id: str, before: str | None, limit: int, *, bytes_max: int | None = None
    ) -> tuple[Session, list[StoredMessage]]:
        """`get` and `messages` of the same moment. Without `bytes_max`: the messages are in memory anyway."""
        return await self.get(principal, session_id), await self.messages(principal, session_id, before, limit)

    async def history(
        self, principal: str, session_id: str, *, before: str, turn_tokens: int, budget_tokens: int | None
    ) -> History:
        """The history before the turn that begins with message `before`, cut to the budget."""
        conversation = self._table.use(principal, session_id)
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
        self._table.expire()
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
        mine = self._table.of(principal)
        wanted = (each for each in reversed(mine) if archived is None or each.archived is archived)
        if order == "created":
            before = self._table.next_ordinal if cursor is None else ordinal_of(cursor)
            return (each for each in wanted if each.ordinal < before)
        place = None if cursor is None else place_of(cursor)
        return heapq.nlargest(limit + 1, (each for each in wanted if place is None or _place(each) < place), key=_place)

    async def search(self, principal: str, query: str, limit: int, cursor: str | None) -> SearchPage:
        """The messages that contain all words of the query, the last stored first.

        Raises:
            InvalidParams: the query is blank, or the cursor is not valid.
        """
        self._table.expire()
        before = self._table.next_number if cursor is None else ordinal_of(cursor)
        found: list[tuple[int, FoundMessage]] = []
        has = finder(query)

        def look(entry: Entry, session_id: str) -> None:
            if has(entry.chat.content):
                found.append((entry.number, entry.as_found(session_id, query)))

        looked_at = 0
        for conversation in self._table.of(principal):
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
        conversation = self._table.use(principal, session_id)
        check_version(version, conversation.version)
        self._table.describe(principal, conversation, title, metadata)
        if archived is not None:
            conversation.archived = archived
        conversation.changed(utc_now())
        return conversation.as_session()

    async def delete(self, principal: str, session_id: str, *, version: int | None = None) -> None:
        """Delete the session and its messages.

        Raises:
            Conflict: the session has another version.
        """
        check_version(version, self._table.use(principal, session_id).version)
        self._table.forget((principal, session_id))

    async def named_files(self, principal: str | None = None, session_id: str | None = None) -> set[str]:
        """The ids of the files that stored messages name: of one session, or of all sessions of all principals."""
        if principal is None or session_id is None:
            return set(self._table.files)
        return set(files_of(self._table.use(principal, session_id).messages))

    async def delete_all(self, principal: str) -> int:
        """Delete all of a principal's sessions, and return their number."""
        self._table.expire()
        mine = [each.session_id for each in self._table.of(principal)]
        for session_id in mine:
            self._table.forget((principal, session_id))
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
        source = self._table.use(principal, session_id)
        end = len(source.messages) if before is None else source.position_given(before, "before")
        key = (principal, new_session_id or new_id("ses"))
        if key in self._table:
            raise taken_session_id(key[1], "new_session_id")
        messages = await _in_slices(copy, source.messages[:end])
        if self._table.peek(principal, session_id) is not source:
            raise no_session(session_id)
        if key in self._table:
            raise taken_session_id(key[1], "new_session_id")
        self._table.check_room(principal, size_of(messages) + source.described_bytes)
        conversation = self._table.begin(key, source.title, source.metadata)
        self._table.fill(principal, conversation, messages)
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
        conversation = self._table.use(principal, session_id)
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
        change = size_of(turn) - size_of(conversation.messages[kept:]) - sum(entry.native_size for entry in past)
        self._table.check_room(principal, change)
        self._table.enter(turn, conversation.messages[kept:])
        conversation.replace_end(kept, turn)
        conversation.begin_anew(stream_id)
        conversation.changed(now)
        conversation.forget_native(past)
        self._table.resize(principal, change)
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
        conversation = self._table.use(principal, session_id)
        position = conversation.asked_at(after, stream_id)
        left = left_by(completion)
        if position is None or not left:
            return []
        if (known := conversation.left_before(stream_id, after)) is not None:
            return list(known)
        now = utc_now()
        entries = conversation.add_left(position, left, stream_id, now)
        self._table.enter(entries)
        conversation.changed(now)
        self._table.resize(principal, size_of(entries))
        return [entry.message_id for entry in entries]

    async def principals(self) -> list[str]:
        """All principals that have sessions, sorted."""
        self._table.expire()
        return sorted(self._table.principals)

    async def export(self, principal: str) -> AsyncIterator[ExportedSession]:
        """All of a principal's conversations, oldest first."""
        last = 0
        # Looked for anew each time: meanwhile sessions come and go.
        while (place := bisect_right(mine := self._table.of(principal), last, key=_ORDINAL)) < len(mine):
            conversation = mine[place]
            last = conversation.ordinal
            session = conversation.as_session()
            parents = [None, *(entry.message_id for entry in conversation.messages)]
            messages = await _in_slices(_as_stored, list(zip(conversation.messages, parents, strict=False)))
            yield ExportedSession.model_construct(**session.__dict__, messages=messages)
            # A reader that keeps up waits for nothing, and there may be thousands of short conversations.
            await asyncio.sleep(0)

    async def import_session(self, principal: str, exported: ExportedSession) -> Session:
        """Store an exported conversation.

        Raises:
            Conflict: a session with its id exists, or two of its messages have the same id.
            Overloaded: the store is full.
        """
        self._table.expire()
        key = (principal, exported.session_id)
        if key in self._table:
            raise taken_session_id(exported.session_id, "session_id")
        check_exported(exported)
        messages = await _in_slices(Entry.of_stored, exported.messages)
        if key in self._table:
            raise taken_session_id(exported.session_id, "session_id")
        self._table.check_room(principal, size_of(messages) + described_bytes(exported.title, exported.metadata))
        conversation = self._table.begin(key, exported.title, exported.metadata)
        self._table.fill(principal, conversation, messages)
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
