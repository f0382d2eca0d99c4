"""What a check finds: one line, whether it matters, and what to do. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

#: `problem` keeps the server from answering as it is set up; `warning` may surprise somebody.
State = Literal["ok", "warning", "problem"]

#: Parts of the names of variables whose values nobody may see.
_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")
#: Shorter values would be found in ordinary words.
_SECRET_CHARS_MIN = 6


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Args:
        check: its subject, a word.
        state: whether it matters.
        message: what is so, in one line.
        advice: what to do about it; None where there is nothing to do.
    """

    check: str
    state: State
    message: str
    advice: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """For programs."""
        return {"check": self.check, "state": self.state, "message": self.message, "advice": self.advice}


def secrets_in(values: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """What no line may show: these values, those of variables named like secrets, and passwords in URLs."""
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
    # The longest first: one may be a part of another.
    return sorted((text for text in found if len(text) >= _SECRET_CHARS_MIN), key=len, reverse=True)


def without(secrets: Iterable[str], show: Callable[[str], str] = lambda _: "***") -> Callable[[str], str]:
    """A function that takes the secrets out of a text: the net under the rule that no check puts one there."""
    hidden = list(secrets)

    def clean(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, show(secret))
        return text

    return clean
