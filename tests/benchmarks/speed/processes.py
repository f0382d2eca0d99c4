"""Starting the benchmark's processes, each on its cores, and stopping them: by id, also when the benchmark fails."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

#: Not from tests.processes: that imports half of the sidecar, and every load generator would, too.
ROOT = Path(__file__).parents[3]
START_LIMIT_S, STOP_LIMIT_S, LOG_SHOWN = 120.0, 15.0, 2000


class Failed(Exception):
    """A process did not do what it was started for."""


class Child:
    """A process of ours; its standard output is ours to read, its standard error is a file."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self.pid = process.pid

    def line(self, limit_s: float) -> Any:
        """The next line of its output, as JSON.

        Raises:
            Failed: it ended, or took longer.
        """
        assert self._process.stdout is not None
        deadline = threading.Timer(limit_s, self._process.kill)
        deadline.start()
        try:
            line = self._process.stdout.readline()
        finally:
            deadline.cancel()
        if not line:
            raise Failed(f"{self._process.args!r} said nothing within {limit_s:.0f} s, or ended:\n{self.log()}")
        return json.loads(line)

    def await_port(self, port: int) -> float:
        """When it listened there, on the monotonic clock."""
        give_up_at = time.monotonic() + START_LIMIT_S
        while self._process.poll() is None and time.monotonic() < give_up_at:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return time.monotonic()
            time.sleep(0.002)
        raise Failed(f"{self._process.args!r} does not listen:\n{self.log()}")

    def log(self) -> str:
        """The end of what it wrote to standard error."""
        return self._log.read_text("utf-8", errors="replace")[-LOG_SHOWN:]

    def stop(self) -> None:
        """Ask it to end; kill it if it does not."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def child(
    arguments: Sequence[str], *, directory: Path, cores: set[int], environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """A process, stopped at the end.

    Args:
        arguments: the command.
        directory: where it runs, and its log lies.
        cores: those that it may use; none: all.
        environment: variables beside the inherited ones, of which settings and proxies are left out.
    """
    log = directory / f"{time.monotonic_ns()}.log"
    with log.open("wb") as errors, _on_cores(cores):
        process = subprocess.Popen(
            arguments,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={
                **_inherited(),
                "PYTHONPATH": str(ROOT),
                "PYTHONUTF8": "1",
                "ARCHER_DATA_DIR": str(log.with_suffix(".data")),
                **(environment or {}),
            },
            text=True,
        )
    started = Child(process, log)
    try:
        yield started
    finally:
        started.stop()


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def stop_with_parent() -> None:
    """End this process when its standard input ends, as it does with the benchmark's own process."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def run_loop(work: Coroutine[Any, Any, None]) -> int:
    """Run it on uvloop where that is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
    return 0


@contextmanager
def _on_cores(cores: set[int]) -> Iterator[None]:
    # A child inherits the cores of the thread that starts it: so it never runs elsewhere.
    if sys.platform != "linux" or not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _inherited() -> dict[str, str]:
    foreign = ("ARCHER_", "OPENAI_", "ANTHROPIC_", "OLLAMA_", "LLM_")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_PROXY") and not name.upper().startswith(foreign)
    }
