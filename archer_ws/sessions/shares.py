"""A limit that several principals share, so that none of them can use it up alone. Pure."""

from collections.abc import Iterable


class Shares:
    """Counts how much of a limit is used, in all and by principal.

    Half of the limit is first come, first served. The other half is reserved in equal shares: one for each principal
    that is configured or uses something now. A single principal may use the whole limit.

    Args:
        total: the limit, in any unit.
        known: the configured principals.
    """

    def __init__(self, total: int, known: Iterable[str] = ()) -> None:
        self.total = total
        self._known = frozenset(known)
        #: By principal: everybody who has a share.
        self._taken = dict.fromkeys(self._known, 0)
        self._all = 0

    def of(self, principal: str) -> int:
        """How much the principal uses."""
        return self._taken.get(principal, 0)

    @property
    def taken(self) -> int:
        """How much all principals use."""
        return self._all

    def is_full(self, amount: int) -> bool:
        """Whether less than `amount` is left, for any principal."""
        return self._all + amount > self.total

    def has_room(self, principal: str, amount: int) -> bool:
        """Whether the principal may use `amount` more."""
        if self.is_full(amount):
            return False
        everybody = len(self._taken) + (principal not in self._taken)
        share = self.total // (2 * everybody)
        if everybody == 1 or self.of(principal) + amount <= share:
            return True
        set_aside = sum(max(0, share - taken) for other, taken in self._taken.items() if other != principal)
        return not self.is_full(amount + set_aside)

    def take(self, principal: str, amount: int) -> None:
        """Count `amount` as used; a negative amount is given back. Does not check whether there is room."""
        self._all += amount
        taken = self._taken.get(principal, 0) + amount
        if taken or principal in self._known:
            self._taken[principal] = taken
        else:
            self._taken.pop(principal, None)
