"""The rules that hold for every frame of a run, whichever check it was sent for, and the breaches that were seen."""

from enum import StrEnum

#: How many breaches of one rule are kept: the first ones are enough.
KEPT_MAX = 3


class Rule(StrEnum):
    """A rule that is checked all the time; one check reports each (checks/ordering.py)."""

    FORM = "form"
    ERRORS = "errors"
    ONE_RESPONSE = "one response"
    RESPONSE_FIRST = "response first"
    ORDER = "order"
    ENDS = "ends"
    CALLS = "calls"


class Ledger:
    """Which rules were broken, how often, and the first breaches of each."""

    def __init__(self) -> None:
        self._counts: dict[Rule, int] = {}
        self._breaches: dict[Rule, list[str]] = {}

    def note(self, rule: Rule, breach: str) -> None:
        """Record a breach."""
        self._counts[rule] = self._counts.get(rule, 0) + 1
        kept = self._breaches.setdefault(rule, [])
        if len(kept) < KEPT_MAX and breach not in kept:
            kept.append(breach)

    def breaches(self, rule: Rule) -> tuple[int, list[str]]:
        """How often a rule was broken, and the first different breaches."""
        return self._counts.get(rule, 0), self._breaches.get(rule, [])
