"""OpenAI's, Anthropic's and Ollama's APIs in one process that costs almost nothing.

What to answer stands as JSON in the last user message (`Task`). Without a pace an answer goes as fast as the reader
takes it; with one, all streams of that pace share one timer. `GET /told` gives, and forgets, which answers were broken
off by the reader and when (`closed`, µs of CLOCK_MONOTONIC by key).
"""

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Any, cast

from archer_ws.server.listening import raise_file_limit
from tests.benchmarks.speed.measuring import now_us
from tests.benchmarks.speed.processes import run_loop, stop_with_parent
from tests.benchmarks.speed.provider_wire import (
    ANSWERS,
    APIS,
    CALL_APIS,
    LAST_CHUNK,
    STAMP_DIGITS,
    WORD,
    Api,
    json_answer,
)

#: Tokens that are written at once where there is no pace, and how many such writes before others have their turn.
BLOCK_TOKENS, BLOCKS_A_TURN = 32, 8
#: About the time between two looks at a pace's streams, in seconds.
STEP_S = 0.001


@dataclass(frozen=True, slots=True)
class Task:
    """An answer to give: its key, its tokens, how many each second (0: all at once), whether each is a stamp, whether
    the answer stops after its first token and never ends, and whether it calls a tool, with the tokens as arguments."""

    key: str
    tokens: int
    per_s: float = 0
    stamp: bool = False
    hold: bool = False
    arguments: bool = False


class Pace:
    """All streams that go at one rate, spread over its period so that each step has about the same work."""

    def __init__(self, per_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots: list[list[Answer]] = [[] for _ in range(max(1, round(1 / per_s / STEP_S)))]
        self._step_s = 1 / per_s / len(self._slots)
        self._at = 0
        self._next_s = 0.0
        self._running = 0

    def add(self, answer: "Answer") -> None:
        """Give the answer a token now, and from now on."""
        if not self._running:
            self._next_s = self._loop.time()
            self._loop.call_soon(self._go_on)
        self._running += 1
        min(self._slots, key=len).append(answer)

    def _go_on(self) -> None:
        slot = self._slots[self._at]
        if slot:
            self._slots[self._at] = going = [answer for answer in slot if answer.write_token()]
            self._running -= len(slot) - len(going)
        self._at = (self._at + 1) % len(self._slots)
        self._next_s += self._step_s
        if self._running:
            self._loop.call_at(self._next_s, self._go_on)


class Provider:
    """What all connections share."""

    def __init__(self) -> None:
        self.closed: dict[str, int] = {}
        self._paces: dict[float, Pace] = {}
        apis = (*APIS.values(), *CALL_APIS.values())
        self._blocks = {id(api): api.chunk(WORD) * BLOCK_TOKENS for api in apis}
        self._stamped = {id(api): api.around_stamp() for api in apis}

    def pace(self, per_s: float) -> Pace:
        if per_s not in self._paces:
            self._paces[per_s] = Pace(per_s)
        return self._paces[per_s]

    def block(self, api: Api) -> bytes:
        """Some tokens, ready to be written."""
        return self._blocks[id(api)]

    def around_stamp(self, api: Api) -> tuple[bytes, bytes]:
        return self._stamped[id(api)]

    def told(self) -> dict[str, Any]:
        report = {"closed": self.closed}
        self.closed = {}
        return report


class Answer:
    """One stream that is being answered."""

    def __init__(self, provider: Provider, connection: "Connection", api: Api, task: Task) -> None:
        self.task = task
        self._connection = connection
        self._transport = connection.transport
        self._api = api
        self._block = provider.block(api)
        self._before, self._after = provider.around_stamp(api)
        self._left = task.tokens
        self._pace = provider.pace(task.per_s) if task.per_s else None

    def begin(self) -> None:
        """Write what comes before the text, and then the text at its pace."""
        self._transport.write(self._api.head + self._api.opening)
        if self.task.hold:
            self._transport.write(self._token())
        elif self._pace is not None:
            self._pace.add(self)
        else:
            self.pump()

    def write_token(self) -> bool:
        """Write one; whether there are more."""
        if self._transport.is_closing():
            return False
        self._left -= 1
        if self._left > 0:
            self._transport.write(self._token())
            return True
        self._transport.write(self._token() + self._end())
        self._connection.finished()
        return False

    def pump(self) -> None:
        """Write as fast as the reader takes it."""
        if self.task.hold or self.task.per_s:
            return
        for _ in range(BLOCKS_A_TURN):
            if self._connection.is_paused or self._transport.is_closing():
                return
            if self.task.stamp or self._left <= BLOCK_TOKENS:
                self._transport.write(b"".join(self._token() for _ in range(self._left)) + self._end())
                self._connection.finished()
                return
            self._transport.write(self._block)
            self._left -= BLOCK_TOKENS
        asyncio.get_running_loop().call_soon(self.pump)

    def _token(self) -> bytes:
        if self.task.stamp:
            return self._before + b"%0*d" % (STAMP_DIGITS, now_us()) + self._after
        return self._api.chunk(WORD)

    def _end(self) -> bytes:
        return self._api.ending(self.task.tokens) + LAST_CHUNK


class Connection(asyncio.Protocol):
    """One client's, with keep-alive."""

    transport: asyncio.Transport

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._buffer = b""
        self._answer: Answer | None = None
        self.is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def eof_received(self) -> None:
        self._note_close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._note_close()

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        if self._answer is not None:
            self._answer.pump()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.split(b"\r\n")
        sizes = [int(line.partition(b":")[2]) for line in lines if line.lower().startswith(b"content-length:")]
        size = sizes[0] if sizes else 0
        if len(body) < size:
            return
        self._buffer = body[size:]
        self._reply(first.split()[1].decode().partition("?")[0], body[:size])

    def finished(self) -> None:
        """The answer has been written."""
        self._answer = None

    def _reply(self, path: str, body: bytes) -> None:
        api = APIS.get(path)
        if api is not None:
            request = json.loads(body)
            task = _task(request["messages"][-1]["content"])
            if request.get("stream"):
                said = CALL_APIS[path] if task.arguments else api
                self._answer = answer = Answer(self._provider, self, said, task)
                answer.begin()
            else:
                self.transport.write(json_answer(api.whole(WORD * task.tokens, task.tokens)))
        elif path == "/told":
            self.transport.write(json_answer(self._provider.told()))
        else:
            self.transport.write(ANSWERS.get(path) or b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    def _note_close(self) -> None:
        if self._answer is not None:
            self._provider.closed[self._answer.task.key] = now_us()
            self._answer = None


def _task(content: Any) -> Task:
    """The task in a message; some clients send text as a list of parts."""
    return Task(**json.loads(content if isinstance(content, str) else content[0]["text"]))


async def main() -> None:
    raise_file_limit()
    provider = Provider()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(provider), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    stop_with_parent()
    sys.exit(run_loop(main()))
