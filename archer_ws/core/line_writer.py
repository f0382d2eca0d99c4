"""Writing lines to somebody who may be slow to read them, or may never do.

A pipe whose reader sleeps, a terminal stopped by Ctrl-S, a console in selection, a stalled log daemon: a write to any
of them waits for as long as that lasts, and on the event loop everything else would wait with it. So lines go through
a bounded queue to a thread that writes; what finds no room is dropped and counted.
"""

import select
import threading
import time
from collections.abc import Callable
from io import UnsupportedOperation
from queue import SimpleQueue
from typing import Protocol, TextIO

from archer_ws.core.limits import LINES_WAITING_BYTES

#: The thread rests so long between two writes, so that a thousand lines a second wake it a hundred times. In seconds.
REST_S = 0.01
#: How long the thread waits after a failed write (a full disk, say) before the next, and for a pipe to have room.
FAILED_REST_S, ROOM_WAIT_S = 0.5, 1.0


class _Raw(Protocol):
    """An unbuffered stream of bytes."""

    def write(self, data: bytes, /) -> int | None: ...

    def fileno(self) -> int: ...


class LineWriter:
    """Writes lines in order, without ever keeping the caller waiting. Usable from any thread.

    Args:
        on_dropped: told, from the writing thread, how many lines were dropped, once lines find room again.
        bytes_max: how much may wait to be written.
    """

    def __init__(
        self, on_dropped: Callable[[int], None] = lambda _: None, *, bytes_max: int = LINES_WAITING_BYTES
    ) -> None:
        self._on_dropped = on_dropped
        self._bytes_max = bytes_max
        self._queue: SimpleQueue[tuple[_Raw, bytes]] = SimpleQueue()
        self._lock = threading.Lock()
        # Counted on one side each: what is queued, and what is done with.
        self._queued_bytes = self._done_bytes = 0
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._is_hurried = threading.Event()
        self._last: tuple[TextIO, _Raw | None] | None = None

    def put(self, stream: TextIO | None, text: str) -> None:
        """Have the text written; it ends with a line end. A stream in memory takes it at once."""
        if stream is None:
            return  # A program without a console on Windows has none.
        raw = self._raw_of(stream)
        if raw is None:
            stream.write(text)
            stream.flush()
            return
        data = text.encode(getattr(stream, "encoding", None) or "utf-8", "backslashreplace")
        with self._lock:
            if self._queued_bytes - self._done_bytes + len(data) > self._bytes_max:
                self._dropped += 1
                return
            self._queued_bytes += len(data)
            self._queue.put((raw, data))
            # Also where a fork has left us without it.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._write_all, name="line-writer", daemon=True)
                self._thread.start()

    def flush(self, within_s: float) -> bool:
        """Wait until all is written, but no longer; whether it is."""
        deadline = time.monotonic() + within_s
        self._is_hurried.set()
        while self._queued_bytes > self._done_bytes and time.monotonic() < deadline:
            time.sleep(0.002)
        self._is_hurried.clear()
        return self._queued_bytes <= self._done_bytes

    def _raw_of(self, stream: TextIO) -> _Raw | None:
        """What is under a text stream, past the buffer whose lock the thread might hold at the process's end."""
        last = self._last
        if last is not None and last[0] is stream:
            return last[1]
        buffer = getattr(stream, "buffer", None)
        raw = getattr(buffer, "raw", buffer)
        try:
            raw.fileno()  # type: ignore[union-attr]  # None has none, and says so by the error that is caught
        except (AttributeError, UnsupportedOperation, OSError, ValueError):
            raw = None
        self._last = stream, raw
        return raw

    def _write_all(self) -> None:
        """The thread: write what has come together, rest, and go on."""
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
            if is_written:
                self._tell_dropped()
            self._is_hurried.wait(REST_S)

    def _write(self, raw: _Raw, data: bytes, lines: int) -> bool:
        """Write so many lines, however long that takes; whether they could be written."""
        rest = memoryview(data)
        try:
            while rest:
                written = raw.write(rest)  # type: ignore[arg-type]  # any buffer will do
                if written is None:
                    # Whoever gave us the pipe made it non-blocking (Node.js does): wait for room.
                    _wait_for_room(raw)
                    continue
                rest = rest[written:]
        except (OSError, ValueError):
            # The reader is gone, the disk is full, the stream was closed. There is nobody to tell, until it is mended.
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
        if dropped:
            self._on_dropped(dropped)


def _wait_for_room(raw: _Raw) -> None:
    try:
        select.select([], [raw.fileno()], [], ROOM_WAIT_S)
    except (OSError, ValueError):
        # Windows knows it of sockets alone, others of small descriptors alone.
        time.sleep(REST_S)
