"""Ends the process although threads stand still: in calls of a disk that hangs, for example, which nothing interrupts.

Python waits for such threads without a limit, when the event loop closes and again when the interpreter exits.
"""

import logging
import os
import threading
import time

import structlog

log = structlog.get_logger(__name__)

#: How long threads may take to end after the server has stopped, in seconds: much longer than they need on a busy
#: machine.
EXIT_LIMIT_S = 10.0


def limit_exit() -> None:
    """From now on the process has EXIT_LIMIT_S to end by itself; then it is ended, with status 1."""
    threading.Thread(target=_end_at_last, name="exit-limit", daemon=True).start()


def _end_at_last() -> None:
    time.sleep(EXIT_LIMIT_S)
    standing = [each.name for each in threading.enumerate() if each is not threading.current_thread()]
    log.error("exit_forced", waited_s=EXIT_LIMIT_S, threads=standing)
    logging.shutdown()
    os._exit(1)
