"""Chatting in a terminal: one question, or a prompt loop over a session of the server.

The answer goes to standard output as it comes, everything else to standard error. Ctrl-C ends the answer, not the
conversation; what came of it stays.
"""

import asyncio
import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import TextIO

from archer_ws.client.events import ClientError, Ended, Progress, Reasoning, Refused, StreamEvent, Text
from archer_ws.client.sse import ArcherClient

#: How a program ends that Ctrl-C ended: 128 + SIGINT.
INTERRUPTED = 130

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
#: C0 and C1 controls but tab and line feed: escape sequences begin with these.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


class Terminal:
    """Where answers are shown.

    Args:
        out: gets the answer's text, and on a terminal the reasoning, dimmed.
        err: gets notices and errors.
    """

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._is_tty = out.isatty()
        # Older Windows consoles show the sequences instead of obeying them.
        self._dims = self._is_tty and (sys.platform != "win32" or "WT_SESSION" in os.environ)
        self._in_reasoning = False
        self._at_line_start = True

    def show(self, event: StreamEvent) -> None:
        """Show a piece of an answer at once."""
        match event:
            case Text(content):
                if self._in_reasoning:
                    self._end_reasoning()
                    self._write("\n" if self._at_line_start else "\n\n")
                self._write(content)
            case Reasoning(content) if self._is_tty:
                if self._dims and not self._in_reasoning:
                    self._out.write(_DIM)
                self._in_reasoning = True
                self._write(content)
            case Progress(phase, detail):
                self.notice(f"[{phase}: {detail}]" if detail else f"[{phase}]")

    def end_line(self) -> None:
        """Leave the cursor at the start of a line, whatever was shown."""
        self._end_reasoning()
        if not self._at_line_start:
            self._write("\n")

    def notice(self, text: str) -> None:
        """Say something that is not part of the answer."""
        self.end_line()
        self._err.write(f"{text.translate(_CONTROLS)}\n")
        self._err.flush()

    def error(self, error: ClientError) -> None:
        """Say what went wrong, and what to do."""
        self.notice(f"archer-ws: {error.message}")
        if error.hint:
            self.notice(f"  {error.hint}")

    def prompt(self) -> str:
        """What to show before the person's line: nothing where standard output is a file."""
        return "> " if self._is_tty else ""

    def _end_reasoning(self) -> None:
        if self._in_reasoning and self._dims:
            self._out.write(_PLAIN)
            self._out.flush()
        self._in_reasoning = False

    def _write(self, text: str) -> None:
        shown = text.translate(_CONTROLS) if self._is_tty else text
        if shown:
            self._out.write(shown)
            self._at_line_start = shown.endswith("\n")
        self._out.flush()


async def answer(client: ArcherClient, request: Mapping[str, object], terminal: Terminal) -> bool:
    """Show the answer to a request; whether it is whole. Cancelling the task ends the generation.

    Raises:
        ClientError: there was no answer, or it broke off.
    """
    stream_id = f"cli_{secrets.token_urlsafe(15)}"
    whole = False
    try:
        async with aclosing(client.chat({**request, "stream_id": stream_id})) as events:
            async for event in events:
                terminal.show(event)
                if isinstance(event, Ended):
                    whole = _tell_end(event, terminal)
    except asyncio.CancelledError:
        terminal.end_line()
        # The connection is closed, which ends the stream unless a proxy keeps its own open.
        await client.cancel(stream_id)
        raise
    finally:
        terminal.end_line()
    return whole


def ask(url: str, token: str | None, request: Mapping[str, object], terminal: Terminal) -> int:
    """Answer one request; the program's exit status."""

    async def run() -> bool:
        async with ArcherClient(url, token) as client:
            return await answer(client, request, terminal)

    try:
        return 0 if asyncio.run(run()) else 1
    except ClientError as error:
        terminal.error(error)
        return 1
    except KeyboardInterrupt:
        terminal.end_line()
        return INTERRUPTED


def converse(
    url: str, token: str | None, parameters: Mapping[str, object], system: str | None, terminal: Terminal
) -> int:
    """Answer line after line in one session, until Ctrl-D or Ctrl-C at the prompt; the program's exit status.

    Args:
        parameters: the ChatRequest's fields besides the messages.
        system: what the model is told first.
    """
    with suppress(ImportError):
        # Gives input() its line editing and history.
        import readline  # noqa: F401 - importing it is all
    with asyncio.Runner() as runner:
        try:
            client = ArcherClient(url, token)
            conversation = Conversation(client, parameters, system, terminal)
            runner.run(conversation.begin())
        except ClientError as error:
            terminal.error(error)
            return 1
        except KeyboardInterrupt:
            return INTERRUPTED
        terminal.notice("Ctrl-C ends an answer; Ctrl-D leaves.")
        while (line := _next_line(terminal)) is not None:
            if line.strip():
                _run_turn(runner, conversation, line, terminal)
        runner.run(client.aclose())
    return 0


class Conversation:
    """A session of the server, made anew when the server has forgotten it."""

    def __init__(
        self, client: ArcherClient, parameters: Mapping[str, object], system: str | None, terminal: Terminal
    ) -> None:
        self._client = client
        self._parameters = parameters
        self._terminal = terminal
        self._system = system
        self._session_id: str | None = None
        self._untold = system

    async def begin(self) -> None:
        """Make the session.

        Raises:
            ClientError: the server can't be reached, or gives none.
        """
        self._session_id = await self._client.create_session()
        self._untold = self._system

    async def turn(self, line: str) -> None:
        """Answer a line.

        Raises:
            ClientError: there was no answer, or it broke off.
        """
        if self._session_id is None:
            await self.begin()
        request = {
            **self._parameters,
            "session_id": self._session_id,
            "messages": messages(line, self._untold),
            # An answer just cancelled may still be ending.
            "on_busy": "interrupt",
        }
        try:
            await answer(self._client, request, self._terminal)
        except Refused as error:
            if error.kind != "session_not_found":
                raise
            self._session_id = None
            raise Refused(
                error.kind,
                "the server has forgotten this conversation",
                "Say it again: a new conversation begins with the next line.",
            ) from error
        self._untold = None


def messages(text: str, system: str | None) -> list[dict[str, str]]:
    """The messages of a turn; what a shell passed on that is not Unicode becomes question marks."""
    said = [("system", system), ("user", text)] if system else [("user", text)]
    return [{"role": role, "content": content.encode("utf-8", "replace").decode()} for role, content in said]


def _tell_end(end: Ended, terminal: Terminal) -> bool:
    terminal.end_line()
    match end.status:
        case "completed":
            if end.finish_reason == "length":
                terminal.notice("[the answer was cut off: --max-tokens allows more]")
            return True
        case "incomplete":
            terminal.notice("[the answer is incomplete]")
        case "cancelled":
            why = "the server is stopping" if end.reason == "draining" else end.reason
            terminal.notice(f"[cancelled: {why}]" if why else "[cancelled]")
        case status if end.error is None:
            terminal.notice(f"[{status}]")
    if end.error is not None:
        terminal.error(end.error)
    return False


def _next_line(terminal: Terminal) -> str | None:
    try:
        return input(terminal.prompt())
    except (EOFError, KeyboardInterrupt):
        terminal.notice("")
        return None


def _run_turn(runner: asyncio.Runner, conversation: Conversation, line: str, terminal: Terminal) -> None:
    try:
        runner.run(conversation.turn(line))
    except KeyboardInterrupt:
        terminal.notice("[cancelled]")
    except ClientError as error:
        terminal.error(error)
