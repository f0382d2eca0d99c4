"""Checks where conversations would be stored: whether it is writable, has room, and is private."""

import os
import shutil
import stat
import sys
from pathlib import Path

from archer_ws.config import SettingsError
from archer_ws.core.exceptions import StorageUnavailable
from archer_ws.doctor.finding import Finding
from archer_ws.doctor.machine import DISK_LOW_BYTES
from archer_ws.doctor.setup import Setup
from archer_ws.llm_gateway.local.hub import size_text
from archer_ws.sessions.storage.sqlite.folder import Folder
from archer_ws.sessions.storage.sqlite.schema import APPLICATION_ID, STEPS

_CHECK = "conversations"
#: The first bytes of every SQLite file, and the places of our numbers in it (https://sqlite.org/fileformat.html).
_MAGIC, _HEADER_BYTES, _VERSION_AT, _APPLICATION_AT = b"SQLite format 3\x00", 100, 60, 68
_ELSEWHERE = "Set ARCHER_DATA_DIR to a folder of this user's, or ARCHER_STORE=memory."


def check_conversations(setup: Setup) -> list[Finding]:
    """Check the folder of the conversations, without creating it."""
    settings = setup.settings
    if settings.store == "memory" and "store" in settings.model_fields_set:
        return [Finding(_CHECK, "ok", "are kept in memory only (ARCHER_STORE), and are lost when the server stops")]
    try:
        folder = Folder(settings.data_folder)
    except SettingsError as error:
        return [Finding(_CHECK, "problem", "there is no folder for them", f"{error}.")]
    except FileNotFoundError:
        message = f"{settings.data_dir} can't be found: the current folder no longer exists"
        return [Finding(_CHECK, "problem", message, _ELSEWHERE)]
    try:
        return [_of_place(folder) or _of_holder(folder) or _of_file(folder) or _told(folder)]
    except OSError as error:
        return [Finding(_CHECK, "problem", f"{folder.path} can't be read: {error.strerror}", _ELSEWHERE)]
    except StorageUnavailable as failure:
        return [Finding(_CHECK, "problem", failure.message, failure.hint)]


def _of_place(folder: Folder) -> Finding | None:
    existing = next(each for each in (folder.path, *folder.path.parents) if os.path.lexists(each))
    if not existing.exists():
        # Perhaps its disk is not mounted. Nothing is created in its place.
        return Finding(_CHECK, "problem", f"{existing} is a link, and what it leads to does not exist", _ELSEWHERE)
    if not existing.is_dir():
        return Finding(_CHECK, "problem", f"{existing} is not a folder", _ELSEWHERE)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(_CHECK, "problem", f"{existing} can't be written to by this user", _ELSEWHERE)
    if folder.database.exists() and not os.access(folder.database, os.R_OK | os.W_OK):
        return Finding(_CHECK, "problem", f"{folder.database} can't be written to by this user", _ELSEWHERE)
    free = shutil.disk_usage(existing).free
    if free < DISK_LOW_BYTES:
        return Finding(_CHECK, "warning", f"{size_text(free)} are free at {existing}", f"Make room there. {_ELSEWHERE}")
    return None


def _of_file(folder: Folder) -> Finding | None:
    # If the file is in use, its head does not have the newest values yet.
    file = folder.database
    if not file.exists() or not file.stat().st_size:
        return None
    with file.open("rb") as opened:
        header = opened.read(_HEADER_BYTES)
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        return Finding(
            _CHECK,
            "warning",
            f"{file} is not a database: serve will move it aside and begin with no conversations",
            "Restore a backup, if there is one.",
        )
    version, application = _number(header, _VERSION_AT), _number(header, _APPLICATION_AT)
    if application != APPLICATION_ID and (application or not _has_wal(file)):
        return Finding(_CHECK, "problem", f"{file} is a database of another program", _ELSEWHERE)
    if version > len(STEPS):
        return Finding(
            _CHECK,
            "problem",
            f"{file} was written by a newer version of this program",
            f"Install that version again. {_ELSEWHERE}",
        )
    if sys.platform != "win32" and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
        return Finding(_CHECK, "warning", f"others may read {file} (its mode is {mode:o})", f"Run: chmod 600 {file}")
    return None


def _has_wal(file: Path) -> bool:
    """Whether there is a WAL file, as a killed server leaves it: of a new file, what its head will have is there."""
    wal = file.with_name(f"{file.name}-wal")
    return wal.exists() and wal.stat().st_size > 0


def _of_holder(folder: Folder) -> Finding | None:
    if not folder.is_held():
        return None
    return Finding(
        _CHECK,
        "ok",
        f"are kept in {folder.database}, which {folder.held_by()} is using: a second server has to wait for it",
    )


def _told(folder: Folder) -> Finding:
    size = folder.database.stat().st_size if folder.database.exists() else 0
    return Finding(_CHECK, "ok", f"are kept in {folder.database} ({size_text(size)})")


def _number(header: bytes, at: int) -> int:
    return int.from_bytes(header[at : at + 4], "big")
