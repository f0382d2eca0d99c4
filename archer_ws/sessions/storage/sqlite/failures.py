"""Converts the errors of SQLite and the system to errors of the protocol. Pure."""

import sqlite3
from pathlib import Path

from archer_ws.core.exceptions import ArcherError, StorageFull, StorageUnavailable

#: How to restore a backup. SQLite would write a WAL file that a killed server has left into the backup.
RESTORING = "put the backup in the place of archer.db, and remove archer.db-wal if it is there"
#: When a client should retry, in milliseconds.
_RETRY_MS = 2000


class Damaged(Exception):
    """The file is damaged, or is no database."""


def code_of(error: sqlite3.Error) -> int:
    """SQLite's primary result code (https://sqlite.org/rescode.html); 0 for errors of the Python module itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else 0


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is damaged."""
    return code_of(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_trouble(error: BaseException) -> bool:
    """Whether it affects all requests until its cause is removed: a full disk, missing permissions, a disk error."""
    if isinstance(error, sqlite3.Error):
        return code_of(error) in {
            *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN),
            *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
            sqlite3.SQLITE_NOLFS,
        }
    return isinstance(error, OSError)


def translated(error: Exception, file: Path) -> ArcherError:
    """The ArcherError for an error of SQLite or the system, to be raised from it."""
    if isinstance(error, ArcherError):
        return error
    if isinstance(error, sqlite3.Error):
        if code_of(error) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_TOOBIG}:
            return full()
        if is_damage(error):
            return StorageUnavailable(
                "this conversation can't be read: the file with the conversations is damaged",
                hint=f"Other conversations may not be affected. Copy {file.name}, and restore a backup, if there is "
                "one. The server's log has the details.",
                retryable=False,
            )
    return StorageUnavailable(
        "the conversation store can't read or write its file",
        hint=f"Check whether the folder {file.parent.name} and its disk are writable. The server's log has the "
        "details. Requests without session_id need no store.",
        retry_after_ms=_RETRY_MS,
    )


def unreadable(file: Path, damage: Damaged) -> StorageUnavailable:
    """The file is damaged, and stays where it is."""
    return StorageUnavailable(
        f"{file} is damaged ({damage})",
        hint=f"Copy the folder. To restore a backup, {RESTORING}; sqlite3's .recover may be able to read the damaged "
        "file. archer-ws serve would set it aside, and begin without conversations.",
        retryable=False,
    )


def gone() -> StorageUnavailable:
    """The file was removed or replaced while it is open; the system keeps the open one until it is closed."""
    return StorageUnavailable(
        "the file with the conversations was removed or replaced while the server uses it",
        hint="All conversations, also new ones, are lost when this server ends. Export them now (archer-ws sessions "
        "export), then restart the server and import them, or put the file back.",
        retryable=False,
    )


def full() -> StorageFull:
    """There is no room to store anything."""
    return StorageFull(
        "there is no room to store this conversation",
        hint="Free space on the server's disk, delete conversations that are no longer needed, or raise "
        "SESSION_BYTES_MAX. Requests without session_id need no store.",
    )
