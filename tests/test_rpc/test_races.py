"""Cancel, finish, disconnect and resume in every order and at every distance: whoever wins, the end is one and true.

The loop's turns between the acts are counted out, so that each schedule is a test case of its own and repeats exactly.
"""

import asyncio
import itertools
import random

import pytest

from tests.fakes.rpc_peer import Seen
from tests.test_rpc.conftest import Server

HELLO = [{"role": "user", "content": "hello"}]
ACTS = ("cancel", "finish", "drop", "resume")
#: How many turns of the loop may lie between two acts. Beyond about ten everything has come to rest.
DISTANCES = (0, 1, 2, 3, 5, 8)

SCHEDULES = [
    (order, gaps)
    for order in itertools.permutations(ACTS)
    for gaps in itertools.product(DISTANCES, repeat=len(ACTS) - 1)
]


def chosen(request: pytest.FixtureRequest) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    """All schedules with --long, else the same few hundred each time."""
    if request.config.getoption("--long"):
        return SCHEDULES
    return random.Random(5).sample(SCHEDULES, 150)


async def test_every_order_and_distance_of_cancel_finish_drop_and_resume(
    memory_server: Server, request: pytest.FixtureRequest
) -> None:
    for number, (order, gaps) in enumerate(chosen(request)):
        try:
            await run(memory_server, number, order, gaps)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"schedule {order} with gaps {gaps}: {error}") from error


async def run(server: Server, number: int, order: tuple[str, ...], gaps: tuple[int, ...]) -> None:
    name = f"s{number}"
    leave = "cancel" if gaps[0] % 2 else "continue"
    first, second = await server.connect(), await server.connect()
    await first.call("chat/send", stream_id=name, messages=HELLO, on_disconnect=leave)
    call = await server.gateway.call(number)
    call.say("some ")
    await first.text(name, "some ")
    head = first.streams[name].head
    resumed = None
    for act, gap in zip(order, (*gaps, 0), strict=True):
        match act:
            case "cancel":
                await second.request("stream/cancel", stream_id=name)
            case "finish":
                call.say("more")
                call.finish()
            case "drop":
                await first.transport.close()
            case "resume":
                second.streams[name] = Seen(head=head)
                resumed = await second.request("stream/subscribe", stream_id=name, after=head)
        for _ in range(gap):
            await asyncio.sleep(0)
    assert resumed is not None
    async with asyncio.timeout(5):
        await resumed
    seen = await second.ended(name, timeout_s=5)
    stream = server.manager.find("me", name)
    assert seen.ended is not None
    assert seen.ended["status"] == stream.status
    assert stream.status in {"completed", "cancelled"}
    whole = stream.log.text("content")
    assert whole == "some " + seen.content
    assert seen.content in {"", "more"}
    if stream.status == "completed":
        assert seen.content == "more"
    assert call.closed.is_set()
    await first.close()
    await second.close()


@pytest.mark.parametrize("kind", ["cancel", "finish"])
async def test_a_cancel_and_a_finish_in_the_same_step_agree_on_one_end(memory_server: Server, kind: str) -> None:
    peer = await memory_server.connect()
    await peer.call("chat/send", stream_id="s", messages=HELLO)
    call = await memory_server.gateway.call()
    if kind == "finish":
        call.finish()
    answer = memory_server.manager.cancel("me", "s")
    if kind == "cancel":
        call.finish()
    seen = await peer.ended("s")
    assert seen.ended is not None
    assert answer.outcome == "cancelling"
    assert seen.ended["status"] == "cancelled"
