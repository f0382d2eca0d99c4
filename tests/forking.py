"""`archer-ws` in a process that is forked from one which has imported it already.

A start takes a second of a processor, nearly all of it for imports, and hundreds of tests have a server of their own.
So each process of a test run has one process that imports everything once (this module as a program), and forks for
each start. What a start is about is not tested this way: `tests/processes.py` has both.

The two speak over a socket: the arguments, folder and environment of a start as JSON, with its standard streams. Over a
pipe of its own each start gets its process's id, and later its exit status. When the socket closes, all is over.
"""

import asyncio
import atexit
import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

from archer_ws.rpc.methods import archer_v1
from archer_ws.rpc.openrpc import describe

#: Windows has no fork; macOS has one that its own libraries do not survive.
IS_POSSIBLE = sys.platform == "linux"
#: What a server imports until it has answered its first chat.
_PRELOADED = (
    *("archer_ws.cli", "archer_ws.serve_command", "archer_ws.main", "archer_ws.server.server"),
    "archer_ws.sessions.storage.sqlite.store",
    *("archer_ws.llm_gateway.ollama_adapter", "archer_ws.llm_gateway.local.hub", "httpcore", "httpx", "jsonschema_rs"),
    *("anyio._backends._asyncio", "uvicorn.lifespan.on", "uvicorn.loops.auto", "uvloop", "httptools"),
)
#: From Linux's prctl.h: no huge pages, neither here nor in what is forked. Forked processes share the pages of this
#: one, and would each copy its whole heap into huge ones.
_PR_SET_THP_DISABLE = 41
_LENGTH_BYTES = 4
_ROOT = Path(__file__).parent.parent


class ForkedProcess:
    """A process, as `asyncio.subprocess.Process` shows one."""

    pid: int
    returncode: int | None = None
    stdin: asyncio.StreamWriter | None = None
    stdout: asyncio.StreamReader | None = None
    stderr: asyncio.StreamReader | None = None
    _ended: asyncio.Task[int]

    def __init__(self) -> None:
        self._pipes: list[asyncio.BaseTransport] = []

    async def attach(self, streams: Sequence[int | None], told: int) -> None:
        """Take the ends of its pipes, of which one tells its id, and later its exit status."""
        stdin, stdout, stderr = streams
        self.stdin = None if stdin is None else await self._writer(stdin)
        self.stdout = None if stdout is None else await self._reader(stdout)
        self.stderr = None if stderr is None else await self._reader(stderr)
        report = await self._reader(told)
        line = await report.readline()
        assert line, "the forking process has ended: its standard error says why"
        self.pid = int(line)
        self._ended = asyncio.create_task(self._until_ended(report))

    def close(self) -> None:
        """Close the pipes, when it has ended and nobody reads them any more."""
        for pipe in self._pipes:
            pipe.close()

    async def wait(self) -> int:
        """The exit status, once it has ended; negative for a signal."""
        return await asyncio.shield(self._ended)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    async def _until_ended(self, report: asyncio.StreamReader) -> int:
        self.returncode = int(await report.readline())
        return self.returncode

    async def _reader(self, descriptor: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        self._pipes.append(transport)
        return reader

    async def _writer(self, descriptor: int) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(descriptor, "wb", buffering=0)
        )
        self._pipes.append(transport)
        return asyncio.StreamWriter(transport, protocol, None, loop)


async def forked(
    arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str], stdin: int, stdout: int, stderr: int
) -> ForkedProcess:
    """`python -m archer_ws` with these arguments; the streams as for `asyncio.create_subprocess_exec`."""
    ours: list[int | None] = []
    theirs: list[int] = []
    for number, kind in enumerate((stdin, stdout, stderr)):
        if kind == PIPE:
            reading, writing = os.pipe()
            ours.append(writing if number == 0 else reading)
            theirs.append(reading if number == 0 else writing)
        else:
            ours.append(None)
            theirs.append(os.open(os.devnull, os.O_RDWR) if kind == subprocess.DEVNULL else os.dup(kind))
    told, telling = os.pipe()
    start = json.dumps({"arguments": arguments, "cwd": str(cwd), "environment": dict(environment)}).encode()
    control = _forker()
    socket.send_fds(control, [len(start).to_bytes(_LENGTH_BYTES)], [*theirs, telling])
    control.sendall(start)
    for descriptor in (*theirs, telling):
        os.close(descriptor)
    process = ForkedProcess()
    try:
        await process.attach(ours, told)
    except BaseException:
        process.close()
        raise
    return process


@cache
def _forker() -> socket.socket:
    """The socket of this process's forking process, which ends when this process does."""
    ours, theirs = socket.socketpair()
    with theirs:
        forker = subprocess.Popen(
            [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONUTF8": "1"},
        )

    def stop() -> None:
        ours.close()
        forker.wait()

    atexit.register(stop)
    return ours


def main(control: socket.socket) -> None:
    """Import everything, then fork for each start, until nobody asks any more."""
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    for name in _PRELOADED:
        import_module(name)
    # Each server needs it soon after its start.
    describe(archer_v1())
    gc.freeze()
    ended, ending = os.pipe()
    os.set_blocking(ending, False)
    signal.set_wakeup_fd(ending)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    reports: dict[int, int] = {}
    try:
        while True:
            ready, _, _ = select.select([control.fileno(), ended], [], [])
            if ended in ready:
                os.read(ended, 4096)
                _tell_ended(reports)
            if control.fileno() not in ready:
                continue
            length, descriptors, _, _ = socket.recv_fds(control, _LENGTH_BYTES, 4)
            if not length:
                break
            start = json.loads(_received(control, int.from_bytes(length)))
            pid = os.fork()
            if not pid:
                for descriptor in (control.detach(), ended, ending, *reports.values(), descriptors[3]):
                    os.close(descriptor)
                reports.clear()
                _become(start, descriptors[:3])
                return
            reports[pid] = descriptors[3]
            try:
                os.write(descriptors[3], b"%d\n" % pid)
            except BrokenPipeError:
                # Nobody waits for it any more.
                os.kill(pid, signal.SIGKILL)
            for descriptor in descriptors[:3]:
                os.close(descriptor)
    finally:
        # Whatever ends this ends them, too. A forked process has none.
        for pid in reports:
            os.kill(pid, signal.SIGKILL)


def _received(control: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += control.recv(length - len(data))
    return data


def _tell_ended(reports: dict[int, int]) -> None:
    while reports:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        report = reports.pop(pid)
        with suppress(BrokenPipeError):
            os.write(report, b"%d\n" % os.waitstatus_to_exitcode(status))
        os.close(report)


def _become(start: dict[str, list[str] | str | dict[str, str]], streams: Sequence[int]) -> None:
    """Be that program in this process, to its end."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(str(start["cwd"]))
    os.environ.clear()
    os.environ.update(dict(start["environment"]))  # type: ignore[arg-type]
    time.tzset()
    sys.argv = ["archer-ws", *start["arguments"]]
    runpy.run_module("archer_ws", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
