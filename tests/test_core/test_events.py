"""The event that keeps nothing while nobody waits."""

import asyncio

import pytest

from archer_ws.core.lean_event import LeanEvent


async def test_all_who_wait_go_on_and_those_who_come_later_too() -> None:
    event = LeanEvent()
    waiting = [asyncio.create_task(event.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    event.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
        await event.wait()
    assert event.is_set()


async def test_cleared_it_holds_those_who_come_and_not_those_who_were_let_go() -> None:
    event = LeanEvent()
    before = asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    event.set()
    event.clear()
    after = asyncio.create_task(event.wait())
    async with asyncio.timeout(5):
        await before
    assert not after.done()
    event.set()
    async with asyncio.timeout(5):
        await after


async def test_who_gives_up_is_forgotten_and_harms_nobody() -> None:
    event = LeanEvent()
    given_up, patient = asyncio.create_task(event.wait()), asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    event.set()
    async with asyncio.timeout(5):
        await patient
