"""A limit of what many tasks use at once: if it is reached, tasks wait, first come, first served."""

import asyncio
from collections import deque


class Room:
    """A limited amount of something, in any unit.

    Args:
        total: the limit. A task that asks for more than the limit gets it once nothing else is reserved.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, amount: int) -> "Reservation":
        """Reserve `amount`; waits until it is free."""
        if self._waiting or not self._fits(amount):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((amount, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._give_back(amount)
                elif (amount, turn) in self._waiting:
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
            if not turn.done():  # Otherwise its task was cancelled, and has not run since.
                self._taken += amount
                turn.set_result(None)


class Reservation:
    """A reserved amount. Releasing it again does nothing."""

    __slots__ = ("_amount", "_room")

    def __init__(self, room: Room, amount: int) -> None:
        self._room = room
        self._amount = amount

    def release(self) -> None:
        """Give the amount back."""
        amount, self._amount = self._amount, 0
        if amount:
            self._room._give_back(amount)
