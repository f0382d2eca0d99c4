"""Log lines and the ready line go to whoever started us, who need not read them."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TextIO

import pytest

from archer_ws.core.line_writer import LineWriter

LIMIT_S = 20.0
#: More than a pipe and the writer's queue hold together.
LINES = 4000
TEXT = "x" * 99


class Dropped:
    """What a writer told of dropped lines."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.told = threading.Event()

    def __call__(self, count: int) -> None:
        self.counts.append(count)
        self.told.set()


@pytest.fixture
def dropped() -> Dropped:
    return Dropped()


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w", encoding="utf-8")
    yield reading, stream
    # The writing thread may stand in a write: whoever reads on lets it go.
    stream.close()
    os.close(reading)


def read_until(reading: int, end: bytes) -> str:
    data = b""
    while not data.endswith(end):
        data += os.read(reading, 65536)
    return data.decode()


def lines_of(reading: int, count: int) -> list[str]:
    data = b""
    while data.count(b"\n") < count:
        data += os.read(reading, 65536)
    return data.decode().splitlines()


def test_a_pipe_that_nobody_reads_keeps_nobody_waiting_and_what_was_dropped_is_told(
    pipe: tuple[int, TextIO], dropped: Dropped
) -> None:
    reading, stream = pipe
    writer = LineWriter(dropped, bytes_max=128 * 1024)
    for number in range(LINES):
        writer.put(stream, f"{number} {TEXT}\n")
    assert not writer.flush(0.05)
    with ThreadPoolExecutor(1) as readers:
        got = readers.submit(read_until, reading, b"last\n")
        assert writer.flush(LIMIT_S)
        assert dropped.told.wait(LIMIT_S)
        writer.put(stream, "last\n")
        first = got.result(LIMIT_S).splitlines()
    whole = "\n".join(first).replace("\n", "").split(TEXT)
    kept = [int(number) for number in whole[:-1]]
    # In their order, and none twice. A line is dropped while there is no room, and the next one may find some.
    assert kept == sorted(set(kept))
    assert len(kept) + sum(dropped.counts) == LINES


def test_a_pipe_that_whoever_gave_it_made_non_blocking_loses_nothing(
    pipe: tuple[int, TextIO], dropped: Dropped
) -> None:
    reading, stream = pipe
    os.set_blocking(stream.fileno(), False)
    writer = LineWriter(dropped)
    for number in range(LINES):
        writer.put(stream, f"{number} {TEXT}\n")
    got = "\n".join(lines_of(reading, LINES)).replace("\n", "")
    assert got == "".join(f"{number} {TEXT}" for number in range(LINES))
    assert not dropped.counts


def test_a_reader_that_has_left_is_nobodys_error(pipe: tuple[int, TextIO], dropped: Dropped) -> None:
    reading, stream = pipe
    gone = os.dup(reading)
    writer = LineWriter(dropped)
    other, leaving = os.pipe()
    os.close(other)
    with os.fdopen(leaving, "w") as closed:
        writer.put(closed, "nobody reads this\n")
        assert writer.flush(LIMIT_S)
        assert not dropped.counts
        writer.put(stream, "somebody reads this\n")
        assert lines_of(gone, 1) == ["somebody reads this"]
        assert dropped.told.wait(LIMIT_S)
    assert dropped.counts == [1]
    os.close(gone)


class FullDisk(io.RawIOBase):
    """A file on a disk without room, until there is some."""

    def __init__(self) -> None:
        self.is_full = True
        self.written = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def write(self, data: object, /) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.written += bytes(data)  # type: ignore[call-overload]
        return len(data)  # type: ignore[arg-type]


def test_lines_lost_on_a_full_disk_are_told_once_there_is_room(dropped: Dropped) -> None:
    disk = FullDisk()
    stream = io.TextIOWrapper(io.BufferedWriter(disk), encoding="utf-8")
    writer = LineWriter(dropped)
    writer.put(stream, "lost\n")
    assert writer.flush(LIMIT_S)
    disk.is_full = False
    writer.put(stream, "kept\n")
    assert dropped.told.wait(LIMIT_S)
    assert disk.written == b"kept\n"
    assert dropped.counts == [1]


def test_a_stream_in_memory_and_none_at_all_take_a_line_at_once() -> None:
    memory = io.StringIO()
    writer = LineWriter()
    writer.put(memory, "now\n")
    writer.put(None, "nowhere\n")
    assert memory.getvalue() == "now\n"


def test_what_an_encoding_lacks_is_written_as_its_escape(pipe: tuple[int, TextIO]) -> None:
    reading, _ = pipe
    writing = os.dup(pipe[1].fileno())
    with os.fdopen(writing, "w", encoding="ascii") as stream:
        writer = LineWriter()
        writer.put(stream, "ümlaut\n")
        assert lines_of(reading, 1) == ["\\xfcmlaut"]


FORKING = """
import os, sys
from archer_ws.core.line_writer import LineWriter
writer = LineWriter()
writer.put(sys.stderr, "parent\\n")
assert writer.flush(20)
child = os.fork()
if not child:
    writer.put(sys.stderr, "child\\n")
    os._exit(0 if writer.flush(20) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_process_has_a_thread_of_its_own() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "parent\nchild\n")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_replaced(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    threads: SimpleQueue[threading.Thread] = SimpleQueue()

    def fail(_count: int) -> None:
        threads.put(threading.current_thread())
        raise RuntimeError

    writer = LineWriter(fail, bytes_max=10)
    writer.put(stream, f"{TEXT}\n")
    writer.put(stream, "first\n")
    threads.get(timeout=LIMIT_S).join(LIMIT_S)
    writer.put(stream, "second\n")
    assert lines_of(reading, 2) == ["first", "second"]
