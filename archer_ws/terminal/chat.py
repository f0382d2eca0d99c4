"""`archer-ws chat`: one question, a prompt loop over a session of the server, or one question to several models.

The answer goes to standard output as it comes, everything else to standard error. Ctrl-C ends the answer, not the
conversation; what came of it stays. How it looks is screen.py's and columns.py's.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from archer_ws.client.archer import Archer, connect
from archer_ws.client.errors import ClientError, Refused, StreamError
from archer_ws.client.events import Delta, Ended
from archer_ws.client.link import ConnectionState
from archer_ws.client.stream import ChatStream
from archer_ws.core.exceptions import ErrorInfo
from archer_ws.terminal.columns import Columns
from archer_ws.terminal.line_input import line_input
from archer_ws.terminal.screen import Terminal, printable
from archer_ws.terminal.tool_calls import AskedTools

#: How a program ends that Ctrl-C ended: 128 + SIGINT.
INTERRUPTED = 130
#: What a person reads before the first prompt.
WELCOME = "The server remembers the talk. {keys}Ctrl-C: stop an answer, Ctrl-D: leave."

#: How much of the first line is a conversation's title, in characters.
TITLE_CHARS = 60

#: What a person can do about an error whose own hint is for programs.
_HINTS = {
    "not_initialized": "Set ARCHER_TOKEN to the server's AUTH_TOKEN.",
    "unauthenticated": "Set ARCHER_TOKEN to the server's AUTH_TOKEN; a server that has none wants none.",
}
#: The same, by a word that only programs know in the error's own hint. Other hints about the same field say more.
_HINTS_WITH = {"`reasoning_efforts`": "Leave --effort out, or choose another model with --model."}


def ask(
    url: str, token: str | None, request: Mapping[str, Any], terminal: Terminal, tools: AskedTools | None = None
) -> int:
    """Answer one request; the program's exit status. The generation ends with this program, however that ends."""

    async def run() -> bool:
        asked = {**request, **(tools.offered if tools is not None else {})}
        async with _connect(url, token, terminal) as archer, archer.chat(**asked, on_disconnect="cancel") as stream:
            return await show(stream, terminal, tools)

    return _run(run, terminal)


def compare(url: str, token: str | None, request: Mapping[str, Any], models: Sequence[str], terminal: Terminal) -> int:
    """Answer one request by several models, side by side where the terminal allows it; the program's exit status."""

    async def run() -> bool:
        async with _connect(url, token, terminal) as archer, AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(archer.chat(**{**request, "model": model}, on_disconnect="cancel"))
                for model in models
            ]
            width = terminal.column_width(len(models))
            if width is None:
                return await _one_after_the_other(streams, models, terminal)
            return await _side_by_side(streams, models, terminal, width)

    return _run(run, terminal)


def converse(
    url: str,
    token: str | None,
    parameters: Mapping[str, Any],
    system: str | None,
    terminal: Terminal,
    *,
    attached: Mapping[str, Any],
    tools: AskedTools | None = None,
) -> int:
    """Answer line after line in one session, until Ctrl-D or Ctrl-C at the prompt; the program's exit status.

    Args:
        parameters: what `Archer.chat` takes besides the messages.
        system: what the model is told first.
        attached: the pictures and documents that go with the first line, as `Archer.chat` takes them.
        tools: what the model may call.
    """
    lines = line_input()
    with asyncio.Runner() as runner:
        conversation = ChatSession(url, token, parameters, system, terminal, attached=attached, tools=tools)
        try:
            runner.run(conversation.begin())
        except ClientError as error:
            tell(error, terminal)
            return 1
        except KeyboardInterrupt:
            return INTERRUPTED
        terminal.notice(WELCOME.format(keys=f"{lines.keys}, " if lines.keys else ""))
        while (line := lines.line(terminal.prompt())) is not None:
            if line.strip():
                _run_turn(runner, conversation, line, terminal)
        terminal.notice("")
    return 0


