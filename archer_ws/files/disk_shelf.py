"""Stores files in a directory of their own, where they outlive the process.

    DIRECTORY/lock                                 locked while a process uses the directory
    DIRECTORY/incoming/*.part                      files being written; removed when a process begins
    DIRECTORY/kept/OWNER/FILE_ID,TYPE,SUBTYPE      stored files; the modification time is the time of last use

A file's name contains all metadata, so a single rename makes the file complete: a crash can't separate the file from a
second record. Names are in lower case, since some file systems ignore case.
"""

import contextlib
import mmap
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import structlog

from archer_ws.core.file_lock import try_to_lock
from archer_ws.core.slow_start import told_while_slow
from archer_ws.files.pictures import Content
from archer_ws.files.shelf import DirectoryNotLocked, FoundFile, Label

log = structlog.get_logger(__name__)

_PART = ".part"
#: What to do about a disk that lets the start wait.
_SLOW_HINT = "Many files take a while. If their disk does not respond: ARCHER_FILES_DIR names another folder."
#: Only this user may enter the directory.
_PRIVATE = 0o700


class DiskShelf:
    """A shelf in a directory.

    Args:
        directory: its path. One process uses it at a time.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._incoming = directory / "incoming"
        self._kept = directory / "kept"
        self._lock: IO[bytes] | None = None

    def begin(self) -> list[FoundFile]:
        """Create the directory if it does not exist, lock it, and return the files that earlier processes stored. Their
        unfinished files are removed.

        Raises:
            DirectoryNotLocked: another process uses it, or its file system has no locks.
            OSError: it can't be created or written to.
        """
        with told_while_slow("the folder of uploaded files", self._directory, _SLOW_HINT):
            return self._begin()

    def _begin(self) -> list[FoundFile]:
        for each in (self._directory, self._incoming, self._kept):
            each.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        lock = _lock(self._directory / "lock")
        try:
            found = self._found()
        except BaseException:
            lock.close()  # Otherwise the next attempt would take this process for another one.
            raise
        self._lock = lock
        return found

    def _found(self) -> list[FoundFile]:
        for left in self._incoming.glob(f"*{_PART}"):
            left.unlink(missing_ok=True)
        found = []
        for owner in self._kept.iterdir():
            for path in owner.iterdir() if owner.is_dir() else ():
                label = _label(owner.name, path.name)
                if label is None:
                    log.warning("strange_file", path=str(path))
                    continue
                about = path.stat()
                found.append(FoundFile(label, about.st_size, about.st_mtime))
        return found

    def draft(self) -> "_Draft":
        """A new file.

        Raises:
            OSError: the directory could not be opened yet.
        """
        if self._lock is None:
            raise OSError("the directory is not open")
        return _Draft(self)

    def open(self, label: Label) -> BinaryIO:
        """Open a stored file."""
        return self.path(label).open("rb")

    def remove(self, label: Label) -> None:
        """Remove a file."""
        self.path(label).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # The directory has other files of the same owner.
            self.path(label).parent.rmdir()

    def touch(self, label: Label, used_at: float) -> None:
        """Record when it was used."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path(label), (used_at, used_at))

    def close(self) -> None:
        """Unlock the directory."""
        if self._lock is not None:
            self._lock.close()

    def path(self, label: Label) -> Path:
        """The path of a stored file."""
        return self._kept / label.owner / f"{label.file_id},{label.media_type.replace('/', ',')}"

    def part(self) -> tuple[int, str]:
        """A new file for a draft: its descriptor and its path."""
        _make(self._incoming)
        return tempfile.mkstemp(suffix=_PART, dir=self._incoming)


class _Draft:
    def __init__(self, shelf: DiskShelf) -> None:
        self._shelf = shelf
        # A thread that nobody waits for any more may still write while the draft is discarded.
        self._lock = threading.Lock()
        self._is_over = False
        self._file: BinaryIO | None = None
        self._path = Path()

    def write(self, data: bytes) -> None:
        with self._lock:
            file, rest = self._opened(), memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]

    @contextmanager
    def content(self) -> Iterator[Content]:
        with self._lock:
            descriptor = self._opened().fileno()
        if not os.fstat(descriptor).st_size:
            yield b""
            return
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
            yield content

    def keep(self, label: Label, used_at: float) -> None:
        path = self._shelf.path(label)
        with self._lock:
            file = self._opened()
            # The data must be on disk before the file has its name.
            os.fsync(file.fileno())
            file.close()
            _make(path.parent.parent)
            _make(path.parent)
            os.utime(self._path, (used_at, used_at))
            self._path.replace(path)
            self._is_over = True
        _sync_directory(path.parent)

    def discard(self) -> None:
        with self._lock:
            self._is_over, file, self._file = True, self._file, None
            if file is not None:
                file.close()
                self._path.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        if self._is_over:
            raise OSError("the file was discarded")
        if self._file is None:
            descriptor, path = self._shelf.part()
            # Unbuffered: writes are large, and a failure is reported by the write that causes it.
            self._file, self._path = os.fdopen(descriptor, "w+b", buffering=0), Path(path)
        return self._file


def _make(folder: Path) -> None:
    """Make a folder that is missing: something that cleans up may remove empty ones while the server runs."""
    folder.mkdir(mode=_PRIVATE, exist_ok=True)


def _label(owner: str, name: str) -> Label | None:
    file_id, _, media_type = name.partition(",")
    kind, comma, subtype = media_type.partition(",")
    return Label(owner, file_id, f"{kind}/{subtype}") if comma and kind and subtype else None


def _sync_directory(directory: Path) -> None:
    """Make a rename survive a loss of power. Windows can't open directories, and does not need this."""
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(path: Path) -> IO[bytes]:
    """The open, locked file. The lock is released when it is closed, or when this process ends for any reason."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
    try:
        if try_to_lock(file):
            return file
        reason = f"another process keeps its files in {path.parent}"
    except OSError as error:
        reason = f"{path.parent} can't be locked ({error.strerror}); its file system may have no locks"
    file.close()
    raise DirectoryNotLocked(reason)
