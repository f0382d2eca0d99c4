"""Servers that are killed in the middle of their answers, and the clients who were reading them."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from archer_ws.client import Archer, Backoff, ChatStream, StreamIncomplete, connect
from tests.fakes.ollama_api import ollama_line, ollama_stream
from tests.fakes.scripted_server import Exchange, Reply, Step, Wait, forever
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
        for number in itertools.count():
            yield ollama_line(piece(name, number))
            yield Wait(self._tick)


@asynccontextmanager
async def serving(answer: Callable[[Exchange], Reply], folder: Path, port: int = 0) -> AsyncIterator[Server]:
    folder.mkdir(exist_ok=True)
    async with server(
        answer,
        *("--port", str(port)),
        cwd=folder,
        ARCHER_DATA_DIR=str(folder / "kept"),
        ARCHER_PROVIDER_CONCURRENCY="ollama=1000",
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
    """Clients of the Python kind, each with some streams in sessions of their own."""

    def __init__(self, url: str, names: Sequence[str]) -> None:
        self._url = url
        self._names = names
        self._clients: list[Archer] = []
        self.streams: dict[str, ChatStream] = {}

    async def __aenter__(self) -> "Readers":
        async with httpx.AsyncClient(base_url=self._url, trust_env=False, timeout=LIMIT_S) as http:
            for name in self._names:
                assert (await http.post("/api/v1/sessions", json={"session_id": name})).status_code == 201
        for begin in range(0, len(self._names), PER_CLIENT):
            client = await connect(self._url, backoff=Backoff(first_s=0.05, cap_s=0.2)).__aenter__()
            self._clients.append(client)
            for name in self._names[begin : begin + PER_CLIENT]:
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
