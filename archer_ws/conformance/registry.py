"""The list of all checks."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol

from archer_ws.conformance.bench import Bench


class Ask(Protocol):
    """What a check does: raises Failed or Skipped unless it passes."""

    __name__: str

    def __call__(self, bench: Bench, /) -> Coroutine[Any, Any, None]: ...


#: Checks run concurrently, except `alone`, which use all that a server has; `last` look at the frames of the whole run.
When = Literal["any time", "alone", "last"]

#: The subjects, in the order in which they are printed.
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
    """A check of the server.

    Attributes:
        name: for `--only`.
        title: what holds, as a sentence.
        section: where the protocol says so.
        ask: the check itself.
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
        """Whether a model must respond for it."""
        return self.theme not in _WITHOUT_ANSWERS


_checks: list[Check] = []


def check(*, section: str, when: When = "any time") -> Callable[[Ask], Ask]:
    """Register the function as a check, under its own name; its docstring is the title."""

    def listed(ask: Ask) -> Ask:
        title = (ask.__doc__ or ask.__name__).removesuffix(".")
        _checks.append(Check(ask.__name__, title, section, ask, when))
        return ask

    return listed


def all_checks() -> tuple[Check, ...]:
    """Every check, in the order in which they are printed."""
    for theme in THEMES:
        import_module(f"archer_ws.conformance.checks.{theme}")
    # The order must not depend on which module was imported first.
    return tuple(sorted(_checks, key=lambda check: THEMES.index(check.theme)))
