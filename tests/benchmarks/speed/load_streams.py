"""Many answers at once, over sockets or over HTTP connections: rates, CPU, and each token's latency."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.speed.answers import Answer, Tally
from tests.benchmarks.speed.http_lane import HttpLane
from tests.benchmarks.speed.measuring import cpu_between, cpu_of, memory_bytes, quantiles
from tests.benchmarks.speed.orders import Order, Report, rest_from_collecting, say
from tests.benchmarks.speed.socket_lane import SocketLane

Lane = SocketLane | HttpLane
#: How long the answers that still run after the measuring may take, in seconds.
ENDING_LIMIT_S = 120.0


async def open_lanes(order: Order, tally: Tally) -> Sequence[Lane]:
    """Sockets, or a connection for each stream."""
    if order.via == "socket":
        return [await SocketLane.open(order.server, tally) for _ in range(order.sockets)]
    is_whole = order.via == "whole"
    return [await HttpLane.open(order.server, order.target, tally, whole=is_whole) for _ in range(order.streams)]


class Load:
    """Answers on lanes, and when all have ended."""

    def __init__(self, order: Order, tally: Tally, lanes: Sequence[Lane]) -> None:
        self._order = order
        self._tally = tally
        self._lanes = lanes
        self._running = 0
        #: How many answers may still be started in the place of ended ones.
        self.refills = 0
        self.ended = asyncio.Event()

    @property
    def running(self) -> int:
        return self._running

    async def start(self) -> None:
        """Start as many as shall run at once, spread over the lanes and the ramp."""
        order, loop = self._order, asyncio.get_running_loop()
        began = loop.time()
        for number, lane in zip(range(order.streams), itertools.cycle(self._lanes), strict=False):
            if (early_s := began + order.ramp_s * number / order.streams - loop.time()) > 0:
                await asyncio.sleep(early_s)
            self._ask(lane)

    def _ask(self, lane: Lane) -> None:
        order = self._order

        def on_end(answer: Answer) -> None:
            self._running -= 1
            if self.refills > 0 and not self._tally.wrong:
                self.refills -= 1
                self._ask(lane)
            elif not self._running:
                self.ended.set()

        self._running += 1
        lane.ask(Answer(order.tokens, order.per_s, order.stamp, arguments=order.arguments, on_end=on_end))


async def streams(order: Order) -> Report:
    """So many at once; measured for some seconds in their midst, then awaited to their ends."""
    tally = Tally()
    load = Load(order, tally, await open_lanes(order, tally))
    load.refills = 1_000_000_000 if order.refills else 0
    rest_from_collecting()
    await load.start()
    await asyncio.sleep(order.settle_s)
    say({"event": "measuring"})
    began, before, running, ended = time.monotonic(), cpu_of(order.watched), load.running, tally.completed
    tally.is_measuring = True
    await asyncio.sleep(order.seconds)
    tally.is_measuring = False
    elapsed_s, after, ended = time.monotonic() - began, cpu_of(order.watched), tally.completed - ended
    figures = {
        **_usage(cpu_between(before, after), elapsed_s, tally.tokens, ended),
        "running_at_first": running,
        "running_at_last": load.running,
        "latency_us": quantiles(tally.latencies_us),
    }
    load.refills = 0
    await _await_ends(load, tally)
    return Report({**figures, **_counts(tally)}, dict(tally.wrong))


async def batch(order: Order) -> Report:
    """So many answers altogether, a few at once; measured from the first request to the last end."""
    tally = Tally()
    lanes = await open_lanes(order, tally)
    warming = Load(order, tally, lanes)
    await warming.start()
    await _await_ends(warming, tally)
    await asyncio.sleep(order.settle_s)
    rest_from_collecting()
    tally.is_measuring, tally.completed = True, 0
    load = Load(order, tally, lanes)
    load.refills = order.count - order.streams
    memory, began, before = memory_bytes(order.pids["server"]), time.monotonic(), cpu_of(order.watched)
    await load.start()
    await _await_ends(load, tally)
    elapsed_s, after = time.monotonic() - began, cpu_of(order.watched)
    await asyncio.sleep(order.settle_s)
    grown = memory_bytes(order.pids["server"])
    figures = _usage(cpu_between(before, after), elapsed_s, tally.tokens, tally.completed)
    figures["memory_per_token"] = (grown["pss"] - memory["pss"]) / tally.tokens if grown and memory else None
    return Report({**figures, **_counts(tally)}, dict(tally.wrong))


async def _await_ends(load: Load, tally: Tally) -> None:
    if load.running:
        try:
            async with asyncio.timeout(ENDING_LIMIT_S):
                await load.ended.wait()
        except TimeoutError:
            tally.wrong["answers never ended"] += load.running


def _usage(used_ns: dict[str, int | None], elapsed_s: float, tokens: float, answers: int) -> dict[str, Any]:
    server_ns = used_ns["server"]
    return {
        "seconds": elapsed_s,
        "tokens_per_s": tokens / elapsed_s,
        "us_per_token": None if server_ns is None or not tokens else server_ns / 1000 / tokens,
        "answers_per_s": answers / elapsed_s,
        "us_per_answer": None if server_ns is None or not answers else server_ns / 1000 / answers,
        "busy": {name: None if ns is None else ns / 1e9 / elapsed_s for name, ns in used_ns.items()},
    }


def _counts(tally: Tally) -> dict[str, Any]:
    return {"tokens": round(tally.tokens), "pieces": tally.frames, "completed": tally.completed}
