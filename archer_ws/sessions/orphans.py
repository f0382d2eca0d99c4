"""Tasks that did not stop after a cancel: referenced until they end, so that they can be counted and logged."""

import asyncio

import structlog

log = structlog.get_logger(__name__)


class Orphans:
    """The tasks that nobody awaits any more."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def adopt(self, orphan: asyncio.Task[None]) -> None:
        """Hold a task until it ends."""
        self._tasks.add(orphan)
        orphan.add_done_callback(self._reap)

    def cancel(self) -> None:
        """Cancel all of them once more."""
        for orphan in self._tasks:
            orphan.cancel()

    def _reap(self, orphan: asyncio.Task[None]) -> None:
        self._tasks.discard(orphan)
        if orphan.cancelled() and orphan.get_name().startswith("admission"):
            return  # It stopped at once; only nobody awaited it.
        error = None if orphan.cancelled() else orphan.exception()
        log.warning("orphan_reaped", task=orphan.get_name(), error=type(error).__name__ if error else None)