class ChatSession:
    """A conversation stored by the server, begun anew when the server no longer has it.

    Each turn has its own connection: while a person thinks, nothing here would answer the server's pings.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        parameters: Mapping[str, Any],
        system: str | None,
        terminal: Terminal,
        *,
        attached: Mapping[str, Any],
        tools: AskedTools | None,
    ) -> None:
        self._url = url
        self._token = token
        self._parameters = {**parameters, **(tools.offered if tools is not None else {})}
        self._tools = tools
        self._terminal = terminal
        self._system = system
        self._session_id: str | None = None
        self._untold = system
        self._attached = attached
        self._unsent = attached

    async def begin(self) -> None:
        """Find out whether the server is there and stores conversations; the first line creates one.

        Raises:
            ClientError: the server can't be reached, or refuses.
        """
        async with _connect(self._url, self._token, self._terminal) as archer:
            await archer.sessions.list(limit=1)

    async def turn(self, line: str) -> None:
        """Send a line and show the completion.

        Raises:
            ClientError: there was no completion, or it broke off.
        """
        async with _connect(self._url, self._token, self._terminal) as archer:
            if self._session_id is None:
                await self._begin(archer, line)
            # A stream that was just cancelled may still be ending.
            asked = archer.chat(
                messages(line, self._untold),
                **self._parameters,
                **self._unsent,
                session_id=self._session_id,
                on_busy="interrupt",
            )
            try:
                async with asked as stream:
                    await show(stream, self._terminal, self._tools)
            except Refused as error:
                if error.kind != "session_not_found":
                    raise
                self._session_id = None
                raise ClientError(
                    "the server no longer has this conversation",
                    "Say it again: a new conversation begins with the next line.",
                ) from error
            finally:
                if asked.is_accepted:
                    # It is stored with the line, even if the completion fails or is cancelled.
                    self._untold, self._unsent = None, {}

    async def _begin(self, archer: Archer, line: str) -> None:
        (asked,) = messages(line, None)
        self._session_id = (await archer.sessions.create(title=_title_of(asked["content"]))).session_id
        self._untold = self._system
        self._unsent = self._attached


async def show(stream: ChatStream, terminal: Terminal, tools: AskedTools | None = None) -> bool:
    """Show a completion while it arrives; returns whether it is whole.

    Raises:
        ClientError: there was no completion, or it broke off.
    """
    whole = False
    try:
        async for event in stream.events():
            terminal.show(event)
            if tools is not None:
                tools.shown(event)
            if isinstance(event, Ended):
                whole = _tell_end(event, terminal)
    finally:
        terminal.end_line()
    return whole


def messages(text: str, system: str | None) -> list[dict[str, Any]]:
    """The messages of a turn; invalid Unicode from the shell becomes question marks."""
    said = [("system", system), ("user", text)] if system else [("user", text)]
    return [{"role": role, "content": content.encode("utf-8", "replace").decode()} for role, content in said]


def _title_of(question: str) -> str:
    """The title of the conversation that a question begins, as in the console."""
    line = " ".join(question.strip().splitlines()[0].split())
    return line if len(line) <= TITLE_CHARS else f"{line[:TITLE_CHARS].rstrip()}…"


def tell(error: ClientError, terminal: Terminal) -> None:
    """Print what went wrong, and what to do."""
    info = error.info if isinstance(error, Refused | StreamError) else None
    terminal.error(error.message, _hint_of(info) if info is not None else error.hint)


def _hint_of(info: ErrorInfo) -> str | None:
    own = info.hint or ""
    return _HINTS.get(info.kind) or next((hint for word, hint in _HINTS_WITH.items() if word in own), info.hint)


async def _one_after_the_other(streams: Sequence[ChatStream], models: Sequence[str], terminal: Terminal) -> bool:
    whole = True
    for model, stream in zip(models, streams, strict=True):
        terminal.heading(model)
        try:
            whole &= await show(stream, terminal)
        except ClientError as error:
            tell(error, terminal)
            whole = False
    return whole


async def _side_by_side(streams: Sequence[ChatStream], models: Sequence[str], terminal: Terminal, width: int) -> bool:
    columns = Columns([printable(model) for model in models], width)

    async def fill(number: int, stream: ChatStream) -> ClientError | Ended | None:
        try:
            async for event in stream.events():
                if isinstance(event, Delta):
                    columns.add(number, printable(event.content))
                    terminal.redraw(columns)
        except ClientError as error:
            return error
        finally:
            columns.end(number)
        return stream.ended

    try:
        ends = await asyncio.gather(*(fill(number, stream) for number, stream in enumerate(streams)))
    finally:
        terminal.redraw(columns)
        terminal.leave(columns)
    whole = True
    for model, stream, end in zip(models, streams, ends, strict=True):
        is_whole = isinstance(end, Ended) and end.status == "completed" and end.finish_reason != "length"
        if not is_whole or stream.tool_calls:
            terminal.notice(f"{model}:")
        for call in stream.tool_calls:
            terminal.show(call)
        match end:
            case ClientError():
                tell(end, terminal)
                whole = False
            case Ended():
                whole &= _tell_end(end, terminal)
    return whole


def _connect(url: str, token: str | None, terminal: Terminal) -> Archer:
    was_lost = False

    def note(state: ConnectionState) -> None:
        nonlocal was_lost
        if state == "lost":
            terminal.notice("[the connection broke off: connecting again]")
        elif was_lost:
            terminal.notice("[connected again]")
        was_lost = state == "lost"

    return connect(url, token=token, client_name="archer-ws chat", on_connection=note)


def _run(run: Callable[[], Coroutine[Any, Any, bool]], terminal: Terminal) -> int:
    try:
        return 0 if asyncio.run(run()) else 1
    except ClientError as error:
        tell(error, terminal)
        return 1
    except KeyboardInterrupt:
        terminal.end_line()
        return INTERRUPTED


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
            why = {"draining": "the server is stopping", "disconnected": "the connection broke off"}
            terminal.notice(f"[cancelled: {why.get(end.reason, end.reason)}]" if end.reason else "[cancelled]")
        case status if end.error is None:
            terminal.notice(f"[{status}]")
    if end.error is not None:
        terminal.error(end.error.message, _hint_of(end.error))
    return False


def _run_turn(runner: asyncio.Runner, conversation: ChatSession, line: str, terminal: Terminal) -> None:
    try:
        runner.run(conversation.turn(line))
    except KeyboardInterrupt:
        terminal.notice("[cancelled]")
    except ClientError as error:
        tell(error, terminal)
