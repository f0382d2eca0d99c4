"""How many connections there may be, and which are closed when there are more: there is always a free seat for a client
with a credential.

A connection is a guest until its request, handshake or first message has shown a credential, or, where none is needed,
until it has sent a request. Guests may have a part of all seats (core/limits.py). One guest more closes the oldest
guest's connection, since a client that holds a token shows it at once. If connections that are not guests have all
seats, a new connection gets 503.
"""

import asyncio

from starlette.types import Scope

from archer_ws.core.limits import CONNECTIONS_MAX, GUESTS_PART, RESERVED_DESCRIPTORS
from archer_ws.core.rare_line import RareLine

#: A line is logged when fewer file descriptors than this are left.
LAST_DESCRIPTORS = 16
#: The ASGI extension with the connection's seat, under our own server.
SEAT = "archer.seat"

_evicted = RareLine("guest_connection_cut")
_full = RareLine("connections_full")
_descriptors = RareLine("descriptors_run_out")


class Seat:
    """One connection's seat."""

    __slots__ = ("_seats", "_transport", "is_guest")

    def __init__(self, seats: "Seats", transport: asyncio.Transport) -> None:
        self._seats = seats
        self._transport = transport
        self.is_guest = True

    def vouch(self) -> None:
        """The connection has shown a credential, or needs none: it is no longer a guest."""
        if self.is_guest:
            self.is_guest = False
            self._seats.let_in(self)

    def leave(self) -> None:
        """The connection is closed."""
        self._seats.give_up(self)

    def cut(self) -> None:
        """Close the connection: another needs its seat."""
        self._transport.abort()


class Seats:
    """Every connection of a server.

    Args:
        descriptors: how many file descriptors this process may have; None if unknown.
        guests_part: the part of all seats that guests may have.
    """

    def __init__(self, descriptors: int | None, guests_part: float = GUESTS_PART) -> None:
        self._guests_part = guests_part
        #: Oldest first.
        self._guests: dict[Seat, None] = {}
        self._others: set[Seat] = set()
        self.resize(descriptors)

    def resize(self, descriptors: int | None) -> None:
        """Compute anew how many seats there are; existing connections keep theirs."""
        #: How many there are, at most.
        self.most = CONNECTIONS_MAX
        if descriptors is not None:
            self.most = min(CONNECTIONS_MAX, descriptors - min(RESERVED_DESCRIPTORS, descriptors // 4))
        self._guests_most = max(1, int(self.most * self._guests_part))
        self._last_descriptors = None if descriptors is None else descriptors - LAST_DESCRIPTORS

    def __len__(self) -> int:
        return len(self._guests) + len(self._others)

    def take(self, transport: asyncio.Transport, peer: str | None) -> Seat | None:
        """A guest's seat; None if there is none, not even another guest's."""
        self._warn_of_descriptors(transport)
        if len(self) >= self.most or len(self._guests) >= self._guests_most:
            oldest = next(iter(self._guests), None)
            if oldest is None:
                _full.write(connections=len(self), peer=peer)
                return None
            _evicted.write(connections=len(self), guests=len(self._guests))
            self.give_up(oldest)
            oldest.cut()
        seat = Seat(self, transport)
        self._guests[seat] = None
        return seat

    def let_in(self, seat: Seat) -> None:
        """The connection is no longer a guest; one that was closed meanwhile gets no seat."""
        if seat in self._guests:
            del self._guests[seat]
            self._others.add(seat)

    def give_up(self, seat: Seat) -> None:
        """Free the seat, if it is still taken."""
        self._guests.pop(seat, None)
        self._others.discard(seat)

    def _warn_of_descriptors(self, transport: asyncio.Transport) -> None:
        # The system assigns the lowest free descriptor. A connection that cannot be accepted is not reported: uvloop
        # closes it.
        if self._last_descriptors is not None:
            descriptor = transport.get_extra_info("socket").fileno()
            if descriptor >= self._last_descriptors:
                _descriptors.write(descriptor=descriptor, connections=len(self), hint="raise the limit: ulimit -n")


def seat_of(scope: Scope) -> Seat | None:
    """The seat of a request's connection; None under another server than ours."""
    extensions = scope.get("extensions")
    seat: Seat | None = extensions.get(SEAT) if extensions else None
    return seat
