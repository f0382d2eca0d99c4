"""Conversations as endpoints use them: the store, joined with what the manager knows of running streams."""

from archer_ws.core.limits import PAGE_BYTES_MAX, PAGE_ITEMS_MAX, Limits
from archer_ws.sessions.attachments import Attachments
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.models import Session, SessionCreate, SessionDetail, SessionPage, SessionUpdate, StoredMessage
from archer_ws.sessions.storage.bounded import bounded
from archer_ws.sessions.storage.store import SessionStore

#: What a message, and each of its calls and parts, takes in a page beside its text, about, in bytes.
_MESSAGE_BYTES = 256


class Conversations:
    """Create, read, change and delete a principal's sessions.

    All but `create` and `page` raise SessionNotFound for an unknown session; all raise StorageUnavailable where the
    store fails or is slow.
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

    async def create(self, principal: str, wanted: SessionCreate) -> tuple[Session, bool]:
        """The session, and whether it is new: a repeated call finds the first one's.

        Raises:
            Overloaded: the store is full, or the principal's share of it.
        """
        if wanted.session_id is not None:
            await self._manager.deletion_over(principal, wanted.session_id)
        return await self._store.create(principal, wanted.session_id, wanted.title, wanted.metadata)

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
        return SessionDetail.model_construct(
            **session.__dict__,
            messages=messages,
            active_streams=[stream.stream_id for stream in self._manager.active_in(principal, session_id)],
            next_cursor=messages[0].message_id if len(messages) < len(found) else None,
        )

    async def page(self, principal: str, limit: int, cursor: str | None) -> SessionPage:
        """Sessions, newest first.

        Raises:
            InvalidParams: the cursor is none of ours.
        """
        return await self._store.page(principal, limit, cursor)

    async def update(self, principal: str, session_id: str, change: SessionUpdate) -> Session:
        """The session with the change made.

        Raises:
            Overloaded: there is no room for it.
        """
        return await self._store.update(principal, session_id, change.title, change.metadata)

    async def delete(self, principal: str, session_id: str) -> None:
        """End the session's streams and forget it, with the files that no other session names; no stream begins in
        between."""
        await self._store.get(principal, session_id)
        async with self._manager.session_at_rest(principal, session_id):
            named = await self._store.named_files(principal, session_id)
            await self._store.delete(principal, session_id)
        if self._attachments is not None:
            await self._attachments.session_deleted(principal, named)


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
