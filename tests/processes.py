"""Our program in a process of its own, as a person or a parent program starts it."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from tests import forking
from tests.fakes.ollama_api import ollama_server, ollama_show, ollama_tags
from tests.fakes.scripted_server import Exchange, Reply, ScriptedServer, scripted_server

ROOT = Path(__file__).parent.parent
#: Imports take seconds on a busy machine.
START_LIMIT_S, WAIT_LIMIT_S = 60.0, 20.0


class Process(Protocol):
    """A started process, as asyncio has it."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...

    @property
    def stderr(self) -> asyncio.StreamReader | None: ...

    async def wait(self) -> int: ...

    def send_signal(self, signal: int, /) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class Program:
    """A started `python -m archer_ws`. What it writes to standard error is kept for `errors`."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._errors = asyncio.create_task(process.stderr.read()) if process.stderr else None

    @property
    def stdout(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None
        return self.process.stdout

    async def line(self) -> str:
        """The next line of standard output."""
        async with asyncio.timeout(START_LIMIT_S):
            line = (await self.stdout.readline()).decode()
        assert line, await self.errors()
        return line.rstrip("\n")

    async def expect(self, text: str) -> str:
        """Standard output until the text has come."""
        async with asyncio.timeout(START_LIMIT_S):
            return (await self.stdout.readuntil(text.encode())).decode()

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def given(self, text: str) -> str:
        """All of standard output, when standard input is this text."""
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(text.encode())
        stdin.close()
        async with asyncio.timeout(START_LIMIT_S):
            return (await self.stdout.read()).decode()

    async def ended(self, limit_s: float = WAIT_LIMIT_S) -> int:
        """The exit status, once it has ended by itself."""
        async with asyncio.timeout(limit_s):
            return await self.process.wait()

    async def errors(self) -> str:
        """All of standard error, once the program has ended."""
        async with asyncio.timeout(WAIT_LIMIT_S):
            return (await self._errors).decode() if self._errors else ""


@asynccontextmanager
async def program(
    *arguments: str,
    cwd: Path,
    environment: Mapping[str, str],
    stdin: int = DEVNULL,
    stdout: int = PIPE,
    stderr: int = PIPE,
    module: str = "archer_ws",
    executable: Path | None = None,
    is_forked: bool = False,
) -> AsyncIterator[Program]:
    """`archer-ws` with these arguments, or another module or executable that is it; killed at the end where it still
    runs. It starts sooner if it is forked, where that is possible."""
    with tempfile.TemporaryDirectory(prefix="archer-data-", ignore_cleanup_errors=True) as data:
        variables = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUTF8": "1",
            # Never the person's own, and another's for each.
            "ARCHER_DATA_DIR": data,
            **environment,
        }
        process: Process
        async with AsyncExitStack() as closing:
            if is_forked and forking.IS_POSSIBLE:
                process = forked = await forking.forked(
                    arguments, cwd=cwd, environment=variables, stdin=stdin, stdout=stdout, stderr=stderr
                )
                closing.callback(forked.close)
            else:
                called = (sys.executable, "-m", module) if executable is None else (executable,)
                process = await asyncio.create_subprocess_exec(
                    *called,
                    *arguments,
                    cwd=cwd,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    env=variables,
                )
            running = Program(process)
            try:
                yield running
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()
                await running.errors()


@dataclass
class Server:
    """A running `archer-ws serve`, what it said when it was ready, and the Ollama behind it."""

    program: Program
    ready: dict[str, Any]
    http: httpx.AsyncClient
    ollama: ScriptedServer
    #: The chats that Ollama was asked, as they arrive.
    chats: asyncio.Queue[Exchange]

    @property
    def url(self) -> str:
        return str(self.ready["url"])

    async def next_chat(self) -> Exchange:
        async with asyncio.timeout(WAIT_LIMIT_S):
            return await self.chats.get()


@asynccontextmanager
async def server(
    answer: Callable[[Exchange], Reply] | Reply,
    *options: str,
    cwd: Path,
    stdin: int = DEVNULL,
    capabilities: list[str] | None = None,
    module: str = "archer_ws",
    **environment: str,
) -> AsyncIterator[Server]:
    """`archer-ws serve --ready-json` on a free port, before an Ollama that answers chats so; `capabilities` is what it
    says of its model."""
    chats: asyncio.Queue[Exchange] = asyncio.Queue()

    def answer_chat(exchange: Exchange) -> Reply:
        chats.put_nowait(exchange)
        return answer if isinstance(answer, Reply) else answer(exchange)

    responder = ollama_server(
        {
            "/api/chat": answer_chat,
            "/api/show": ollama_show(4096, capabilities=capabilities),
            "/api/tags": ollama_tags("llama3.2:latest"),
        }
    )
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--ready-json", *options)
    async with (
        scripted_server(responder=responder) as ollama,
        program(
            *arguments,
            cwd=cwd,
            stdin=stdin,
            module=module,
            # Its own start is tested by `program`.
            is_forked=module == "archer_ws",
            environment={"ARCHER_OLLAMA_HOST": ollama.url, **environment},
        ) as running,
    ):
        ready = json.loads(await running.line())
        async with httpx.AsyncClient(base_url=ready["url"], timeout=WAIT_LIMIT_S, trust_env=False) as http:
            yield Server(running, ready, http, ollama, chats)
