import asyncio

from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from archer_ws.core.deferred import afterwards


async def test_what_comes_afterwards_waits_for_those_who_were_woken_and_keeps_its_callers_context() -> None:
    order: list[object] = []
    woken = asyncio.Event()

    async def waiting() -> None:
        await woken.wait()
        order.append("woken")

    waiter = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    bind_contextvars(request_id="mine")
    done = asyncio.Event()
    afterwards(lambda: order.append(get_contextvars()))
    afterwards(done.set)
    clear_contextvars()
    order.append("caller")
    woken.set()
    await done.wait()
    await waiter
    assert order == ["caller", "woken", {"request_id": "mine"}]


def test_a_loop_that_is_about_to_close_still_does_it() -> None:
    done: list[str] = []

    async def main() -> None:
        afterwards(lambda: done.append("done"))

    asyncio.run(main())
    assert done == ["done"]
