"""What a bounded wait leaves behind, and what it is worth where this process stood still."""

import asyncio
import gc
import time
import weakref

import pytest

from archer_ws.core.exceptions import ProviderTimeout
from archer_ws.core.standstill import STANDSTILL_S
from archer_ws.llm_gateway.resilience.wait_limit import WaitLimit


class Held:
    """What a reader has at hand, such as a stream and its log."""


async def read_for_ever(held: Held) -> Held:
    """Wait within a limit that does not strike, with `held` among the frame's variables."""
    loop = asyncio.get_running_loop()
    with WaitLimit("ollama", whole_by=loop.time() + 60, whole_s=60) as limit:
        limit.begin(loop.time() + 60, "sent no text within", 60)
        await loop.create_future()
    return held


async def test_what_a_cancelled_reader_held_is_freed_at_once_and_not_by_the_garbage_collector() -> None:
    held = Held()
    freed = weakref.ref(held)
    gc.disable()
    try:
        reader = asyncio.create_task(read_for_ever(held))
        del held
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait((reader,))
        assert reader.cancelled()
        del reader
        await asyncio.sleep(0)
        assert freed() is None
    finally:
        gc.enable()


async def test_a_limit_that_ran_out_while_the_event_loop_stood_still_begins_anew() -> None:
    loop = asyncio.get_running_loop()
    came: asyncio.Future[str] = loop.create_future()
    with WaitLimit("ollama", whole_by=loop.time() + 60, whole_s=60) as limit:
        limit.begin(loop.time() + 0.1, "sent no text within", 0.1)
        loop.call_soon(time.sleep, 0.2 + STANDSTILL_S)
        # Read only after the limit's timer, as with uvloop.
        loop.call_later(0.15, came.set_result, "text")
        assert await came == "text"


@pytest.mark.parametrize(
    ("whole_s", "words"), [(60.0, "sent no text within 0.25 s"), (0.2, "did not finish within 0.2 s")]
)
async def test_what_does_not_come_after_the_event_loop_stood_still_is_late(whole_s: float, words: str) -> None:
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        with WaitLimit("ollama", whole_by=loop.time() + whole_s, whole_s=whole_s) as limit:
            limit.begin(loop.time() + 0.25, "sent no text within", 0.25)
            loop.call_soon(time.sleep, 0.3 + STANDSTILL_S)
            await loop.create_future()

    with pytest.raises(ProviderTimeout, match=words):
        await wait()


def test_a_limit_strikes_although_its_time_is_less_than_a_tick_of_the_loop_away() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            with WaitLimit("ollama", whole_by=loop.time() + 60, whole_s=60) as limit:
                # As when the timer has just struck and a rounding error is left of the deadline.
                limit.begin(loop.time() + 1e-9, "sent no text within", 0.1)
                limit.begin(loop.time() + 2e-9, "sent no text within", 0.1)
                await loop.create_future()

    with pytest.raises(ProviderTimeout, match=r"sent no text within 0\.1 s"):
        uvloop.run(wait())


async def test_a_wait_with_a_shorter_limit_than_the_one_before_is_held_to_its_own() -> None:
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        with WaitLimit("ollama", whole_by=loop.time() + 60, whole_s=60) as limit:
            limit.begin(loop.time() + 50, "sent no text within", 50)
            limit.begin(loop.time() + 0.1, "went silent for", 0.1)
            async with asyncio.timeout(5):
                await loop.create_future()

    with pytest.raises(ProviderTimeout, match=r"went silent for 0\.1 s"):
        await wait()


async def test_a_wait_that_begins_after_its_deadline_is_limited() -> None:
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        with WaitLimit("ollama", whole_by=loop.time() + 60, whole_s=60) as limit:
            limit.begin(loop.time() + 0.05, "went silent for", 0.05)
            limit.is_waiting = False
            await asyncio.sleep(0.2)  # the reader handles a chunk, past the deadline
            limit.is_waiting = True
            async with asyncio.timeout(5):
                await loop.create_future()

    with pytest.raises(ProviderTimeout, match=r"went silent for 0\.05 s"):
        await wait()


async def test_a_cancel_at_the_same_time_as_a_limit_is_a_cancel_and_no_failure_that_may_be_tried_again() -> None:
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        with WaitLimit("ollama", whole_by=loop.time() + 60, whole_s=60) as limit:
            limit.begin(loop.time() + 0.02, "sent no text within", 0.02)
            loop.call_later(0.02, waiting.cancel)
            # Both are due when the loop goes on.
            loop.call_soon(time.sleep, 0.05)
            await loop.create_future()

    waiting = loop.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled()


async def test_a_wait_whose_deadline_moves_beyond_the_time_for_the_whole_ends_with_that_time() -> None:
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        with WaitLimit("ollama", whole_by=loop.time() + 0.2, whole_s=0.2) as limit:
            limit.begin(loop.time() + 0.02, "fell silent for", 60)
            limit.by = loop.time() + 60  # a chunk was pushed
            async with asyncio.timeout(10):
                await loop.create_future()

    with pytest.raises(ProviderTimeout, match=r"did not finish within 0\.2 s"):
        await wait()
