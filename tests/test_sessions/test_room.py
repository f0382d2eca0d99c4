"""A bound on what many take at once: who comes too late waits, and nobody waits for ever."""

import asyncio

import pytest

from archer_ws.sessions.room import Room


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_comes_too_late_waits_and_is_let_in_in_order() -> None:
    room = Room(10)
    first = await room.take(6)
    waiting = [asyncio.create_task(room.take(amount)) for amount in (6, 1)]
    await turns()
    assert [each.done() for each in waiting] == [False, False]
    first.release()
    first.release()
    second, third = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    second.release()
    third.release()


async def test_what_is_larger_than_the_whole_gets_in_when_nobody_else_is_there() -> None:
    room = Room(10)
    small = await room.take(1)
    large = asyncio.create_task(room.take(50))
    await turns()
    assert not large.done()
    small.release()
    (await asyncio.wait_for(large, 5)).release()
    (await asyncio.wait_for(room.take(10), 5)).release()


async def test_what_is_free_in_the_moment_of_a_cancel_goes_to_whoever_is_next() -> None:
    room = Room(10)
    first = await room.take(10)
    gone, behind = asyncio.create_task(room.take(5)), asyncio.create_task(room.take(10))
    await turns()
    gone.cancel()
    first.release()  # Before the cancelled task has run.
    await asyncio.gather(gone, return_exceptions=True)
    assert gone.cancelled()
    (await asyncio.wait_for(behind, 5)).release()


@pytest.mark.parametrize("after_its_turn", [False, True])
async def test_who_stops_waiting_keeps_nobody_out(after_its_turn: bool) -> None:
    room = Room(10)
    first = await room.take(10)
    gone, behind = asyncio.create_task(room.take(10)), asyncio.create_task(room.take(10))
    await turns()
    if after_its_turn:
        first.release()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    first.release()
    (await asyncio.wait_for(behind, 5)).release()
