"""Writes lines to a reader that may be slow, or may never read.

Such a reader may be a pipe whose reader sleeps, a terminal stopped by Ctrl-S, a console with a selection, or a stalled
log daemon. A write waits for as long as that lasts, and on the event loop all other tasks would wait with it. So lines
go through a bounded queue to a thread that writes them. Lines that find no room are dropped and counted.
"""

import os
import select
import threading
import time
from collections.abc import Callable
from io import UnsupportedOperation
from queue import SimpleQueue
from typing import Protocol, TextIO
from weakref import WeakSet

from archer_ws.core.limits import LINES_WAITING_BYTES

#: The thread's pause between two writes, so that a thousand lines a second wake it a hundred times. In seconds.
REST_S = 0.01
#: The thread's pause after a failed write (a full disk, for example), and its wait for room in a pipe.
FAILED_REST_S, ROOM_WAIT_S = 0.5, 1.0


class _Raw(Protocol):
    """An unbuffered stream of bytes."""

    def write(self, data: bytes, /) -> int | None: ...

    def fileno(self) -> int: ...


class LineWriter:
    """Writes lines in order, and never makes the caller wait. Usable from any thread.

    Args:
        on_dropped: called from the writing thread with the number of dropped lines, once there is room again.
        bytes_max: the limit of bytes that wait to be written.
    """

    def __init__(
        self, on_dropped: Callable[[int], None] = lambda _: None, *, bytes_max: int = LINES_WAITING_BYTES
    ) -> None:
        self._on_dropped = on_dropped
        self._bytes_max = bytes_max
        self._queue: SimpleQueue[tuple[_Raw, bytes]] = SimpleQueue()
        self._lock = threading.Lock()
        # Each counter is written by one side only: lines queued by the caller, lines finished by the thread.
        self._queued_bytes = self._done_bytes = 0
        self._dropped = 0
        #: Whether the thread runs.
        self._is_writing = False
        self._is_hurried = threading.Event()
        #: The stream that was written to last, what is below it, and its encoding.
        self._last: tuple[TextIO | None, _Raw | None, str] = None, None, ""
        _writers.add(self)

    def put(self, stream: TextIO | None, text: str) -> None:
        """Queue a text, which must end with a line end. A stream in memory is written at once."""
        if stream is None:
            return  # A program without a console on Windows has none.
        last, raw, encoding = self._last
        if last is not stream:
            raw, encoding = _raw_of(stream), getattr(stream, "encoding", None) or "utf-8"
            self._last = stream, raw, encoding
        if raw is None:
            stream.write(text)
            stream.flush()
            return
        data = text.encode(encoding, "backslashreplace")
        with self._lock:
            if self._queued_bytes - self._done_bytes + len(data) > self._bytes_max:
                self._dropped += 1
                return
            self._queued_bytes += len(data)
            self._queue.put((raw, data))
            if not self._is_writing:
                self._is_writing = True
                threading.Thread(target=self._write_all, name="line-writer", daemon=True).start()

    def flush(self, within_s: float) -> bool:
        """Wait at most so long until everything is written; returns whether it is."""
        deadline = time.monotonic() + within_s
        self._is_hurried.set()
        while self._queued_bytes > self._done_bytes and time.monotonic() < deadline:
            time.sleep(0.002)
        self._is_hurried.clear()
        return self._queued_bytes <= self._done_bytes

    def _write_all(self) -> None:
        """The thread's loop: write the queued lines together, pause, repeat."""
        try:
            self._write_on()
        finally:
            self._is_writing = False

    def _write_on(self) -> None:
        while True:
            raw, data = self._queue.get()
            pieces = [data]
            following: tuple[_Raw, bytes] | None = None
            while not self._queue.empty():
                following = self._queue.get()
                if following[0] is not raw:
                    break
                pieces.append(following[1])
                following = None
            is_written = self._write(raw, b"".join(pieces), len(pieces))
            if following is not None:
                is_written = self._write(*following, 1)
            if is_written and self._dropped:
                self._tell_dropped()
            # Not `wait`, which takes as long as writing: a flush may wait so long.
            if not self._is_hurried.is_set():
                time.sleep(REST_S)

    def _write(self, raw: _Raw, data: bytes, lines: int) -> bool:
        """Write so many lines, however long that takes; returns whether it succeeded."""
        rest = memoryview(data)
        try:
            while rest:
                written = raw.write(rest)  # type: ignore[arg-type]  # any buffer will do
                if written is None:
                    # The process that gave us the pipe made it non-blocking (Node.js does): wait for room.
                    _wait_for_room(raw)
                    continue
                rest = rest[written:]
        except (OSError, ValueError):
            # The reader is gone, the disk is full, or the stream was closed. This can't be reported until it is fixed.
            with self._lock:
                self._dropped += lines
            self._is_hurried.wait(FAILED_REST_S)
            return False
        finally:
            self._done_bytes += len(data)
        return True

    def _tell_dropped(self) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        self._on_dropped(dropped)


#: All writers. A fork does not copy threads: in the new process each writer starts another one.
_writers: WeakSet[LineWriter] = WeakSet()


def _forked() -> None:
    for writer in _writers:
        writer._is_writing = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _raw_of(stream: TextIO) -> _Raw | None:
    """The raw stream below a text stream, without its buffer: the thread might hold the buffer's lock at exit. None if
    the stream is in memory."""
    buffer = getattr(stream, "buffer", None)
    raw: _Raw | None = getattr(buffer, "raw", buffer)
    try:
        raw.fileno()  # type: ignore[union-attr]  # None raises the AttributeError that is caught
    except (AttributeError, UnsupportedOperation, OSError, ValueError):
        return None
    return raw


def _wait_for_room(raw: _Raw) -> None:
    try:
        select.select([], [raw.fileno()], [], ROOM_WAIT_S)
    except (OSError, ValueError):
        # On Windows `select` works for sockets only, elsewhere for small descriptors only.
        time.sleep(REST_S)
