"""Stores in files, and connections that a test has its hand in."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from archer_ws.sessions.storage.sqlite.accounts import Accounts
from archer_ws.sessions.storage.sqlite.database import FileSettings
from archer_ws.sessions.storage.sqlite.store import SqliteStore

BYTES_MAX = 1024 * 1024 * 1024


class WithoutFTS5(sqlite3.Connection):
    """A connection of an SQLite that was built without the index of words."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if "fts5" in sql or ("message_words" in sql and "sqlite_master" not in sql):
            raise sqlite3.OperationalError("no such module: fts5")
        return super().execute(sql, parameters)


def sqlite_store(
    folder: Path,
    *,
    bytes_max: int = BYTES_MAX,
    sessions_max: int = 1_000_000,
    principals: Sequence[str] = (),
    without_fts: bool = False,
    **settings: Any,
) -> SqliteStore:
    """A store in that folder, to be opened."""
    if without_fts:
        settings["factory"] = WithoutFTS5
    return SqliteStore(
        folder, FileSettings(bytes_max=bytes_max, **settings), Accounts(sessions_max, bytes_max, tuple(principals))
    )


@asynccontextmanager
async def opened(folder: Path, **settings: Any) -> AsyncIterator[SqliteStore]:
    """Such a store, open (`settings`: see `sqlite_store`)."""
    store = sqlite_store(folder, **settings)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()
