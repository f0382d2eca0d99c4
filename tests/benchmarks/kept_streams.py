"""What it costs to write running streams to the disk each second, and what a kill loses.

    python -m tests.benchmarks.kept_streams [--streams 500] [--seconds 10] [--kills 3 --readers 200]

First, in one process: as many streams of sessions as told take a piece of text thirty times a second each, with the
journal and without. It prints the CPU time of a piece over that of none (aim: at most 1 µs), what was written, and the
longest time that the loop did not turn (aim: at most 20 ms). Then a server is killed while as many readers' streams
come from it, and started again: how many pieces of those that they had seen were not kept, and how long it took until
all were whole again. Figures of two runs are comparable on a quiet machine alone.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ChatRequest, MessageRole, Route, StreamChunk
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.storage.sqlite.accounts import Accounts
from archer_ws.sessions.storage.sqlite.database import FileSettings
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.sessions.streams.gates import ProviderGate, StreamQuota
from archer_ws.sessions.streams.memory_log import MemoryLog
from tests.benchmarks.kept_conversations import PIECES_PER_S, Loop
from tests.fakes.scripted_gateway import ScriptedGateway
from tests.lost_servers import Readers, Talking, killed, port_of, serving, written

GIB = 1024**3


class Pacing(ScriptedGateway):
    """A provider that says a piece thirty times a second to each who asks, and counts them."""

    said = 0

    async def stream_chat(
        self,
        request: ChatRequest,
        *,
        route: Route | None = None,
        messages: Sequence[ChatMessage] | None = None,
        options: ChatOptions | None = None,
    ) -> AsyncGenerator[StreamChunk, None]:
        while True:
            yield StreamChunk(content=" piece")
            self.said += 1
            await asyncio.sleep(1 / PIECES_PER_S)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of some seconds of running streams."""

    pieces: int
    cpu_us: float
    stall_ms: float
    written_mb: float


async def cost(streams: int, seconds: float, *, is_kept: bool) -> Cost:
    with tempfile.TemporaryDirectory(prefix="archer-kept-") as folder:
        store = SqliteStore(Path(folder), FileSettings(bytes_max=16 * GIB), Accounts(1_000_000, 16 * GIB))
        await store.open()
        if not is_kept:
            store.journal = None  # type: ignore[assignment]
        gateway = Pacing()
        manager = SessionManager(
            new_log=MemoryLog,
            judge=FormatJudge(),
            gateway=gateway,
            orchestrator=Orchestrator(gateway),
            store=store,
            quota=StreamQuota(max_streams=2 * streams, max_per_principal=2 * streams),
            gates={"ollama": ProviderGate("ollama", concurrency=2 * streams, queue=1)},
        )
        for number in range(streams):
            await store.create("ann", f"s{number}", None, None)
            asked = ChatRequest(messages=[ChatMessage(role=MessageRole.USER, content="Why?")], session_id=f"s{number}")
            await manager.start("ann", asked, request_id="r", on_disconnect="continue")
        async with Loop(0) as loop:
            await asyncio.sleep(1)
            loop.take()
            said, cpu, wrote = gateway.said, time.process_time(), _written()
            await asyncio.sleep(seconds)
            found = Cost(
                gateway.said - said, (time.process_time() - cpu) * 1e6, loop.take(), (_written() - wrote) / 1e6
            )
        await manager.aclose()
        await store.aclose()
        return found


def _written() -> int:
    """The bytes that this process has handed to the system for files (proc(5)); 0 where that is not told."""
    counted = Path("/proc/self/io")
    if not counted.exists():
        return 0
    return int(dict(line.split(": ") for line in counted.read_text().splitlines())["wchar"])


async def kill(readers_count: int, folder: Path, number: int) -> str:
    answer = Talking(None)
    names = [f"s{each}" for each in range(readers_count)]
    async with serving(answer, folder) as first, Readers(first.url, names) as readers:
        pace = asyncio.create_task(_tick(answer))
        # At another place between two writes each time.
        await readers.have(60 + 7 * number)
        seen = {name: stream.text for name, stream in readers.streams.items()}
        began = time.monotonic()
        await killed(first)
        async with serving(answer, folder, port_of(first)):
            texts = await readers.lost()
            took = time.monotonic() - began
        pace.cancel()
    lost = max(0, *(seen[name].count(">") - text.count(">") for name, text in texts.items()))
    assert all(written(name, 10_000).startswith(text) for name, text in texts.items())
    return (
        f"kill {number}: {readers_count} streams whole again after {took:.1f} s; of what clients had seen, at most "
        f"{lost} pieces were not kept ({lost / PIECES_PER_S:.2f} s)"
    )


async def _tick(answer: Talking) -> None:
    while True:
        await asyncio.sleep(1 / PIECES_PER_S)
        answer.tick()


async def main(arguments: argparse.Namespace) -> None:
    costs = [await cost(arguments.streams, arguments.seconds, is_kept=is_kept) for is_kept in (False, True)]
    for name, each in zip(("without the journal", "with the journal"), costs, strict=True):
        print(
            f"{name:<20} {each.pieces} pieces, {each.cpu_us / each.pieces:6.2f} µs CPU each, longest stall "
            f"{each.stall_ms:5.1f} ms, {each.written_mb / arguments.seconds:5.2f} MB/s written"
        )
    none, kept = costs
    print(f"{'the journal':<20} {kept.cpu_us / kept.pieces - none.cpu_us / none.pieces:6.2f} µs a piece")
    with tempfile.TemporaryDirectory(prefix="archer-kills-") as folder:
        for number in range(arguments.kills):
            print(await kill(arguments.readers, Path(folder) / str(number), number))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--readers", type=int, default=200)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    uvloop.run(main(parser.parse_args()))
