"""Tasks whose first step runs at once, and not a loop iteration later.

A request passes through several tasks before its provider is asked. Under load an iteration of the event loop lasts as
long as the work of all running streams, and each task that only waits for its first step waits for all of that.
"""

import asyncio
import sys
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def start_now(
    work: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
) -> "asyncio.Task[T]":
    """A task that has already run up to the first place where `work` waits; otherwise like `asyncio.create_task`.

    The caller must be ready for all that `work` does at its beginning. If it never waits, the task is done by then, or
    with Python 3.11 an iteration later.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, name=name, context=context, eager_start=True)
    if context is None:
        context = copy_context()
    begun = _begun(work)
    task = asyncio.Task(begun, loop=loop, name=name, context=context)
    # Documented for other implementations of tasks ("Extending"): within the first step, too, time limits and cancel
    # scopes belong to the new task.
    outer = asyncio.current_task(loop)
    if outer is not None:
        asyncio._leave_task(loop, outer)
    asyncio._enter_task(loop, task)
    try:
        context.run(begun.send, None)
    finally:
        asyncio._leave_task(loop, task)
        if outer is not None:
            asyncio._enter_task(loop, outer)
    return task


@coroutine
def _begun(work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """`work`, for a task: the first `send` is ours and runs the first step, all others are the task's."""
    awaited: Any = None
    end: BaseException | None = None
    try:
        awaited = work.send(None)
    except BaseException as error:  # noqa: BLE001 - the task ends by it below
        end = error
    try:
        yield
    except asyncio.CancelledError as cancelled:
        # The task was cancelled before it ran itself. As in any task, what it waits for is cancelled.
        if end is not None:
            raise
        if awaited is None or not awaited.cancel():
            try:
                awaited = work.throw(cancelled)
            except StopIteration as last:
                end = last
    while end is None:
        try:
            yield awaited
        except BaseException as thrown:  # noqa: BLE001 - `work` decides
            try:
                awaited = work.throw(thrown)
            except StopIteration as last:
                end = last
        else:
            result: T = yield from work
            return result
    if isinstance(end, StopIteration):
        return end.value  # type: ignore[no-any-return]  # what `work` returned
    raise end
