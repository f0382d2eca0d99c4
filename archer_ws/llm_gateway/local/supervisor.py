"""Keeps at most one process of the local model running: starts it on demand, and again after a crash.

Owns: one start for all waiters, how often a crashing child is started, and the errors about its ends. The process
itself is local/process.py's, requests to it are local_adapter.py's.
"""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from archer_ws.core.exceptions import ProviderFailure, ProviderTimeout, ProviderUnavailable
from archer_ws.llm_gateway.local.library import library_trouble
from archer_ws.llm_gateway.local.process import Endpoint, Exit, LocalProcess, Refusal

log = structlog.get_logger(__name__)

#: After so many quick ends in a row, another start is taken to be useless.
QUICK_ENDS_MAX = 3
#: The longest pause between two starts, in seconds.
LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The time limits and pauses for ending and starting the child, in seconds.

    Attributes:
        stop_s: the time limit for its end after its stdin was closed.
        quick_s: an end sooner than this after its announcement is a quick end: the child can't run.
        first_pause_s: the pause after the first quick end; it doubles. Requests wait for it.
        long_pause_s: the pause after QUICK_ENDS_MAX of them; it doubles up to LONGEST_PAUSE_S. Requests during it are
            refused.
    """

    stop_s: float = 2.0
    quick_s: float = 5.0
    first_pause_s: float = 0.25
    long_pause_s: float = 5.0

    def pause_s(self, quick_ends: int) -> float:
        """The pause before the next start, after so many quick ends in a row."""
        excess = quick_ends - QUICK_ENDS_MAX
        if excess < 0:
            return self.first_pause_s * 2.0 ** (quick_ends - 1)
        return min(LONGEST_PAUSE_S, self.long_pause_s * 2.0 ** min(excess, 10))


class LocalSupervisor:
    """Provides the running process. Usable from any thread and any loop.

    Args:
        command: the program, as in LocalProcess.
        name: the model, for messages and the log.
        load_timeout_s: the time limit for the program's announcement, in seconds.
        pace: the time limits and pauses for its ends and starts.
    """

    def __init__(self, command: Sequence[str], *, name: str, load_timeout_s: float, pace: Pace = Pace()) -> None:
        self._command = tuple(command)
        self._name = name
        self._load_timeout_s = load_timeout_s
        self._pace = pace
        self._lock = threading.Lock()
        self._process: LocalProcess | None = None
        self._quick_ends = 0
        self._not_before = 0.0

    @property
    def serving(self) -> tuple[LocalProcess, Endpoint] | None:
        """The running process and its endpoint, if there is one."""
        process = self._process
        endpoint = process.serving if process is not None else None
        return (process, endpoint) if process is not None and endpoint is not None else None

    def refusal(self) -> ProviderUnavailable | None:
        """Why a request is not expected to be served now: it was started too often recently, whatever has changed
        since; or the last process could not load the model. None if it would be served, or would wait."""
        with self._lock:
            refusal = self._refusal(self._not_before - time.monotonic())
            if refusal is None and self._process is not None and self._process.refusal is not None:
                return self._not_loadable(self._process.refusal)
            return refusal

    async def running(self, configuration: Mapping[str, object]) -> tuple[LocalProcess, Endpoint]:
        """A running process and its endpoint; starts one if none runs. All callers that wait meanwhile get the same
        one.

        Cancelling one caller does not stop the start for the others.

        Raises:
            ProviderTimeout: it did not announce itself in time.
            ProviderUnavailable: it ended or reported an error, or did so too often recently.
        """
        while True:
            process = self._claim(configuration)
            if isinstance(process, float):
                await asyncio.sleep(process)
            elif process.stopping:
                await process.exit_within(self._pace.stop_s)
            elif (endpoint := await process.announced()) is not None:
                return process, endpoint
            else:
                raise await self._start_failure(process)

    async def aclose(self) -> None:
        """End the child and reap it: close its stdin, and kill it after `Pace.stop_s`."""
        process = self._process
        if process is None or process.exited.done():
            return
        process.stop()
        try:
            if await process.exit_within(self._pace.stop_s) is None:
                log.warning("local_model_killed", model=self._name, after_s=self._pace.stop_s)
        finally:
            # Also if this task was cancelled.
            process.kill()
        await process.exit_within(self._pace.stop_s)

    def _claim(self, configuration: Mapping[str, object]) -> LocalProcess | float:
        """The present process, or a new one, or the pause before the next may be started (in seconds).

        Raises:
            ProviderUnavailable: it was started too often recently.
        """
        with self._lock:
            if self._process is not None and not self._process.exited.done():
                return self._process
            wait_s = self._not_before - time.monotonic()
            refusal = self._refusal(wait_s)
            if refusal is not None:
                raise refusal
            if wait_s > 0:
                return wait_s
            self._process = LocalProcess(
                self._command, configuration, load_timeout_s=self._load_timeout_s, on_exit=self._on_exit
            )
            return self._process

    def _refusal(self, wait_s: float) -> ProviderUnavailable | None:
        if wait_s <= 0 or self._quick_ends < QUICK_ENDS_MAX:
            return None
        return ProviderUnavailable(
            f"the local model process ended {self._quick_ends} times in a row at its start or soon after",
            hint="The server's log has its last lines; check LOCAL_MODEL_PATH and the free memory. "
            "A request after retry_after_ms starts it again.",
            retry_after_ms=round(wait_s * 1000),
            provider="local",
        )

    def _not_loadable(self, refusal: Refusal) -> ProviderUnavailable:
        message, hint = (
            library_trouble(refusal.reason)
            if refusal.is_of_library
            else (
                f"llama.cpp can't load {self._name}",
                "The file may be damaged, of a kind llama.cpp does not know, or too large for the free memory: "
                "the server's log has the reason. LOCAL_MODEL_PATH names the file.",
            )
        )
        return ProviderUnavailable(message, hint=hint, retryable=False, provider="local")

    def _on_exit(self, process: LocalProcess, end: Exit) -> None:
        if end.stopped:
            return
        with self._lock:
            if end.served_s is not None and end.served_s >= self._pace.quick_s:
                self._quick_ends, self._not_before = 0, 0.0
            else:
                self._quick_ends += 1
                self._not_before = time.monotonic() + self._pace.pause_s(self._quick_ends)
        log.error(
            "local_model_exited",
            model=self._name,
            cause=end.cause,
            served_s=None if end.served_s is None else round(end.served_s, 1),
            timed_out=process.timed_out,
            refusal=None if process.refusal is None else process.refusal.reason,
            last_lines=list(end.last_lines),
        )

    async def _start_failure(self, process: LocalProcess) -> ProviderFailure:
        end = await process.exit_within(self._pace.stop_s)
        if process.timed_out:
            return ProviderTimeout(
                f"{self._name} did not load within {self._load_timeout_s:g} s",
                hint="Raise MODEL_LOAD_TIMEOUT_S or choose a smaller model.",
                provider="local",
            )
        if process.stopping:
            return _stopped()
        if process.refusal is not None:
            return self._not_loadable(process.refusal)
        return ProviderUnavailable(
            f"the local model process ended while it loaded {self._name} ({end.cause if end else 'cause unknown'})",
            hint=_of_memory(end) or "Try again; if it persists, the server's log has its last lines.",
            provider="local",
        )


def crashed(end: Exit) -> ProviderUnavailable:
    """The error of a request whose process ended while it was served."""
    if end.stopped:
        return _stopped()
    return ProviderUnavailable(
        f"the local model process crashed ({end.cause})",
        hint="The next request starts it again. "
        + (_of_memory(end) or "If it keeps crashing, the server's log has its last lines."),
        provider="local",
    )


def _of_memory(end: Exit | None) -> str | None:
    """The advice about a process that the kernel killed, as far as is known: it leaves no last lines."""
    if end is None or end.cause != "SIGKILL":
        return None
    return (
        "The system kills a process that needs more memory than is free, or than its container may have: allow it "
        "more, lower LOCAL_PARALLEL, or choose a smaller model."
    )


def _stopped() -> ProviderUnavailable:
    return ProviderUnavailable(
        "the local model was stopped", hint="The next request starts it again.", provider="local"
    )
