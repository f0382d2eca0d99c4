"""Migrates a file to this version's tables: step by step, each in one transaction, after making a copy."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import StorageUnavailable
from archer_ws.sessions.storage.sqlite.folder import dated
from archer_ws.sessions.storage.sqlite.schema import APPLICATION_ID

log = structlog.get_logger(__name__)

#: How long the copy from before a migration is kept, in seconds. It is deleted because it may have deleted
#: conversations.
COPY_KEPT_S = 7 * 86_400.0


def migrate(connection: sqlite3.Connection, file: Path, steps: Sequence[str]) -> None:
    """Migrate the file to the newest version.

    Raises:
        StorageUnavailable: the file is of a newer version, or of another program.
        sqlite3.Error: a step failed, and was rolled back.
    """
    version = check_version(connection, file, len(steps))
    if version == len(steps):
        return
    if version > 0:
        copy = file.with_name(f"{file.name}.version-{version}-{dated(utc_now())}.bak")
        copy_to(connection, copy)
        log.info("conversations_migrating", from_version=version, to_version=len(steps), copy=str(copy))
    for number, step in enumerate(steps[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements_of(step):
                connection.execute(statement)
            # Pragmas accept no parameters.
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


def check_version(connection: sqlite3.Connection, file: Path, newest: int) -> int:
    """The file's version.

    Raises:
        StorageUnavailable: the file is of a newer version, or of another program.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (tables or application or version):
        raise StorageUnavailable(
            f"{file} is a database of another program",
            hint="Set ARCHER_DATA_DIR to another folder.",
            retryable=False,
        )
    if version > newest:
        raise StorageUnavailable(
            f"{file} was written by a newer version of this program ({version}; this one has {newest})",
            hint="Install the newer version again, or set ARCHER_DATA_DIR to another folder.",
            retryable=False,
        )
    return int(version)


def copy_to(connection: sqlite3.Connection, path: Path) -> None:
    """Write the database to a new file that only its owner can read, and sync it to disk.

    Raises:
        FileExistsError: the file exists.
        OSError, sqlite3.Error: it can't be written; no file is left.
    """
    # Created here for its permissions; SQLite accepts an empty file.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        connection.execute("VACUUM INTO ?", (str(path),))
        with path.open("rb+") as written:
            os.fsync(written.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def remove_old_copies(file: Path) -> None:
    """Remove the copies of migrations that are older than COPY_KEPT_S."""
    for copy in file.parent.glob(f"{file.name}.version-*.bak"):
        with contextlib.suppress(OSError):
            if time.time() - copy.stat().st_mtime > COPY_KEPT_S:
                copy.unlink()


def statements_of(script: str) -> list[str]:
    """Split a script into statements, because `executescript` would commit the transaction first."""
    found, begun = [], ""
    for line in script.splitlines():
        begun += f"{line}\n"
        if sqlite3.complete_statement(begun):
            found.append(begun)
            begun = ""
    return found
