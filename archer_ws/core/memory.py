"""Sets how the C library's allocator treats large blocks."""

import ctypes
import sys
from contextlib import suppress

#: From glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
#: Blocks of at least this size are mapped from the kernel, and returned to it when freed, in bytes.
LARGE_BLOCK_BYTES = 256 * 1024


def return_large_blocks() -> None:
    """Make freed texts of streams return to the system.

    By default, glibc raises its threshold to the largest block that was freed (up to 32 MiB). From then on megabytes of
    text stay in its heap, where one small block after them keeps them all. On other C libraries nothing changes.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # musl has no mallopt
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
