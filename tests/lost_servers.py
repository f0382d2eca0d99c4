"""Servers that are killed in the middle of their answers, and the clients who were reading them."""

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from archer_ws.client import Archer, Backoff, ChatStream, StreamIncomplete, connect
from tests.fakes.jumping_clock import clock_of
from tests.fakes.ollama_api import ollama_line, ollama_stream
from tests.fakes.scripted_server import Exchange, Reply, Step, Wait, forever
from tests.fakes.sse_reader import Received, read_events
from tests.processes import Server, server

LIMIT_S = 60
#: One connection attaches no more streams.
PER_CLIENT = 25


def piece(name: str, number: int) -> str:
    """A piece of the answer to `name`, by which it is found in a file."""
    return f"<{name}:{number}>"


def written(name: str, pieces: int) -> str:
    return "".join(piece(name, number) for number in range(pieces))


class Talking:
    """What Ollama answers: to each question so many pieces named after it, and then no more; without end, those are a
    piece each time `tick` comes."""

    def __init__(self, pieces: int | None) -> None:
        #: When each piece without end was said, by the monotonic clock.
        self.said: dict[str, list[float]] = {}
        self._pieces = pieces
        self._tick = asyncio.Event()

    def tick(self) -> None:
        tick, self._tick = self._tick, asyncio.Event()
        tick.set()

    def __call__(self, exchange: Exchange) -> Reply:
        name = exchange.json()["messages"][-1]["content"]
        if self._pieces is not None:
            return ollama_stream(*(piece(name, number) for number in range(self._pieces)), forever())
        return Reply(self._steps(name), content_type="application/x-ndjson")

    def _steps(self, name: str) -> Iterator[Step]:
        said = self.said[name] = []
        for number in itertools.count():
            said.append(time.monotonic())
            yield ollama_line(piece(name, number))
            yield Wait(self._tick)


@asynccontextmanager
async def serving(
    answer: Callable[[Exchange], Reply], folder: Path, port: int = 0, *, jumps: bool = False, data: Path | None = None
) -> AsyncIterator[Server]:
    """A server that keeps conversations in the folder, or those in `data`; `jumps`: its clock does (jumping_clock)."""
    folder.mkdir(exist_ok=True)
    async with server(
        answer,
        *("--port", str(port)),
        cwd=folder,
        module="tests.fakes.jumping_clock" if jumps else "archer_ws",
        ARCHER_DATA_DIR=str(data or folder / "kept"),
        ARCHER_PROVIDER_CONCURRENCY="ollama=1000",
        CLOCK_FILE=str(clock_of(folder)),
    ) as running:
        yield running


def port_of(running: Server) -> int:
    return int(running.url.rpartition(":")[2])


async def killed(running: Server) -> None:
    running.program.send_signal(signal.SIGKILL)
    await running.program.ended()


async def until_on_disk(folder: Path, texts: Sequence[str]) -> None:
    """Until the files have these, wherever they stand in them."""
    while True:
        held = b"".join(file.read_bytes() for file in (folder / "kept").glob("archer.db*"))
        if all(text.encode() in held for text in texts):
            return
        await asyncio.sleep(0.05)


class Readers:
    """Clients of the Python kind, each with some streams in sessions of their own.

    Args:
        url: the server's.
        names: what is asked, each in a session of that name.
        per_client: so many share a connection.
    """

    def __init__(self, url: str, names: Sequence[str], per_client: int = PER_CLIENT) -> None:
        self._url = url
        self._names = names
        self._per_client = per_client
        self._clients: list[Archer] = []
        self.streams: dict[str, ChatStream] = {}

    async def __aenter__(self) -> "Readers":
        await make_sessions(self._url, self._names)
        for begin in range(0, len(self._names), self._per_client):
            client = await connect(self._url, backoff=Backoff(first_s=0.05, cap_s=0.2)).__aenter__()
            self._clients.append(client)
            for name in self._names[begin : begin + self._per_client]:
                self.streams[name] = client.chat(name, session_id=name, stream_id=f"stream-{name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.__aexit__(None, None, None)

    async def have(self, pieces: int) -> None:
        """Until each has so many pieces."""
        for name, stream in self.streams.items():
            while len(stream.text) < len(written(name, pieces)):
                await anext(stream)

    async def lost(self) -> dict[str, str]:
        """Each one's text, once it has been told that its server was lost."""
        texts = {}
        for name, stream in self.streams.items():
            with pytest.raises(StreamIncomplete) as raised:
                async for _ in stream:
                    pass
            assert raised.value.info is not None
            assert (raised.value.info.kind, raised.value.info.retryable) == ("worker_lost", True)
            assert "replace_from" in (raised.value.info.hint or "")
            texts[name] = stream.text
        return texts


async def make_sessions(url: str, names: Sequence[str]) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=LIMIT_S) as http:
        for name in names:
            assert (await http.post("/api/v1/sessions", json={"session_id": name})).status_code == 201


