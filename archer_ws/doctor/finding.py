"""What a check finds: a line, its severity, and what to do. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

#: `problem`: the server can't serve with this configuration. `warning`: something may not work as expected.
State = Literal["ok", "warning", "problem"]

#: Parts of the names of variables whose values must not be shown.
_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")
#: Shorter values would match ordinary words.
_SECRET_CHARS_MIN = 6


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Args:
        check: its subject, a word.
        state: its severity.
        message: the finding, in one line.
        advice: what to do about it; None if there is nothing to do.
        is_running: whether it is that a server runs already, so that no second one could listen there.
    """

    check: str
    state: State
    message: str
    advice: str | None = None
    is_running: bool = False

    def as_json(self) -> dict[str, str | None]:
        """The finding as JSON, for programs."""
        return {"check": self.check, "state": self.state, "message": self.message, "advice": self.advice}


def secrets_in(values: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """The texts that no line may show: these values, values of variables with secret-looking names, and passwords in
    URLs."""
    named = [
        value for name, value in environment.items() if any(part in name.upper() for part in _SECRET_NAMES) and value
    ]
    found = {text.strip() for text in (*values, *named)}
    for value in environment.values():
        if "://" in value and "@" in value:
            try:
                password = urlsplit(value.strip()).password
            except ValueError:
                continue
            found |= {password or "", unquote(password or "")}
    # The longest first: one may be part of another.
    return sorted((text for text in found if len(text) >= _SECRET_CHARS_MIN), key=len, reverse=True)


def without(secrets: Iterable[str], show: Callable[[str], str] = lambda _: "***") -> Callable[[str], str]:
    """A function that masks the secrets in a text: the safety net for the rule that no check writes one."""
    hidden = list(secrets)

    def clean(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, show(secret))
        return text

    return clean
