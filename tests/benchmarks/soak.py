"""Many sockets with many streams each, opened and dropped at random; then everything must be as it was.

    python -m tests.benchmarks.soak --sockets 1000 --streams 10 --minutes 2

The server has a process of its own; the provider and the clients share this one. It runs the load twice: first to warm
up, which gives the figures to come back to, then for the time asked for. After each it ends all streams and waits until
nothing is open. The exit status is 1 where tasks, descriptors, memory in use or objects did not come back, where a
client was told something wrong, or where the server logged a traceback. All traffic is on loopback.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from archer_ws.server.listening import raise_file_limit
from tests.benchmarks.slow_provider import SlowProvider, slow_provider
from tests.benchmarks.visitor import PIECES, Tally, Visitor
from tests.processes import ROOT

MIB = 1024 * 1024
PROC = Path("/proc/self")
#: Ended streams are to be gone soon; some are resumed before, and some after.
RETENTION_S = 1
#: How many streams start each second while the load is built up, and how long one lives in the long soak: what two
#: cores bear that also run the clients.
STARTS_PER_S = 100.0
LIFETIME_S, STAY_S = 300.0, 90.0
START_LIMIT_S, ANSWER_LIMIT_S, SETTLE_LIMIT_S = 60.0, 60.0, 180.0
#: So many lines of the server's log are shown.
LOG_SHOWN = 6
#: In which time the provider ends all answers after the load.
FINISH_S = 2.0
#: What may remain: descriptors and tasks of a probe that happens to run, and what fills up once (caches, free lists).
#: Memory in use is judged by Python's allocated blocks; the process's size is only shown, because Python's allocator
#: keeps the arenas of its peak as long as one block in each is in use.
TASKS_SLACK, FDS_SLACK = 2, 3
BLOCKS_SLACK, BLOCKS_SLACK_COUNT = 0.02, 5000
OBJECTS_SLACK, OBJECTS_SLACK_COUNT = 0.01, 1000


@dataclass(frozen=True)
class Load:
    """How much, and for how long, in seconds.

    Args:
        sockets: how many are open, or about to be.
        streams: running streams of each.
        warm_up_s: the first phase.
        load_s: the second.
        lifetime_s: how long an answer takes on average.
        stay_s: how long a socket stays open on average.
        seed: of all that is random.
        samples: lines of the table for each phase.
    """

    sockets: int
    streams: int
    warm_up_s: float
    load_s: float
    lifetime_s: float
    stay_s: float
    seed: int = 1
    samples: int = 8

    @property
    def interval_s(self) -> float:
        """The time between two pieces of an answer."""
        return self.lifetime_s / (sum(PIECES) / 2)

    @property
    def opening_s(self) -> float:
        """In which time all sockets are opened."""
        return self.sockets * self.streams / STARTS_PER_S


class Server:
    """The server's process, and what it reports."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def report(self, *, collected: bool = False) -> dict[str, Any]:
        """A sample; `lag_ms` is how long that took, through both loops."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked_at = time.perf_counter()
        self.process.stdin.write(b"c" if collected else b"s")
        async with asyncio.timeout(ANSWER_LIMIT_S):
            line = await self.process.stdout.readline()
        assert line, "the server is gone"
        report: dict[str, Any] = json.loads(line)
        report["lag_ms"] = round(1000 * (time.perf_counter() - asked_at))
        return report

    async def kept_streams(self) -> int:
        """How many streams the server shows, running or ended."""
        async with httpx.AsyncClient(base_url=self.url, timeout=ANSWER_LIMIT_S, trust_env=False) as http:
            return len((await http.get("/api/v1/streams")).json()["items"])


@dataclass
class Outcome:
    """What the soak found."""

    warm: dict[str, Any]
    cold: dict[str, Any]
    tally: Tally
    peak: Counter[str] = field(default_factory=Counter)
    #: What did not come back, or should not have happened; empty is good.
    complaints: list[str] = field(default_factory=list)


@asynccontextmanager
async def serving(provider: SlowProvider, directory: Path) -> AsyncIterator[Server]:
    """The server in `directory`, where its log is `log`; stopped at the end, which must work."""
    settings = {
        "ARCHER_OPENAI_API_KEY": "none",
        "ARCHER_OPENAI_BASE_URL": provider.url,
        "ARCHER_MAX_STREAMS": "1000000",
        "ARCHER_MAX_STREAMS_PER_PRINCIPAL": "1000000",
        "ARCHER_PROVIDER_CONCURRENCY": "1000000",
        "ARCHER_STREAM_RETENTION_S": str(RETENTION_S),
        # Whatever the load, it is not the provider's fault.
        **{f"ARCHER_{name}_TIMEOUT_S": "600" for name in ("CONNECT", "FIRST_TOKEN", "IDLE")},
        "ARCHER_DRAIN_S": "0",
        "ARCHER_DATA_DIR": str(directory / "data"),
        "ARCHER_LOG_LEVEL": "WARNING",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.benchmarks.soak_server", "serve", "--host", "127.0.0.1", "--port", "0"),
            *("--provider", "openai", "--ready-json"),
            cwd=directory,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**inherited, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **settings},
            limit=MIB,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_LIMIT_S):
                ready = json.loads(await process.stdout.readline() or "{}")
            assert "url" in ready, (directory / "log").read_text("utf-8")
            yield Server(process, ready["url"])
            process.stdin.close()
            async with asyncio.timeout(START_LIMIT_S):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


class Soak:
    """Two phases of load on one server, and a table of what it took."""

    def __init__(self, load: Load, server: Server, provider: SlowProvider) -> None:
        self._load = load
        self._server = server
        self._provider = provider
        self._chance = random.Random(load.seed)
        self._began = time.monotonic()
        self._url = f"{server.url.replace('http', 'ws', 1)}/api/v1/ws"
        self._last: dict[str, Any] = {}
        self.tally = Tally()
        self.peak: Counter[str] = Counter()

    async def phase(self, name: str, seconds: float) -> dict[str, Any]:
        """Load for so long, then nothing: what the server has when all is closed and collected."""
        load = self._load
        self.tally.is_ending = False
        self._provider.resume(load.interval_s)
        visitors = [
            Visitor(
                self._url,
                f"{name}.{number}",
                streams=load.streams,
                stay_s=load.stay_s,
                chance=random.Random(self._chance.random()),
                tally=self.tally,
            )
            for number in range(load.sockets)
        ]
        tasks = [asyncio.create_task(visitor.run(min(load.opening_s, seconds / 2))) for visitor in visitors]
        try:
            for _ in range(load.samples):
                await asyncio.sleep(seconds / load.samples)
                await self.sample(name)
        finally:
            self.tally.is_ending = True
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if not isinstance(end, asyncio.CancelledError):
                self.tally.wrong[f"a client ended: {end!r}"] += 1
        self._provider.finish_all(within_s=FINISH_S)
        return await self._settled(name)

    async def _settled(self, name: str) -> dict[str, Any]:
        # Looked at between two reports: one that is cut off would be taken for the next one's.
        give_up_at = time.monotonic() + SETTLE_LIMIT_S
        while await self._is_busy():
            if time.monotonic() > give_up_at:
                self.tally.wrong[f"still open {SETTLE_LIMIT_S:.0f} s after the load: {self._last}"] += 1
                break
            await asyncio.sleep(0.5)
        return await self.sample(f"after {name}", collected=True)

    async def _is_busy(self) -> bool:
        self._last = {**await self._server.report(), "provider": len(self._provider.open)}
        if self._last["sockets"] or self._last["streams"] or self._last["orphans"] or self._last["provider"]:
            return True
        self._last["kept"] = await self._server.kept_streams()
        return bool(self._last["kept"])

    async def sample(self, name: str, *, collected: bool = False) -> dict[str, Any]:
        """A line of the table."""
        report = await self._server.report(collected=collected)
        report["provider"] = len(self._provider.open)
        for column in ("sockets", "streams", "tasks", "fds", "memory", "lag_ms"):
            self.peak[column] = max(self.peak[column], report[column])
        row(
            f"{time.monotonic() - self._began:.0f}",
            name,
            *(report[column] for column in ("sockets", "streams", "provider", "tasks", "fds")),
            f"{report['memory'] / MIB:.1f}",
            sum(report.get("objects", {}).values()) or "",
            report["lag_ms"],
        )
        return report


def row(*cells: object) -> None:
    """One line of the table."""
    print(("{:>6} {:<13}" + "{:>9}" * (len(cells) - 2)).format(*map(str, cells)), flush=True)


def compare(warm: dict[str, Any], cold: dict[str, Any]) -> list[str]:
    """What did not come back."""
    complaints = []
    allowed = {
        "tasks": warm["tasks"] + TASKS_SLACK,
        "fds": warm["fds"] + FDS_SLACK,
        "blocks": warm["blocks"] * (1 + BLOCKS_SLACK) + BLOCKS_SLACK_COUNT,
    }
    for name, most in allowed.items():
        if cold[name] > most:
            complaints.append(f"{name}: {warm[name]} after the warm-up, {cold[name]} after the load")
    before, now = Counter(warm["objects"]), Counter(cold["objects"])
    if now.total() > before.total() * (1 + OBJECTS_SLACK) + OBJECTS_SLACK_COUNT:
        grown = ", ".join(f"{kind} +{count}" for kind, count in (now - before).most_common(8))
        complaints.append(f"objects: {before.total()} after the warm-up, {now.total()} after the load: {grown}")
    return complaints


async def soak(load: Load) -> Outcome:
    """Run it; prints the table as it goes."""
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="archer-soak-") as name:
        directory = Path(name)
        async with slow_provider(load.interval_s) as provider, serving(provider, directory) as server:
            row("s", "phase", "sockets", "streams", "provider", "tasks", "fds", "MiB", "objects", "ms")
            run = Soak(load, server, provider)
            await run.sample("start", collected=True)
            warm = await run.phase("warm-up", load.warm_up_s)
            cold = await run.phase("load", load.load_s)
        complaints = compare(warm, cold)
        if server.process.returncode != 0:
            complaints.append(f"the server's exit status: {server.process.returncode}")
        log = (directory / "log").read_text("utf-8", errors="replace")
        if "Traceback" in log:
            complaints.append(f"{log.count('Traceback')} tracebacks in the log, the first: {_around_traceback(log)}")
        print("log lines:", len(log.splitlines()), *log.splitlines()[:LOG_SHOWN], sep="\n  ")
    complaints += [f"{count} times {what}" for what, count in run.tally.wrong.items()]
    return Outcome(warm, cold, run.tally, run.peak, complaints)


def _around_traceback(log: str) -> str:
    at = log.index("Traceback")
    return log[max(0, at - 400) : at + 2000]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=10, help="running streams of each socket")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long the second phase lasts")
    parser.add_argument("--warm-up", type=float, default=1.7, metavar="MINUTES", help="the first phase")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    load_s, warm_up_s = 60 * options.minutes, 60 * options.warm_up
    # The clients' own collections, of hundreds of thousands of objects, are not to be taken for the server's pauses.
    gc.set_threshold(200_000, 50, 50)
    load = Load(options.sockets, options.streams, warm_up_s, load_s, LIFETIME_S, STAY_S, seed=options.seed)
    outcome = asyncio.run(soak(load))
    print("did:", ", ".join(f"{what} {count}" for what, count in sorted(outcome.tally.done.items())))
    for complaint in outcome.complaints:
        print("WRONG:", complaint)
    if not outcome.complaints:
        print("everything came back")
    return 1 if outcome.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
