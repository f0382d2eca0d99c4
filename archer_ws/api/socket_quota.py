"""How many sockets may be open, in total and per principal (settings ARCHER_MAX_SOCKETS, …_PER_PRINCIPAL).

A socket counts from when it is admitted: those that have shown no credential yet have their part of the seats for
connections (security/seats.py), and can't take the places of those that have.
"""

from collections import Counter


class SocketQuota:
    """Counts the open sockets.

    Args:
        most: in total.
        most_per_principal: per principal, so that one alone cannot take all places.
    """

    def __init__(self, most: int, most_per_principal: int) -> None:
        self._most = most
        self._most_per_principal = most_per_principal
        self._by_principal: Counter[str] = Counter()

    def new_place(self) -> "SocketPlace":
        """The place of one more socket, which is not counted yet."""
        return SocketPlace(self)

    def _why_full(self, principal: str, *, is_new: bool) -> str | None:
        if is_new and self._by_principal.total() >= self._most:
            return f"{self._most} sockets are open, the most there may be (ARCHER_MAX_SOCKETS)"
        if self._by_principal[principal] >= self._most_per_principal:
            most = self._most_per_principal
            return f"{most} sockets of yours are open, the most there may be (ARCHER_MAX_SOCKETS_PER_PRINCIPAL)"
        return None


class SocketPlace:
    """The place of one open socket; `leave` must follow."""

    def __init__(self, quota: SocketQuota) -> None:
        self._quota = quota
        self._principal: str | None = None

    def admit(self, principal: str) -> str | None:
        """Count the socket as this principal's, and as no other's; returns why there is no room for it, or None.

        A socket may be admitted twice: by its handshake, and by a token in its `initialize`.
        """
        if principal == self._principal:
            return None
        if why := self._quota._why_full(principal, is_new=self._principal is None):
            return why
        self._forget_principal()
        self._principal = principal
        self._quota._by_principal[principal] += 1
        return None

    def leave(self) -> None:
        """The socket is closed."""
        self._forget_principal()

    def _forget_principal(self) -> None:
        if self._principal is not None:
            self._quota._by_principal[self._principal] -= 1
            if not self._quota._by_principal[self._principal]:
                del self._quota._by_principal[self._principal]
