"""An archer.v1 server that breaks the connection at some requests, as one does that a proxy or a defect kills."""

import asyncio
from typing import Any

import websockets

from archer_ws.client.requests import LOSSES_MAX
from tests.fakes.scripted_archer import ACCEPTED, Scripted, answer, refuse, tell


def session(session_id: str) -> dict[str, Any]:
    """A conversation without messages."""
    at = "2026-01-01T00:00:00Z"
    return {"session_id": session_id, "created_at": at, "updated_at": at, "message_count": 0}


async def deliver(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
    """Accept a stream, and deliver all of it."""
    stream_id = request["params"]["stream_id"]
    await answer(connection, request, {"stream_id": stream_id, **ACCEPTED})
    await tell(connection, "stream/delta", stream_id=stream_id, from_=1, seq=1, content="Blue")
    await tell(connection, "stream/ended", stream_id=stream_id, seq=2, status="completed", text_bytes=4)


async def refuse_as(connection: websockets.ServerConnection, request: dict[str, Any], kind: str) -> None:
    """Refuse a request with an error of this kind."""
    retryable = kind != "stream_not_found"
    info = {"kind": kind, "message": kind, "retryable": retryable, "retry_after_ms": 1, "request_id": "r"}
    await refuse(connection, request, {"code": -32000, "message": kind, "data": info})


async def cut(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
    """Accept a stream, deliver its beginning, and close the connection."""
    stream_id = request["params"]["stream_id"]
    await answer(connection, request, {"stream_id": stream_id, **ACCEPTED})
    await tell(connection, "stream/delta", stream_id=stream_id, from_=1, seq=1, content="Bl")
    await connection.close(1012)


class Deadly:
    """Breaks the connection at some requests, and answers all others.

    Args:
        methods: of these requests.
        forgets: whether there is no stream to subscribe to.
        cuts: whether the connection of a new chat is closed in the middle of it.
    """

    def __init__(self, *methods: str, forgets: bool = False, cuts: bool = False) -> None:
        self._methods = set(methods)
        self._forgets = forgets
        self._cuts = cuts
        #: So many subscriptions are refused for the moment.
        self.postponements = 0

    async def __call__(self, connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        """Serve a request."""
        method = request["method"]
        if method in self._methods:
            connection.transport.abort()
        elif method == "stream/subscribe" and self.postponements:
            self.postponements -= 1
            await refuse_as(connection, request, "storage_unavailable")
        elif method == "stream/subscribe" and self._forgets:
            await refuse_as(connection, request, "stream_not_found")
        elif method == "chat/send" and self._cuts:
            await cut(connection, request)
        elif method in {"chat/send", "stream/subscribe"}:
            await deliver(connection, request)
        elif method == "session/create":
            await answer(connection, request, session(request["params"]["session_id"]))
        else:
            await answer(connection, request, {"deleted": 0} if method == "session/delete_all" else {})


class Losing:
    """Loses the connection at each request but pings. Of the subscriptions it accepts one in LOSSES_MAX before, and the
    second time delivers the stream instead."""

    def __init__(self) -> None:
        self.subscriptions = 0

    async def __call__(self, connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        """Serve a request."""
        if request["method"] == "ping":
            await answer(connection, request, {})
            return
        self.subscriptions += request["method"] == "stream/subscribe"
        if self.subscriptions == 2 * LOSSES_MAX:
            await deliver(connection, request)
            return
        if self.subscriptions % LOSSES_MAX == 0:
            await answer(connection, request, {"stream_id": request["params"]["stream_id"], **ACCEPTED})
        connection.transport.close()


class Blocking:
    """Breaks the connection at the first two chats, and responds to a deletion of all sessions only after a cancel, of
    which it knows no stream: a client sends one of such requests at a time."""

    def __init__(self) -> None:
        self._deletions: list[dict[str, Any]] = []
        self._losses = 0
        #: Set once the deletion was sent again, so that the chat waits for its response.
        self.chat_waits = asyncio.Event()

    async def __call__(self, connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        """Serve a request."""
        match request["method"]:
            case "session/delete_all":
                self._deletions.append(request)
                if self._losses == 2:
                    self.chat_waits.set()
            case "chat/send" if self._losses < 2:
                self._losses += 1
                connection.transport.abort()
            case "chat/send":
                await deliver(connection, request)
            case "stream/cancel":
                await answer(connection, request, {"outcome": "not_found"})
                await answer(connection, self._deletions[-1], {"deleted": 0})
            case _:
                await answer(connection, request, {})


def sent(scripted: Scripted, method: str) -> int:
    """How many requests of a method it was sent."""
    return [each["method"] for each in scripted.asked].count(method)
