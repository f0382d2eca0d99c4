"""An archer.v1 server with one stream that waits for the results of its calls, as protocol section 23 has it.

Its model calls what the test says in its first step, and tells in its second what came of it. The test says which
answers are lost with their connections, and sees all that was asked.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import websockets

from tests.fakes.newer_server import Event
from tests.fakes.scripted_archer import WELCOME, answer, listening, notify

FIRST = "Let me look."
#: How much of a text result its event has.
TOLD_BYTES = 64 * 1024
#: A close that clients come back from; what was sent before it is read first.
_RESTARTING = 1012


@dataclass
class Call:
    """A call of the first step, and where it stands."""

    call_id: str
    name: str = "get_weather"
    arguments: str = '{"city": "Oslo"}'
    needs_approval: bool = False
    by: str = "client"
    #: Whether the stream waits for it; else it ends with it.
    is_awaited: bool = True
    is_approved: bool = False
    claim: str | None = None
    #: How it ended.
    status: str | None = None
    content: str = ""


class ExchangeServer:
    """Its behaviour, and what it was asked.

    Args:
        calls: what its model calls.
        lost: of these methods one request each, as often as they are named, takes effect, and its connection is closed
            before it is answered.
    """

    def __init__(self, calls: Sequence[Call], lost: Iterable[str] = ()) -> None:
        self.url = ""
        #: The params of the chat/send that began the stream.
        self.request: dict[str, Any] = {}
        #: All requests, in order, `initialize` left out.
        self.asked: list[tuple[str, dict[str, Any]]] = []
        #: All events, from seq 1.
        self.log: list[Event] = []
        self.calls = {call.call_id: call for call in calls}
        self.steered: list[dict[str, Any]] = []
        #: Whether the text of a long result is truncated in its parts, too; earlier servers did not.
        self.truncates_parts = True
        #: Until it is released, no event behind this one is told.
        self.held_at: int | None = None
        #: Calls that another client approves right before the first decision about them arrives.
        self.approved_meanwhile: set[str] = set()
        #: Whether a request, by its method and params, breaks the connection and has no effect.
        self.is_deadly: Callable[[str, dict[str, Any]], bool] = lambda method, params: False
        self._lost = list(lost)
        self._stream_id = ""
        self._connections: set[websockets.ServerConnection] = set()
        self._readers: dict[websockets.ServerConnection, int] = {}
        self._changed = asyncio.Condition()
        #: What it says of one thing is said before the next is done.
        self._turn = asyncio.Lock()

    def asked_of(self, method: str) -> list[dict[str, Any]]:
        """The params of all requests of a method."""
        return [params for asked, params in self.asked if asked == method]

    async def until(self, method: str, count: int = 1) -> None:
        """Wait until so many requests of a method have come."""
        async with asyncio.timeout(20):
            async with self._changed:
                while len(self.asked_of(method)) < count:
                    await self._changed.wait()

    def begin(self, stream_id: str) -> None:
        """The stream is there, from elsewhere."""
        self._stream_id = stream_id
        self._begin()

    async def settle(self, call_id: str, status: str, content: Any = "") -> None:
        """A call has its result, from elsewhere."""
        async with self._turn:
            self._settle(self.calls[call_id], status, content)
            await self._deliver()

    async def approve(self, call_id: str) -> None:
        """A person agrees to a call, elsewhere."""
        async with self._turn:
            self._said("tool/approve", self.calls[call_id], {"approved": True})
            await self._deliver()

    async def end(self, status: str, **more: Any) -> None:
        """The stream ends; its open calls first."""
        async with self._turn:
            for call in self.calls.values():
                if call.status is None:
                    self._settle(call, "cancelled", "", goes_on=False)
            self._write("ended", status=status, text_bytes=len(FIRST), **more)
            await self._deliver()

    async def release(self) -> None:
        """Tell all that was held."""
        async with self._turn:
            self.held_at = None
            await self._deliver()

    async def close_all(self) -> None:
        """Every connection is lost."""
        for connection in list(self._connections):
            await connection.close(_RESTARTING)

    async def __call__(self, connection: websockets.ServerConnection) -> None:
        """Serve a connection."""
        self._connections.add(connection)
        try:
            async for text in connection:
                async with self._turn:
                    await self._serve(connection, json.loads(text))
        except websockets.ConnectionClosed:
            pass
        finally:
            self._connections.discard(connection)
            self._readers.pop(connection, None)

    async def _serve(self, connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        method, params = request["method"], request.get("params", {})
        if method == "initialize":
            await answer(connection, request, WELCOME)
            return
        is_deadly = self.is_deadly(method, params)
        result = {} if is_deadly else self._done(method, params)
        async with self._changed:
            self.asked.append((method, params))
            self._changed.notify_all()
        if is_deadly:
            await connection.close(_RESTARTING)
            return
        if method in self._lost:
            self._lost.remove(method)
            await connection.close(_RESTARTING)
        else:
            await answer(connection, request, result)
            if method in ("chat/send", "stream/subscribe"):
                self._readers[connection] = params.get("after", 0)
            elif method == "stream/unsubscribe":
                self._readers.pop(connection, None)
        await self._deliver()

    def _done(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "chat/send" | "stream/subscribe":
                if method == "chat/send" and not self.log:
                    self.request, self._stream_id = params, params["stream_id"]
                    self._begin()
                accepted = {"stream_id": self._stream_id, "provider": "p", "model": "m", "duplicate": False}
                return {**accepted, "status": self.status, "head_seq": len(self.log)}
            case "stream/get":
                info = {"created_at": "2026-11-22T10:15:30Z", "head_seq": len(self.log), "text_bytes": len(FIRST)}
                return {"stream_id": self._stream_id, "status": self.status, "provider": "p", "model": "m", **info}
            case "stream/cancel":
                return {"outcome": "already_ended" if self.status != "waiting" else "cancelling"}
            case "stream/steer":
                self.steered.append({name: params[name] for name in ("message_id", "content")})
                return {"outcome": "accepted"}
            case "tool/approve" | "tool/claim" | "tool/result":
                return self._said(method, self.calls[params["call_id"]], params)
        return {}

    @property
    def status(self) -> str:
        """The stream's."""
        if self.log and self.log[-1][0] == "stream/ended":
            return str(self.log[-1][1]["status"])
        return "waiting" if any(call.status is None for call in self.calls.values()) else "running"

    def _said(self, method: str, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        if call.status is not None:
            return {"outcome": "already_answered", "status": call.status}
        if method == "tool/approve":
            return self._decided(call, params)
        if call.needs_approval:
            return {"outcome": "needs_approval"}
        if call.claim not in (None, params.get("claim")):
            return {"outcome": "taken"}
        if method == "tool/result":
            self._settle(call, params.get("status", "ok"), params["content"])
            return {"outcome": "accepted"}
        if call.claim is None:
            call.claim = params["claim"]
            self._write("tool_update", call_id=call.call_id, state="running")
        return {"outcome": "claimed"}

    def _decided(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        if call.call_id in self.approved_meanwhile:
            self.approved_meanwhile.remove(call.call_id)
            self._decided(call, {"approved": True})
        if not params["approved"]:
            if call.is_approved:
                return {"outcome": "too_late"}
            self._settle(call, "denied", f"The call was denied: {params.get('reason')}")
        elif call.needs_approval:
            call.needs_approval, call.is_approved = False, True
            self._write("tool_update", call_id=call.call_id, state="pending", approved=True)
        return {"outcome": "accepted"}

    def _begin(self) -> None:
        self._write("started", provider="p", model="m")
        self._write("delta", content=FIRST)
        for call in self.calls.values():
            known = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments, "by": call.by}
            approval = {"needs_approval": True} if call.needs_approval else {}
            deadline = {"deadline_at": "2040-01-01T00:00:00Z"} if call.is_awaited else {}
            self._write("tool_call", **known, **approval, **deadline)

    def _settle(self, call: Call, status: str, content: Any, *, goes_on: bool = True) -> None:
        call.status, call.content = status, content
        self._write(
            "tool_result", call_id=call.call_id, status=status, **_told(content, truncates_parts=self.truncates_parts)
        )
        if goes_on and all(each.status is not None for each in self.calls.values()):
            text = "; ".join(f"{each.call_id} {each.status}" for each in self.calls.values())
            self._write("step", step=2, **({"messages": self.steered} if self.steered else {}))
            self._write("delta", content=text)
            self._write("ended", status="completed", finish_reason="stop", text_bytes=len(FIRST + text), steps=2)

    def _write(self, kind: str, **params: Any) -> None:
        seq = len(self.log) + 1
        first = {"from": seq} if kind == "delta" else {}
        self.log.append((f"stream/{kind}", {"stream_id": self._stream_id, **first, "seq": seq, **params}))

    async def _deliver(self) -> None:
        for connection, seen in list(self._readers.items()):
            end = len(self.log) if self.held_at is None else self.held_at
            self._readers[connection] = max(seen, end)
            try:
                for method, params in self.log[seen:end]:
                    await notify(connection, method, params)
            except websockets.ConnectionClosed:
                self._readers.pop(connection, None)


@asynccontextmanager
async def exchange_server(*calls: Call, lost: Iterable[str] = ()) -> AsyncIterator[ExchangeServer]:
    """A running one; its `url` begins with `http://`."""
    served = ExchangeServer(calls, lost)
    async with listening(served) as url:
        served.url = url.replace("ws", "http", 1)
        yield served


def _told(content: Any, *, truncates_parts: bool) -> dict[str, Any]:
    """What an event has of a result, which is a text or a list of parts: a long text is truncated."""
    parts = {"parts": content} if isinstance(content, list) else {}
    text = "\n".join(part["text"] for part in content if part["type"] == "text") if parts else content
    if not isinstance(text, str) or len(text.encode()) <= TOLD_BYTES:
        return {"content": text, **parts}
    told = text.encode()[:TOLD_BYTES].decode(errors="ignore")
    if parts and truncates_parts:
        first, *others = content  # Tests put all that is too long into the first part.
        parts = {"parts": [{**first, "text": told}, *(each for each in others if each["type"] != "text")]}
    return {"content": told, "truncated": True, **parts}
