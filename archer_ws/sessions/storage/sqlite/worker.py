"""The thread with the only connection: it accepts requests from any event loop, and runs them in groups.

All waiting requests that write run in one transaction, so that one fsync is enough for them. A request that fails does
not affect the others: usually it has written nothing yet; if it has, the transaction is rolled back, and each request
runs in a transaction of its own. (Savepoints would have the search index flush its pages for each request.) The
callers are notified when the transaction is on disk. Requests that only read do not wait for that. This module does not
know what a request does.

There is only one connection for two reasons: SQLite before 3.51.3 can corrupt a WAL file if two connections commit and
checkpoint at the same moment (https://sqlite.org/wal.html#walresetbug), and an exclusive lock keeps other processes
out.
"""

import asyncio
import queue
import sqlite3
import threading
import time
import traceback
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

#: A group is committed after so many requests, or so many seconds, even if more requests wait.
GROUP_MAX, GROUP_S = 256, 0.02


class Database(Protocol):
    """The database that the thread works on. All methods are called in the thread."""

    def open(self) -> None:
        """Open it.

        Raises:
            ArcherError: it can't be opened, and a retry would not help.
        """

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection.

        Raises:
            ArcherError: it is not open at present.
        """

    def close(self) -> None:
        """Close it."""

    def translated(self, error: Exception, *, writes: bool) -> ArcherError:
        """The ArcherError for what a job or a commit raised."""

    def stored(self) -> None:
        """Called when a writing transaction is on disk."""

    def next_upkeep(self) -> float | None:
        """When to call `upkeep` (monotonic seconds); None if there is nothing to do."""

    def upkeep(self) -> None:
        """Run one step of what is due. Never raises because of errors of the file."""


@dataclass(slots=True)
class _Request:
    job: Job[Any]
    writes: bool
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None

    @property
    def is_left(self) -> bool:
        """Whether its caller was cancelled. Asked when it is about to run, since others of its group may take long."""
        return self.future.cancelled()


class Worker:
    """The thread, from `start` to `stop`.

    Args:
        database: the database that it works on.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._waiting: deque[_Request] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the database in a new thread, and wait until it is open. Does nothing if the thread runs. Blocks.

        Raises:
            ArcherError: it can't be opened.
        """
        with self._lock:
            if self._thread is not None:
                return
            opened: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
            # A daemon thread: a disk that hangs must not prevent the process from ending.
            thread = threading.Thread(target=self._run, args=(opened,), name="conversations", daemon=True)
            thread.start()
            if (failure := opened.get()) is not None:
                thread.join()
                raise failure
            self._thread = thread

    def stop(self) -> None:
        """Run all waiting requests, close the database, and wait until the thread has ended. Blocks."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            self._requests.put(None)
        thread.join()

    async def run(self, job: Job[T], *, writes: bool) -> T:
        """Run a job with the connection, and return its result; if it writes, once that is on disk.

        A job may run again after it was rolled back. If the caller is cancelled before the job begins, it does not run.

        Raises:
            ArcherError: the job raised it, or it was converted from an error of SQLite.
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
        except BaseException as failure:  # noqa: BLE001 - raised in the thread that called start
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
        """Wait for requests, or until upkeep is due, and take all requests that wait; False after `stop`."""
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
            reading = [request for request in group if not request.writes]
            for request in reading:
                self._read(request)
            _tell(reading)
            writing = [request for request in group if request.writes and not request.is_left]
            while writing:
                done = self._write(writing)
                _tell(writing[:done])
                writing = writing[done:]

    def _read(self, request: _Request) -> None:
        if request.is_left:
            return
        try:
            request.result = request.job(self._database.connection)
        except Exception as error:  # noqa: BLE001 - raised in the caller's task
            self._failed(request, error)

    def _write(self, requests: Sequence[_Request]) -> int:
        """Run the first of these requests in one transaction, and return their number."""
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
        except Exception:  # noqa: BLE001 - a persistent error is raised again below
            # The error does not say which request caused it, so each one runs by itself.
            self._roll_back()
            done = max(1, done)
            for request in requests[:done]:
                request.error = None
                self._write_alone(request)
            return done
        self._database.stored()
        return done

    def _write_alone(self, request: _Request) -> None:
        if request.is_left:
            return
        try:
            connection = self._database.connection
            connection.execute("BEGIN IMMEDIATE")
            request.result = request.job(connection)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - raised in the caller's task
            self._roll_back()
            self._failed(request, error)
        else:
            self._database.stored()

    def _failed(self, request: _Request, error: Exception) -> None:
        """Note why a request failed."""
        request.error = self._database.translated(error, writes=request.writes)
        if not isinstance(error, ArcherError):
            request.error.__cause__ = error
            # Its traceback outlives the request. A cursor in there that was not read to its end would keep the file
            # from being checkpointed. (Not of an ArcherError: one of the file's trouble is raised in many tasks.)
            traceback.clear_frames(error.__traceback__)

    def _roll_back(self) -> None:
        """Roll back, unless SQLite has already done so, as it does after some errors."""
        try:
            connection = self._database.connection
        except ArcherError:
            return  # The database is not open, so no transaction was begun.
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            log.error("rollback_failed", cause=str(error))  # noqa: TRY400 - the first error is reported


def _write_in_group(connection: sqlite3.Connection, request: _Request) -> None:
    """Run a request in the group's transaction. If it fails after it has written something, the whole group fails."""
    if request.is_left:
        return
    before = connection.total_changes
    try:
        request.result = request.job(connection)
    except ArcherError as refusal:
        if connection.total_changes != before:
            raise
        request.error = refusal


def _tell(requests: Sequence[_Request]) -> None:
    """Pass the results to the callers, with one call for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Request]] = {}
    for request in requests:
        by_loop.setdefault(request.loop, []).append(request)
    for loop, theirs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, theirs)
        except RuntimeError:
            # The event loop is closed: nobody waits there.
            log.debug("nobody_waits", requests=len(theirs))


def _settle(requests: Sequence[_Request]) -> None:
    for request in requests:
        if request.future.done():
            continue  # It was cancelled.
        if request.error is not None:
            request.future.set_exception(request.error)
        else:
            request.future.set_result(request.result)
