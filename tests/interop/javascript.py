"""JavaScript for tests in Python: a Node process that runs what it is given, with the client at hand."""

import asyncio
import itertools
import json
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

NODE_PROJECT = Path(__file__).parent / "node"
#: How long a piece of code may take; a browser starts in it, too.
LIMIT_S = 60.0
#: A page's trace is one line.
LINE_BYTES_MAX = 16 * 1024 * 1024


class JavascriptError(Exception):
    """What the code threw; `error` has its name, message and own fields."""

    def __init__(self, error: Any) -> None:
        super().__init__(str(error))
        self.error: dict[str, Any] = error if isinstance(error, dict) else {"message": error}


class Javascript:
    """A Node process that runs code (node/client/evaluating.mjs): what it is given, and what it answers."""

    def __init__(self, answers: asyncio.StreamReader, asking: asyncio.StreamWriter) -> None:
        self._answers = answers
        self._asking = asking
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    async def run(self, code: str, limit_s: float = LIMIT_S, **args: Any) -> Any:
        """What an async function with this body returns; it sees the arguments by their names.

        Raises:
            JavascriptError: it threw.
        """
        return await self.start(code, limit_s, **args)

    def start(self, code: str, limit_s: float = LIMIT_S, **args: Any) -> "asyncio.Task[Any]":
        """Run it beside others."""
        number = next(self._ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._asking.write(json.dumps({"id": number, "code": code, "args": args}).encode() + b"\n")
        if self._reader.done():
            answer.set_exception(JavascriptError("Node has ended"))
        return asyncio.create_task(_bounded(answer, limit_s))

    async def aclose(self) -> None:
        """Ask nothing more, and wait until all is over there."""
        self._asking.write_eof()
        async with asyncio.timeout(LIMIT_S):
            await self._reader
        self._asking.close()

    async def _read(self) -> None:
        async for line in self._answers:
            message = json.loads(line)
            if "told" in message:
                print(message["told"])
                continue
            answer = self._waiting.pop(message["id"])
            if answer.done():
                continue
            if "error" in message:
                answer.set_exception(JavascriptError(message["error"]))
            else:
                answer.set_result(message.get("value"))
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(JavascriptError("Node has ended"))


async def _bounded(answer: asyncio.Future[Any], limit_s: float) -> Any:
    async with asyncio.timeout(limit_s):
        return await answer


def node() -> str:
    """The machine's Node, with what the tests need of npm."""
    found = shutil.which("node")
    assert found is not None, "these tests need Node 20 or newer"
    assert (NODE_PROJECT / "node_modules").is_dir(), f"run npm ci in {NODE_PROJECT}"
    return found


@asynccontextmanager
async def javascript() -> AsyncIterator[Javascript]:
    """A running Node process with `connect`, `ArcherError`, ws's `WebSocket` and `playwright`, which loads that, in
    scope. It must end in order; what it printed on standard error is shown with a failing test."""
    process = await asyncio.create_subprocess_exec(
        node(), "client/evaluate.mjs", cwd=NODE_PROJECT, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=LINE_BYTES_MAX
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.create_task(process.stderr.read())
    running = Javascript(process.stdout, process.stdin)
    try:
        yield running
    finally:
        try:
            await running.aclose()
        except TimeoutError:
            process.kill()
        await process.wait()
        if told := (await errors).decode():
            print(told)
        assert process.returncode == 0


@asynccontextmanager
async def javascript_at(port: int) -> AsyncIterator[Javascript]:
    """A connection to a running Node process."""
    running = Javascript(*await asyncio.open_connection("127.0.0.1", port, limit=LINE_BYTES_MAX))
    try:
        yield running
    finally:
        await running.aclose()
