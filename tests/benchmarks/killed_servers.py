"""A server is killed in the middle of its answers, again and again, and every promise is looked at each time.

    python -m tests.benchmarks.killed_servers [--kills 200] [--readers 50] [--harm kill|stop|…] [--seed N]

Half of the readers read over sockets, half over server-sent events, thirty pieces a second each; beside them others ask
question after question. After a half to two and a half seconds the server is killed (SIGKILL), and started again in
the same folder; a folder serves ten kills. With `--harm stop` it stands still for `--still` seconds before (SIGSTOP,
SIGCONT), with `stopped` it is killed while it does, and with `clock` its clock jumps for hours, forth and back, before
the kill and at the restart. With `full` its disk (a tmpfs of its own, which root alone can mount) is full for some
seconds, with `full-killed` it is killed meanwhile, and with `full-started` its next start finds no room either.

Each time this must hold, or it stops with what does not:

- each question that was acknowledged is in its conversation, once; one that was not, and is sent again with its
  `stream_id`, is there once, too;
- each reader comes to its one end by itself: `incomplete`, kind `worker_lost`, to be tried again. Its text is a
  beginning of what the provider said, and the same that the conversation has, and the log read from its beginning;
- there is each stream once, no provider was asked again, and a request repeated with its id attaches to its stream;
- what is asked again with `replace_from` is answered.

It prints how much was lost at most, by the time between when the provider said the first piece that was not kept and
the kill, and how long it took until all were whole.
"""

import argparse
import asyncio
import random
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import structlog

from tests.askers import Asker
from tests.benchmarks.kept_conversations import PIECES_PER_S
from tests.fakes.jumping_clock import jump
from tests.fakes.small_disk import SmallDisk, small_disk
from tests.fakes.sse_reader import read_events, text_of
from tests.lost_servers import LIMIT_S, EventSources, Readers, Talking, asked, killed, port_of, serving, written
from tests.processes import Server

#: A second between two writes, a commit, and what a machine with other work makes of it.
LOST_S_MAX = 1.5
KILLS_A_FOLDER = 10
HARMS = ("kill", "stop", "stopped", "clock", "full", "full-killed", "full-started")
_ASKERS = 2


@dataclass(frozen=True, slots=True)
class Found:
    """What a kill has cost."""

    lost_s: float
    lost_pieces: int
    whole_after_s: float
    acknowledged: int
    refused: int
    resets: int


async def check_streams(running: Server, texts: dict[str, str], sample: Sequence[str]) -> None:
    """What is stored is what the readers have, and each stream is there once, with one end."""
    http = running.http
    for name, text in texts.items():
        session = (await http.get(f"/api/v1/sessions/{name}")).json()
        assert session["active_streams"] == []
        messages = [(each["role"], each["content"], each["status"]) for each in session["messages"]]
        answer = [("assistant", text, "incomplete")] if text else []
        assert messages == [("user", name, "completed"), *answer], (name, messages)
        listed = (await http.get("/api/v1/streams", params={"session_id": name})).json()["items"]
        assert [(each["stream_id"], each["status"]) for each in listed] == [(f"stream-{name}", "incomplete")]
    for name in sample:  # Of those who read over events.
        async with http.stream("GET", f"/api/v1/streams/stream-{name}/events", params={"after": 0}) as response:
            events = [event async for event in read_events(response)]
        assert [event.event for event in events].count("ended") == 1
        assert (events[-2].event, events[-1].data, text_of(events[:-2])) == ("ended", "[DONE]", texts[name])
        again = await http.post("/api/v1/chat/completions", json=asked(name))
        assert (again.status_code, again.json()["error"]["kind"], again.json()["content"]) == (
            *(503, "worker_lost"),
            texts[name],
        )
    assert running.chats.empty(), "a provider was asked again"


async def until_stored(running: Server, texts: dict[str, str]) -> None:
    """Until the conversations have the answers, all of which come in one commit."""
    name = next(name for name, text in texts.items() if text)
    async with asyncio.timeout(LIMIT_S):
        while len((await running.http.get(f"/api/v1/sessions/{name}")).json()["messages"]) < 2:  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.1)


async def check_asked_again(running: Server, name: str) -> None:
    """Whoever asks again gets an answer in the place of what was lost."""
    ended = (await running.http.get(f"/api/v1/streams/stream-{name}")).json()
    question = (await running.http.get(f"/api/v1/sessions/{name}")).json()["messages"][0]
    again = {**asked(name), "stream_id": f"again-{name}", "replace_from": question["message_id"]}
    assert ended["status"] == "incomplete"
    async with running.http.stream("POST", "/api/v1/chat/completions/stream", json=again) as response:
        async for text in response.aiter_text():
            if written(name, 1) in text:
                break
    await running.http.delete(f"/api/v1/streams/again-{name}")


async def do_harm(
    kind: str,
    running: Server,
    readers: Sequence[Readers | EventSources],
    *,
    folder: Path,
    disk: SmallDisk | None,
    still_s: float,
) -> float:
    """Whatever it is, and the kill; when it was that nothing more was kept."""
    program = running.program
    if kind == "clock":
        for hours in (5, -30, random.uniform(-100, 100)):
            jump(folder, hours)
            await asyncio.sleep(random.uniform(0.2, 1.5))
    if kind in ("stop", "stopped"):
        program.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        await asyncio.sleep(still_s)
        if kind == "stopped":
            await killed(running)
            return stopped
        program.send_signal(signal.SIGCONT)
        # All go on by themselves, those whose connection was given up, too: these came in the meantime.
        for each in readers:
            await each.have(int(still_s * PIECES_PER_S / 2))
        await asyncio.sleep(random.uniform(1, 3))
    if disk is not None:
        disk.fill()
        full = time.monotonic()
        # Those who read go on.
        for each in readers:
            length = max(stream.text.count(">") for stream in each.streams.values())
            await each.have(length + 3 * PIECES_PER_S)
        if kind != "full":
            await killed(running)
            return full
        disk.make_room()
        # It is looked at once a second whether there is room; then all that came is written.
        await asyncio.sleep(3)
    await killed(running)
    return time.monotonic()


