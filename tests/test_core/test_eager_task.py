"""A task that has run its first step when it is returned is otherwise a task like any other."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest

from archer_ws.core.eager_task import start_now

BOUND: ContextVar[str] = ContextVar("BOUND", default="outside")


async def test_the_first_step_has_run_when_the_task_is_returned() -> None:
    ran: list[str] = []
    waits = asyncio.get_running_loop().create_future()

    async def work() -> str:
        ran.append("first")
        ran.append(await waits)
        return "done"

    task = start_now(work(), name="worker")
    assert ran == ["first"]
    assert task.get_name() == "worker"
    waits.set_result("second")
    assert await task == "done"
    assert ran == ["first", "second"]


async def test_within_the_first_step_the_current_task_is_the_new_one_and_the_context_is_its_own() -> None:
    seen: list[asyncio.Task[object] | None] = []

    async def inner() -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    async def work() -> None:
        BOUND.set("inside")
        seen.append(asyncio.current_task())
        inside = start_now(inner())
        seen.append(asyncio.current_task())
        await inside
        assert seen == [task, inside, task, inside]
        assert BOUND.get() == "inside"

    outer = asyncio.current_task()
    task = start_now(work())
    assert asyncio.current_task() is outer
    await task
    assert BOUND.get() == "outside"


async def test_work_that_never_waits_ends_by_its_result_or_its_error() -> None:
    async def right() -> int:
        return 1

    async def wrong() -> None:
        raise LookupError

    assert await start_now(right()) == 1
    failing = start_now(wrong())
    with pytest.raises(LookupError):
        await failing


async def test_a_time_limit_begun_in_the_first_step_ends_the_new_task_alone() -> None:
    async def work() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.get_running_loop().create_future()

    task = start_now(work())
    with pytest.raises(TimeoutError):
        await task


async def _on_future(cancelled: list[str]) -> None:
    waits = asyncio.get_running_loop().create_future()
    waits.add_done_callback(lambda _: cancelled.append("what it awaits"))
    await waits


async def _on_task(cancelled: list[str]) -> None:
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append("what it awaits")
            raise

    inner = start_now(slow())
    await inner


async def _on_nothing(cancelled: list[str]) -> None:
    try:
        await asyncio.sleep(0)
    finally:
        cancelled.append("what it awaits")


@pytest.mark.parametrize("waiting", [_on_future, _on_task, _on_nothing])
@pytest.mark.parametrize("iterations", [0, 1, 2])
async def test_a_cancel_reaches_what_the_task_waits_for_as_early_as_it_may_come(
    waiting: Callable[[list[str]], Awaitable[None]], iterations: int
) -> None:
    cancelled: list[str] = []

    async def work() -> None:
        await waiting(cancelled)
        await asyncio.sleep(60)

    task = start_now(work())
    for _ in range(iterations):
        await asyncio.sleep(0)
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert cancelled == ["what it awaits"]


async def test_a_cancel_that_the_work_refuses_does_not_end_it() -> None:
    async def work() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "went on"

    task = start_now(work())
    task.cancel()
    assert await task == "went on"


async def test_a_cancel_of_work_that_is_over_before_it_is_a_task_changes_nothing_it_did() -> None:
    did: list[str] = []

    async def work() -> None:
        did.append("all")

    task = start_now(work())
    task.cancel()
    await asyncio.wait([task])
    assert did == ["all"]
