"""Tool calls in a chat: each is shown, and a person is asked before it runs."""

import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from archer_ws.client.call_run import Approval
from archer_ws.client.events import StreamEvent, ToolCall
from archer_ws.client.tools import Tool
from archer_ws.terminal.screen import Terminal

#: How often a Windows console is polled for a key, in seconds.
_KEYS_EVERY_S = 0.05
_NOBODY = "The user could not be asked: there is no terminal."


class AskedTools:
    """Tools whose calls run once a person has agreed, call by call or for the whole chat.

    Args:
        tools: the functions.
        terminal: where the person is asked.
        can_ask: whether somebody sees the question and can answer it.
    """

    def __init__(self, tools: Sequence[Tool[..., Any]], terminal: Terminal, *, can_ask: bool) -> None:
        #: The keyword arguments for `Archer.chat`.
        self.offered: dict[str, Any] = {"tools": [each.with_approval() for each in tools], "approve": self._approve}
        self._terminal = terminal
        self._can_ask = can_ask
        self._always: set[str] = set()
        #: One question at a time.
        self._asking = asyncio.Lock()
        self._shown: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def shown(self, event: StreamEvent) -> None:
        """An event is on the screen: questions about its calls may be printed."""
        if isinstance(event, ToolCall):
            self._shown[event.call_id].set()

    async def _approve(self, call: ToolCall) -> Approval:
        await self._shown[call.call_id].wait()
        if not self._can_ask:
            return False, _NOBODY
        async with self._asking:
            while call.name not in self._always:
                match await self._answer(call.name):
                    case "y" | "yes":
                        break
                    case "a" | "always":
                        self._always.add(call.name)
                    case "n" | "no" | None:
                        return False, "The user said no."
        return True

    async def _answer(self, name: str) -> str | None:
        self._terminal.question(f"Run {name}? y(es), n(o), a(lways): ")
        try:
            line = await _line()
        except asyncio.CancelledError:
            # It was decided elsewhere, or the stream has ended.
            self._terminal.answered(is_line_over=False)
            raise
        self._terminal.answered(is_line_over=line is not None)
        return None if line is None else line.strip().lower()


def can_ask() -> bool:
    """Whether questions are visible and can be answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def _line() -> str | None:
    """A person's next line; None at the end of input. If cancelled, the next line is left to other readers."""
    if sys.platform == "win32":
        return await _line_of_keys()
    loop = asyncio.get_running_loop()
    fd, read = sys.stdin.fileno(), bytearray()
    while not read.endswith(b"\n"):
        ready = asyncio.Event()
        loop.add_reader(fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(fd)
        # A terminal returns whole lines.
        piece = os.read(fd, 4096)
        if not piece:
            return None
        read += piece
    return read.decode(errors="replace")


if sys.platform == "win32":
    import msvcrt

    async def _line_of_keys() -> str | None:
        typed = ""
        while not typed.endswith("\r"):
            while not msvcrt.kbhit():  # noqa: ASYNC110 - a console does not report its keys
                await asyncio.sleep(_KEYS_EVERY_S)
            match msvcrt.getwche():
                case "\x1a":
                    return None
                case "\x08":
                    typed = typed[:-1]
                case key:
                    typed += key
        msvcrt.putwch("\n")
        return typed
