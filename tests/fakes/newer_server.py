"""An archer.v1 server of a later time: the log of its one stream has events that no client knows.

It keeps its promises, with whatever is in the log, and closes connections behind the events that a test names, so that
what a client has seen of the log is known to the event.
"""

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import websockets

from tests.fakes.scripted_archer import ACCEPTED, WELCOME, answer, listening, notify

Event = tuple[str, dict[str, Any]]

#: "stream/weather" stands for one event, and once for two; a delta has text of a kind that does not exist.
LOG: tuple[Event, ...] = (
    ("stream/started", {"seq": 1, "provider": "p", "model": "m", "mood": {"is": "new"}}),
    ("stream/weather", {"seq": 2, "sky": "blue"}),
    ("stream/delta", {"from": 3, "seq": 3, "content": "one ", "colour": "blue"}),
    ("stream/delta", {"from": 4, "seq": 6, "painting": "a boat", "easel": "x"}),
    ("stream/delta", {"from": 7, "seq": 8, "content": "two "}),
    ("tomorrow/weather", {"from": 9, "seq": 10, "sky": ["grey", None]}),
    ("stream/delta", {"from": 11, "seq": 11, "reasoning": "hm"}),
    ("stream/delta", {"from": 12, "seq": 12, "content": "three"}),
    ("stream/weather", {"seq": 13, "sky": "dark"}),
    ("stream/ended", {"seq": 14, "status": "completed", "text_bytes": 13, "mood": "fine"}),
)
TEXT = "one two three"
#: The last number of each event that no client knows.
UNKNOWN_SEQS = (2, 6, 10, 13)
SEQS = tuple(int(params["seq"]) for _, params in LOG)

#: A close that clients come back from; what was sent before it is read first.
_RESTARTING = 1012


class NewerServer:
    """Its behaviour, and what it was asked.

    Args:
        cuts: behind these events the connection is closed, once each.
        left_out: these events are not told, as often as they are named.
        results: what other methods are answered.
        log: the events of its first stream,
        later_log: and those of all others.
    """

    def __init__(
        self,
        cuts: Iterable[int] = (),
        left_out: Iterable[int] = (),
        results: dict[str, dict[str, Any]] | None = None,
        log: Sequence[Event] = LOG,
        later_log: Sequence[Event] | None = None,
    ) -> None:
        self.url = ""
        #: The params of the last chat/send.
        self.request: dict[str, Any] = {}
        #: The methods of the requests, `initialize` left out.
        self.asked: list[str] = []
        #: Where each subscription began.
        self.afters: list[int] = []
        self._cuts = set(cuts)
        self._left_out = list(left_out)
        self._results = results or {}
        self._log = log
        self._later_log = later_log

    async def __call__(self, connection: websockets.ServerConnection) -> None:
        """Serve a connection."""
        async for text in connection:
            request = json.loads(text)
            method, params = request["method"], request.get("params", {})
            if method == "initialize":
                await answer(connection, request, WELCOME)
                continue
            self.asked.append(method)
            if method not in ("chat/send", "stream/subscribe"):
                await answer(connection, request, self._results.get(method, {}))
                continue
            after = int(params.get("after", 0))
            if method == "stream/subscribe":
                self.afters.append(after)
            else:
                if self.request and self._later_log is not None:
                    self._log = self._later_log
                self.request = params
            head = self._log[-1][1]["seq"]
            await answer(connection, request, {"stream_id": params["stream_id"], **ACCEPTED, "head_seq": head})
            is_whole = params.get("stream") is False
            await self._tell(connection, params["stream_id"], after, is_whole=is_whole)

    async def _tell(
        self, connection: websockets.ServerConnection, stream_id: str, after: int, *, is_whole: bool
    ) -> None:
        # About the stream, and no event of its log.
        await notify(connection, "stream/looked_at", {"stream_id": stream_id, "by": "nobody"})
        for method, params in self._log:
            seq = params["seq"]
            if seq <= after or (is_whole and method == "stream/delta"):
                continue
            if seq in self._left_out:
                self._left_out.remove(seq)
                continue
            whole = {"content": TEXT} if is_whole and method == "stream/ended" else {}
            await notify(connection, method, {"stream_id": stream_id, **params, **whole})
            if seq in self._cuts:
                self._cuts.remove(seq)
                await connection.close(_RESTARTING)
                return


@asynccontextmanager
async def newer_server(
    cuts: Iterable[int] = (),
    left_out: Iterable[int] = (),
    results: dict[str, dict[str, Any]] | None = None,
    log: Sequence[Event] = LOG,
    later_log: Sequence[Event] | None = None,
) -> AsyncIterator[NewerServer]:
    """A running one; its `url` begins with `http://`."""
    newer = NewerServer(cuts, left_out, results, log, later_log)
    async with listening(newer) as url:
        newer.url = url.replace("ws", "http", 1)
        yield newer


def sse(after: int, cut: int = SEQS[-1], log: Sequence[Event] = LOG) -> Iterator[bytes]:
    """The same log as server-sent events (protocol section 10): those behind `after`, up to `cut`."""
    for method, params in log:
        seq = params["seq"]
        if after < seq <= cut:
            told = {"content": "", "finish_reason": None, "stream_id": "mine", **params}
            name = "" if method == "stream/delta" else f"event: {method.rpartition('/')[2]}\n"
            yield f"{name}id: {seq}\ndata: {json.dumps(told)}\n\n".encode()
    if cut >= log[-1][1]["seq"]:
        yield b"data: [DONE]\n\n"
