"""One process of the local model, from spawning to reaping.

Owns: the process, its pipes, its key, noticing its end at once. Leaves to local/supervisor.py when to start one, and to
local/child.py what is served.

Everything that blocks happens in threads of the process's own, not on an event loop: it outlives the loop that started
it (test clients make a loop per request), and asyncio's own subprocesses do not.
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

#: How much of the end of a child's stderr is kept.
STDERR_LINES = 50


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a child serves."""

    #: `http://127.0.0.1:port`
    url: str
    api_key: str
    #: What one request may have, in tokens.
    context_window: int
    #: Whether its model's chat template has a place for tools.
    knows_tools: bool = False
    #: Whether it sees pictures.
    sees: bool = False
    #: Whether it can be told to think or not.
    knows_thinking: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended."""

    #: As subprocess has it; None where the program could not even be started.
    returncode: int | None
    #: Whether we ended it.
    stopped: bool
    #: From its announcement to its end, in seconds; None where it announced nothing.
    served_s: float | None
    #: For our log, never for clients.
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
        # Windows tells an exception as its status code.
        return f"exit code {code}" if code < 0x8000_0000 else f"exit code 0x{code:08X}"


class LocalProcess:
    """A child that is started at once, and told to end by `stop` or `kill`. Usable from any thread and any loop.

    Args:
        command: the program. It gets `configuration` and `api_key` as a line of JSON on stdin, announces itself by one
            on stdout (`address`, `context_window`, `knows_tools`, `knows_thinking` and `sees`, or `error`), and ends
            when its stdin does.
        load_timeout_s: how long it may take to announce itself, in seconds; then it is killed.
        on_exit: called by the process's thread before anybody else learns of the end.
    """

    def __init__(
        self,
        command: Sequence[str],
        configuration: Mapping[str, object],
        *,
        load_timeout_s: float,
        on_exit: Callable[["LocalProcess", Exit], None],
    ) -> None:
        #: Where it serves; None once it ended without an announcement.
        self.ready: Future[Endpoint | None] = _uncancellable()
        self.exited: Future[Exit] = _uncancellable()
        #: Whether `stop` was called.
        self.stopping = False
        #: Whether it was killed because it took too long to announce itself.
        self.timed_out = False
        #: Why it will not serve, in its own words.
        self.refusal: str | None = None
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
        # Daemons, all of them: the interpreter must be able to exit while they wait for a child that waits for that.
        threading.Thread(target=self._supervise, name="local-model", daemon=True).start()

    @property
    def serving(self) -> Endpoint | None:
        """Where it serves now: it has announced itself, still runs and shall go on."""
        if not self.ready.done() or self.exited.done() or self.stopping:
            return None
        return self.ready.result()

    def stop(self) -> None:
        """Ask it to end, by closing its stdin; does not wait."""
        with self._lock:
            self.stopping = True
            self._close_stdin()

    def kill(self) -> None:
        """End it at once; does not wait. Harmless when it has ended."""
        with self._lock:
            if self._alive is not None:
                self._alive.kill()

    async def announced(self) -> Endpoint | None:
        """Where it serves, once it does; None once it ended without. Cancelling the wait changes nothing."""
        return await asyncio.wrap_future(self.ready)

    async def exit_within(self, timeout_s: float) -> Exit | None:
        """How it ended, if it does within that time; else None."""
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
        """Spawn, configure, listen for the announcement, wait for the end, which it returns as subprocess has it.

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
            # The drain closes it: closing what another thread reads would wait for that thread.
            stderr, process.stderr = process.stderr, None
            drain = threading.Thread(target=_drain, args=(stderr, lines), name="local-model-log", daemon=True)
            drain.start()
            with self._lock:
                self._alive, self.pid = process, process.pid
                # One that has ended already is noticed below. Unbuffered: what a buffer kept would fail once more when
                # it is closed.
                with suppress(OSError):
                    os.write(process.stdin.fileno(), self._first_line)
                if self.stopping:
                    self._close_stdin()
            watchdog = threading.Timer(self._load_timeout_s, self._give_up)
            watchdog.daemon = True
            watchdog.start()
            try:
                self._announce(json.loads(process.stdout.readline()))
            except (ValueError, KeyError, TypeError):
                # Mostly it has ended; if it speaks nonsense instead, it is of no use.
                self.kill()
            watchdog.cancel()
            returncode = process.wait()
            with self._lock:
                # From here on its process id may be another's.
                self._alive = None
            # Not for ever: what the child itself started may hold its stderr.
            drain.join(1.0)
        return returncode

    def _announce(self, said: Mapping[str, Any]) -> None:
        if "error" in said:
            self.refusal = str(said["error"])
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
            # What a failed write left unsent fails again.
            with suppress(OSError):
                self._alive.stdin.close()


def _uncancellable() -> "Future[T]":
    """A future whose waiters come and go: one that is cancelled would otherwise cancel it for all."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    return future


def _drain(pipe: IO[bytes], lines: deque[str]) -> None:
    """Read a pipe to its end, so that its writer never waits."""
    with pipe:
        while line := pipe.readline(4096):
            lines.append(line.decode("utf-8", "replace").rstrip())
