"""The server with its embedded model: in a process of its own, the model in another, and what becomes of them."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import websockets

from archer_ws.core.judging.effort import SCHEMA_CHARS_MAX
from tests.fakes.recorded import RecordedSocket
from tests.fakes.rpc_peer import RpcPeer
from tests.processes import Program, program

on_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are looked up in /proc")


@dataclass
class Sidecar:
    """A running `archer-ws serve --provider local`."""

    program: Program
    http: httpx.AsyncClient
    url: str

    @property
    def pid(self) -> int:
        return self.program.process.pid

    def model_process(self) -> int:
        """The id of the model's process: the server's one child."""
        (child,) = children(self.pid)
        return child

    async def connect(self) -> RpcPeer:
        address = self.url.replace("http", "ws") + "/api/v1/ws"
        return RpcPeer(RecordedSocket(await websockets.connect(address)))


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the program's name (proc(5)): state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()


def is_running(pid: int) -> bool:
    try:
        return stat(pid)[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if int(stat(int(directory.name))[1]) == pid:
                found.append(int(directory.name))
        except OSError:
            continue
    return found


def cpu_ticks(pid: int) -> int:
    fields = stat(pid)
    return int(fields[11]) + int(fields[12])


async def until_idle(pid: int) -> None:
    """Wait until a process stops computing: a tenth of a second in which it used next to nothing."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        while True:
            before, pause = cpu_ticks(pid), loop.create_future()
            loop.call_later(0.1, pause.set_result, None)
            await pause
            if cpu_ticks(pid) - before <= 1:
                return


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while is_running(pid):
            pause = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.05, pause.set_result, None)
            await pause


@asynccontextmanager
async def running_sidecar(
    cwd: Path,
    *,
    module: str = "archer_ws",
    executable: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Sidecar]:
    """`archer-ws serve --provider local` on a free port, with its model loaded; it must end in order (see
    `processes.program` for `module` and `executable`)."""
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--provider", "local", "--ready-json")
    async with program(
        *arguments, cwd=cwd, environment=environment or {}, module=module, executable=executable
    ) as running:
        ready = json.loads(await running.line())
        assert ready["provider_ready"] is True
        async with httpx.AsyncClient(base_url=ready["url"], timeout=60, trust_env=False) as http:
            yield Sidecar(running, http, ready["url"])
        if running.process.returncode is None:
            running.send_signal(signal.SIGTERM)
            assert await running.ended() == 0, await running.errors()


async def answered_and_judged(sidecar: Sidecar) -> None:
    """Have the model answer in a form that is judged in a child process: its schema is too long for the event loop."""
    schema = {
        "type": "object",
        "description": "x" * SCHEMA_CHARS_MAX,
        "properties": {"sky": {"enum": ["blue"]}},
        "required": ["sky"],
        "additionalProperties": False,
    }
    request = {
        "messages": [{"role": "user", "content": "What color is the sky?"}],
        "max_tokens": 200,
        "response_format": {"type": "json_schema", "json_schema": {"name": "sky", "schema": schema}},
    }
    answer = (await sidecar.http.post("/api/v1/chat/completions", json=request)).json()
    assert (answer["status"], answer["format_valid"]) == ("completed", True), answer
