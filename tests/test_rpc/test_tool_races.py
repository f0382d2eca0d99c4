"""What is said of a call and what ends its stream, in every order and at every distance: one result, one next step, one
end (protocol section 23)."""

import asyncio
import itertools
import random
from typing import Any

import pytest

from tests.fakes.calls import CALLS_MADE, TOOLS, piece
from tests.fakes.rpc_peer import RpcPeer, Seen
from tests.test_rpc.conftest import Server
from tests.test_rpc.test_races import DISTANCES

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = piece("call1", "get_weather", "{}")
WAITING = ("result", "other result", "steer", "cancel")
CLAIMED = ("claim", "result", "drop", "other claim")
ENDING = ("finish", "steer", "cancel", "drop")


def schedules(request: pytest.FixtureRequest, acts: tuple[str, ...]) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    """All with --long, else the same hundred each time."""
    gaps = itertools.product(DISTANCES, repeat=len(acts) - 1)
    every = list(itertools.product(itertools.permutations(acts), gaps))
    return every if request.config.getoption("--long") else random.Random(7).sample(every, 100)


class Race:
    """One stream, two clients, and what was answered."""

    def __init__(self, server: Server, name: str, first: RpcPeer, second: RpcPeer) -> None:
        self.server, self.name = server, name
        self.first, self.second = first, second
        self.answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.is_dropped = False

    async def run(self, order: tuple[str, ...], gaps: tuple[int, ...]) -> None:
        for act, gap in zip(order, (*gaps, 0), strict=True):
            await self.act(act)
            for _ in range(gap):
                await asyncio.sleep(0)

    async def act(self, act: str) -> None:
        of = {"stream_id": self.name, "call_id": "call1"}
        match act:
            case "result" | "claim" if self.is_dropped:
                return
            case "result":
                self.answers[act] = await self.first.request("tool/result", **of, content=act, claim="first")
            case "other result":
                self.answers[act] = await self.second.request("tool/result", **of, content=act)
            case "claim":
                self.answers[act] = await self.first.request("tool/claim", **of, claim="first")
            case "other claim":
                self.answers[act] = await self.second.request("tool/claim", **of, claim="second")
            case "steer":
                steer = {"stream_id": self.name, "message_id": "m", "content": "more"}
                self.answers[act] = await self.second.request("stream/steer", **steer)
            case "cancel":
                self.answers[act] = await self.second.request("stream/cancel", stream_id=self.name)
            case "finish":
                self.server.gateway.calls[-1].finish()
            case "drop":
                self.is_dropped = True
                await self.first.transport.close()

    async def outcome(self, act: str) -> str | None:
        """None where its client left before."""
        answer = self.answers.get(act)
        if answer is None or (self.is_dropped and act in {"claim", "result"} and not answer.done()):
            return None
        async with asyncio.timeout(5):
            return str((await answer)["result"]["outcome"])

    async def end(self) -> Seen:
        """Whatever step has begun by now is its last."""
        stream = self.server.manager.find("me", self.name)
        async with asyncio.timeout(5):
            while stream.log.ended is None:
                for call in self.server.gateway.calls[-2:]:
                    if not call.closed.is_set():
                        call.finish()
                if stream.status == "waiting":
                    return await self.cancelled()
                await asyncio.sleep(0)
        return await self.second.ended(self.name, timeout_s=5)

    async def cancelled(self) -> Seen:
        for _ in range(30):  # For what is on its way.
            await asyncio.sleep(0)
        self.server.manager.cancel("me", self.name)
        return await self.second.ended(self.name, timeout_s=5)

    def said(self, method: str) -> list[dict[str, Any]]:
        frames = [frame["params"] for frame in self.second.frames if frame.get("method") == method]
        return [params for params in frames if params["stream_id"] == self.name]


async def race(server: Server, number: int, *, calls: bool) -> Race:
    name = f"s{number}"
    first, second = await server.connect(), await server.connect()
    fields: dict[str, Any] = {"tools": TOOLS, "on_tool_call": "wait"} if calls else {}
    begun = len(server.gateway.calls)
    await second.call("chat/send", stream_id=name, messages=HELLO, on_disconnect="continue", **fields)
    call = await server.gateway.call(begun)
    call.say("some")
    await second.text(name, "some")
    if calls:
        call.say(WEATHER, CALLS_MADE)
        call.finish("tool_calls")
        await second.until(lambda: bool(second.streams[name].calls))
        while server.manager.find("me", name).status != "waiting":  # noqa: ASYNC110 - nothing else tells of it
            await asyncio.sleep(0)
    return Race(server, name, first, second)


async def each(server: Server, request: pytest.FixtureRequest, acts: tuple[str, ...], check: Any) -> None:
    for number, (order, gaps) in enumerate(schedules(request, acts)):
        run = await race(server, number, calls=acts is not ENDING)
        begun = len(server.gateway.calls)
        try:
            await run.run(order, gaps)
            seen = await run.end()
            assert seen.methods.count("stream/ended") == 1
            steps = seen.methods.count("stream/step")
            assert len(server.gateway.calls) - begun in {steps, max(0, steps - 1)}
            await check(run, seen)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"schedule {order} with gaps {gaps}: {error}") from error
        await run.first.close()
        await run.second.close()
    assert not server.manager._quota._waiting
    assert server.manager.running == 0


async def test_a_result_a_second_one_a_message_and_a_cancel(
    memory_server: Server, request: pytest.FixtureRequest
) -> None:
    async def check(run: Race, seen: Seen) -> None:
        (told,) = run.said("stream/tool_result")
        outcomes = {act: await run.outcome(act) for act in ("result", "other result", "steer", "cancel")}
        won = [act for act in ("result", "other result") if outcomes[act] == "accepted"]
        assert told["content"] == won[0] if won else told["status"] == "cancelled"
        assert len(won) <= 1
        assert seen.methods.count("stream/step") <= 2
        check_steered(run, seen, outcomes["steer"])

    await each(memory_server, request, WAITING, check)


async def test_a_claim_its_result_another_claim_and_a_lost_connection(
    memory_server: Server, request: pytest.FixtureRequest
) -> None:
    async def check(run: Race, seen: Seen) -> None:
        (told,) = run.said("stream/tool_result")
        outcomes = {act: await run.outcome(act) for act in ("claim", "result", "other claim")}
        assert [outcomes["claim"], outcomes["other claim"]].count("claimed") <= 1
        if outcomes["result"] == "accepted":
            assert told["content"] == "result"
        states = [each["state"] for each in run.said("stream/tool_update")]
        assert states in ([], ["running"])

    await each(memory_server, request, CLAIMED, check)


async def test_an_end_a_message_a_cancel_and_a_lost_connection(
    memory_server: Server, request: pytest.FixtureRequest
) -> None:
    async def check(run: Race, seen: Seen) -> None:
        check_steered(run, seen, await run.outcome("steer"))

    await each(memory_server, request, ENDING, check)


def check_steered(run: Race, seen: Seen, outcome: str | None) -> None:
    """A message that was accepted is said once, or told at the end; any other is nowhere."""
    assert seen.ended is not None
    said = [message for step in run.said("stream/step") for message in step.get("messages", ())]
    said += seen.ended.get("unsteered", ())
    assert len(said) == (outcome == "accepted")
