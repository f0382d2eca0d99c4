"""Limits that several principals share, so that none of them can use one up for all. Pure."""

from collections import Counter
from collections.abc import Iterable


class Shares:
    """How much of a limit is taken, over all and by principal.

    Half of it goes to whoever comes first; the other half is set aside in equal shares, one for every principal that
    is known beforehand or has taken something. One principal alone may take it all.

    Args:
        total: the limit, in whatever unit.
        known: the principals known beforehand.
    """

    def __init__(self, total: int, known: Iterable[str] = ()) -> None:
        self.total = total
        self._known = frozenset(known)
        self._taken: Counter[str] = Counter()
        self._all = 0

    def of(self, principal: str) -> int:
        """What the principal has taken."""
        return self._taken[principal]

    @property
    def taken(self) -> int:
        """What all have taken."""
        return self._all

    def is_full(self, amount: int) -> bool:
        """Whether there is not so much left, for whomever."""
        return self._all + amount > self.total

    def has_room(self, principal: str, amount: int) -> bool:
        """Whether the principal may take so much more."""
        if self.is_full(amount):
            return False
        everybody = {*self._known, *self._taken, principal}
        share = self.total // (2 * len(everybody))
        if len(everybody) == 1 or self._taken[principal] + amount <= share:
            return True
        set_aside = sum(max(0, share - self._taken[other]) for other in everybody if other != principal)
        return not self.is_full(amount + set_aside)

    def take(self, principal: str, amount: int) -> None:
        """Count so much more, or with a negative amount less; whether there is room is not asked."""
        self._all += amount
        self._taken[principal] += amount
        if not self._taken[principal]:
            del self._taken[principal]
