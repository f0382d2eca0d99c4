"""What SQLite's and the system's errors mean to whoever wanted something stored or read. Pure."""

import sqlite3
from pathlib import Path

from archer_ws.core.exceptions import ArcherError, StorageFull, StorageUnavailable

#: After so long a retry makes sense, in milliseconds.
_RETRY_MS = 2000


class Damaged(Exception):
    """The file is no database, or none any more."""


def code_of(error: sqlite3.Error) -> int:
    """SQLite's primary result code (https://sqlite.org/rescode.html); 0 for errors that are Python's own."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else 0


def is_damage(error: sqlite3.Error) -> bool:
    """Whether what is stored can't be read as what it was."""
    return code_of(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_trouble(error: BaseException) -> bool:
    """Whether others would meet it too, until somebody mends it: no room, no rights, a disk that fails."""
    if isinstance(error, sqlite3.Error):
        return code_of(error) in {
            *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN),
            *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
            sqlite3.SQLITE_NOLFS,
        }
    return isinstance(error, OSError)


def translated(error: Exception, file: Path) -> ArcherError:
    """Our error for one of SQLite or the system, to be raised from it."""
    if isinstance(error, ArcherError):
        return error
    if isinstance(error, sqlite3.Error):
        if code_of(error) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_TOOBIG}:
            return full()
        if is_damage(error):
            return StorageUnavailable(
                "this conversation can't be read: the file that conversations are kept in is damaged there",
                hint=f"Others are not touched by that. Keep a copy of {file.name}, and bring a backup of it back if "
                "there is one; the server's log has the details.",
                retryable=False,
            )
    return StorageUnavailable(
        "the store of conversations can't read or write its file",
        hint=f"See whether {file.parent.name} and its disk can be written to; the server's log has the details. "
        "Requests without session_id need no store.",
        retry_after_ms=_RETRY_MS,
    )


def full() -> StorageFull:
    """There is no room."""
    return StorageFull(
        "there is no room to store this conversation",
        hint="Make room on the server's disk, delete conversations that are no longer needed, or raise "
        "SESSION_BYTES_MAX. Requests without session_id need no store.",
    )
