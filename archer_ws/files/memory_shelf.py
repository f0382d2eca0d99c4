"""Stores files in this process's memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from archer_ws.files.pictures import Content
from archer_ws.files.shelf import FoundFile, Label


class MemoryShelf:
    """A shelf that is lost with its process."""

    def __init__(self) -> None:
        self._files: dict[Label, bytearray] = {}

    def begin(self) -> list[FoundFile]:
        """Returns nothing: it begins empty."""
        return []

    def draft(self) -> "_Draft":
        """A new file."""
        return _Draft(self._files)

    def open(self, label: Label) -> "_Reader":
        """Open a stored file."""
        try:
            return _Reader(self._files[label])
        except KeyError:
            raise FileNotFoundError(label.file_id) from None

    def remove(self, label: Label) -> None:
        """Remove a file."""
        self._files.pop(label, None)

    def touch(self, label: Label, used_at: float) -> None:
        """Does nothing: no later process reads it."""

    def close(self) -> None:
        """Drop all files."""
        self._files.clear()


class _Draft:
    def __init__(self, files: dict[Label, bytearray]) -> None:
        self._files = files
        self._lock = threading.Lock()
        # Grows in place: joining pieces at the end would take the file's size twice.
        self._content: bytearray | None = bytearray()

    def write(self, data: bytes) -> None:
        with self._lock:
            if self._content is not None:
                self._content += data

    @contextmanager
    def content(self) -> Iterator[Content]:
        yield self._content or b""

    def keep(self, label: Label, used_at: float) -> None:
        with self._lock:
            if self._content is not None:
                self._files[label], self._content = self._content, None

    def discard(self) -> None:
        with self._lock:
            self._content = None


class _Reader:
    def __init__(self, content: bytearray) -> None:
        self._content = content
        self._place = 0

    def read(self, size: int) -> bytes:
        piece = bytes(memoryview(self._content)[self._place : self._place + size])
        self._place += len(piece)
        return piece

    def close(self) -> None:
        pass
