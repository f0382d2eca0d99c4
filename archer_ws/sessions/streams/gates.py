"""Admission: how many streams may run, and who waits for a provider.

Everything here is synchronous but the wait for a slot, so that accepting or refusing a stream is one step.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from archer_ws.core.exceptions import Overloaded
from archer_ws.core.limits import WAITING_STREAMS_MAX
from archer_ws.sessions.shares import Shares

#: What a refused client is told to wait, in ms: streams end all the time, so soon is right.
RETRY_AFTER_MS = 1000


@dataclass(frozen=True, slots=True)
class ManagerLimits:
    """What the manager allows and keeps; times in seconds."""

    max_content_bytes: int = 4 * 1024 * 1024
    retention_s: float = 600.0
    grace_s: float | None = None
    retained_bytes_max: int = 256 * 1024 * 1024


class StreamQuota:
    """Counts running streams, over all and per principal.

    Args:
        max_streams: over all; half of them in equal shares (see Shares).
        max_per_principal: of one principal.
        principals: those known beforehand.
    """

    def __init__(self, *, max_streams: int, max_per_principal: int, principals: Iterable[str] = ()) -> None:
        self._max_per_principal = max_per_principal
        self._running = Shares(max_streams, principals)
        self._waiting: dict[str, int] = {}

    def enter(self, principal: str) -> None:
        """Count one more stream.

        Raises:
            Overloaded: that would be one too many.
        """
        if self._running.is_full(1):
            raise Overloaded(
                f"{self._running.taken} streams are running, the most this server allows",
                hint="Wait for some to end, or raise MAX_STREAMS.",
                retry_after_ms=RETRY_AFTER_MS,
            )
        mine = self._running.of(principal)
        if mine >= self._max_per_principal:
            raise Overloaded(
                f"{mine} of your streams are running, the most one principal may have",
                hint="Wait for some to end or cancel them, or raise MAX_STREAMS_PER_PRINCIPAL.",
                retry_after_ms=RETRY_AFTER_MS,
            )
        if not self._running.has_room(principal, 1):
            raise Overloaded(
                f"{mine} of your streams are running: the others' share of {self._running.total} is left for them",
                hint="Wait for some to end or cancel them, or raise MAX_STREAMS.",
                retry_after_ms=RETRY_AFTER_MS,
            )
        self._running.take(principal, 1)

    def leave(self, principal: str) -> None:
        """Count one stream less."""
        self._running.take(principal, -1)

    def begin_waiting(self, principal: str, *, is_sure: bool = False) -> None:
        """Count one more that waits for results; one that is sure of its place is not refused.

        Raises:
            Overloaded: that would be one too many.
        """
        waiting = self._waiting.get(principal, 0)
        if waiting >= WAITING_STREAMS_MAX and not is_sure:
            raise Overloaded(
                f"{waiting} of your streams wait for the results of calls, the most one principal may have",
                hint="Answer some of their calls, or cancel some of them.",
                retry_after_ms=RETRY_AFTER_MS,
            )
        self._waiting[principal] = waiting + 1

    def end_waiting(self, principal: str) -> None:
        """Count one less."""
        self._waiting[principal] -= 1
        if not self._waiting[principal]:
            del self._waiting[principal]


class ProviderGate:
    """At most `concurrency` calls to a provider at once, and a queue of at most `queue` behind them.

    Principals take turns: a slot that comes free goes to the one whose turn it is, first come first served among his
    own, so that one who has many requests waiting delays another by one of them at the most.

    Args:
        provider: its name, for errors.
        concurrency: calls at once.
        queue: requests that wait, half of them in equal shares (see Shares).
        principals: those known beforehand.
    """

    def __init__(self, provider: str, *, concurrency: int, queue: int, principals: Iterable[str] = ()) -> None:
        self._provider = provider
        self._concurrency = concurrency
        self._busy = 0
        self._waiting = Shares(queue, principals)
        # Whose turn it is stands first; nobody without a slot that waits is in it.
        self._turns: OrderedDict[str, deque[Slot]] = OrderedDict()
        # Those of streams that have begun: they go first.
        self._going_on: deque[Slot] = deque()

    @property
    def free(self) -> int:
        """How many calls could begin now."""
        return self._concurrency - self._busy

    def reserve(self, principal: str = "") -> "Slot":
        """A slot, granted or queued.

        Raises:
            Overloaded: the queue is full, or the principal's share of it.
        """
        slot = Slot(self, principal)
        if self._busy < self._concurrency:
            self._busy += 1
            slot.granted = True
        elif self._waiting.has_room(principal, 1):
            self._waiting.take(principal, 1)
            self._turns.setdefault(principal, deque()).append(slot)
            slot.is_queued = True
        else:
            waiting = f"{self._waiting.taken} wait"
            raise Overloaded(
                f"{self._provider} is busy: {self._busy} requests run and {waiting}"
                + ("" if self._waiting.is_full(1) else f", {self._waiting.of(principal)} of them yours"),
                hint="Try again later, or raise PROVIDER_CONCURRENCY or PROVIDER_QUEUE.",
                retry_after_ms=RETRY_AFTER_MS,
                provider=self._provider,
            )
        return slot

    def unasked(self, principal: str) -> "Slot":
        """A slot that is neither granted nor queued, for a stream that goes on later."""
        return Slot(self, principal)

    def go_on(self, slot: "Slot") -> None:
        """Give a stream that has begun its place again: beyond the queue's bound, and ahead of requests that have not.

        Else its work so far would be lost to one that was never begun (protocol section 23, rule 3).
        """
        if self._busy < self._concurrency:
            self._busy += 1
            slot.grant()
        else:
            slot.is_queued = True
            self._going_on.append(slot)

    def release(self, slot: "Slot") -> None:
        """Give the slot to the next in the queue, or take it out of the queue if it still waits there."""
        if not slot.granted:
            if slot.is_queued:
                self._leave_queue(slot)
            return
        slot.granted = False
        if self._going_on:
            following = self._going_on.popleft()
            following.is_queued = False
            following.grant()
        elif self._turns:
            principal, mine = next(iter(self._turns.items()))
            following = mine[0]
            self._leave_queue(following)
            if mine:
                self._turns.move_to_end(principal)
            following.grant()
        else:
            self._busy -= 1

    def _leave_queue(self, slot: "Slot") -> None:
        slot.is_queued = False
        if slot in self._going_on:
            self._going_on.remove(slot)
            return
        mine = self._turns[slot.principal]
        mine.remove(slot)
        self._waiting.take(slot.principal, -1)
        if not mine:
            del self._turns[slot.principal]


class Slot:
    """The right to one call to a provider, or a place in the queue for it.

    A stream that waits for results has neither: it releases the slot, and takes it again.
    """

    def __init__(self, gate: ProviderGate, principal: str) -> None:
        self.principal = principal
        self._gate = gate
        self._waiter: asyncio.Future[None] | None = None
        self.granted = False
        self.is_queued = False

    async def wait(self) -> None:
        """Wait until the slot is granted; cancelling the wait keeps the place until `release`."""
        if not self.granted:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def grant(self) -> None:
        """Let the waiter go on (the gate's to call)."""
        self.granted = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take_again(self) -> None:
        """Ask for it once more, for a stream that has begun."""
        if not self.granted and not self.is_queued:
            self._gate.go_on(self)

    def release(self) -> None:
        """Give it back, whether it was granted or still waits; a second time does nothing."""
        self._gate.release(self)
