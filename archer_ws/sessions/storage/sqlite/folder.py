"""The folder of the conversations: its permissions, the lock of its one process, and damaged files in it."""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO

import structlog

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import StorageUnavailable
from archer_ws.core.file_lock import try_to_lock
from archer_ws.core.slow_start import told_while_slow

log = structlog.get_logger(__name__)

DATABASE, LOCK = "archer.db", "archer.lock"
#: The beginning of the names of damaged databases that were set aside.
_DAMAGED = f"{DATABASE}.damaged-"
#: The suffixes of SQLite's files.
COMPANIONS = ("", "-wal", "-shm", "-journal")
#: What to do about a disk that lets the start wait.
SLOW_HINT = (
    "A large file is read once as a whole, which takes a while. If its disk, or a network drive, does not respond: "
    "ARCHER_DATA_DIR names another folder; ARCHER_STORE=memory stores no file."
)
#: How often to try to lock a folder that another process has locked, in seconds.
_LOOK_AGAIN_S = 0.1


class Folder:
    """The folder, locked by this process from `hold` to `release`.

    The operating system releases the lock when the process ends, however it ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / DATABASE
        self._lock: IO[bytes] | None = None

    def hold(self, wait_s: float, wait: Callable[[float], None] = time.sleep) -> None:
        """Create the folder if there is none, and lock it; wait up to `wait_s` seconds for another process.

        Raises:
            StorageUnavailable: another process still has the lock, or the file system has no locks.
            OSError: the folder can't be created, or a file in it.
        """
        with told_while_slow("the folder of the conversations", self.path, SLOW_HINT):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.fdopen(os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
        until = time.monotonic() + wait_s
        is_told = False
        try:
            while not self._try_to_lock(lock):
                if time.monotonic() >= until:
                    raise self._held_by_another()
                if not is_told:
                    log.warning("conversations_held", folder=str(self.path), holder=self.holder(), waits_s=wait_s)
                    is_told = True
                wait(_LOOK_AGAIN_S)
        except BaseException:
            lock.close()
            raise
        self._lock = lock
        # Writing the process id fails on a full disk, whose conversations can still be read.
        with contextlib.suppress(OSError):
            lock.seek(0)
            lock.truncate()
            lock.write(f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def holder(self) -> int | None:
        """The id of the process that has locked the folder, as that process wrote it; None if unknown."""
        try:
            return int((self.path / LOCK).read_bytes()[:20])
        except (OSError, ValueError):
            return None

    def held_by(self) -> str:
        """The process that has locked the folder, in words; to be asked where this process has not."""
        match self.holder():
            case None:
                return "another process"
            case number if number == os.getpid():
                # The servers of two containers have the same id, most often 1.
                return f"process {number} of another container"
            case number:
                return f"process {number}"

    def is_held(self) -> bool:
        """Whether a process has locked the folder, including this one.

        Raises:
            StorageUnavailable: the file system has no locks.
        """
        try:
            lock = (self.path / LOCK).open("r+b", buffering=0)
        except OSError:
            return False
        with lock:
            return not self._try_to_lock(lock)

    def make_file(self) -> None:
        """Create the database's file, readable only by its owner, if there is none."""
        os.close(os.open(self.database, os.O_RDWR | os.O_CREAT, 0o600))

    def identity(self) -> tuple[int, int] | None:
        """What distinguishes the database's file from any other on this machine; None if there is none.

        Always the same on Windows, where nobody can remove or replace an open file, and not every file system has
        numbers that stay.
        """
        if sys.platform == "win32":
            return 0, 0
        try:
            about = self.database.stat()
        except OSError:
            return None
        return about.st_dev, about.st_ino

    def has_damaged(self) -> bool:
        """Whether there is a damaged database that was set aside."""
        return any(self.path.glob(f"{_DAMAGED}*"))

    def put_aside(self) -> Path:
        """Rename a damaged database, and return its new path, which has the date."""
        aside = self.path / f"{_DAMAGED}{dated(utc_now())}"
        for companion in COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.database}{companion}").rename(f"{aside}{companion}")
        return aside

    def _try_to_lock(self, lock: IO[bytes]) -> bool:
        try:
            return try_to_lock(lock)
        except OSError as error:
            raise StorageUnavailable(
                f"the folder of the conversations, {self.path}, can't be locked: {error.strerror}",
                hint="Its file system may have no locks, as some network drives. Use a folder on a disk of this "
                "machine (ARCHER_DATA_DIR), or keep conversations in memory (ARCHER_STORE=memory).",
            ) from error

    def _held_by_another(self) -> StorageUnavailable:
        return StorageUnavailable(
            f"the conversations in {self.path} are in use by {self.held_by()}",
            hint="Stop that process, or use another folder (ARCHER_DATA_DIR), or keep conversations in memory "
            "(ARCHER_STORE=memory).",
        )


def dated(moment: datetime) -> str:
    """A moment in the form for file names."""
    return moment.strftime("%Y%m%d-%H%M%S-%f")
