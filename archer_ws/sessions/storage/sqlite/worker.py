"""The one thread that has the one connection: it takes requests from any event loop, and answers them in groups.

Requests that wait are done in one transaction: one fsync keeps them all. What one of them refuses undoes nothing of
another: mostly it has written nothing by then; where it has, the transaction is undone and each is done by itself. (A
savepoint for each would have the index of words written to its pages each time.) Who asked is told when they are on
disk. Requests that only read do not wait for that. What a request does is not known here.

One connection alone has two reasons: SQLite before 3.51.3 can corrupt a WAL file where two commit and checkpoint at the
same moment (https://sqlite.org/wal.html#walresetbug), and an exclusive lock keeps other processes away.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

from archer_ws.core.exceptions import ArcherError
from archer_ws.sessions.storage.refusals import not_open

log = structlog.get_logger(__name__)

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

#: A group is committed after so many requests or so long, whatever else waits, in seconds.
GROUP_MAX, GROUP_S = 256, 0.02


class Database(Protocol):
    """What the thread works on; all of it is called in the thread alone."""

    def open(self) -> None:
        """Make it ready.

        Raises:
            ArcherError: it can't be, and will not be by itself.
        """

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection.

        Raises:
            ArcherError: there is none at present.
        """

    def close(self) -> None:
        """Let go of it."""

    def translated(self, error: Exception, *, writes: bool) -> ArcherError:
        """Our error for whatever a job or a commit raised."""

    def stored(self) -> None:
        """A transaction that wrote is on disk."""

    def next_upkeep(self) -> float | None:
        """When `upkeep` wants to be called, by the monotonic clock; None where there is nothing to do."""

    def upkeep(self) -> None:
        """Do a bit of what is due; never raises for the file's troubles."""


@dataclass(slots=True)
class _Request:
    job: Job[Any]
    writes: bool
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


class Worker:
    """The thread, from `start` until `stop`.

    Args:
        database: what it works on.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._waiting: deque[_Request] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the database in a new thread, and wait for that, whatever thread this is. Nothing where it runs.

        Raises:
            ArcherError: it can't be opened.
        """
        with self._lock:
            if self._thread is not None:
                return
            opened: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
            # A daemon: a disk that hangs shall not keep the process from its end.
            thread = threading.Thread(target=self._run, args=(opened,), name="conversations", daemon=True)
            thread.start()
            if (failure := opened.get()) is not None:
                thread.join()
                raise failure
            self._thread = thread

    def stop(self) -> None:
        """Finish what was asked for, close the database and wait for the thread's end."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            self._requests.put(None)
        thread.join()

    async def run(self, job: Job[T], *, writes: bool) -> T:
        """What the job makes of the connection; once it is on disk, where it writes.

        A job may be run again after what it did was undone. Cancelled, it is left out where it has not begun.

        Raises:
            ArcherError: the job's own, or what SQLite's means.
        """
        loop = asyncio.get_running_loop()
        request = _Request(job, writes, loop.create_future(), loop)
        with self._lock:
            if self._thread is None:
                raise not_open()
            self._requests.put(request)
        result: T = await request.future
        return result

    def _run(self, opened: "queue.SimpleQueue[BaseException | None]") -> None:
        try:
            self._database.open()
        except BaseException as failure:  # noqa: BLE001 - it belongs to whoever started us
            opened.put(failure)
            return
        opened.put(None)
        try:
            while self._take():
                self._serve()
                self._database.upkeep()
        finally:
            self._database.close()

    def _take(self) -> bool:
        """Wait for requests or for what is due, and take all that are there; False at the end."""
        is_open = True
        due = self._database.next_upkeep()
        try:
            found = self._requests.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
            while found is not None:
                self._waiting.append(found)
                found = self._requests.get_nowait()
            is_open = False
        except queue.Empty:
            pass
        if not is_open and self._waiting:
            self._requests.put(None)
            is_open = True
        return is_open

    def _serve(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(GROUP_MAX, len(self._waiting)))]
            wanted = [request for request in group if not request.future.cancelled()]
            reading = [request for request in wanted if not request.writes]
            for request in reading:
                self._read(request)
            _tell(reading)
            writing = [request for request in wanted if request.writes]
            while writing:
                done = self._write(writing)
                _tell(writing[:done])
                writing = writing[done:]

    def _read(self, request: _Request) -> None:
        try:
            request.result = request.job(self._database.connection)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            request.error = self._database.translated(error, writes=False)
            if not isinstance(error, ArcherError):
                request.error.__cause__ = error

    def _write(self, requests: Sequence[_Request]) -> int:
        """Do the first of these in one transaction, and tell how many those are."""
        if len(requests) == 1:
            self._write_alone(requests[0])
            return 1
        until = time.monotonic() + GROUP_S
        done = 0
        try:
            connection = self._database.connection
            connection.execute("BEGIN IMMEDIATE")
            for request in requests:
                _write_in_group(connection, request)
                done += 1
                if time.monotonic() > until:
                    break
            connection.execute("COMMIT")
        except Exception:  # noqa: BLE001 - whatever it is, it comes again or not
            # It may be undone as a whole, and tells nothing of who met it: each by itself.
            self._roll_back()
            done = max(1, done)
            for request in requests[:done]:
                request.error = None
                self._write_alone(request)
            return done
        self._database.stored()
        return done

    def _write_alone(self, request: _Request) -> None:
        try:
            connection = self._database.connection
            connection.execute("BEGIN IMMEDIATE")
            request.result = request.job(connection)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            self._roll_back()
            request.error = self._database.translated(error, writes=True)
            if not isinstance(error, ArcherError):
                request.error.__cause__ = error
        else:
            self._database.stored()

    def _roll_back(self) -> None:
        """Undo what is left of a transaction; SQLite has done it already after some errors."""
        try:
            connection = self._database.connection
        except ArcherError:
            return  # It can't be opened: nothing was begun.
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            log.error("rollback_failed", cause=str(error))  # noqa: TRY400 - the first error is told


def _write_in_group(connection: sqlite3.Connection, request: _Request) -> None:
    """Do it; one that is refused in the midst of what it writes fails the group, as a defect does."""
    before = connection.total_changes
    try:
        request.result = request.job(connection)
    except ArcherError as refusal:
        if connection.total_changes != before:
            raise
        request.error = refusal


def _tell(requests: Sequence[_Request]) -> None:
    """Give those who asked what came of it, each loop in one go."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Request]] = {}
    for request in requests:
        by_loop.setdefault(request.loop, []).append(request)
    for loop, theirs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, theirs)
        except RuntimeError:
            # The loop is closed: nobody waits there.
            log.debug("nobody_waits", requests=len(theirs))


def _settle(requests: Sequence[_Request]) -> None:
    for request in requests:
        if request.future.done():
            continue  # It was cancelled.
        if request.error is not None:
            request.future.set_exception(request.error)
        else:
            request.future.set_result(request.result)
