"""Programs on a terminal: what comes on their screen, and what a person types."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.processes import Program, program


class Screen:
    """The other end of a program's terminal."""

    def __init__(self, reader: asyncio.StreamReader, descriptor: int) -> None:
        self._reader = reader
        self._descriptor = descriptor

    async def expect(self, text: str) -> None:
        """Read until the text has come."""
        shown = b""
        try:
            async with asyncio.timeout(60):
                while text.encode() not in shown:
                    shown += await self._reader.readexactly(1)
        except (TimeoutError, asyncio.IncompleteReadError):
            pytest.fail(f"waited for {text!r}; the screen shows {shown!r}")

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())


@asynccontextmanager
async def on_terminal(*arguments: str, cwd: Path, **environment: str) -> AsyncIterator[tuple[Program, Screen]]:
    """The program with a terminal for its standard input, output and errors."""
    ours, theirs = os.openpty()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(ours), "rb", buffering=0)
    )
    try:
        async with program(
            *arguments, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, environment={"TERM": "dumb", **environment}
        ) as running:
            os.close(theirs)
            yield running, Screen(reader, ours)
    finally:
        transport.close()
        os.close(ours)
