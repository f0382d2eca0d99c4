"""Conversations as endpoints use them: the store, joined with what the manager knows of running streams, and with who
watches."""

from collections.abc import AsyncIterator
from functools import partial

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
from archer_ws.sessions.storage.refusals import check_version
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.storage.values import SessionOrder
from archer_ws.sessions.storage.words import check_words

#: What a message, and each of its calls and parts, takes in a page beside its text, about, in bytes.
_MESSAGE_BYTES = 256


class Conversations:
    """Create, read, search, copy, change and delete a principal's sessions.

    What names a session raises SessionNotFound where there is none; all raise StorageUnavailable where the store fails
    or is slow, and what writes StorageFull. Sessions that are given have their running streams in `active`.
    """

    def __init__(
        self,
        store: SessionStore,
        manager: SessionManager,
        bounds: Limits = Limits(),
        *,
        attachments: Attachments | None = None,
    ) -> None:
        self._store = bounded(store, bounds.store_limit_s)
        self._manager = manager
        self._attachments = attachments
        self._changes = manager.changes
        self._importing: set[str] = set()

    async def create(self, principal: str, wanted: SessionCreate) -> tuple[Session, bool]:
        """The session, and whether it is new: a repeated call finds the first one's.

        Raises:
            Overloaded: the store is full, or the principal's share of it.
        """
        if wanted.session_id is not None:
            await self._manager.deletion_over(principal, wanted.session_id)
        session, is_new = await self._store.create(principal, wanted.session_id, wanted.title, wanted.metadata)
        if is_new:
            self._changes.changed(principal, session.session_id)
        return self._with_streams(principal, session), is_new

    async def get(
        self, principal: str, session_id: str, *, limit: int = PAGE_ITEMS_MAX, cursor: str | None = None
    ) -> SessionDetail:
        """The session with its running streams and a page of its messages, oldest first.

        Without a cursor it is the page of the newest; `next_cursor` leads to older ones. A page has at most `limit`
        messages and PAGE_BYTES_MAX of text, but always one, where there is any.

        Raises:
            InvalidParams: the cursor is none of ours, or its message is gone.
        """
        session, found = await self._store.detail(principal, session_id, cursor, limit + 1)
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
        """Sessions, the last changed first; without an order, a cursor goes on in the order that it is of.

        Raises:
            InvalidParams: the cursor is none of ours, or of another order than is asked for.
        """
        page = await self._store.page(principal, limit, cursor, order=order or order_of(cursor), archived=archived)
        items = [self._with_streams(principal, session) for session in page.items]
        return SessionPage.model_construct(items=items, next_cursor=page.next_cursor)

    async def search(self, principal: str, query: str, limit: int, cursor: str | None) -> SearchPage:
        """The messages that have all words of the query, the last stored first (see SessionStore.search).

        Raises:
            InvalidParams: the query is blank or has too many words, or the cursor is none of ours.
        """
        check_words(query)
        return await self._store.search(principal, query, limit, cursor)

    async def update(self, principal: str, session_id: str, change: SessionUpdate) -> Session:
        """The session with the change made, if it has the version that the change names.

        Raises:
            Conflict: it has another version.
            Overloaded: there is no room for it.
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
        """A new session with the messages of this one, up to (and without) `before`.

        Raises:
            InvalidParams: `before` is no message of the session.
            Conflict: there is a session with the new id.
            Overloaded: the store is full, or the principal's share of it.
        """
        if wanted.new_session_id is not None:
            await self._manager.deletion_over(principal, wanted.new_session_id)
        session = await self._store.fork(
            principal, session_id, before=wanted.before, new_session_id=wanted.new_session_id
        )
        self._changes.changed(principal, session.session_id)
        return self._with_streams(principal, session)

    async def delete(self, principal: str, session_id: str, *, version: int | None = None) -> None:
        """End the session's streams and forget it, with the files that no other session names, if it has the version,
        where one is given; no stream begins in between.

        Raises:
            Conflict: it has another version; its streams go on.
        """
        check_version(version, await self.version_of(principal, session_id))
        async with self._manager.session_at_rest(principal, session_id):
            session = await self._store.get(principal, session_id)
            named = await self._store.named_files(principal, session_id)
            is_done = False
            try:
                await self._store.delete(principal, session_id)
                is_done = True
                self._manager.session_gone(principal, session_id)
            finally:
                self._changes.deleted(principal, session, is_certain=is_done)
        if self._attachments is not None:
            await self._attachments.session_deleted(principal, named)

    async def delete_all(self, principal: str) -> int:
        """End the streams of all the principal's sessions and forget these with their files; how many there were."""
        async with self._manager.sessions_at_rest(principal):
            gone = await self._all(principal) if self._changes.has_watchers(principal) else []
            named = await self._store.named_files()
            is_done = False
            try:
                count = await self._store.delete_all(principal)
                is_done = True
                self._manager.session_gone(principal)
            finally:
                for session in gone:
                    self._changes.deleted(principal, session, is_certain=is_done)
        if self._attachments is not None:
            await self._attachments.session_deleted(principal, named)
        return count

    def export(self, principal: str) -> AsyncIterator[ExportedSession]:
        """All of a principal's conversations, the oldest first."""
        return self._store.export(principal)

    async def import_session(self, principal: str, exported: ExportedSession) -> Session:
        """Store a conversation as it was exported.

        Raises:
            Conflict: there is a session with its id, or two of its messages have one id.
            Overloaded: the store is full, or the principal's share of it.
        """
        await self._manager.deletion_over(principal, exported.session_id)
        session = await self._store.import_session(principal, exported)
        self._changes.changed(principal, session.session_id)
        return self._with_streams(principal, session)

    async def import_lines(self, principal: str, lines: AsyncIterator[Line], request_id: str) -> ImportResult:
        """Store each line's conversation; what became of them (see importing.py).

        Raises:
            Overloaded: an import of the principal is at work: each has its longest line in memory.
        """
        if principal in self._importing:
            raise Overloaded(
                "another import of yours is at work",
                hint="Wait for its end, and send this one then.",
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
    """The end of the list that fits a page."""
    size = 0
    start = len(messages)
    while start > max(0, len(messages) - limit):
        size += _size(messages[start - 1])
        if size > PAGE_BYTES_MAX and start < len(messages):
            break
        start -= 1
    return messages[start:]


def _size(message: StoredMessage) -> int:
    texts = [message.content, message.reasoning or "", *(call.arguments for call in message.tool_calls or ())]
    size = sum(_MESSAGE_BYTES + len(text.encode()) for text in texts)
    if message.parts:
        size += sum(_MESSAGE_BYTES + len(part.model_dump_json().encode()) for part in message.parts)
    return size
