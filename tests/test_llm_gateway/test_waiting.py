"""What a bounded wait leaves behind."""

import asyncio
import gc
import weakref

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
