"""The client's side of archer.v1 for tests: plain, and strict about the protocol's promises.

Everything that comes is checked as it comes: the order within each stream, one end, nothing after it, no answer twice.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import websockets

from archer_ws.rpc.channel import ChannelClosed, MemoryChannel


class Transport(Protocol):
    async def send(self, text: str) -> None: ...
    async def recv(self) -> str: ...
    async def close(self) -> None: ...


class Gone(Exception):
    """The connection is closed."""


class MemoryTransport:
    """The other end of a memory channel."""

    def __init__(self, channel: MemoryChannel) -> None:
        self.channel = channel

    async def send(self, text: str) -> None:
        await self.channel.send(text)

    async def recv(self) -> str:
        try:
            return await self.channel.receive()
        except ChannelClosed:
            raise Gone(self.close_code) from None

    async def close(self) -> None:
        await self.channel.close(1000, "")

    @property
    def close_code(self) -> int | None:
        return self.channel.closed_with[0] if self.channel.closed_with else None


class SocketTransport:
    """A real WebSocket."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.connection = connection

    async def send(self, text: str) -> None:
        await self.connection.send(text)

    async def recv(self) -> str:
        try:
            text = await self.connection.recv()
        except websockets.ConnectionClosed:
            raise Gone(self.connection.close_code) from None
        assert isinstance(text, str)
        return text

    async def close(self) -> None:
        await self.connection.close()

    @property
    def close_code(self) -> int | None:
        return self.connection.close_code


@dataclass
class Seen:
    """What one subscription has received of a stream."""

    head: int = 0
    content: str = ""
    reasoning: str = ""
    #: By call_id.
    arguments: dict[str, str] = field(default_factory=dict)
    #: The params of each stream/tool_call.
    calls: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, Any] | None = None
    methods: list[str] = field(default_factory=list)


class RpcError(Exception):
    """A response with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code = error["code"]
        self.data = error["data"]
        self.kind = error["data"]["kind"]


class RpcPeer:
    """A client: `call` for requests, `streams` for what was told of each stream."""

    #: What all peers of this process have read: the recorder must have seen as many.
    frames_in_all = 0

    def __init__(self, transport: Transport, *, is_recorded: bool = True) -> None:
        """`is_recorded`: whether the server is in this process."""
        self.transport = transport
        self._is_recorded = is_recorded
        self.streams: dict[str, Seen] = {}
        self.others: list[dict[str, Any]] = []
        self.unmatched: list[dict[str, Any]] = []
        self.frames: list[dict[str, Any]] = []
        self.closed = asyncio.Event()
        self._answers: dict[Any, asyncio.Future[dict[str, Any]]] = {}
        #: What each subscription asked for: the events behind this one.
        self._after: dict[Any, int] = {}
        self._next = 0
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def request(self, method: str, **params: Any) -> asyncio.Future[dict[str, Any]]:
        """Send a request; the future has the whole response."""
        self._next += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._next] = answer
        if method == "stream/subscribe":
            self._after[self._next] = params.get("after", 0)
        await self.send({"jsonrpc": "2.0", "id": self._next, "method": method, "params": params})
        return answer

    async def call(self, method: str, **params: Any) -> Any:
        """The result of a request; raises RpcError."""
        async with asyncio.timeout(20):
            return result_of(await (await self.request(method, **params)))

    async def send(self, message: object) -> None:
        """Send a frame of JSON."""
        await self.transport.send(json.dumps(message))

    async def until(self, holds: Callable[[], bool], timeout_s: float = 20) -> None:
        """Wait until something holds, looking after every frame."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(holds)

    async def ended(self, stream_id: str, timeout_s: float = 20) -> Seen:
        """What was told of a stream, once it has ended."""
        await self.until(lambda: stream_id in self.streams and self.streams[stream_id].ended is not None, timeout_s)
        return self.streams[stream_id]

    async def text(self, stream_id: str, text: str) -> None:
        """Wait until the stream has said so much."""
        await self.until(lambda: stream_id in self.streams and self.streams[stream_id].content.endswith(text))

    async def close(self) -> None:
        """Leave."""
        await self.transport.close()
        await self.stop()

    async def stop(self) -> None:
        """Stop reading, and raise what reading found wrong."""
        self._reading.cancel()
        (problem,) = await asyncio.gather(self._reading, return_exceptions=True)
        if isinstance(problem, AssertionError):
            raise problem

    async def _read(self) -> None:
        try:
            while True:
                text = await self.transport.recv()
                RpcPeer.frames_in_all += self._is_recorded
                told = json.loads(text)
                # The responses to a batch come in one array.
                frames = told if isinstance(told, list) else [told]
                self.frames += frames
                async with self._changed:
                    for frame in frames:
                        self._take(frame)
                    self._changed.notify_all()
        except Gone:
            self.closed.set()
            async with self._changed:
                self._changed.notify_all()

    def _take(self, frame: dict[str, Any]) -> None:
        assert frame["jsonrpc"] == "2.0"
        assert None not in frame.get("params", {}).values()
        if "method" not in frame:
            answer = self._answers.pop(frame["id"], None)
            if answer is None:
                self.unmatched.append(frame)
            elif not answer.done():
                self._note_subscription(frame)
                answer.set_result(frame)
            return
        if not frame["method"].startswith("stream/"):
            self.others.append(frame)
            return
        self._take_event(frame["method"], frame["params"])

    def _note_subscription(self, frame: dict[str, Any]) -> None:
        result = frame.get("result", {})
        if isinstance(result, dict) and "head_seq" in result and "created_at" not in result:
            # chat/send or stream/subscribe: events of this subscription come only from here on.
            seen = self.streams.setdefault(result["stream_id"], Seen())
            seen.head = self._after.pop(frame["id"], seen.head)

    def _take_event(self, method: str, params: dict[str, Any]) -> None:
        seen = self.streams[params["stream_id"]]  # a KeyError: an event before its response
        seen.methods.append(method)
        assert seen.ended is None, "an event after the end"
        if method == "stream/delta":
            assert params["from"] == seen.head + 1, f"{params['from']} after {seen.head}"
            assert len({"content", "reasoning", "arguments"} & params.keys()) == 1
            assert ("arguments" in params) == ("call_id" in params) == ("name" in params)
            seen.content += params.get("content", "")
            seen.reasoning += params.get("reasoning", "")
            if (call := params.get("call_id")) is not None:
                seen.arguments[call] = seen.arguments.get(call, "") + params["arguments"]
        else:
            # Without deltas (stream: false) the numbers jump.
            may_jump = method == "stream/ended" or "stream/delta" not in seen.methods
            assert params["seq"] == seen.head + 1 or seen.head == 0 or (may_jump and params["seq"] > seen.head)
        seen.head = params["seq"]
        if method == "stream/tool_call":
            seen.calls.append(params)
        if method == "stream/step":
            seen.content = seen.reasoning = ""
        if method == "stream/ended":
            seen.ended = params


def result_of(response: dict[str, Any]) -> Any:
    """The result, or the error raised."""
    if "error" in response:
        raise RpcError(response["error"])
    return response["result"]


Connect = Callable[..., Awaitable[RpcPeer]]
