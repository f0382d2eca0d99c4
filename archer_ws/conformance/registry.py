"""The list of all checks."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol

from archer_ws.conformance.bench import Bench


class Ask(Protocol):
    """What a check does: raises Failed or Skipped where it does not turn out well."""

    __name__: str

    def __call__(self, bench: Bench, /) -> Coroutine[Any, Any, None]: ...


#: Checks run side by side; `alone` those that take all a server has; `last` those that look back on the whole run.
When = Literal["any time", "alone", "last"]

#: The themes, in the order in which they are shown.
THEMES = (
    "connecting",
    "json_rpc",
    "tools",
    "chat",
    "cancelling",
    "resuming",
    "sessions",
    "conversations",
    "http",
    "limits",
    "ordering",
)
_WITHOUT_ANSWERS = frozenset({"connecting", "json_rpc", "tools"})


@dataclass(frozen=True, slots=True)
class Check:
    """A question to the server.

    Attributes:
        name: for `--only`.
        title: what holds, as a sentence.
        section: where the protocol says so.
        ask: the question itself.
    """

    name: str
    title: str
    section: str
    ask: Ask
    when: When

    @property
    def theme(self) -> str:
        """The module that it is in."""
        return self.ask.__module__.rpartition(".")[2]

    @property
    def needs_answers(self) -> bool:
        """Whether a model must answer for it."""
        return self.theme not in _WITHOUT_ANSWERS


_checks: list[Check] = []


def check(*, section: str, when: When = "any time") -> Callable[[Ask], Ask]:
    """List the function as a check, by its own name; its docstring is the title."""

    def listed(ask: Ask) -> Ask:
        title = (ask.__doc__ or ask.__name__).removesuffix(".")
        _checks.append(Check(ask.__name__, title, section, ask, when))
        return ask

    return listed


def all_checks() -> tuple[Check, ...]:
    """Every check, in the order in which they are shown."""
    for theme in THEMES:
        import_module(f"archer_ws.conformance.checks.{theme}")
    # Whoever imported a theme by itself must not change the order.
    return tuple(sorted(_checks, key=lambda check: THEMES.index(check.theme)))
