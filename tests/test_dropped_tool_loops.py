"""Calls of tools by the thousand, run by clients whose connections drop, who die, and whose server is killed: none is
lost in silence, none runs twice that may not, and the model gets every result in its place."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from archer_ws.client import Archer, Backoff, ChatStream, StreamIncomplete, connect, tool
from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.looping_servers import DONE, Calling, calling_server, make_session, result_of, tool_of, until
from tests.lost_servers import killed, port_of
from tests.processes import Server

#: Clients that are attached to every stream.
CLIENTS = 3
STREAMS, CALLS = 4, 10


class Runs:
    """How often each call ran, in all clients."""

    def __init__(self, seed: int) -> None:
        self.began: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self._random = random.Random(seed)

    @property
    def tools(self) -> list[Any]:
        return [self.once, tool(idempotent=True)(self.again)]

    async def once(self, number: str) -> str:
        return await self._run(number)

    async def again(self, number: str) -> str:
        return await self._run(number)

    async def _run(self, number: str) -> str:
        self.began[number] += 1
        await asyncio.sleep(self._random.expovariate(200))
        self.ended[number] += 1
        return result_of(number)


class Room:
    """Clients, each behind a network of its own, and the streams that they follow."""

    def __init__(self, url: str, runs: Runs) -> None:
        self.url = url
        self.runs = runs
        self.proxies: list[CuttingProxy] = []
        self.clients: list[Archer] = []
        #: How each call ended, as the streams' logs tell it.
        self.results: dict[str, str] = {}
        self.lost_streams = 0
        #: By the questions.
        self.streams: dict[str, ChatStream] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Room"]:
        async with AsyncExitStack() as stack:
            for _ in range(CLIENTS):
                proxy = await stack.enter_async_context(cutting_proxy(self.url.removeprefix("http://")))
                self.proxies.append(proxy)
                client = connect(
                    proxy.url, backoff=Backoff(first_s=0.01, cap_s=0.1), tools=self.runs.tools, give_up_after_s=600
                )
                self.clients.append(await stack.enter_async_context(client))
            yield self

    async def talk(self, question: str, steps: int) -> str:
        """One stream, followed by all to its end; how it ended."""
        await make_session(self.url, question)
        first = self.clients[0].chat(question, session_id=question, stream_id=question, max_steps=steps + 1)
        self.streams[question] = first
        streams = [first]
        reading = [asyncio.create_task(_read(first))]
        await until(lambda: bool(first.last_seq) or reading[0].done())
        streams += [client.resume(question) for client in self.clients[1:]]
        reading += [asyncio.create_task(_read(stream)) for stream in streams[1:]]
        ends = await asyncio.gather(*reading)
        assert len(set(ends)) == 1, ends
        said = [[message.model_dump() for message in stream.messages] for stream in streams]
        assert all(each == said[0] for each in said), "all have seen the same"
        self._note(question, first)
        if ends[0] == "worker_lost":
            self.lost_streams += 1
        else:
            assert streams[0].text == DONE
        return ends[0]

    def _note(self, question: str, stream: ChatStream) -> None:
        """Each call has one result, behind it and in its order."""
        calls: dict[str, str] = {}
        number = 0
        for message in stream.messages:
            for call in message.tool_calls or ():
                calls[call.call_id] = f"{question}.{number}"
                number += 1
            if message.role.value == "tool":
                assert message.call_id == next(iter(calls))
                self.results[calls.pop(message.call_id)] = str(message.result_status)
        assert calls == {}


async def _read(stream: ChatStream) -> str:
    try:
        async for _ in stream:
            pass
    except StreamIncomplete as lost:
        return lost.info.kind if lost.info is not None else "incomplete"
    return stream.status


async def dropping(room: Room, seed: int, *, per_s: float) -> None:
    """Cut one client's connection after another, at any moment."""
    chance = random.Random(seed)
    while True:
        await asyncio.sleep(chance.expovariate(per_s))
        chance.choice(room.proxies).cut()


def steps_for(pytestconfig: pytest.Config) -> int:
    """10,000 calls in all, or some hundreds."""
    return 250 if pytestconfig.getoption("long") else 8


