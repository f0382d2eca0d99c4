"""The conversations that the server stores: `archer.sessions`."""

from collections.abc import Mapping
from typing import Any, Literal

from archer_ws.client.asking import ask, new_id, without_none
from archer_ws.client.errors import Refused
from archer_ws.client.link import Link
from archer_ws.client.watching import SessionWatch
from archer_ws.sessions.models import DeletedSessions, SearchPage, Session, SessionDetail, SessionPage


class Sessions:
    """The server's conversations."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def create(
        self, *, title: str | None = None, metadata: Mapping[str, Any] | None = None, session_id: str | None = None
    ) -> Session:
        """Create a conversation, or return the one that has this id already."""
        # With an id from here, sending the request twice is harmless.
        params = {"session_id": session_id or new_id("ses"), "title": title, "metadata": metadata}
        return await ask(self._link, "session/create", without_none(params), Session)

    async def get(self, session_id: str, *, limit: int | None = None, cursor: str | None = None) -> SessionDetail:
        """One conversation with a page of its messages: the newest, or with a page's `next_cursor` those before it."""
        params = without_none({"session_id": session_id, "limit": limit, "cursor": cursor})
        return await ask(self._link, "session/get", params, SessionDetail)

    async def list(
        self,
        *,
        order: Literal["updated", "created"] | None = None,
        archived: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionPage:
        """A page of conversations, newest first; by default sorted by their last change.

        Args:
            order: the sort key.
            archived: True: archived conversations only; False: only the others; by default both.
            limit: how many at most, 1 to 200.
            cursor: the `next_cursor` of the page before.
        """
        params = {"order": order, "archived": archived, "limit": limit, "cursor": cursor}
        return await ask(self._link, "session/list", without_none(params), SessionPage)

    async def search(self, query: str, *, limit: int | None = None, cursor: str | None = None) -> SearchPage:
        """A page of the messages that have all words of the query, the last stored first."""
        params = {"query": query, "limit": limit, "cursor": cursor}
        return await ask(self._link, "session/search", without_none(params), SearchPage)

    async def update(
        self,
        session_id: str,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        archived: bool | None = None,
        version: int | None = None,
    ) -> Session:
        """Change a conversation; with `version`, only if it still has that version.

        Returns:
            The changed conversation.

        Raises:
            Refused: `conflict`, where it has another version.
        """
        change = without_none({"title": title, "metadata": metadata, "archived": archived})
        params = without_none({"session_id": session_id, **change, "version": version})
        try:
            return await ask(self._link, "session/update", params, Session)
        except Refused as error:
            # The request was repeated after a lost connection: the first one may have succeeded.
            if version is None or not (error.repeated and error.kind == "conflict"):
                raise
            found = await self._session(session_id)
            is_done = found.version == version + 1 and all(
                (getattr(found, name) or False if name == "archived" else getattr(found, name)) == value
                for name, value in change.items()
            )
            if not is_done:
                raise
            return found

    async def fork(self, session_id: str, *, before: str | None = None, new_session_id: str | None = None) -> Session:
        """Create a conversation with the messages of this one before the message `before`; by default with all."""
        fork_id = new_session_id or new_id("ses")
        params = without_none({"session_id": session_id, "before": before, "new_session_id": fork_id})
        try:
            return await ask(self._link, "session/fork", params, Session)
        except Refused as error:
            # Likewise: a conversation with an id made here can only be this one.
            if new_session_id is None and error.repeated and error.kind == "conflict":
                return await self._session(fork_id)
            raise

    def watch(self, session_id: str | None = None) -> SessionWatch:
        """Watch all conversations, or one, for changes: `async for change in watch`."""
        return self._link.watch(session_id)

    async def delete(self, session_id: str) -> None:
        """Delete a conversation for good; its streams end."""
        try:
            await self._link.request("session/delete", {"session_id": session_id})
        except Refused as error:
            # The request was repeated after a lost connection: the first one may have succeeded.
            if not (error.repeated and error.kind == "session_not_found"):
                raise

    async def delete_all(self, *, confirm: Literal[True]) -> int:
        """Delete all conversations for good; their streams end.

        Returns:
            How many there were.
        """
        deleted = await ask(self._link, "session/delete_all", {"confirm": confirm}, DeletedSessions)
        return deleted.deleted

    async def _session(self, session_id: str) -> Session:
        return await ask(self._link, "session/get", {"session_id": session_id, "limit": 1}, Session)
