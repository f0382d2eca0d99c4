"""How the C library's allocator treats large blocks."""

import ctypes
import sys
from contextlib import suppress

#: malloc.h of glibc.
_M_MMAP_THRESHOLD = -3
#: Blocks from this size on are the kernel's and go back to it when they are freed, in bytes.
LARGE_BLOCK_BYTES = 256 * 1024


def return_large_blocks() -> None:
    """Have freed texts of streams go back to the system.

    Left alone, glibc raises its threshold to the largest block that was freed (up to 32 MiB): from then on megabytes of
    text lie in its heap, where one small block behind them keeps all of them. Elsewhere nothing is changed.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # musl has no mallopt
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
