"""Translates a disk's errors into our errors."""

import errno

import structlog

from archer_ws.core.exceptions import CapacityError, StorageFull, StorageUnavailable

log = structlog.get_logger(__name__)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def failure_of(error: OSError, *, is_told: bool = False) -> CapacityError:
    """Our error for a disk's error; the log has the details, unless it `is_told` there already."""
    if not is_told:
        log.error("files_failed", cause=str(error), errno=error.errno)
    if error.errno in _FULL:
        return StorageFull(
            "there is no room left where the server keeps its files",
            hint="Make room on the server's disk, or DELETE files that are no longer needed.",
        )
    return StorageUnavailable(
        "the place where the server keeps its files failed", hint="Try again in a moment.", retry_after_ms=1000
    )
