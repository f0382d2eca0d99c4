"""What it costs to write running streams to the disk each second.

    python -m tests.benchmarks.kept_streams [--streams 500] [--seconds 4] [--rounds 8]

In one process, as many streams of sessions as told take a piece of text thirty times a second each, in turns with the
journal and without. It prints the CPU time of a piece over that of none (aim: at most 1 µs), what was written, and the
longest time that the loop did not turn (aim: at most 20 ms). Figures of two runs are comparable on a quiet machine
alone. What a kill loses: killed_servers.py.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import structlog
import uvloop

from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.llm_gateway.types import (
    ChatMessage,
    ChatOptions,
    ChatRequest,
    MessageRole,
    Route,
    StreamChunk,
    TakeChunk,
)
from archer_ws.server.server import settle_garbage_collection
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.storage.sqlite.accounts import Accounts
from archer_ws.sessions.storage.sqlite.database import FileSettings
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.sessions.streams.gates import ProviderGate, StreamQuota
from archer_ws.sessions.streams.memory_log import MemoryLog
from tests.benchmarks.kept_conversations import PIECES_PER_S, Loop
from tests.fakes.scripted_gateway import ScriptedGateway

GIB = 1024**3


class Pacing(ScriptedGateway):
    """A provider that says a piece thirty times a second to each of so many who ask, while it is told to, and counts
    them.

    Each has moments of its own, evenly spread: where they fell together as it happens, the loop would turn more or less
    often for the same pieces, which is more than what is measured.
    """

    def __init__(self, streams: int) -> None:
        super().__init__()
        self.said = 0
        self._offsets = (number / (streams * PIECES_PER_S) for number in range(streams))
        self._speaking = asyncio.Event()
        self._began = 0.0

    def speak(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self._speaking.set()

    def be_silent(self) -> None:
        self._speaking.clear()

    async def stream_chat(
        self,
        request: ChatRequest,
        *,
        route: Route | None = None,
        messages: Sequence[ChatMessage] | None = None,
        options: ChatOptions | None = None,
        on_chunk: TakeChunk | None = None,
    ) -> AsyncGenerator[StreamChunk, None]:
        time_of, offset = asyncio.get_running_loop().time, next(self._offsets)
        while True:
            await self._speaking.wait()
            due = self._began + offset
            while self._speaking.is_set():
                await asyncio.sleep(max(0.0, due - time_of()))
                yield StreamChunk(content=" piece")
                self.said += 1
                due += 1 / PIECES_PER_S


@asynccontextmanager
async def running_streams(count: int, *, is_kept: bool) -> AsyncIterator[Pacing]:
    """So many streams of sessions, which wait for their provider to speak."""
    with tempfile.TemporaryDirectory(prefix="archer-kept-") as folder:
        store = SqliteStore(Path(folder), FileSettings(bytes_max=16 * GIB), Accounts(1_000_000, 16 * GIB))
        await store.open()
        if not is_kept:
            store.journal = None  # type: ignore[assignment]
        gateway = Pacing(count)
        manager = SessionManager(
            new_log=MemoryLog,
            judge=FormatJudge(),
            gateway=gateway,
            orchestrator=Orchestrator(gateway),
            store=store,
            quota=StreamQuota(max_streams=2 * count, max_per_principal=2 * count),
            gates={"ollama": ProviderGate("ollama", concurrency=2 * count, queue=1)},
        )
        for number in range(count):
            await store.create("ann", f"s{number}", None, None)
            asked = ChatRequest(messages=[ChatMessage(role=MessageRole.USER, content="Why?")], session_id=f"s{number}")
            await manager.start("ann", asked, request_id="r", on_disconnect="continue")
        try:
            yield gateway
        finally:
            await manager.aclose()
            await store.aclose()


@dataclass(frozen=True, slots=True)
class Cost:
    """Of some seconds of text, and of writing all of it."""

    pieces: int
    cpu_us: float
    stall_ms: float
    written_bytes: int

    @property
    def us(self) -> float:
        return self.cpu_us / self.pieces


async def cost_of(gateway: Pacing, seconds: float, loop: Loop) -> Cost:
    loop.take()
    said, cpu, wrote = gateway.said, time.process_time(), _written()
    gateway.speak()
    await asyncio.sleep(seconds)
    gateway.be_silent()
    # What came last is written by then.
    await asyncio.sleep(1.5)
    return Cost(gateway.said - said, (time.process_time() - cpu) * 1e6, loop.take(), _written() - wrote)


async def costs(streams: int, seconds: float, rounds: int) -> None:
    """Of streams that are kept and others that are not, in turns: a machine is faster at one time than at another by
    more than what is measured."""
    async with (
        running_streams(streams, is_kept=False) as without,
        running_streams(streams, is_kept=True) as kept,
        Loop(0) as loop,
    ):
        settle_garbage_collection()
        for gateway in (without, kept):
            await cost_of(gateway, 1, loop)  # The first seconds are the start's.
        pairs = [(await cost_of(without, seconds, loop), await cost_of(kept, seconds, loop)) for _ in range(rounds)]
    for name, found in zip(("without the journal", "with the journal"), zip(*pairs, strict=True), strict=True):
        stalls = [each.stall_ms for each in found]
        megabytes = sum(each.written_bytes for each in found) / 1e6 / seconds / rounds
        print(
            f"{name:<20} {found[0].pieces} pieces, {median(each.us for each in found):6.2f} µs CPU each, longest stall "
            f"{median(stalls):5.1f} ms in the middle, {max(stalls):5.1f} at most, {megabytes:5.2f} MB/s written"
        )
    more = sorted(with_it.us - none.us for none, with_it in pairs)
    print(f"{'the journal':<20} {median(more):6.2f} µs a piece ({more[0]:.2f} to {more[-1]:.2f} in {rounds} rounds)")


def _written() -> int:
    """The bytes that this process has handed to the system for files (proc(5)); 0 where that is not told."""
    counted = Path("/proc/self/io")
    if not counted.exists():
        return 0
    return int(dict(line.split(": ") for line in counted.read_text().splitlines())["wchar"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=8)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    told = parser.parse_args()
    uvloop.run(costs(told.streams, told.seconds, told.rounds))
