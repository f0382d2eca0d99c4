"""One connection of a check: sends anything, reads every frame, and waits, with a text that says for what.

Only waits for silence have their own time limit. The runner's limit on the whole check ends the others, and
`Trial.waiting_for` then tells what was missing. inbox.py holds what was received.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from archer_ws.client.dialling import close
from archer_ws.conformance.failing import Failed, Skipped, expect, shown
from archer_ws.conformance.inbox import Inbox, Request
from archer_ws.conformance.ledger import Ledger, Rule
from archer_ws.conformance.methods import (
    CHAT_SEND,
    CODES,
    ENDED_STATUSES,
    INABILITIES,
    PING,
    STREAM_GET,
    STREAM_SUBSCRIBE,
    ExpectedMethod,
)
from archer_ws.conformance.told import Told
from archer_ws.conformance.wire import RequestId, Response
from archer_ws.core.exceptions import ErrorInfo
from archer_ws.sessions.streams.events import StreamEnded

T = TypeVar("T")


@dataclass
class Trial:
    """One check's run: what it is doing, for the runner to report and the bench to clean up.

    `quiet_s` is how long nothing must arrive before that counts as the server's response, in seconds.
    """

    ledger: Ledger
    quiet_s: float
    waiting_for: str = "the connection"
    streams: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)


class Peer:
    """One connection.

    Args:
        connection: open.
        trial: the check that it belongs to.
    """

    def __init__(self, connection: ClientConnection, trial: Trial) -> None:
        self.connection = connection
        self.inbox = Inbox(trial.ledger)
        self.is_closed = False
        self._trial = trial
        self._changed = asyncio.Event()
        self._last_id = 0
        self._reading = asyncio.create_task(self._read())

    async def send(self, frame: str | bytes) -> None:
        """Send any frame; if the connection was closed meanwhile, the next wait notices it."""
        with suppress(ConnectionClosed):
            await self.connection.send(frame)

    async def send_json(self, value: Any) -> None:
        """Send a frame of JSON."""
        await self.send(json.dumps(value))

    async def request(
        self, method: ExpectedMethod[T], *, identity: RequestId | None = None, **params: Any
    ) -> Request[T]:
        """Send a request, without waiting."""
        if identity is None:
            self._last_id += 1
            identity = self._last_id
        request = Request(method, identity, params)
        self.inbox.expect(request)
        if method is CHAT_SEND and "stream_id" in params:
            self._trial.streams.add(params["stream_id"])
        await self.send_json({"jsonrpc": "2.0", "id": identity, "method": method.name, "params": params})
        return request

    async def call(self, method: ExpectedMethod[T], **params: Any) -> T:
        """A request's result."""
        return await self.result(await self.request(method, **params))

    async def result(self, request: Request[T]) -> T:
        """The result of a request that was sent.

        Raises:
            Failed: it was refused.
            Skipped: it was refused because of the provider or the load.
        """
        response = await self.response(request)
        if response.error is not None:
            info = response.error.info
            if info.kind in INABILITIES:
                raise Skipped(f"{request.method.name} was answered {info.kind}: {shown(info.message)}")
            raise Failed(f"a result of {request.method.name}", f"{info.kind}: {shown(info.message)}")
        assert request.result is not None
        return request.result

    async def refused(self, method: ExpectedMethod[Any], kind: str, **params: Any) -> ErrorInfo:
        """The error of a request that must be refused with this kind."""
        return await self.refusal(await self.request(method, **params), kind)

    async def refusal(self, request: Request[Any], kind: str) -> ErrorInfo:
        """The error of a request that was sent and must be refused with this kind."""
        return refusal_of(await self.response(request), kind)

    async def response(self, request: Request[Any]) -> Response:
        """The response to a request that was sent."""
        await self.until(
            lambda: request.response is not None, f"a response to {request.method.name} with the id {request.id!r}"
        )
        assert request.response is not None
        return request.response

    async def complaint(self, kind: str, about: str) -> ErrorInfo:
        """The next error with `id: null`, which must be of this kind."""
        await self.until(lambda: bool(self.inbox.unaddressed), f"{kind} with id null to {about}")
        return refusal_of(Response(None, error=self.inbox.unaddressed.pop(0)), kind)

    async def still_serves(self) -> None:
        """Check that the socket still works; everything that the server had to answer before has arrived then."""
        await self.call(PING)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until the condition holds, checking after every frame.

        Raises:
            Failed: the connection was closed, or a frame cannot be read.
        """
        self._trial.waiting_for = what
        while not holds():
            if self.inbox.problem is not None:
                raise self.inbox.problem
            if self.is_closed:
                raise Failed(what, f"the connection was closed with {self.close_code}")
            self._changed.clear()
            await self._changed.wait()

    async def until_quiet(self, holds: Callable[[], bool], what: str) -> bool:
        """Whether the condition holds before nothing arrives for `quiet_s`."""
        try:
            async with asyncio.timeout(self._trial.quiet_s):
                await self.until(holds, what)
        except TimeoutError:
            return False
        return True

    async def closes_with(self, code: int, why: str) -> None:
        """Check that the server closes the connection with this code."""
        expected = f"a close with {code} for {why}"
        self._trial.waiting_for = expected
        try:
            async with asyncio.timeout(self._trial.quiet_s):
                await self.connection.wait_closed()
        except TimeoutError:
            raise Failed(expected, f"the socket is open after {self._trial.quiet_s:g} s") from None
        expect(self.close_code == code, expected, f"a close with {self.close_code}")

    @property
    def close_code(self) -> int:
        """The code with which the server closed the connection; 1006 without a close frame."""
        received = self.connection.protocol.close_rcvd
        return received.code if received is not None else 1006

    async def chat(self, params: Mapping[str, Any]) -> Told:
        """Send a chat; returns what is received of it, from its acceptance on."""
        return await self.accepted(await self.request(CHAT_SEND, **params))

    async def accepted(self, request: Request[Any]) -> Told:
        """What is received of a chat that was sent, or of a stream subscribed to, from the response on."""
        result = await self.result(request)
        self._trial.streams.add(result.stream_id)
        return self.inbox.told(result.stream_id)

    async def subscribe(self, stream_id: str, after: int = 0) -> Told:
        """Subscribe to a stream."""
        return await self.accepted(await self.request(STREAM_SUBSCRIBE, stream_id=stream_id, after=after))

    async def events(self, told: Told, count: int) -> None:
        """Wait for this many events of a stream, or for its end."""
        await self.until(lambda: told.events >= count or told.ended is not None, f"{count} events of {told.stream_id}")

    async def deltas(self, told: Told, count: int, purpose: str) -> None:
        """Wait for this many deltas of a running stream.

        Raises:
            Skipped: it ended before.
        """
        await self._until_running(told, lambda: told.deltas >= count, f"{count} deltas of {told.stream_id}", purpose)

    async def text(self, told: Told, purpose: str) -> None:
        """Wait for text of a running stream that is no reasoning.

        Raises:
            Skipped: it ended before.
        """
        await self._until_running(told, lambda: bool(told.content), f"text of {told.stream_id}", purpose)

    async def _until_running(self, told: Told, holds: Callable[[], bool], what: str, purpose: str) -> None:
        await self.until(lambda: holds() or told.ended is not None, what)
        if told.ended is not None:
            raise Skipped(_why_too_short(told.ended, purpose))

    async def ended(self, told: Told) -> StreamEnded:
        """The end of a stream.

        Raises:
            Failed: the server reports that it ended, and does not send the end.
            Skipped: the provider failed.
        """
        is_overdue = False
        while told.ended is None:
            if await self._hears_more_of(told):
                is_overdue = False
                continue
            status = (await self.call(STREAM_GET, stream_id=told.stream_id)).status
            if is_overdue and status in ENDED_STATUSES:
                breach = f"stream/get says {status}, and no stream/ended came"
                self._trial.ledger.note(Rule.ENDS, breach)
                raise Failed(_end_of(told), breach)
            is_overdue = status in ENDED_STATUSES
        if told.ended.status == "failed" and told.ended.error is not None and told.ended.error.kind in INABILITIES:
            raise Skipped(f"the provider failed: {shown(told.ended.error.message)}")
        return told.ended

    async def _hears_more_of(self, told: Told) -> bool:
        events = told.events
        return await self.until_quiet(lambda: told.events > events, _end_of(told))

    def drop(self) -> None:
        """Abort the TCP connection, as a network failure does."""
        self.connection.transport.abort()

    async def leave(self) -> None:
        """Close the connection."""
        await close(self.connection)
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while True:
                self.inbox.take(await self.connection.recv())
                self._changed.set()
        except ConnectionClosed:
            pass
        finally:
            self.is_closed = True
            self._changed.set()


def refusal_of(response: Response, kind: str) -> ErrorInfo:
    """The error of a response that must be an error of this kind.

    Raises:
        Failed: it is a result, or another error.
    """
    error = response.error
    if error is None:
        raise Failed(f"the error {kind} ({CODES[kind]})", shown({"result": response.result}))
    came = f"{error.info.kind} ({error.code}): {shown(error.info.message)}"
    expect(error.info.kind == kind and error.code == CODES[kind], f"the error {kind} ({CODES[kind]})", came)
    return error.info


def _why_too_short(end: StreamEnded, purpose: str) -> str:
    if end.status == "failed":
        return f"the provider failed: {shown(end.error.message if end.error else '')}"
    return f"the answer was too short to {purpose}"


def _end_of(told: Told) -> str:
    return f"stream/ended of {told.stream_id}"
