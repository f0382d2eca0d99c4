"""A WebSocket of a load generator: archer.v1, and the relay that looks like it, at the least cost for the client."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, cast

from tests.benchmarks.speed.answers import TEXT as BARE_TEXT
from tests.benchmarks.speed.answers import Answer, Tally
from tests.benchmarks.speed.measuring import now_us
from tests.fakes.raw_websocket import CLOSE, PING, PONG, TEXT, frame, request

#: A message like every other one of a stream is read without JSON; what looks different is decoded.
_DELTA = re.compile(
    rb'\{"jsonrpc": ?"2\.0", ?"method": ?"stream/delta",[^\\]*?"stream_id": ?"([^"]+)"[^\\]*?' + BARE_TEXT
)


class SocketLane(asyncio.Protocol):
    """One socket that carries any number of answers."""

    _transport: asyncio.Transport

    def __init__(self, host: str, tally: Tally) -> None:
        self._host = host
        self._tally = tally
        self._buffer = b""
        self._answers: dict[bytes, Answer] = {}
        self._asked: dict[int, Callable[[int], None]] = {}
        self._requests = 0
        self._is_closing = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, address: str, tally: Tally) -> "SocketLane":
        """A socket whose handshake is done."""
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        _, lane = await loop.create_connection(lambda: cls(address, tally), host, int(port))
        await lane.opened
        return lane

    def ask(self, answer: Answer) -> None:
        """Send a chat."""
        self._answers[answer.key.encode()] = answer
        answer.asked_us = now_us()
        self._request("chat/send", stream_id=answer.key, messages=answer.messages)

    def cancel(self, answer: Answer) -> None:
        self._request("stream/cancel", stream_id=answer.key)

    def ping(self, on_reply: Callable[[int], None]) -> None:
        """A request for a reply, which is given the µs that it took."""
        asked_us = now_us()
        self._asked[self._requests + 1] = lambda at_us: on_reply(at_us - asked_us)
        self._request("ping")

    def close(self) -> None:
        """Drop the connection."""
        self._is_closing = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        lines = (
            "GET /api/v1/ws HTTP/1.1",
            f"Host: {self._host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Version: 13",
        )
        self._transport.write("\r\n".join([*lines, "", ""]).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(f"no WebSocket: {self._buffer[:200]!r}"))
        if not self._is_closing:
            at_us = now_us()
            self._tally.wrong["a socket was closed by the server"] += 1
            for answer in list(self._answers.values()):
                self._end(answer, "lost with its socket", at_us)

    def data_received(self, data: bytes) -> None:
        at_us = now_us()
        buffer = self._buffer + data if self._buffer else data
        at = 0
        if not self.opened.done():
            at = buffer.find(b"\r\n\r\n") + 4
            if at < 4 or not buffer.startswith(b"HTTP/1.1 101"):
                self._buffer = buffer
                if at >= 4:
                    self._transport.abort()
                return
            self.opened.set_result(None)
        size = len(buffer)
        while size - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length >= 126:
                start += 2 if length == 126 else 8
                length = int.from_bytes(buffer[at + 2 : start])
            if size < start + length:
                break
            self._take(buffer[at] & 0x0F, buffer[start : start + length], at_us)
            at = start + length
        self._buffer = buffer[at:]

    def _take(self, opcode: int, payload: bytes, at_us: int) -> None:
        if opcode == TEXT:
            told = _DELTA.match(payload)
            if told is None:
                self._take_other(json.loads(payload), at_us)
            elif told[1] in self._answers:
                self._tally.text(self._answers[told[1]], told[2], at_us)
        elif opcode == PING:
            self._transport.write(frame(PONG, payload))
        elif opcode == CLOSE:
            self._tally.wrong[f"closed with {int.from_bytes(payload[:2])}"] += 1

    def _take_other(self, message: dict[str, Any], at_us: int) -> None:
        on_reply = self._asked.pop(message.get("id", 0), None)
        if "error" in message:
            self._tally.wrong[f"refused: {message['error']['message']}"] += 1
            for answer in list(self._answers.values()):
                self._end(answer, "on a socket with an error", at_us)
        elif on_reply is not None:
            on_reply(at_us)
        elif message.get("method") == "stream/delta":
            params = message["params"]
            text = params.get("content") or params.get("arguments") or ""
            self._tally.text(self._answers[params["stream_id"].encode()], text.encode(), at_us)
        elif message.get("method") == "stream/ended":
            params = message["params"]
            if (known := self._answers.get(params["stream_id"].encode())) is not None:
                failure = params.get("error", {}).get("message")
                status = f"{params['status']}: {failure}" if failure else params["status"]
                self._end(known, status, at_us, params["text_bytes"])

    def _end(self, answer: Answer, status: str, at_us: int, told_bytes: int | None = None) -> None:
        del self._answers[answer.key.encode()]
        self._tally.end(answer, status, at_us, told_bytes)

    def _request(self, method: str, **params: Any) -> None:
        self._requests += 1
        self._transport.write(request(method, self._requests, **params))
