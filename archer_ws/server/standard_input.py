"""The end of standard input, which a parent process holds open as long as it wants the server (`--exit-with-parent`).

While the server starts, which may take as long as a model's fetch, `StartWatch` ends the process. From then on the
server watches by itself, and drains.
"""

import os
import sys
import threading
from contextlib import suppress


def await_end() -> None:
    """Wait until standard input ends. Blocks; what comes is dropped.

    Raises:
        OSError, ValueError, AttributeError: it can't be read.
    """
    # The descriptor, not sys.stdin: the interpreter can't exit while another thread reads from that buffer.
    descriptor = sys.stdin.fileno()
    while os.read(descriptor, 4096):
        pass


class StartWatch:
    """Ends this process when standard input ends, until `end` is called. Nothing has begun that would have to end in an
    orderly way: a part that was fetched is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_over = False
        # A daemon thread: nothing can interrupt its read.
        threading.Thread(target=self._watch, name="stdin-at-start", daemon=True).start()

    def end(self) -> None:
        """The server watches from now on."""
        with self._lock:
            self._is_over = True

    def _watch(self) -> None:
        # If it can't be read, the server reports that.
        with suppress(OSError, ValueError, AttributeError):
            await_end()
            with self._lock:
                if not self._is_over:
                    with suppress(OSError):
                        os.write(2, b"archer-ws: standard input has ended before the server was ready\n")
                    os._exit(0)
