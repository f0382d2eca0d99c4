"""Log lines for what a start waits for: a disk or a network drive that hangs raises no error."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger(__name__)

#: When the first line is written, and how often further ones are, in seconds. Nearly all starts take less than the
#: first.
FIRST_S, EACH_S = 5.0, 30.0


@contextmanager
def told_while_slow(waits_for: str, place: object, hint: str) -> Iterator[None]:
    """While the block takes long, log what the start waits for. Another thread does that, so the block may block."""
    is_over = threading.Event()

    def tell() -> None:
        waited_s, pause_s = 0.0, FIRST_S
        while not is_over.wait(pause_s):
            waited_s += pause_s
            log.warning("start_waits", waits_for=waits_for, place=str(place), waited_s=waited_s, hint=hint)
            pause_s = EACH_S

    # A daemon thread: what hangs must not prevent the process from ending.
    threading.Thread(target=tell, name="slow-start", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
