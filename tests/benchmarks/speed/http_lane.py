"""An HTTP connection of a load generator: one answer at a time, streamed or whole, from whichever server.

Streams are read without JSON but for our own server's end: texts are found in the events of the OpenAI form, ours, the
relay's and Ollama's alike. The connection is kept for the next answer.
"""

import asyncio
import json
import re
from typing import Any, Literal, cast

from tests.benchmarks.speed.answers import TEXT, Answer, Tally
from tests.benchmarks.speed.measuring import now_us
from tests.benchmarks.speed.provider_wire import MODEL

Target = Literal["sidecar", "relay", "direct", "litellm", "bifrost"]
#: The events that end a stream fit into so many bytes.
END_BYTES = 2000
_TEXT = re.compile(TEXT)
#: Behind all of them, our server tells a call's arguments once more, as a whole.
_WHOLE_CALL = b"event: tool_call\n"
_OPENAI_PATH, _OWN_PATH = "/v1/chat/completions", "/api/v1/chat/completions"


class HttpLane(asyncio.Protocol):
    """One connection.

    Args:
        address: `host:port`.
        target: who listens there, which says where and how it is asked.
        whole: whether to ask for the answer as one JSON object.
    """

    _transport: asyncio.Transport

    def __init__(self, address: str, target: Target, tally: Tally, *, whole: bool = False) -> None:
        self._address = address
        self._target = target
        self._tally = tally
        self._whole = whole
        self._answer: Answer | None = None
        self._is_closing = False
        self._buffer = self._tail = b""
        self._left = 0
        self._begin()

    @classmethod
    async def open(cls, address: str, target: Target, tally: Tally, *, whole: bool = False) -> "HttpLane":
        """An open connection."""
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        _, lane = await loop.create_connection(lambda: cls(address, target, tally, whole=whole), host, int(port))
        return lane

    def ask(self, answer: Answer) -> None:
        """Send a request; the one before must have ended."""
        self._answer = answer
        self._begin()
        answer.asked_us = now_us()
        self._transport.write(self._request(answer))

    def close(self) -> None:
        """Drop the connection."""
        self._is_closing = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_closing:
            self._end("lost with its connection", now_us())

    def data_received(self, data: bytes) -> None:
        at_us = now_us()
        self._buffer += data
        if not self._has_head and not self._take_head():
            return
        if self._chunked:
            body, is_over = self._take_chunks()
        else:
            body, self._buffer = self._buffer, b""
            self._left -= len(body)
            is_over = self._left <= 0
        if body:
            self._take(body, at_us)
        if is_over:
            self._take_end(at_us)

    def _begin(self) -> None:
        self._buffer = self._tail = b""
        self._status = 0
        self._left = 0
        self._has_head = self._chunked = self._has_calls = False
        self._pieces: list[bytes] = []

    def _request(self, answer: Answer) -> bytes:
        value: dict[str, Any] = {"messages": answer.messages, "stream": not self._whole}
        if self._target in {"sidecar", "relay"}:
            path = _OWN_PATH if self._whole else f"{_OWN_PATH}/stream"
        else:
            path = _OPENAI_PATH
            value["model"] = f"openai/{MODEL}" if self._target == "bifrost" else MODEL
            if not self._whole:
                value["stream_options"] = {"include_usage": True}
        body = json.dumps(value).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._address}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _take_head(self) -> bool:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        self._has_head, self._buffer = True, rest
        first, *lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b":", 1) for line in lines)
        self._status = int(first.split()[1])
        self._chunked = b"chunked" in headers.get(b"transfer-encoding", b"")
        self._left = int(headers.get(b"content-length", b"0"))
        return True

    def _take_chunks(self) -> tuple[bytes, bool]:
        """The whole chunks of the buffer, and whether the last was among them."""
        buffer, at, found = self._buffer, 0, []
        is_over = False
        while (line_end := buffer.find(b"\r\n", at)) >= 0:
            size = int(buffer[at:line_end], 16)
            start = line_end + 2
            if len(buffer) < start + size + 2:
                break
            found.append(buffer[start : start + size])
            at = start + size + 2
            if not size:
                is_over = True
                break
        self._buffer = buffer[at:]
        return b"".join(found), is_over

    def _take(self, body: bytes, at_us: int) -> None:
        if self._whole or self._status != 200:
            self._pieces.append(body)
            return
        body = self._tail + body
        lines_end = body.rfind(b"\n") + 1
        answer = self._answer
        if answer is not None and not self._has_calls:
            call_at = body.find(_WHOLE_CALL) if answer.arguments else -1
            self._has_calls = call_at >= 0
            if texts := _TEXT.findall(body, 0, call_at if self._has_calls else lines_end):
                self._tally.text(answer, b"".join(texts), at_us)
        # The end of a stream is looked at when all is there.
        self._pieces = [*self._pieces[-1:], body[max(0, lines_end - END_BYTES) : lines_end]]
        self._tail = body[lines_end:]

    def _take_end(self, at_us: int) -> None:
        body = b"".join(self._pieces)
        if self._status != 200:
            self._end(f"HTTP {self._status}: {body[:200].decode()}", at_us)
        elif self._whole:
            self._take_whole(json.loads(body), at_us)
        elif b"data: [DONE]" not in body:
            self._end("without an end marker", at_us)
        elif self._target == "sidecar":
            ended = json.loads(body.rpartition(b"event: ended\n")[2].partition(b"data: ")[2].partition(b"\n")[0])
            self._end(ended["status"], at_us, ended["text_bytes"])
        else:
            self._end("completed", at_us)

    def _take_whole(self, value: dict[str, Any], at_us: int) -> None:
        text = value["choices"][0]["message"]["content"] if "choices" in value else value["content"]
        if self._answer is not None:
            self._tally.text(self._answer, text.encode(), at_us)
        self._end(value.get("status", "completed"), at_us)

    def _end(self, status: str, at_us: int, told_bytes: int | None = None) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            self._tally.end(answer, status, at_us, told_bytes)
