"""Conversations as endpoints use them: the store, joined with what the manager knows of running streams."""

from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.models import Session, SessionCreate, SessionDetail, SessionPage, SessionUpdate
from archer_ws.sessions.store import SessionStore


class Conversations:
    """Create, read, change and delete a principal's sessions.

    All but `create` and `page` raise SessionNotFound for an unknown session.
    """

    def __init__(self, store: SessionStore, manager: SessionManager) -> None:
        self._store = store
        self._manager = manager

    async def create(self, principal: str, wanted: SessionCreate) -> tuple[Session, bool]:
        """The session, and whether it is new: a repeated call finds the first one's.

        Raises:
            Overloaded: the store is full.
        """
        return await self._store.create(principal, wanted.session_id, wanted.title, wanted.metadata)

    async def get(self, principal: str, session_id: str) -> SessionDetail:
        """The session with its messages and running streams."""
        session = await self._store.get(principal, session_id)
        messages = await self._store.messages(principal, session_id)
        return SessionDetail(
            **session.model_dump(),
            messages=messages,
            active_streams=[stream.stream_id for stream in self._manager.active_in(principal, session_id)],
        )

    async def page(self, principal: str, limit: int, cursor: str | None) -> SessionPage:
        """Sessions, newest first.

        Raises:
            InvalidParams: the cursor is none of ours.
        """
        return await self._store.page(principal, limit, cursor)

    async def update(self, principal: str, session_id: str, change: SessionUpdate) -> Session:
        """The session with the change made."""
        return await self._store.update(principal, session_id, change.title, change.metadata)

    async def delete(self, principal: str, session_id: str) -> None:
        """End the session's streams and forget it."""
        await self._store.get(principal, session_id)
        for stream in self._manager.active_in(principal, session_id):
            stream.cancel("client")
            await stream.wait_ended()
        await self._store.delete(principal, session_id)
