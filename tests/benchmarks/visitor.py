"""A client that comes and goes at random, and holds every event to the protocol's promises (section 5).

It keeps a number of streams running. It cancels, unsubscribes, resumes, reads slowly or not at all, and leaves with a
close frame, with a reset, or just so; what goes wrong is counted, not raised, so that the load goes on.
"""

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import websockets

from tests.benchmarks.slow_provider import answer_text

_TEXT = answer_text(64)
PIECES = (4, 16)
#: The pause after each frame of those who read slowly, in seconds: about 1 KB/s, which the server must bear.
SLOW_PACE_S = 0.15
#: How long a connection may take while thousands of others are being made, in seconds.
OPEN_LIMIT_S = 120.0


class Tally:
    """What happened, over all visitors: deeds by name, and what must not happen."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        #: While the load is being taken down, answers may be shorter than asked for.
        self.is_ending = False


@dataclass
class Told:
    """What a visitor knows of one of its streams."""

    stream_id: str
    pieces: int
    on_disconnect: str
    head: int = 0
    length: int = 0
    is_attached: bool = False

    @property
    def request(self) -> dict[str, Any]:
        return {
            "stream_id": self.stream_id,
            "messages": [{"role": "user", "content": str(self.pieces)}],
            "on_disconnect": self.on_disconnect,
        }

    def forget(self) -> None:
        """Expect everything from the start."""
        self.head = self.length = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that waits for its response; `head` and `length` are what its stream's were by then."""

    method: str
    told: Told | None
    head: int
    length: int