@pytest.mark.timeout(3600)
async def test_of_calls_whose_clients_lose_their_connections_none_is_lost_and_none_runs_twice(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    steps, runs = steps_for(pytestconfig), Runs(1)
    model = Calling(steps, CALLS)
    async with calling_server(model, tmp_path) as running, Room(running.url, runs).open() as room:
        drops = asyncio.create_task(dropping(room, 2, per_s=50))
        ends = await asyncio.gather(*(room.talk(f"q{number}", steps) for number in range(STREAMS)))
        drops.cancel()
        assert set(ends) == {"completed"}
    assert model.wrong == []
    assert set(model.asked.values()) == {1}, "each step begins once"
    assert len(room.results) == STREAMS * steps * CALLS
    assert set(room.results.values()) == {"ok"}
    assert runs.began == runs.ended == Counter(room.results.keys())
    print(f"calls {len(room.results)}, connections cut {sum(proxy.cuts for proxy in room.proxies)}")


async def dying(running: Server, room: Room, question: str, ended: asyncio.Event, taken: Counter[str]) -> None:
    """Clients who claim a call now and then, and are never heard of again."""
    chance = random.Random(question)
    while not ended.is_set():
        await asyncio.sleep(chance.expovariate(10))
        stream = room.streams.get(question)
        if stream is None or not (calls := stream.tool_calls):
            continue
        path = f"/api/v1/streams/{question}/tool_calls/{chance.choice(calls).call_id}/claim"
        said = await running.http.post(path, json={"claim": f"dying-{len(taken)}", "ttl_s": 0.05})
        taken[said.json()["outcome"]] += 1


@pytest.mark.timeout(3600)
async def test_a_call_of_a_client_who_died_is_told_as_lost_once_and_runs_no_more_unless_it_may(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    steps, runs = steps_for(pytestconfig), Runs(3)
    model, taken, ended = Calling(steps, CALLS), Counter[str](), asyncio.Event()
    async with calling_server(model, tmp_path) as running, Room(running.url, runs).open() as room:
        talks = [asyncio.create_task(room.talk(f"q{number}", steps)) for number in range(STREAMS)]
        deaths = [asyncio.create_task(dying(running, room, f"q{number}", ended, taken)) for number in range(STREAMS)]
        drops = asyncio.create_task(dropping(room, 4, per_s=20))
        ends = await asyncio.gather(*talks)
        ended.set()
        await asyncio.gather(*deaths)
        drops.cancel()
        assert set(ends) == {"completed"}
    assert model.wrong == []
    assert set(model.asked.values()) == {1}
    assert len(room.results) == STREAMS * steps * CALLS
    lost = {number for number, status in room.results.items() if status == "lost"}
    assert {tool_of(number) for number in lost} <= {"once"}
    assert all(number not in runs.began for number in lost), "who died had not begun, and nobody has since"
    assert runs.began == Counter(number for number in room.results if number not in lost)
    assert taken["claimed"] >= len(lost)
    print(f"calls {len(room.results)}, died {taken['claimed']}, lost {len(lost)}")


@pytest.mark.timeout(3600)
async def test_of_calls_whose_server_is_killed_again_and_again_none_runs_twice_that_may_not(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    steps, runs = steps_for(pytestconfig), Runs(5)
    model, chance = Calling(steps, CALLS), random.Random(6)
    wanted = STREAMS * steps * CALLS
    kills = 0
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(calling_server(model, tmp_path))
        url, port = running.url, port_of(running)
        async with Room(url, runs).open() as room:

            async def talk(slot: int) -> None:
                tries = 0
                while len(room.results) < wanted:
                    await room.talk(f"q{slot}-{tries}", steps)
                    tries += 1

            talks = asyncio.gather(*(talk(slot) for slot in range(STREAMS)))
            drops = asyncio.create_task(dropping(room, 7, per_s=5))
            while not talks.done():
                await asyncio.wait((talks,), timeout=1 + chance.random() * 4)
                if not talks.done():
                    await killed(running)
                    kills += 1
                    running = await stack.enter_async_context(calling_server(model, tmp_path, port))
            await talks
            drops.cancel()
    assert model.wrong == []
    twice = {number for number, times in runs.began.items() if times > 1}
    assert {tool_of(number) for number in twice} <= {"again"}
    for number, status in room.results.items():
        assert status in {"ok", "lost"}
        assert runs.ended[number] if status == "ok" else tool_of(number) == "once"
    lost = Counter(room.results.values())["lost"]
    print(f"calls {len(room.results)}, kills {kills}, lost {lost}, streams lost in mid-step {room.lost_streams}")
