"""One thing at a time, timed; and what thousands of sockets and streams that do nothing cost the server."""

import asyncio
import json
from collections.abc import Sequence
from itertools import cycle

from tests.benchmarks.speed.answers import Answer, Tally
from tests.benchmarks.speed.http_lane import HttpLane, Target
from tests.benchmarks.speed.measuring import cpu_between, cpu_of, memory_bytes, now_us, quantiles
from tests.benchmarks.speed.orders import Order, Report, rest_from_collecting
from tests.benchmarks.speed.socket_lane import SocketLane

#: No single step may take longer, in seconds.
LIMIT_S = 60.0
#: Before the first of those that count.
WARM_UPS = 5
#: How many sockets are opened at once; how many pings are sent each second.
OPENED_AT_ONCE, PINGS_PER_S = 100, 500
#: Pace of the answers that are cancelled, in tokens a second, and how many tokens have come by then.
CANCELLED_PER_S = 100.0
PAUSE_S = 0.005


async def first_tokens(order: Order) -> Report:
    """How long until the first token comes."""
    return await _one_by_one(order, whole=False)


async def whole_answers(order: Order) -> Report:
    """How long until a plain answer is there."""
    return await _one_by_one(order, whole=True)


async def _one_by_one(order: Order, *, whole: bool) -> Report:
    """Answer after answer, by turns from the provider, the server over HTTP, and our server over a socket: how long to
    the first token, or to the whole answer."""
    tally = Tally()
    lanes: dict[str, HttpLane | SocketLane] = {
        "direct": await HttpLane.open(order.provider, "direct", tally, whole=whole),
        "http": await HttpLane.open(order.server, order.target, tally, whole=whole),
    }
    if not whole and order.target == "sidecar":
        lanes["socket"] = await SocketLane.open(order.server, tally)
    took_us: dict[str, list[int]] = {name: [] for name in lanes}
    rest_from_collecting()
    before = cpu_of(order.watched)
    for number in range(order.count + WARM_UPS):
        if number == WARM_UPS:
            before = cpu_of(order.watched)
        for name, lane in lanes.items():
            answer = await _finished(lane, order.tokens, stamp=not whole)
            if number >= WARM_UPS and answer.is_whole:
                took_us[name].append((answer.ended_us if whole else answer.first_us) - answer.asked_us)
            # Neither the end of one answer nor what follows it counts for the next.
            await asyncio.sleep(PAUSE_S)
    server_ns = cpu_between(before, cpu_of(order.watched))["server"]
    figures = {name: quantiles(samples) for name, samples in took_us.items()}
    # By all its lanes together: of one alone only where there is one.
    us = None if server_ns is None or tally.wrong else server_ns / 1000 / order.count
    return Report({**figures, "server_us": us, "completed": tally.completed}, dict(tally.wrong))


async def newcomers(order: Order) -> Report:
    """Requests one by one, beside whatever else runs: how long to the first token, from the provider and from the
    server, over a connection made for it and over one that is open."""
    tally = Tally()
    took_us: dict[str, list[int]] = {}
    loop = asyncio.get_running_loop()
    rest_from_collecting()
    stop_at = loop.time() + order.seconds
    while loop.time() < stop_at:
        ways: tuple[tuple[str, str, Target], ...] = (
            ("direct", order.provider, "direct"),
            ("server", order.server, order.target),
        )
        for name, address, target in ways:
            began_us = now_us()
            async with asyncio.timeout(LIMIT_S):
                lane = await HttpLane.open(address, target, tally)
            first = await _finished(lane, order.tokens, stamp=True)
            took_us.setdefault(f"{name}_new", []).append(first.first_us - began_us)
            second = await _finished(lane, order.tokens, stamp=True)
            took_us.setdefault(f"{name}_open", []).append(second.first_us - second.asked_us)
            lane.close()
            await asyncio.sleep(PAUSE_S)
    figures = {name: quantiles(samples) for name, samples in took_us.items()}
    return Report({**figures, "completed": tally.completed}, dict(tally.wrong))


