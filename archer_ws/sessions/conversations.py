"""Conversations for the endpoints: joins the store with the manager's running streams, the files and the watchers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import islice

from archer_ws.core.exceptions import Overloaded
from archer_ws.core.limits import PAGE_BYTES_MAX, PAGE_ITEMS_MAX, Limits
from archer_ws.sessions.attachments import Attachments
from archer_ws.sessions.importing import import_lines
from archer_ws.sessions.json_lines import Line
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.models import (
    ExportedSession,
    ImportResult,
    SearchPage,
    Session,
    SessionCreate,
    SessionDetail,
    SessionFork,
    SessionPage,
    SessionUpdate,
    StoredMessage,
)
from archer_ws.sessions.storage.bounded import bounded
from archer_ws.sessions.storage.cursors import order_of
from archer_ws.sessions.storage.message import listed_bytes
from archer_ws.sessions.storage.refusals import check_version
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.storage.values import SessionOrder
from archer_ws.sessions.storage.words import check_words

#: Of how many deleted sessions watchers are told before other tasks run: some milliseconds.
_TOLD_AT_ONCE = 100


class Conversations:
    """Create, read, search, copy, change and delete a principal's sessions.

    A method that names a session raises SessionNotFound if there is none. All raise StorageUnavailable if the store
    fails or is slow, and those that write raise StorageFull. Returned sessions have their running streams in `active`.
    """

    def __init__(
        self,
        store: SessionStore,
        manager: SessionManager,
        bounds: Limits = Limits(),
        *,
        attachments: Attachments | None = None,
    ) -> None:
        self._store = bounded(store, bounds.store_limit_s, bounds.store_work_limit_s)
        self._manager = manager
        self._attachments = attachments
        self._changes = manager.changes
        self._importing: set[str] = set()

    async def create(self, principal: str, wanted: SessionCreate) -> tuple[Session, bool]:
        """Create a session. Returns it, and whether it is new: a repeated call returns the existing one.

        Raises:
            Overloaded: the store, or the principal's share of it, is full.
        """
        async with self._manager.making_session(principal, wanted.session_id):
            session, is_new = await self._store.create(principal, wanted.session_id, wanted.title, wanted.metadata)
            if is_new:
                self._changes.changed(principal, session.session_id)
        return self._with_streams(principal, session), is_new

    async def get(
        self, principal: str, session_id: str, *, limit: int = PAGE_ITEMS_MAX, cursor: str | None = None
    ) -> SessionDetail:
        """The session with its running streams and a page of its messages, oldest first.

        Without a cursor, the page has the newest messages; `next_cursor` is for older ones. A page has at most `limit`
        messages and PAGE_BYTES_MAX of text, but at least one message if there is any.

        Raises:
            InvalidParams: the cursor is not valid, or its message was deleted.
        """
        session, found = await self._store.detail(principal, session_id, cursor, limit + 1, bytes_max=PAGE_BYTES_MAX)
        messages = _newest_of(found, limit)
        active = self._manager.active_in(principal, session_id)
        return SessionDetail.model_construct(
            **{**session.__dict__, "active": active},
            messages=messages,
            active_streams=[stream.stream_id for stream in active],
            next_cursor=messages[0].message_id if len(messages) < len(found) else None,
        )

    async def version_of(self, principal: str, session_id: str) -> int:
        """The session's version."""
        return (await self._store.get(principal, session_id)).version or 0

    async def page(
        self,
        principal: str,
        limit: int,
        cursor: str | None,
        *,
        order: SessionOrder | None = None,
        archived: bool | None = None,
    ) -> SessionPage:
        """A page of sessions, by default the last changed first. Without `order`, the cursor's own order is used.

        Raises:
            InvalidParams: the cursor is not valid, or belongs to another order.
        """
        page = await self._store.page(principal, limit, cursor, order=order or order_of(cursor), archived=archived)
        items = [self._with_streams(principal, session) for session in page.items]
        return SessionPage.model_construct(items=items, next_cursor=page.next_cursor)

    async def search(self, principal: str, query: str, limit: int, cursor: str | None) -> SearchPage:
        """The messages that contain all words of the query, the last stored first (see SessionStore.search).

        Raises:
            InvalidParams: the query is blank or has too many words, or the cursor is not valid.
        """
        check_words(query)
        return await self._store.search(principal, query, limit, cursor)

    async def update(self, principal: str, session_id: str, change: SessionUpdate) -> Session:
        """Change a session, and return it. If the change names a version, the session must have it.

        Raises:
            Conflict: the session has another version.
            Overloaded: the store, or the principal's share of it, is full.
        """
        await self._manager.deletion_over(principal, session_id)
        session = await self._store.update(
            principal,
            session_id,
            change.title,
            change.metadata,
            archived=change.archived,
            version=change.version,
        )
        self._changes.changed(principal, session_id)
        return self._with_streams(principal, session)

    async def fork(self, principal: str, session_id: str, wanted: SessionFork) -> Session:
        """Create a session with copies of this one's messages: of those before the message `before`, or of all.

        Raises:
            InvalidParams: `before` is not a message of the session.
            Conflict: a session with the new id exists.
            Overloaded: the store, or the principal's share of it, is full.
        """
        async with self._manager.making_session(principal, wanted.new_session_id):
            session = await self._store.fork(
                principal, session_id, before=wanted.before, new_session_id=wanted.new_session_id
            )
            self._changes.changed(principal, session.session_id)
        return self._with_streams(principal, session)

    async def delete(self, principal: str, session_id: str, *, version: int | None = None) -> None:
        """Delete a session and the files that no other session names, after cancelling its streams.

        If `version` is given, the session must have it. No stream begins in the session meanwhile.

        Raises:
            Conflict: it has another version; nothing is deleted, and its streams go on.
        """

        async def check() -> None:
            check_version(version, await self.version_of(principal, session_id))

        await check()
        was_busy = bool(self._manager.active_in(principal, session_id))
        # Checked again when no turn can begin any more, since one may have begun meanwhile.
        async with self._manager.session_at_rest(principal, session_id, None if version is None else check):
            session = await self._store.get(principal, session_id)
            named = await self._store.named_files(principal, session_id)
            is_done = False
            try:
                # Its streams have changed it as they were cancelled.
                await self._store.delete(principal, session_id, version=None if was_busy else version)
                is_done = True
                self._manager.session_gone(principal, session_id)
            finally:
                self._changes.deleted(principal, session, is_certain=is_done)
        if self._attachments is not None:
            await self._attachments.session_deleted(principal, named)

    async def delete_all(self, principal: str) -> int:
        """Delete all of a principal's sessions and their files, after cancelling their streams. Returns their
        number."""
        async with self._manager.sessions_at_rest(principal):
            gone = await self._all(principal) if self._changes.has_watchers(principal) else []
            named = await self._store.named_files()
            is_done = False
            try:
                count = await self._store.delete_all(principal)
                is_done = True
                self._manager.session_gone(principal)
            finally:
                await self._tell_deleted(principal, gone, is_certain=is_done)
        if self._attachments is not None:
            await self._attachments.session_deleted(principal, named)
        return count

    async def _tell_deleted(self, principal: str, gone: Sequence[Session], *, is_certain: bool) -> None:
        """Report that these sessions were deleted, some at a time. If the caller is cancelled, the rest at once: later,
        there may be new ones with their ids."""
        rest = iter(gone)
        try:
            while some := list(islice(rest, _TOLD_AT_ONCE)):
                for session in some:
                    self._changes.deleted(principal, session, is_certain=is_certain)
                await asyncio.sleep(0)
        finally:
            for session in rest:
                self._changes.deleted(principal, session, is_certain=is_certain)

    def export(self, principal: str) -> AsyncIterator[ExportedSession]:
        """All of a principal's conversations, oldest first."""
        return self._store.export(principal)

    async def import_session(self, principal: str, exported: ExportedSession) -> Session:
        """Store an exported conversation.

        Raises:
            Conflict: a session with its id exists, or two of its messages have the same id.
            Overloaded: the store, or the principal's share of it, is full.
        """
        async with self._manager.making_session(principal, exported.session_id):
            session = await self._store.import_session(principal, exported)
            self._changes.changed(principal, session.session_id)
        return self._with_streams(principal, session)

    async def import_lines(self, principal: str, lines: AsyncIterator[Line], request_id: str) -> ImportResult:
        """Store the conversation of each line, and return the result (see importing.py).

        Raises:
            Overloaded: another import of the principal is running; each holds its longest line in memory.
        """
        if principal in self._importing:
            raise Overloaded(
                "another import of yours is running",
                hint="Send this one when the other has ended.",
                retry_after_ms=5000,
            )
        self._importing.add(principal)
        try:
            return await import_lines(lines, partial(self.import_session, principal), request_id)
        finally:
            self._importing.discard(principal)

    async def _all(self, principal: str) -> list[Session]:
        sessions: list[Session] = []
        cursor: str | None = None
        while True:
            page = await self._store.page(principal, PAGE_ITEMS_MAX, cursor, order="created")
            sessions += page.items
            cursor = page.next_cursor
            if cursor is None:
                return sessions

    def _with_streams(self, principal: str, session: Session) -> Session:
        session.active = self._manager.active_in(principal, session.session_id)
        return session


def _newest_of(messages: list[StoredMessage], limit: int) -> list[StoredMessage]:
    """The newest messages that fit in a page."""
    size = 0
    start = len(messages)
    while start > max(0, len(messages) - limit):
        size += listed_bytes(messages[start - 1])
        if size > PAGE_BYTES_MAX and start < len(messages):
            break
        start -= 1
    return messages[start:]