class Visitor:
    """One client, with one socket at a time.

    Args:
        url: the socket's.
        name: begins its stream ids.
        streams: how many it keeps running.
        stay_s: how long a visit lasts, on average.
        chance: decides everything.
        tally: where it counts.
    """

    def __init__(
        self, url: str, name: str, *, streams: int, stay_s: float, chance: random.Random, tally: Tally
    ) -> None:
        self._url = url
        self._name = name
        self._streams = streams
        self._stay_s = stay_s
        self._chance = chance
        self._tally = tally
        self._told: dict[str, Told] = {}
        self._asked: dict[int, Asked] = {}
        self._count = 0
        self._socket: websockets.ClientConnection

    async def run(self, delay_s: float) -> None:
        """Visit again and again, from a moment within `delay_s` on, until cancelled."""
        await asyncio.sleep(self._chance.uniform(0, delay_s))
        while True:
            try:
                await self._visit()
            except (OSError, TimeoutError, websockets.InvalidHandshake) as error:
                self._tally.wrong[f"connecting: {type(error).__name__}"] += 1
                await asyncio.sleep(self._stay_s / 10)

    async def _visit(self) -> None:
        self._socket = await websockets.connect(
            self._url, compression=None, ping_interval=None, proxy=None, open_timeout=OPEN_LIMIT_S, max_queue=4
        )
        self._tally.done["visits"] += 1
        self._asked.clear()
        try:
            await self._return_to_streams()
            await self._stay()
            await self._leave()
        except websockets.ConnectionClosed as error:
            self._tally.wrong[f"closed by the server: {error.rcvd.code if error.rcvd else 1006}"] += 1
        finally:
            self._socket.transport.abort()
            for told in self._told.values():
                told.is_attached = False

    async def _return_to_streams(self) -> None:
        """Resume, ask again, cancel or abandon each stream of the last visit."""
        for told in list(self._told.values()):
            match self._chance.choices(("resume", "ask again", "cancel", "abandon"), (6, 1, 1, 2))[0]:
                case "resume":
                    await self._ask("stream/subscribe", told, after=told.head)
                case "ask again":
                    told.forget()
                    await self._ask("chat/send", told, **told.request)
                case "cancel":
                    del self._told[told.stream_id]
                    await self._ask("stream/cancel", told)
                case _:
                    del self._told[told.stream_id]
                    self._tally.done["abandoned"] += 1
        await self._top_up()

    async def _stay(self) -> None:
        loop = asyncio.get_running_loop()
        leave_at = loop.time() + self._chance.uniform(0.1, 1.9) * self._stay_s
        pace_s = SLOW_PACE_S if self._chance.random() < 0.1 else 0.0
        while (now := loop.time()) < leave_at:
            deed_at = min(leave_at, now + self._chance.expovariate(3 / self._stay_s))
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deed_at):
                    while True:
                        self._take(json.loads(await self._socket.recv()))
                        if len(self._told) < self._streams:
                            break
                        if pace_s:
                            await asyncio.sleep(pace_s)
            await self._top_up()
            if loop.time() >= deed_at:
                await self._do_something()

    async def _leave(self) -> None:
        how = self._chance.choices(("closed", "reset", "vanished", "stopped reading"), (4, 3, 2, 1))[0]
        self._tally.done[how] += 1
        match how:
            case "closed":
                with suppress(TimeoutError):
                    async with asyncio.timeout(5):
                        await self._socket.close()
            case "vanished":
                self._socket.transport.close()
                await asyncio.sleep(0)
            case "stopped reading":
                self._socket.transport.pause_reading()
                await asyncio.sleep(self._chance.uniform(0, self._stay_s))

    async def _do_something(self) -> None:
        attached = [told for told in self._told.values() if told.is_attached]
        if not attached:
            return
        told = self._chance.choice(attached)
        match self._chance.choice(("cancel", "cancel twice", "subscribe anew", "leave and return", "look")):
            case "cancel":
                await self._ask("stream/cancel", told)
            case "cancel twice":
                await self._ask("stream/cancel", told)
                await self._ask("stream/cancel", told)
            case "subscribe anew":
                await self._ask("stream/subscribe", told, after=told.head)
            case "leave and return":
                await self._ask("stream/unsubscribe", told)
            case _:
                await self._ask("stream/get", told)
                await self._ask("ping", None)

    async def _top_up(self) -> None:
        while len(self._told) < self._streams and not self._tally.is_ending:
            self._count += 1
            leaving = self._chance.choice(("continue", "cancel"))
            told = Told(f"{self._name}.{self._count}", self._chance.randint(*PIECES), leaving)
            self._told[told.stream_id] = told
            await self._ask("chat/send", told, **told.request)

    async def _ask(self, method: str, told: Told | None, **params: Any) -> None:
        self._count += 1
        self._tally.done[method] += 1
        if told is None:
            self._asked[self._count] = Asked(method, None, 0, 0)
        else:
            self._asked[self._count] = Asked(method, told, told.head, told.length)
            params["stream_id"] = told.stream_id
        await self._socket.send(json.dumps({"jsonrpc": "2.0", "id": self._count, "method": method, "params": params}))
        if method == "stream/unsubscribe" and told is not None:
            # In one breath, so that the server has both at once.
            await self._ask("stream/subscribe", told, after=told.head)

    def _take(self, frame: dict[str, Any]) -> None:
        if "method" not in frame:
            self._take_answer(frame)
        elif frame["method"].startswith("stream/"):
            self._take_event(frame["method"], frame["params"])
        else:
            self._tally.done[frame["method"]] += 1

    def _take_answer(self, frame: dict[str, Any]) -> None:
        asked = self._asked.pop(frame["id"], None)
        if asked is None:
            self._tally.wrong["an answer nobody asked for"] += 1
            return
        told = asked.told
        if "error" in frame:
            kind = frame["error"]["data"]["kind"]
            if kind == "stream_not_found":
                # It ended, and was kept no longer, while this client was away.
                self._tally.done["gone"] += 1
                if told is not None:
                    self._told.pop(told.stream_id, None)
            else:
                self._tally.wrong[f"{asked.method}: {kind}"] += 1
            return
        match asked.method:
            case "chat/send" | "stream/subscribe" if told is not None:
                # Behind this response comes everything after what was asked for, seen meanwhile or not, the end too.
                told.is_attached = True
                told.head, told.length = asked.head, asked.length
                self._told[told.stream_id] = told
            case "stream/unsubscribe" if told is not None:
                told.is_attached = False

    def _take_event(self, method: str, params: dict[str, Any]) -> None:
        self._tally.done[method] += 1
        told = self._told.get(params["stream_id"])
        if told is None or not told.is_attached:
            self._tally.wrong[f"{method} of a stream that is not attached"] += 1
            return
        if params.get("from", params["seq"]) != told.head + 1:
            self._tally.wrong[f"{method} out of order"] += 1
        told.head = params["seq"]
        text = params.get("content", "")
        if not _TEXT.startswith(text, told.length):
            self._tally.wrong["wrong text"] += 1
        told.length += len(text)
        if method == "stream/ended":
            self._end(told, params["status"], params)

    def _end(self, told: Told, status: str, params: dict[str, Any]) -> None:
        del self._told[told.stream_id]
        told.is_attached = False
        self._tally.done[status] += 1
        if status not in {"completed", "cancelled"}:
            self._tally.wrong[f"{status}: {params.get('error', {}).get('message')}"] += 1
        elif status == "completed" and not self._tally.is_ending and told.length != len(answer_text(told.pieces)):
            self._tally.wrong["completed with less text"] += 1
