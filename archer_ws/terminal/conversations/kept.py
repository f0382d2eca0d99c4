"""The conversations in the file of a stopped server."""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from archer_ws.core.exceptions import ArcherError
from archer_ws.core.home import with_home
from archer_ws.core.limits import PAGE_ITEMS_MAX
from archer_ws.core.logging import configure_logging
from archer_ws.sessions.importing import import_lines
from archer_ws.sessions.json_lines import BLOCK_BYTES, exported_blocks, lines_of
from archer_ws.sessions.models import FoundMessage, ImportResult, Session, StoredMessage
from archer_ws.sessions.storage.sqlite.accounts import Accounts
from archer_ws.sessions.storage.sqlite.database import FileSettings
from archer_ws.sessions.storage.sqlite.folder import Folder
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.terminal.conversations.source import HINTS, SourceError

#: The principal of all conversations of a server without tokens.
LOCAL_PRINCIPAL = "local"
#: No limits: the owner of the file may put into it whatever the disk holds.
_NO_LIMIT = 2**62

_Result = TypeVar("_Result")


class KeptConversations:
    """A Source over a file.

    Args:
        folder: the server's data folder.
        principal: whose conversations; None if there is only one principal.

    Raises:
        SourceError: a server uses the file, it can't be opened, or the principal is ambiguous.
    """

    def __init__(self, folder: Path, principal: str | None) -> None:
        kept = Folder(with_home(folder).absolute())
        if not kept.database.exists():
            raise SourceError(f"{kept.path} has no conversations", "Name the folder that ARCHER_DATA_DIR names.")
        unwritable = [path for path in (kept.path, kept.database) if not os.access(path, os.W_OK)]
        if unwritable:
            raise SourceError(
                f"{unwritable[0]} can't be written to by this user",
                "Copy the folder to where you may write, and name the copy: also reading needs a lock in it.",
            )
        try:
            is_held = kept.is_held()
        except ArcherError as failure:
            raise SourceError(failure.message, failure.hint) from failure
        if is_held:
            raise SourceError(
                f"the conversations in {kept.path} are in use by {kept.held_by()}, a running server",
                "Ask that server instead (leave --data-dir out, or name its --url), or stop it first.",
            )
        configure_logging("WARNING")
        self._runner = asyncio.Runner()
        # An export of a new file in a damaged one's place would look like one of no conversations.
        settings = FileSettings(bytes_max=_NO_LIMIT, wait_s=0, replaces_damaged=False, finish_s=inf)
        self._store = SqliteStore(kept.path, settings, Accounts(_NO_LIMIT, _NO_LIMIT, ()))
        try:
            self._run(self._store.open())
            self._principal = self._whose(principal)
        except BaseException:
            self.close()
            raise

    def sessions(self, archived: bool | None) -> Iterator[Session]:
        cursor: str | None = None
        while True:
            page = self._run(
                self._store.page(self._principal, PAGE_ITEMS_MAX, cursor, order="updated", archived=archived)
            )
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def session(self, session_id: str) -> tuple[Session, list[StoredMessage]]:
        return self._run(self._store.detail(self._principal, session_id, None, _NO_LIMIT))

    def found(self, query: str) -> Iterator[FoundMessage]:
        cursor: str | None = None
        while True:
            page = self._run(self._store.search(self._principal, query, PAGE_ITEMS_MAX, cursor))
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def export(self) -> Iterator[bytes]:
        blocks = exported_blocks(self._store.export(self._principal))

        async def following() -> bytes:
            return await anext(blocks, b"")

        while block := self._run(following()):
            yield block

    def take(self, lines: BinaryIO) -> ImportResult:
        async def pieces() -> AsyncIterator[bytes]:
            while piece := await asyncio.to_thread(lines.read, BLOCK_BYTES):
                yield piece

        store = partial(self._store.import_session, self._principal)
        return self._run(import_lines(lines_of(pieces(), None), store, "import", values_max=None))

    def delete(self, session_id: str) -> None:
        self._run(self._store.delete(self._principal, session_id))

    def delete_all(self) -> int:
        return self._run(self._store.delete_all(self._principal))

    def backup(self, path: Path) -> None:
        self._run(self._store.backup(with_home(path).absolute()))

    def close(self) -> None:
        self._runner.run(self._store.aclose())
        self._runner.close()

    def _whose(self, principal: str | None) -> str:
        if principal is not None:
            return principal
        known = self._run(self._store.principals())
        if len(known) > 1:
            raise SourceError(
                f"the conversations in this folder belong to several principals: {', '.join(known)}",
                "Name one of them: --principal.",
            )
        return known[0] if known else LOCAL_PRINCIPAL

    def _run(self, doing: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            return self._runner.run(doing)
        except ArcherError as error:
            raise SourceError(error.message, HINTS.get(error.kind, error.hint)) from None
