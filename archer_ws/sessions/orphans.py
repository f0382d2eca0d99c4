"""Tasks that did not stop when they were told to: kept until they do, so that they are seen and counted."""

import asyncio

import structlog

log = structlog.get_logger(__name__)


class Orphans:
    """The tasks that nobody waits for any more."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def adopt(self, orphan: asyncio.Task[None]) -> None:
        """Keep a task until it is over."""
        self._tasks.add(orphan)
        orphan.add_done_callback(self._reap)

    def cancel(self) -> None:
        """Tell all once more to stop."""
        for orphan in self._tasks:
            orphan.cancel()

    def _reap(self, orphan: asyncio.Task[None]) -> None:
        self._tasks.discard(orphan)
        if orphan.cancelled() and orphan.get_name().startswith("admission"):
            return  # It stopped as soon as it was told to; nobody waited for that.
        error = None if orphan.cancelled() else orphan.exception()
        log.warning("orphan_reaped", task=orphan.get_name(), error=type(error).__name__ if error else None)
