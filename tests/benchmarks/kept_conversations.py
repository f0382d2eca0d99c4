"""What conversations in a file cost: 100,000 messages in 10,000 sessions, beside 500 running streams of text.

    python -m tests.benchmarks.kept_conversations [--messages 100000] [--sessions 10000] [--streams 500]

It fills a store in a temporary folder, then lists, opens, searches and appends while as many tasks as there are streams
take a piece of text thirty times a second on the same loop. It prints how long each took, and the longest time that the
loop did not turn (aim: at most 20 ms): once with the streams alone, which is what the machine itself makes of it, and
once with the store. Figures of two runs are comparable on a quiet machine alone.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from archer_ws.server.server import settle_garbage_collection
from archer_ws.sessions.storage.sqlite.accounts import Accounts
from archer_ws.sessions.storage.sqlite.database import FileSettings
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.sessions.storage.values import StoredCompletion

GIB = 1024**3
PIECES_PER_S = 30
#: Filled side by side: what a group commit takes at once.
AT_ONCE = 64
WORDS = (
    "sky blue light scatters air red evening model answer question the of and to in is that it for as on with " * 3
).split()


class Loop:
    """The longest time between two turns of the loop, and the tasks that stand for streams."""

    def __init__(self, streams: int) -> None:
        self.longest_ms = 0.0
        self._streams = streams
        self._tasks: list[asyncio.Task[None]] = []

    def take(self) -> float:
        """The longest time since it was last asked for, in ms."""
        longest, self.longest_ms = self.longest_ms, 0.0
        return longest

    async def __aenter__(self) -> "Loop":
        self._tasks = [asyncio.create_task(self._watch())]
        self._tasks += [asyncio.create_task(_stream(number / self._streams)) for number in range(self._streams)]
        await asyncio.sleep(1)
        self.longest_ms = 0.0
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        pause = 0.001
        while True:
            began = time.perf_counter()
            await asyncio.sleep(pause)
            self.longest_ms = max(self.longest_ms, (time.perf_counter() - began - pause) * 1000)


async def _stream(offset: float) -> None:
    await asyncio.sleep(offset)
    pieces: list[str] = []
    while True:
        await asyncio.sleep(1 / PIECES_PER_S)
        pieces.append("a piece of text ")
        if len(pieces) > 1000:
            pieces.clear()


def text() -> str:
    return " ".join(random.choices(WORDS, k=60))


async def turn(store: SqliteStore, session_id: str, number: int) -> None:
    """A question with its answer."""
    stream_id = f"{session_id}.{number}"
    asked = [ChatMessage(role=MessageRole.USER, content=text())]
    stored = await store.begin_turn("ann", session_id, asked, stream_id=stream_id, budget_tokens=4096)
    answer = StoredCompletion(text(), "completed", provider="ollama", model="llama3.2", finish_reason="stop")
    await store.append_completion("ann", session_id, answer, after=stored.messages[-1].message_id, stream_id=stream_id)


async def fill(store: SqliteStore, sessions: int, messages: int) -> None:
    waiting = iter(range(sessions))

    async def some() -> None:
        for number in waiting:
            await store.create("ann", f"s{number}", f"Session {number}", None)
            for part in range(max(1, messages // sessions // 2)):
                await turn(store, f"s{number}", part)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def measure(loop: Loop, name: str, times: int, what: Callable[[int], Awaitable[object]]) -> None:
    """Print how long it took, one after the other, and how long the loop stood still meanwhile."""
    took = []
    for number in range(times):
        began = time.perf_counter()
        await what(number)
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    print(
        f"{name:<42} p50 {p50:8.2f} ms   p99 {p99:8.2f} ms   longest {took[-1]:8.2f} ms   stall {loop.take():6.1f} ms"
    )


async def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="archer-kept-") as folder:
        store = SqliteStore(Path(folder), FileSettings(bytes_max=16 * GIB), Accounts(10_000_000, 16 * GIB))
        await store.open()
        began = time.perf_counter()
        await fill(store, arguments.sessions, arguments.messages)
        took = time.perf_counter() - began
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
        print(f"filled: {arguments.messages / took:,.0f} messages/s, {AT_ONCE} sessions at once; {size:.0f} MB")

        # As archer-ws serve does: otherwise Python's own collector stalls everything for 150 ms now and then.
        settle_garbage_collection()
        async with Loop(arguments.streams) as loop:
            await asyncio.sleep(5)
            print(f"longest stall of the loop, {arguments.streams} streams alone: {loop.take():.1f} ms")
        async with Loop(arguments.streams) as loop:
            await use(loop, store, arguments.sessions)
        began = time.perf_counter()
        await store.aclose()
        await store.open()
        print(f"closed and opened again: {time.perf_counter() - began:.2f} s")
        await store.aclose()


async def use(loop: Loop, store: SqliteStore, sessions: int) -> None:
    cursors: list[str | None] = [None]

    async def next_page(_: int) -> None:
        page = await store.page("ann", 50, cursors[-1], order="updated")
        cursors.append(page.next_cursor)

    def some() -> str:
        return f"s{random.randrange(sessions)}"

    await measure(loop, "list: a page of 50 by last activity", 100, next_page)
    await measure(
        loop, "open: a session with its last 50 messages", 500, lambda _: store.detail("ann", some(), None, 50)
    )
    await measure(loop, "search: a word that is everywhere", 100, lambda _: store.search("ann", "sky", 20, None))
    await measure(loop, "search: two beginnings of words", 100, lambda _: store.search("ann", "eveni scatt", 20, None))
    await measure(loop, "search: nothing", 100, lambda _: store.search("ann", "unicorn", 20, None))
    await measure(loop, "turn: question, history and answer", 200, lambda number: turn(store, some(), 10_000 + number))

    async def side_by_side(round_: int) -> None:
        turns = (turn(store, f"s{(round_ * 32 + each) % sessions}", 20_000 + round_) for each in range(32))
        await asyncio.gather(*turns)

    await measure(loop, "turn: 32 at once, all of them", 30, side_by_side)
    await measure(loop, "delete: a session", 50, lambda number: store.delete("ann", f"s{sessions - 1 - number}"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--streams", type=int, default=500)
    uvloop.run(main(parser.parse_args()))
