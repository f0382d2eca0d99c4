"""A limit of this process's own waits is worth nothing where the process stood still."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from archer_ws.core.patience import patient_timeout, patient_wait
from archer_ws.core.standstill import STANDSTILL_S

LIMIT_S = 0.1


async def waited(result: "asyncio.Future[str]") -> None:
    await patient_wait((result,), LIMIT_S)


async def waited_for_the_first(result: "asyncio.Future[str]") -> None:
    never = asyncio.get_running_loop().create_future()
    await patient_wait((never, result), LIMIT_S, return_when=asyncio.FIRST_COMPLETED)


async def timed(result: "asyncio.Future[str]") -> None:
    try:
        async with patient_timeout(LIMIT_S):
            await asyncio.shield(result)
    except TimeoutError:
        assert not result.done()


WAITS = [waited, waited_for_the_first, timed]


@pytest.mark.parametrize("wait", WAITS)
async def test_what_came_while_the_process_stood_still_is_in_time(
    wait: Callable[["asyncio.Future[str]"], Awaitable[None]],
) -> None:
    loop = asyncio.get_running_loop()
    result: asyncio.Future[str] = loop.create_future()
    loop.call_soon(time.sleep, LIMIT_S + STANDSTILL_S + 0.1)
    # Read only after the limit's timer, as with uvloop.
    loop.call_later(LIMIT_S + 0.05, result.set_result, "stored")
    await wait(result)
    assert result.done()


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("stands_still", [False, True])
async def test_what_does_not_come_is_late(
    wait: Callable[["asyncio.Future[str]"], Awaitable[None]], *, stands_still: bool
) -> None:
    result: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    if stands_still:
        asyncio.get_running_loop().call_soon(time.sleep, LIMIT_S + STANDSTILL_S + 0.1)
    async with asyncio.timeout(10):
        await wait(result)
    assert not result.done()
