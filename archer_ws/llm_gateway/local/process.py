"""One process of the local model, from spawning to reaping.

Owns: the process, its pipes, its key, and noticing its end at once. local/supervisor.py decides when to start one;
local/child.py is the program.

All blocking work happens in threads of the process object, not on an event loop: it outlives the loop that started it
(test clients create a loop per request), and asyncio's own subprocesses do not.
"""

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import IO, Any, TypeVar

from archer_ws.core.child_processes import apart, child_environment
from archer_ws.core.secrets import forget, remember

T = TypeVar("T")

#: How much of the end of the child's stderr is kept.
STDERR_LINES = 50
#: How long a child that can't serve may take to end, in seconds: it still writes its log.
REFUSED_EXIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running child: its address, and what its model supports."""

    #: `http://127.0.0.1:port`
    url: str
    api_key: str
    #: The context of one request, in tokens.
    context_window: int
    #: Whether its model's chat template supports tools.
    knows_tools: bool = False
    #: Whether it sees pictures.
    sees: bool = False
    #: Whether its thinking can be turned on and off.
    knows_thinking: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a child can't serve: for our log, since it may have paths of this machine."""

    reason: str
    #: Whether llama.cpp can't be loaded, rather than this model.
    is_of_library: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended."""

    #: As in subprocess; None if the program could not be started.
    returncode: int | None
    #: Whether we ended it.
    stopped: bool
    #: From its announcement to its end, in seconds; None if it announced nothing.
    served_s: float | None
    #: Its last lines, for our log, never for clients.
    last_lines: tuple[str, ...]

    @property
    def cause(self) -> str:
        """`SIGKILL`, `exit code 1`, `exit code 0xC0000005`."""
        code = self.returncode
        if code is None:
            return "not started"
        if code < 0:
            try:
                return signal.Signals(-code).name
            except ValueError:
                return f"signal {-code}"
        # Windows reports an exception as its status code.
        return f"exit code {code}" if code < 0x8000_0000 else f"exit code 0x{code:08X}"


class LocalProcess:
    """A child process that starts at once, and ends by `stop` or `kill`. Usable from any thread and any loop.

    Args:
        command: the program. It gets `configuration` and `api_key` as a line of JSON on stdin, announces itself by one
            on stdout (`address`, `context_window`, `knows_tools`, `knows_thinking` and `sees`, or `error` and
            `is_of_library`), and ends when its stdin ends.
        load_timeout_s: the time limit for its announcement, in seconds; then it is killed.
        on_exit: called by the process's thread before any waiter learns of the end.
    """

    def __init__(
        self,
        command: Sequence[str],
        configuration: Mapping[str, object],
        *,
        load_timeout_s: float,
        on_exit: Callable[["LocalProcess", Exit], None],
    ) -> None:
        #: Its endpoint; None once it ended without an announcement.
        self.ready: Future[Endpoint | None] = _uncancellable()
        self.exited: Future[Exit] = _uncancellable()
        #: Whether `stop` was called.
        self.stopping = False
        #: Whether it was killed because its announcement took too long.
        self.timed_out = False
        #: Its own word, if it can't serve.
        self.refusal: Refusal | None = None
        #: The process id, once there is one.
        self.pid: int | None = None
        self._command = command
        self._api_key = token_urlsafe(32)
        remember(self._api_key)
        self._first_line = json.dumps({**configuration, "api_key": self._api_key}).encode() + b"\n"
        self._load_timeout_s = load_timeout_s
        self._on_exit = on_exit
        self._lock = threading.Lock()
        self._alive: subprocess.Popen[bytes] | None = None
        self._ready_at: float | None = None
        # All threads are daemons: the interpreter must be able to exit while they wait for a child that waits for its
        # exit.
        threading.Thread(target=self._supervise, name="local-model", daemon=True).start()

    @property
    def serving(self) -> Endpoint | None:
        """Its endpoint, if it has announced itself, still runs and was not told to stop."""
        if not self.ready.done() or self.exited.done() or self.stopping:
            return None
        return self.ready.result()

    def stop(self) -> None:
        """Ask it to end by closing its stdin; does not wait."""
        with self._lock:
            self.stopping = True
            self._close_stdin()

    def kill(self) -> None:
        """End it at once; does not wait. Harmless when it has ended."""
        with self._lock:
            if self._alive is not None:
                self._alive.kill()

    async def announced(self) -> Endpoint | None:
        """Wait for its endpoint; None if it ended before. Cancelling the wait has no effect on the process."""
        return await asyncio.wrap_future(self.ready)

    async def exit_within(self, timeout_s: float) -> Exit | None:
        """How it ended, if it ends within that time; else None."""
        if self.exited.done():
            return self.exited.result()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(self.exited)
        return None

    def _supervise(self) -> None:
        lines: deque[str] = deque(maxlen=STDERR_LINES)
        returncode = None
        try:
            returncode = self._live(lines)
        except OSError as error:
            lines.append(f"{type(error).__name__}: {error}")
        finally:
            served_s = None if self._ready_at is None else time.monotonic() - self._ready_at
            end = Exit(returncode, self.stopping, served_s, tuple(lines))
            forget(self._api_key)
            try:
                self._on_exit(self, end)
            finally:
                self.exited.set_result(end)
                if not self.ready.done():
                    self.ready.set_result(None)

    def _live(self, lines: deque[str]) -> int:
        """Spawn the process, configure it, wait for its announcement and then for its end. Returns the exit code as in
        subprocess.

        Raises:
            OSError: the program can't be started.
        """
        pipe = subprocess.PIPE
        environment = child_environment(os.environ)
        with subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, **apart()
        ) as process:
            assert process.stdin
            assert process.stdout
            assert process.stderr
            # The draining thread closes it: closing a pipe that another thread reads would wait for that thread.
            stderr, process.stderr = process.stderr, None
            drain = threading.Thread(target=_drain, args=(stderr, lines), name="local-model-log", daemon=True)
            drain.start()
            with self._lock:
                self._alive, self.pid = process, process.pid
                # A process that has already ended is noticed below. Unbuffered: buffered data would fail again on
                # close.
                with suppress(OSError):
                    os.write(process.stdin.fileno(), self._first_line)
                if self.stopping:
                    self._close_stdin()
            watchdog = threading.Timer(min(self._load_timeout_s, threading.TIMEOUT_MAX), self._give_up)
            watchdog.daemon = True
            watchdog.start()
            try:
                self._announce(json.loads(process.stdout.readline()))
            except (ValueError, KeyError, TypeError):
                # Usually it has ended; if it writes something else, it can't be used.
                self.kill()
            watchdog.cancel()
            if self.refusal is not None:
                # Its native threads may keep it from ending.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(REFUSED_EXIT_S)
                self.kill()
            returncode = process.wait()
            with self._lock:
                # From here on its process id may belong to another process.
                self._alive = None
            # With a limit: processes that the child started may keep its stderr open.
            drain.join(1.0)
        return returncode

    def _announce(self, said: Mapping[str, Any]) -> None:
        if "error" in said:
            self.refusal = Refusal(str(said["error"]), is_of_library=bool(said.get("is_of_library")))
            return
        endpoint = Endpoint(
            said["address"],
            self._api_key,
            said["context_window"],
            knows_tools=bool(said.get("knows_tools")),
            sees=bool(said.get("sees")),
            knows_thinking=bool(said.get("knows_thinking")),
        )
        self._ready_at = time.monotonic()
        self.ready.set_result(endpoint)

    def _give_up(self) -> None:
        self.timed_out = True
        self.kill()

    def _close_stdin(self) -> None:
        if self._alive is not None and self._alive.stdin is not None:
            # Data left by a failed write fails again.
            with suppress(OSError):
                self._alive.stdin.close()


def _uncancellable() -> "Future[T]":
    """A future with several waiters: without this, one cancelled waiter would cancel it for all."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    return future


def _drain(pipe: IO[bytes], lines: deque[str]) -> None:
    """Read a pipe to its end, so that its writer never waits."""
    with pipe:
        while line := pipe.readline(4096):
            lines.append(line.decode("utf-8", "replace").rstrip())