class Campaign:
    """Kills in one folder, each of the server that the one before has started.

    Args:
        folder: where.
        harm: one of HARMS.
        readers: so many answers run.
        still_s: how long a server is stopped.
        lost_s_max: so much of the text may be lost.
    """

    def __init__(
        self, folder: Path, harm: str, readers: int, still_s: float, *, lost_s_max: float = LOST_S_MAX
    ) -> None:
        self._folder = folder
        self._harm = harm
        self._readers = readers
        self._still_s = still_s
        self._lost_s_max = lost_s_max
        self._answer = Talking(None)
        self._stack = AsyncExitStack()
        self._disk: SmallDisk | None = None

    async def __aenter__(self) -> "Campaign":
        self._folder.mkdir(exist_ok=True)
        if self._harm.startswith("full"):
            self._disk = self._stack.enter_context(small_disk(self._folder / "disk"))
        self._pace = asyncio.create_task(self._tick())
        self._running = await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        self._pace.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1 / PIECES_PER_S)
            self._answer.tick()

    async def _start(self, port: int = 0) -> Server:
        data = self._disk.folder / "kept" if self._disk is not None else None
        serve = serving(self._answer, self._folder, port, jumps=self._harm == "clock", data=data)
        return await self._stack.enter_async_context(serve)

    async def kill(self, number: int) -> Found:
        running, answer = self._running, self._answer
        names = [f"k{number}.s{each}" for each in range(self._readers)]
        askers = [Asker(f"k{number}.a{each}") for each in range(_ASKERS)]
        async with (
            Readers(running.url, names[::2], per_client=5) as over_sockets,
            EventSources(running.url, names[1::2]) as over_events,
            httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=120) as http,
        ):
            readers = (over_sockets, over_events)
            asking = [asyncio.create_task(asker.ask_on(http)) for asker in askers]
            for each in readers:
                await each.have(1)
            await asyncio.sleep(random.uniform(0.5, 2.5))
            at = await do_harm(
                self._harm, running, readers, folder=self._folder, disk=self._disk, still_s=self._still_s
            )
            seen = {name: stream.text for each in readers for name, stream in each.streams.items()}
            said = {name: list(answer.said[name]) for name in names}
            await asyncio.gather(*asking)
            began = time.monotonic()
            if self._harm == "clock":
                jump(self._folder, random.uniform(-100, 100))
            if self._disk is not None and self._harm == "full-killed":
                self._disk.make_room()
            running = self._running = await self._start(port_of(running))
            texts = {**await over_sockets.lost(), **await over_events.lost()}
            whole_after_s = time.monotonic() - began
            resets = sum(stream.resets for stream in over_events.streams.values())
        if self._disk is not None and self._harm == "full-started":
            self._disk.make_room()
            await until_stored(running, texts)
        await check_streams(running, texts, random.sample(names[1::2], min(4, len(names) // 2)))
        for asker in askers:
            await asker.check(running.http)
        await check_asked_again(running, random.choice(names))

        lost_s, lost_pieces = 0.0, 0
        for name, text in texts.items():
            assert written(name, len(said[name]) + 1).startswith(text), (name, text)
            assert seen[name].startswith(text) or text.startswith(seen[name]), (name, text, seen[name])
            kept = text.count(">")
            if kept < len(said[name]):
                lost_s = max(lost_s, at - said[name][kept])  # Below zero where it was said later.
            lost_pieces = max(lost_pieces, seen[name].count(">") - kept)
        assert lost_s <= self._lost_s_max, f"{lost_s:.2f} s of text were lost"
        return Found(
            lost_s,
            lost_pieces,
            whole_after_s,
            sum(len(each.acknowledged) for each in askers),
            sum(len(each.refused) for each in askers),
            resets,
        )


async def main(arguments: argparse.Namespace) -> None:
    print(f"seed {arguments.seed}", flush=True)
    random.seed(arguments.seed)
    found: list[Found] = []
    while len(found) < arguments.kills:
        with tempfile.TemporaryDirectory(prefix="archer-kills-") as folder:
            kills = min(KILLS_A_FOLDER, arguments.kills - len(found))
            async with Campaign(Path(folder), arguments.harm, arguments.readers, arguments.still) as campaign:
                for _ in range(kills):
                    found.append(await campaign.kill(len(found)))
        print(f"{len(found)} kills: {told(found)}", flush=True)


def told(found: Sequence[Found]) -> str:
    lost, whole = [each.lost_s for each in found], [each.whole_after_s for each in found]
    pieces, late = max(each.lost_pieces for each in found), sum(each > 1 for each in lost)
    return (
        f"{sum(each.acknowledged for each in found)} acknowledged questions are there, "
        f"{sum(each.refused for each in found)} that were refused are not; of the text {max(lost):.2f} s "
        f"lost at most ({median(lost):.2f} in the middle, more than 1.00 {late} times), of what readers had seen "
        f"{pieces} pieces; all whole again {median(whole):.1f} s after, {max(whole):.1f} at most; "
        f"{sum(each.resets for each in found)} readers over events had seen more than was kept"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--harm", choices=HARMS, default="kill")
    parser.add_argument("--still", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    # Not uvloop: httpx fails there in ways of its own where a connection is closed as soon as it is made.
    asyncio.run(main(parser.parse_args()))
