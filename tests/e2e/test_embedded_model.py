"""The whole thing with its embedded model: the server in its own process, the model in another, real clients."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import websockets

from tests.fakes.rpc_peer import RpcPeer, Seen, SocketTransport
from tests.fakes.sse_reader import read_events, text_of
from tests.processes import Program, program

TALE = [{"role": "user", "content": "Tell me a very long tale about a ship."}]
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
        return RpcPeer(SocketTransport(await websockets.connect(address)))


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


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--provider", "local", "--ready-json")
    async with program(*arguments, cwd=tmp_path, environment={}) as running:
        ready = json.loads(await running.line())
        assert ready["provider_ready"] is True
        async with httpx.AsyncClient(base_url=ready["url"], timeout=60, trust_env=False) as http:
            yield Sidecar(running, http, ready["url"])
        if running.process.returncode is None:
            running.send_signal(signal.SIGTERM)
            assert await running.ended() == 0, await running.errors()


@on_linux
async def test_it_answers_plainly_streams_cancels_and_survives_its_model_s_death(sidecar: Sidecar) -> None:
    question = {"messages": [{"role": "user", "content": "What color is the sky?"}], "max_tokens": 12}
    plain = (await sidecar.http.post("/api/v1/chat/completions", json=question)).json()
    assert plain["content"].strip()
    assert (plain["provider"], plain["model"]) == ("local", "SmolLM2-135M-Instruct")
    assert plain["usage"]["completion_tokens"] <= 12

    async with sidecar.http.stream("POST", "/api/v1/chat/completions/stream", json=question) as response:
        events = [event async for event in read_events(response)]
    assert text_of(events).strip()
    assert events[-2].json["status"] == "completed"

    model = sidecar.model_process()
    tale = {"messages": TALE, "max_tokens": 2000, "stream_id": "left"}
    async with sidecar.http.stream("POST", "/api/v1/chat/completions/stream", json=tale) as response:
        of_tale = read_events(response)
        assert [(await anext(of_tale)).event for _ in range(2)] == ["started", None]
    await until_idle(model)
    assert (await sidecar.http.get("/api/v1/streams/left")).json()["status"] == "cancelled"

    async with sidecar.http.stream("POST", "/api/v1/chat/completions/stream", json={**tale, "stream_id": "k"}) as cut:
        of_tale = read_events(cut)
        assert [(await anext(of_tale)).event for _ in range(2)] == ["started", None]
        os.kill(model, signal.SIGKILL)
        rest = [event async for event in of_tale]
    end = rest[-2].json
    assert (end["status"], end["error"]["kind"]) == ("failed", "provider_unavailable")
    assert "crashed" in end["error"]["message"]
    again = await sidecar.http.post("/api/v1/chat/completions", json=question)
    assert again.status_code == 200
    assert again.json()["content"].strip()
    assert sidecar.model_process() != model


@on_linux
async def test_three_answers_over_one_socket_one_cancelled_and_the_connection_cut_and_resumed(
    sidecar: Sidecar,
) -> None:
    model = sidecar.model_process()
    peer = await sidecar.connect()
    for name in ("a", "b", "c"):
        await peer.call("chat/send", stream_id=name, messages=TALE, max_tokens=60, temperature=0)
    await peer.until(lambda: all(name in peer.streams and peer.streams[name].content for name in "abc"), timeout_s=60)
    assert (await peer.call("stream/cancel", stream_id="b"))["outcome"] == "cancelling"
    cancelled = await peer.ended("b")
    assert cancelled.ended is not None
    assert cancelled.ended["status"] == "cancelled"

    assert isinstance(peer.transport, SocketTransport)
    peer.transport.connection.transport.abort()  # no close frame: the cable is pulled
    async with asyncio.timeout(10):
        await peer.closed.wait()
    cut = {name: peer.streams[name] for name in "ac"}
    resumed = await sidecar.connect()
    for name, seen in cut.items():
        resumed.streams[name] = Seen(head=seen.head, content=seen.content)
        await resumed.call("stream/subscribe", stream_id=name, after=seen.head)
    for name in cut:
        seen = await resumed.ended(name, timeout_s=60)
        whole = await sidecar.connect()
        await whole.call("stream/subscribe", stream_id=name)
        assert seen.content == (await whole.ended(name)).content
        assert seen.ended is not None
        assert seen.ended["usage"]["completion_tokens"] == 60
        await whole.close()
    await until_idle(model)
    await resumed.close()
    await peer.stop()


@on_linux
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")
async def test_a_killed_sidecar_takes_its_model_with_it(sidecar: Sidecar) -> None:
    model = sidecar.model_process()
    assert is_running(model)
    os.kill(sidecar.pid, signal.SIGKILL)
    await sidecar.program.ended()
    await until_gone(model)
