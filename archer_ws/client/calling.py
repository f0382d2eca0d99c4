"""Calling a program's function, async or not, without blocking the event loop."""

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def called(function: Callable[..., Awaitable[_Result] | _Result], *args: Any, **kwargs: Any) -> _Result:
    """Call a function and return its result; one that is not async runs in a thread of its own.

    Cancelling this cancels a coroutine. A thread can't be stopped: it runs on, its result is dropped, and it does not
    keep the program from exiting.
    """
    if is_async(function):
        result = function(*args, **kwargs)
    else:
        result = await _in_thread(functools.partial(function, *args, **kwargs))
    return await result if inspect.isawaitable(result) else result


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it returns a coroutine at once."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


async def _in_thread(function: Callable[[], _Result]) -> _Result:
    # Not the loop's executor: a program's exit waits for its threads, and their number is limited.
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[_Result | None, BaseException | None]] = loop.create_future()

    def tell(result: _Result | None, error: BaseException | None) -> None:
        if not done.done():
            done.set_result((result, error))

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:  # noqa: BLE001 - it is raised again in the waiting task
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nothing waits for the result
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name="archer-tool", daemon=True).start()
    result, error = await done
    if error is not None:
        raise error
    return result  # type: ignore[return-value] # without an error there is one
