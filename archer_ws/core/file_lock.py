"""Locks a file for one process. The operating system releases the lock when the file is closed, or the process ends."""

import sys
from typing import IO

#: The offset of the locked byte on Windows, where locked bytes can't be read: behind all that a lock file contains.
_LOCKED_BYTE = 1 << 30


def try_to_lock(file: IO[bytes]) -> bool:
    """Try to lock an open file; whether that succeeded.

    Returns:
        False if it is locked already, by this process or another one.

    Raises:
        OSError: its file system has no locks, or has no room for one more.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            # Not lockf, which would let this process lock the file twice.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # The second one on Windows, and on NFS.
        return False
    return True
