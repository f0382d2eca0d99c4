"""Admission: limits how many streams run, and queues calls of providers.

Everything is synchronous except the wait for a slot, so that a stream is accepted or refused atomically.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from archer_ws.core.exceptions import Overloaded
from archer_ws.core.limits import WAITING_STREAMS_MAX
from archer_ws.sessions.shares import Shares

#: When a refused client should retry, in ms: soon, since streams end all the time.
RETRY_AFTER_MS = 1000


@dataclass(frozen=True, slots=True)
class ManagerLimits:
    """The limits that the owner configures; times in seconds, sizes in bytes."""

    max_content_bytes: int = 4 * 1024 * 1024
    retention_s: float = 600.0
    grace_s: float | None = None
    retained_bytes_max: int = 256 * 1024 * 1024


class StreamQuota:
    """Limits the running streams, in all and per principal.

    Args:
        max_streams: the limit of all streams; half of it is reserved in equal shares (see Shares).
        max_per_principal: the limit of one principal's streams.
        principals: the configured principals.
    """

    def __init__(self, *, max_streams: int, max_per_principal: int, principals: Iterable[str] = ()) -> None:
        self._max_per_principal = max_per_principal
        self._running = Shares(max_streams, principals)
        self._waiting: dict[str, int] = {}

    def enter(self, principal: str) -> None:
        """Count one more stream.

        Raises:
            Overloaded: a limit is reached.
        """
        mine = self._running.of(principal)
        if mine >= self._max_per_principal or not self._running.has_room(principal, 1):
            raise self._refusal(mine)
        self._running.take(principal, 1)

    def enter_again(self, principal: str) -> None:
        """Count a stream that an earlier process accepted, regardless of the limits."""
        self._running.take(principal, 1)

    def _refusal(self, mine: int) -> Overloaded:
        if self._running.is_full(1):
            return Overloaded(
                f"{self._running.taken} streams are running, which is this server's limit",
                hint="Wait for some to end, or raise MAX_STREAMS.",
                retry_after_ms=RETRY_AFTER_MS,
            )
        if mine >= self._max_per_principal:
            return Overloaded(
                f"{mine} of your streams are running, which is the limit of one principal",
                hint="Wait for some to end or cancel them, or raise MAX_STREAMS_PER_PRINCIPAL.",
                retry_after_ms=RETRY_AFTER_MS,
            )
        return Overloaded(
            f"{mine} of your streams are running; the rest of the {self._running.total} is reserved for others",
            hint="Wait for some to end or cancel them, or raise MAX_STREAMS.",
            retry_after_ms=RETRY_AFTER_MS,
        )

    def leave(self, principal: str) -> None:
        """Count one stream less."""
        self._running.take(principal, -1)

    def begin_waiting(self, principal: str, *, is_sure: bool = False) -> None:
        """Count one more stream that waits for tool results. With `is_sure` the limit is not checked.

        Raises:
            Overloaded: the principal's limit is reached.
        """
        waiting = self._waiting.get(principal, 0)
        if waiting >= WAITING_STREAMS_MAX and not is_sure:
            raise Overloaded(
                f"{waiting} of your streams wait for tool results, which is the limit of one principal",
                hint="Send the results of their calls, or cancel some of them.",
                retry_after_ms=RETRY_AFTER_MS,
            )
        self._waiting[principal] = waiting + 1

    def end_waiting(self, principal: str) -> None:
        """Count one waiting stream less."""
        self._waiting[principal] -= 1
        if not self._waiting[principal]:
            del self._waiting[principal]


class ProviderGate:
    """Limits the concurrent calls of a provider, and queues requests beyond the limit.

    A free slot goes to the principals in turn, and within a principal's requests to the oldest. So a principal with
    many queued requests delays another principal by one request at most.

    Args:
        provider: its name, for errors.
        concurrency: the limit of concurrent calls.
        queue: the limit of queued requests; half of it is reserved in equal shares (see Shares).
        principals: the configured principals.
    """

    def __init__(self, provider: str, *, concurrency: int, queue: int, principals: Iterable[str] = ()) -> None:
        self._provider = provider
        self._concurrency = concurrency
        self._busy = 0
        self._waiting = Shares(queue, principals)
        # The principals with queued slots; the one whose turn is next comes first.
        self._turns: OrderedDict[str, deque[Slot]] = OrderedDict()
        # The slots of streams that have begun: these are granted first.
        self._going_on: deque[Slot] = deque()

    @property
    def free(self) -> int:
        """How many calls could begin now."""
        return self._concurrency - self._busy

    def reserve(self, principal: str = "") -> "Slot":
        """A slot for a request, granted or queued.

        Raises:
            Overloaded: the queue, or the principal's share of it, is full.
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
        """Grant or queue the slot of a stream that has begun: ahead of requests that have not, and without a limit.

        Otherwise a request that has not begun could make a begun stream lose its work (protocol section 23, rule 3).
        """
        if self._busy < self._concurrency:
            self._busy += 1
            slot.grant()
        else:
            slot.is_queued = True
            self._going_on.append(slot)

    def release(self, slot: "Slot") -> None:
        """Pass a granted slot on to the next in the queue; remove a queued slot from the queue."""
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
    """The right to one call of a provider, or a place in the queue for it.

    While a stream waits for tool results it has neither: it releases the slot, and requests it again for the next step.
    """

    __slots__ = ("_gate", "_waiter", "granted", "is_queued", "principal")

    def __init__(self, gate: ProviderGate, principal: str) -> None:
        self.principal = principal
        self._gate = gate
        self._waiter: asyncio.Future[None] | None = None
        self.granted = False
        self.is_queued = False

    async def wait(self) -> None:
        """Wait until the slot is granted. If the wait is cancelled, the slot stays queued until `release`."""
        if not self.granted:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def grant(self) -> None:
        """Grant the slot and wake its waiter. Called by the gate."""
        self.granted = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take_again(self) -> None:
        """Request the slot again, for a stream that has begun."""
        if not self.granted and not self.is_queued:
            self._gate.go_on(self)

    def release(self) -> None:
        """Release a granted slot, or leave the queue. A second call does nothing."""
        self._gate.release(self)
