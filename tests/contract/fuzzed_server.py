"""The application on a real socket in a thread of its own, for fuzzers that do not know event loops."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import httpx

from archer_ws.config import load_settings
from archer_ws.main import create_app
from tests.conftest import serving
from tests.fakes.ollama_api import ollama_server, ollama_show, ollama_stream, ollama_tags
from tests.fakes.scripted_server import scripted_server

LIMIT_S = 30
T = TypeVar("T")


class FuzzedServer:
    """A running server; `run` runs a coroutine in its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        self._loop = loop
        self.address = address
        self.stopped = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def run(self, work: Coroutine[Any, Any, T], limit_s: float = LIMIT_S) -> T:
        """The coroutine's result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(limit_s)

    def stop(self) -> None:
        """Let it end."""
        self._loop.call_soon_threadsafe(self.stopped.set)


@contextmanager
def fuzzed_server() -> Iterator[FuzzedServer]:
    """A server before an Ollama that answers everything with a few words."""
    started: Future[FuzzedServer] = Future()

    async def main() -> None:
        async with _application() as server:
            started.set_result(server)
            await server.stopped.wait()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="fuzzed server")
    thread.start()
    try:
        server = started.result(LIMIT_S)
        try:
            yield server
        finally:
            server.stop()
    finally:
        thread.join(LIMIT_S)
    assert not thread.is_alive()


@asynccontextmanager
async def _application() -> AsyncIterator[FuzzedServer]:
    answers = {
        "/api/chat": ollama_stream("Because", " of", " Rayleigh."),
        "/api/show": ollama_show(4096),
        "/api/tags": ollama_tags("llama3.2:latest"),
    }
    async with scripted_server(responder=ollama_server(answers)) as ollama:
        # The embedded model, where the machine has one, would take seconds for what an example asks of it.
        settings = load_settings(
            env_file=None, ollama_host=ollama.url, max_retries=0, local_model_path="no-such-model.gguf"
        )
        app = create_app(settings)
        async with serving(app) as address:
            async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as http:
                await http.get("/health/live")
            yield FuzzedServer(asyncio.get_running_loop(), address)


def defects(records: list[logging.LogRecord]) -> list[str]:
    """The lines that tell of something that must not be: a traceback, or an error."""
    return [
        record.getMessage()
        for record in records
        if record.levelno >= logging.ERROR or record.exc_info or "Traceback" in record.getMessage()
    ]
