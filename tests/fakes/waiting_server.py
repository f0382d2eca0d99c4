"""An archer.v1 server whose one stream waits for the results of calls: the test says what stands in its log, and what
the server makes of what it is told.

It keeps its promises. What it was told is recorded; it does nothing of its own accord, so that a test can take its time
at each step, cut connections, and leave requests unanswered.
"""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import websockets

from tests.fakes.newer_server import Event
from tests.fakes.scripted_archer import WELCOME, answer, listening, notify, refuse

#: What a server says of what is told of a call, unless a test says otherwise.
_OUTCOMES = {"tool/approve": "accepted", "tool/claim": "claimed", "tool/result": "accepted", "stream/steer": "accepted"}
_LIMIT_S = 20
STARTED: Event = ("stream/started", {"provider": "p", "model": "m"})
DEADLINE = "2026-11-22T10:25:32Z"


def calling(call_id: str, name: str, arguments: str = "{}", **more: Any) -> Event:
    """A call that the stream waits for."""
    told = {"call_id": call_id, "name": name, "arguments": arguments, "by": "client", "deadline_at": DEADLINE}
    return "stream/tool_call", {**told, **more}


def resulting(call_id: str, content: str = "", status: str = "ok", **more: Any) -> Event:
    """A call's result."""
    return "stream/tool_result", {"call_id": call_id, "status": status, "content": content, **more}


def stepping(step: int = 2, **more: Any) -> Event:
    """A further step."""
    return "stream/step", {"step": step, **more}


def saying(text: str) -> Event:
    """A piece of the answer."""
    return "stream/delta", {"content": text}


def ending(status: str = "completed", **more: Any) -> Event:
    """The end."""
    return "stream/ended", {"status": status, "text_bytes": 0, **more}


class WaitingServer:
    """Its log, and what it was told."""

    def __init__(self) -> None:
        self.url = ""
        #: What is in the stream's log; told to whoever is attached.
        self.log: list[Event] = []
        #: What was asked, as it came: the method and its params; `initialize` left out.
        self.asked: list[tuple[str, dict[str, Any]]] = []
        #: Answers to come, by method, before the usual one; None leaves the request unanswered.
        self.outcomes: defaultdict[str, deque[dict[str, Any] | None]] = defaultdict(deque)
        #: Told of each request before it is answered.
        self.on_request: Callable[[str, dict[str, Any]], None] = lambda *_: None
        #: What a subscription is told of the log's head, where that is not its length.
        self.head: int | None = None
        #: Whether connections are cut as soon as they are made.
        self.refuses = False
        self._attached: dict[websockets.ServerConnection, str] = {}
        self._connections: set[websockets.ServerConnection] = set()
        self._news = asyncio.Condition()

    def asked_of(self, method: str) -> list[dict[str, Any]]:
        """The params of all requests of a method."""
        return [params for name, params in self.asked if name == method]

    async def hears(self, method: str, count: int = 1) -> dict[str, Any]:
        """The params of the request of that method and number, once it has come."""
        async with asyncio.timeout(_LIMIT_S), self._news:
            await self._news.wait_for(lambda: len(self.asked_of(method)) >= count)
        return self.asked_of(method)[count - 1]

    async def say(self, *events: Event) -> None:
        """Put events into the log, and tell them."""
        for method, params in events:
            seq = len(self.log) + 1
            numbers = {"from": seq, "seq": seq} if method == "stream/delta" else {"seq": seq}
            self.log.append((method, {**numbers, **params}))
            for connection, stream_id in list(self._attached.items()):
                await notify(connection, method, {"stream_id": stream_id, **self.log[-1][1]})

    async def cut(self) -> None:
        """Break every connection off, without a word."""
        connections, self._connections = self._connections, set()
        self._attached.clear()
        for connection in connections:
            connection.transport.abort()
            await connection.wait_closed()

    async def drain(self) -> None:
        """Close every connection as a server does that is being stopped."""
        connections, self._connections = self._connections, set()
        self._attached.clear()
        for connection in connections:
            await connection.close(1012)

    async def __call__(self, connection: websockets.ServerConnection) -> None:
        """Serve a connection."""
        if self.refuses:
            connection.transport.abort()
            return
        self._connections.add(connection)
        try:
            async for text in connection:
                await self._answer(connection, json.loads(text))
        except websockets.ConnectionClosed:
            pass
        finally:
            self._attached.pop(connection, None)
            self._connections.discard(connection)

    async def _answer(self, connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        method, params = request["method"], request.get("params", {})
        if method == "initialize":
            await answer(connection, request, WELCOME)
            return
        self.on_request(method, params)
        self.asked.append((method, params))
        async with self._news:
            self._news.notify_all()
        if self.outcomes[method]:
            result = self.outcomes[method].popleft()
            if result is None:
                return
            if "code" in result:
                await refuse(connection, request, result)
                return
            await answer(connection, request, result)
        elif method in _OUTCOMES:
            await answer(connection, request, {"outcome": _OUTCOMES[method]})
        elif method in ("chat/send", "stream/subscribe"):
            head = len(self.log) if self.head is None else self.head
            state = {"provider": "p", "model": "m", "status": "running", "head_seq": head, "duplicate": False}
            await answer(connection, request, {"stream_id": params["stream_id"], **state})
            seen = params.get("after", 0)
            while seen < len(self.log):
                name, event = self.log[seen]
                seen += 1
                await notify(connection, name, {"stream_id": params["stream_id"], **event})
            self._attached[connection] = params["stream_id"]
        else:
            await answer(connection, request, {"outcome": "cancelling"})


@asynccontextmanager
async def waiting_server(log: Sequence[Event] = ()) -> AsyncIterator[WaitingServer]:
    """A running one; its `url` begins with `http://`."""
    waiting = WaitingServer()
    await waiting.say(*log)
    async with listening(waiting) as url:
        waiting.url = url.replace("ws", "http", 1)
        yield waiting
