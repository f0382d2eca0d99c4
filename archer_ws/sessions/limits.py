"""Admission: how many streams may run, and who waits for a provider.

Everything here is synchronous but the wait for a slot, so that accepting or refusing a stream is one step.
"""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass

from archer_ws.core.exceptions import Overloaded

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
    """Counts running streams, over all and per principal."""

    def __init__(self, *, max_streams: int, max_per_principal: int) -> None:
        self._max_streams = max_streams
        self._max_per_principal = max_per_principal
        self._running: Counter[str] = Counter()
        self._total = 0

    def enter(self, principal: str) -> None:
        """Count one more stream.

        Raises:
            Overloaded: that would be one too many.
        """
        if self._total >= self._max_streams:
            raise Overloaded(
                f"{self._total} streams are running, the most this server allows",
                hint="Wait for some to end, or raise MAX_STREAMS.",
                retry_after_ms=RETRY_AFTER_MS,
            )
        if self._running[principal] >= self._max_per_principal:
            raise Overloaded(
                f"{self._running[principal]} of your streams are running, the most one principal may have",
                hint="Wait for some to end or cancel them, or raise MAX_STREAMS_PER_PRINCIPAL.",
                retry_after_ms=RETRY_AFTER_MS,
            )
        self._running[principal] += 1
        self._total += 1

    def leave(self, principal: str) -> None:
        """Count one stream less."""
        self._total -= 1
        self._running[principal] -= 1
        if not self._running[principal]:
            del self._running[principal]


class ProviderGate:
    """At most `concurrency` calls to a provider at once, and a queue of at most `queue` behind them, first come first
    served."""

    def __init__(self, provider: str, *, concurrency: int, queue: int) -> None:
        self._provider = provider
        self._concurrency = concurrency
        self._queue_max = queue
        self._busy = 0
        self._queue: deque[Slot] = deque()

    def reserve(self) -> "Slot":
        """A slot, granted or queued.

        Raises:
            Overloaded: the queue is full.
        """
        slot = Slot(self)
        if self._busy < self._concurrency:
            self._busy += 1
            slot.granted = True
        elif len(self._queue) < self._queue_max:
            self._queue.append(slot)
        else:
            raise Overloaded(
                f"{self._provider} is busy: {self._busy} requests run and {len(self._queue)} wait",
                hint="Try again later, or raise PROVIDER_CONCURRENCY or PROVIDER_QUEUE.",
                retry_after_ms=RETRY_AFTER_MS,
                provider=self._provider,
            )
        return slot

    def release(self, slot: "Slot") -> None:
        """Give the slot to the next in the queue, or take it out of the queue if it still waits there."""
        if not slot.granted:
            self._queue.remove(slot)
            return
        slot.granted = False
        if self._queue:
            following = self._queue.popleft()
            following.grant()
        else:
            self._busy -= 1


class Slot:
    """The right to one call to a provider, or a place in the queue for it. Release it exactly once."""

    def __init__(self, gate: ProviderGate) -> None:
        self._gate = gate
        self._waiter: asyncio.Future[None] | None = None
        self.granted = False

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

    def release(self) -> None:
        """Give it back, whether it was granted or still waits."""
        self._gate.release(self)
