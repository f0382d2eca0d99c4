"""Tickets: what a browser sends instead of a credential, since it can set no header on a WebSocket.

A page gets one by an ordinary request with its credential, and offers it as a subprotocol (protocol section 2). Pure:
socket.py redeems tickets and reports refusals.
"""

import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from archer_ws.core.exceptions import Unauthenticated


class TicketGone(Unauthenticated):
    """The ticket is unknown, used or expired: a new one will work."""


class TicketMisplaced(Unauthenticated):
    """The ticket is valid for another origin; this attempt used it up."""


@dataclass(frozen=True, slots=True)
class IssuedTicket:
    """What a browser sends instead of a credential: `token` is URL-safe, and valid once within `expires_in_s`."""

    token: str
    expires_in_s: int


@dataclass(frozen=True, slots=True)
class _Issued:
    principal: str
    origin: str | None
    expires_at: float


class TicketOffice:
    """Issues and redeems tickets: single use, short-lived, bound to the origin they were issued for.

    Args:
        lifetime_s: how long a ticket is valid, in seconds.
        limit: the most outstanding tickets; one more drops the oldest of the principal that has the most.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, *, lifetime_s: int = 30, limit: int = 4096, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime_s = lifetime_s
        self._limit = limit
        self._clock = clock
        # Oldest first, so the first to expire come first.
        self._outstanding: OrderedDict[str, _Issued] = OrderedDict()

    def issue(self, principal: str, origin: str | None) -> IssuedTicket:
        """A new ticket for the principal, for use by a page of `origin` (None: by a program that is no page)."""
        now = self._clock()
        while self._outstanding and next(iter(self._outstanding.values())).expires_at <= now:
            self._outstanding.popitem(last=False)
        if len(self._outstanding) >= self._limit:
            owners = Counter(issued.principal for issued in self._outstanding.values())
            greediest, _ = owners.most_common(1)[0]
            del self._outstanding[
                next(token for token, issued in self._outstanding.items() if issued.principal == greediest)
            ]
        # 256 random bits: the time of a table lookup reveals nothing that would help guessing.
        token = secrets.token_urlsafe(32)
        self._outstanding[token] = _Issued(principal, origin, now + self._lifetime_s)
        return IssuedTicket(token, self._lifetime_s)

    def redeem(self, token: str, origin: str | None) -> str:
        """The principal that the ticket was issued to; the ticket is used up in any case.

        Raises:
            TicketGone: unknown, used or expired.
            TicketMisplaced: issued for another origin.
        """
        issued = self._outstanding.pop(token, None)
        if issued is None or issued.expires_at <= self._clock():
            raise TicketGone("the ticket is unknown, used or expired", hint="Fetch a new ticket, and use it at once.")
        if issued.origin != origin:
            raise TicketMisplaced(
                "the ticket was issued for another origin", hint="Fetch the ticket from the page that uses it."
            )
        return issued.principal