def asked(name: str) -> dict[str, Any]:
    """The question of that name, in the session of that name."""
    question = {"messages": [{"role": "user", "content": name}], "session_id": name}
    return {**question, "stream_id": f"stream-{name}", "on_disconnect": "continue"}


class EventSource:
    """One answer over server-sent events, which is mended as browsers do it: by `Last-Event-ID`, after every loss."""

    def __init__(self, http: httpx.AsyncClient, name: str) -> None:
        self.text = ""
        self.last_id = 0
        self.resets = 0
        #: The data of the last event of the stream.
        self.end: dict[str, Any] | None = None
        self._http = http
        self._name = name
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def have(self, length: int) -> None:
        """Until it has so much text."""
        while len(self.text) < length:
            self._changed.clear()
            changed = asyncio.create_task(self._changed.wait())
            await asyncio.wait((changed, self._reading), return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            if self._reading.done():
                self._reading.result()
                break

    async def ended(self) -> dict[str, Any]:
        """The end's data."""
        await self._reading
        assert self.end is not None
        return self.end

    async def aclose(self) -> None:
        self._reading.cancel()
        await asyncio.wait((self._reading,))

    async def _read(self) -> None:
        while self.end is None:
            try:
                async with self._connection() as response:
                    if response.status_code != 503:  # It is starting, or the store is in trouble: again, in a moment.
                        assert response.status_code == 200, await response.aread()
                        async for event in read_events(response):
                            self._take(event)
            except (httpx.TransportError, AssertionError) as cut:
                if isinstance(cut, AssertionError) and "in the middle of an event" not in str(cut):
                    raise
            if self.end is None:
                await asyncio.sleep(0.1)

    def _connection(self) -> AbstractAsyncContextManager[httpx.Response]:
        if not self.last_id:
            return self._http.stream("POST", "/api/v1/chat/completions/stream", json=asked(self._name))
        path = f"/api/v1/streams/stream-{self._name}/events"
        return self._http.stream("GET", path, headers={"Last-Event-ID": str(self.last_id)})

    def _take(self, event: Received) -> None:
        if event.data == "[DONE]":
            return
        assert self.end is None, "something comes behind the end"
        if event.id is not None:
            assert int(event.id) > self.last_id, "an event comes twice"
            self.last_id = int(event.id)
        if event.event == "ended":
            self.end = event.json
        elif event.event is None:
            chunk = event.json
            if chunk.get("reset"):
                self.text = ""
                self.resets += 1
            self.text += chunk["content"]
        self._changed.set()


class EventSources:
    """Readers over server-sent events, with the calls of `Readers`."""

    def __init__(self, url: str, names: Sequence[str]) -> None:
        self._url = url
        self._names = names
        self.streams: dict[str, EventSource] = {}

    async def __aenter__(self) -> "EventSources":
        await make_sessions(self._url, self._names)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx.AsyncClient(base_url=self._url, trust_env=False, timeout=LIMIT_S, limits=limits)
        self.streams = {name: EventSource(self._http, name) for name in self._names}
        return self

    async def __aexit__(self, *_: object) -> None:
        for stream in self.streams.values():
            await stream.aclose()
        await self._http.aclose()

    async def have(self, pieces: int) -> None:
        """Until each has so many pieces."""
        for name, stream in self.streams.items():
            await stream.have(len(written(name, pieces)))

    async def lost(self) -> dict[str, str]:
        """Each one's text, once it has been told that its server was lost."""
        for stream in self.streams.values():
            end = await stream.ended()
            assert (end["status"], end["error"]["kind"], end["error"]["retryable"]) == (
                "incomplete",
                "worker_lost",
                True,
            )
        return {name: stream.text for name, stream in self.streams.items()}
