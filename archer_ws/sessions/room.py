"""A bound on what many take at once: who comes too late waits, first come, first served. Pure but for the waiting."""

import asyncio
from collections import deque


class Room:
    """So much of something, in whatever unit.

    Args:
        total: all of it; who wants more than that gets it when nobody else has any.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, amount: int) -> "Reservation":
        """So much of it, as soon as there is."""
        if self._waiting or not self._fits(amount):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((amount, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_back(amount)
                else:
                    self._waiting.remove((amount, turn))
                    self._let_in()
                raise
        else:
            self._taken += amount
        return Reservation(self, amount)

    def _fits(self, amount: int) -> bool:
        return not self._taken or self._taken + amount <= self._total

    def _give_back(self, amount: int) -> None:
        self._taken -= amount
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            amount, turn = self._waiting.popleft()
            self._taken += amount
            turn.set_result(None)


class Reservation:
    """What somebody took; released once, or as often as one likes."""

    __slots__ = ("_amount", "_room")

    def __init__(self, room: Room, amount: int) -> None:
        self._room = room
        self._amount = amount

    def release(self) -> None:
        """Give it back."""
        amount, self._amount = self._amount, 0
        if amount:
            self._room._give_back(amount)