async def cancels(order: Order) -> Report:
    """Cancel answers in their midst: how long until the provider sees its connection closed."""
    tally = Tally()
    lane = await SocketLane.open(order.server, tally)
    cancelled_at: dict[str, int] = {}
    async with asyncio.timeout(order.seconds + LIMIT_S):
        stop_at = asyncio.get_running_loop().time() + order.seconds
        while len(cancelled_at) < order.count and asyncio.get_running_loop().time() < stop_at:
            first, ended = _mark(), _mark()
            lane.ask(Answer(1_000_000, CANCELLED_PER_S, on_first=first.set_result, on_end=ended.set_result))
            answer = await first
            cancelled_at[answer.key] = now_us()
            lane.cancel(answer)
            await ended
    await asyncio.sleep(order.settle_s)
    closed: dict[str, int] = (await told_by(order.provider))["closed"]
    waits = [closed[key] - at_us for key, at_us in cancelled_at.items() if key in closed]
    if missing := len(cancelled_at) - len(waits):
        tally.wrong["connections stayed open after a cancel"] += missing
    if done := tally.wrong.pop("cancelled", 0) - len(cancelled_at):
        tally.wrong["cancels without their end"] += abs(done)
    return Report({"close_us": quantiles(waits), "cancelled": len(waits)}, dict(tally.wrong))


async def idle(order: Order) -> Report:
    """Open sockets: what each costs in memory, and how long a ping takes that any of them sends."""
    tally = Tally()
    await _opened(order, OPENED_AT_ONCE, tally)
    await asyncio.sleep(order.settle_s)
    before = _memory(order)
    lanes = await _opened(order, order.sockets, tally)
    await asyncio.sleep(order.settle_s)
    after = _memory(order)
    took_us = await _pinged(lanes, order.seconds, tally)
    figures = {
        "sockets": len(lanes),
        "bytes_each": None if before is None or after is None else (after - before) / len(lanes),
        "ping_us": quantiles(took_us),
        "pings": len(took_us),
    }
    return Report(figures, dict(tally.wrong))


async def _pinged(lanes: Sequence[SocketLane], seconds: float, tally: Tally) -> list[int]:
    """How long each ping took, in µs, sent by one socket after the other."""
    rest_from_collecting()
    loop = asyncio.get_running_loop()
    replies: list[asyncio.Future[int]] = []
    began, pinging = loop.time(), cycle(lanes)
    while not replies or loop.time() < began + seconds:
        while len(replies) <= PINGS_PER_S * (loop.time() - began):
            replies.append(loop.create_future())
            next(pinging).ping(replies[-1].set_result)
        await asyncio.sleep(PAUSE_S)
    done, missing = await asyncio.wait(replies, timeout=LIMIT_S)
    if missing:
        tally.wrong["pings without a reply"] += len(missing)
    return [reply.result() for reply in done]


async def held(order: Order) -> Report:
    """Streams that have had one token and wait for the next: what each costs in memory, provider's connection too."""
    tally = Tally()
    lanes = await _opened(order, order.sockets, tally)
    await _held_open(lanes, order.sockets)
    await asyncio.sleep(order.settle_s)
    before = _memory(order)
    answers = await _held_open(lanes, order.streams)
    await asyncio.sleep(order.settle_s)
    after = _memory(order)
    figures = {
        "streams": len(answers),
        "bytes_each": None if before is None or after is None else (after - before) / len(answers),
    }
    return Report(figures, dict(tally.wrong))


async def told_by(provider: str) -> dict[str, dict[str, int]]:
    """The provider's `/told`."""
    host, _, port = provider.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /told HTTP/1.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].split()[0])
    told: dict[str, dict[str, int]] = json.loads(await reader.readexactly(size))
    writer.close()
    return told


async def _finished(lane: HttpLane | SocketLane, tokens: int, *, stamp: bool) -> Answer:
    """An answer, when it has ended."""
    ended = _mark()
    async with asyncio.timeout(LIMIT_S):
        lane.ask(Answer(tokens, stamp=stamp, on_end=ended.set_result))
        return await ended


async def _opened(order: Order, count: int, tally: Tally) -> Sequence[SocketLane]:
    lanes: list[SocketLane] = []
    async with asyncio.timeout(LIMIT_S + count / 100):
        while len(lanes) < count:
            some = range(min(OPENED_AT_ONCE, count - len(lanes)))
            lanes += await asyncio.gather(*(SocketLane.open(order.server, tally) for _ in some))
    return lanes


async def _held_open(lanes: Sequence[SocketLane], count: int) -> Sequence[Answer]:
    """So many streams over the lanes, each with its first token."""
    answers = []
    async with asyncio.timeout(LIMIT_S + count / 50):
        for lane, _ in zip(cycle(lanes), range(count), strict=False):
            first = _mark()
            lane.ask(Answer(2, hold=True, on_first=first.set_result))
            answers.append(await first)
    return answers


def _mark() -> asyncio.Future[Answer]:
    """What an answer's `on_first` or `on_end` sets."""
    return asyncio.get_running_loop().create_future()


def _memory(order: Order) -> int | None:
    memory = memory_bytes(order.pids["server"])
    return None if memory is None else memory["pss"]
