"""The folder that conversations are kept in: its rights, its one holder, and what is put aside there."""

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

log = structlog.get_logger(__name__)

DATABASE, LOCK = "archer.db", "archer.lock"
#: How the names of damaged databases begin that were put aside.
_DAMAGED = f"{DATABASE}.damaged-"
#: What SQLite keeps beside its file.
COMPANIONS = ("", "-wal", "-shm", "-journal")
#: How often a folder that another process holds is tried, in seconds.
_LOOK_AGAIN_S = 0.1
#: Where Windows locks a byte: nobody can read what is locked, and the holder's number stands at the beginning.
_LOCKED_BYTE = 1 << 30


class Folder:
    """The folder, held by this process from `hold` until `release`.

    The lock is the system's: it goes with the process that has it, however that ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / DATABASE
        self._lock: IO[bytes] | None = None

    def hold(self, wait_s: float, wait: Callable[[float], None] = time.sleep) -> None:
        """Make the folder where there is none, and become its holder; wait for another to let go of it.

        Raises:
            StorageUnavailable: another process still holds it after `wait_s`.
            OSError: it can't be made, or nothing can be made in it.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.fdopen(os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
        until = time.monotonic() + wait_s
        is_told = False
        while not _try_to_lock(lock):
            if time.monotonic() >= until:
                lock.close()
                raise self._held_by_another()
            if not is_told:
                log.warning("conversations_held", folder=str(self.path), holder=self.holder(), waits_s=wait_s)
                is_told = True
            wait(_LOOK_AGAIN_S)
        self._lock = lock
        # A full disk takes no number, and what is stored on it can be read all the same.
        with contextlib.suppress(OSError):
            lock.seek(0)
            lock.truncate()
            lock.write(f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def holder(self) -> int | None:
        """The number of the process that holds it, as that one has left it there."""
        try:
            return int((self.path / LOCK).read_bytes()[:20])
        except (OSError, ValueError):
            return None

    def is_held(self) -> bool:
        """Whether a process holds it, this one included."""
        try:
            with (self.path / LOCK).open("r+b", buffering=0) as lock:
                return not _try_to_lock(lock)
        except OSError:
            return False

    def make_file(self) -> None:
        """See that the database's file is there, and only its owner's."""
        os.close(os.open(self.database, os.O_RDWR | os.O_CREAT, 0o600))

    def has_damaged(self) -> bool:
        """Whether a damaged database was put aside here, and is still there."""
        return any(self.path.glob(f"{_DAMAGED}*"))

    def put_aside(self) -> Path:
        """Give a damaged database another name, with the date in it."""
        aside = self.path / f"{_DAMAGED}{dated(utc_now())}"
        for companion in COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.database}{companion}").rename(f"{aside}{companion}")
        return aside

    def _held_by_another(self) -> StorageUnavailable:
        holder = self.holder()
        whose = f"process {holder}" if holder is not None else "another process"
        return StorageUnavailable(
            f"the conversations in {self.path} are in use by {whose}",
            hint="Stop that one, or give this server a folder of its own (ARCHER_DATA_DIR), or keep conversations in "
            "memory (ARCHER_STORE=memory).",
        )


def dated(moment: datetime) -> str:
    """A moment as it may stand in a file's name."""
    return moment.strftime("%Y%m%d-%H%M%S-%f")


def _try_to_lock(lock: IO[bytes]) -> bool:
    """Whether the lock is ours now."""
    if sys.platform == "win32":
        import msvcrt

        try:
            lock.seek(_LOCKED_BYTE)
            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        # Not lockf: that one would let a second database of this process in.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
