"""Caches the result of an expensive request that many callers make: requested once at a time, and cached for a
moment."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cached(Generic[T]):
    """The cached result of one request.

    Args:
        ask: makes the request; an exception reaches all waiting callers, and is not cached.
        hold_s: how long a result is cached, in seconds.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[T]], hold_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._hold_s = hold_s
        self._clock = clock
        self._value: tuple[T, float] | None = None
        self._asking: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The result, at most `hold_s` old."""
        if self._value is not None and self._clock() < self._value[1]:
            return self._value[0]
        asking = self._asking
        # A task of another loop (a test client creates one per request) can't be awaited.
        if asking is None or asking.done() or asking.get_loop() is not asyncio.get_running_loop():
            asking = self._asking = asyncio.create_task(self._ask_now())
        # Shielded: cancelling one caller must not fail the others that wait for the same result.
        return await asyncio.shield(asking)

    async def _ask_now(self) -> T:
        value = await self._ask()
        self._value = value, self._clock() + self._hold_s
        return value
