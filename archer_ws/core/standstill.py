"""Recognises that this process stood still: it was stopped (SIGSTOP, `docker pause`), its virtual machine was frozen,
or something held up the event loop. Pure.

uvloop runs the timers that are due before it reads. So a time limit that ran out meanwhile would strike although the
peer has kept it: what it sent has arrived, and only we have not read it. Whoever holds a peer to a time limit asks here
first, and begins the limit anew.
"""

#: A timer that is called later than this was held up, in seconds: an event loop under load is late by some 100 ms.
STANDSTILL_S = 1.0


def stood_still(due: float, now: float) -> bool:
    """Whether this process stood still when a timer was due that is called only now (both in loop time)."""
    return now - due > STANDSTILL_S
