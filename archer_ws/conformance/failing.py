"""How a check ends other than well: what was expected and what came, or why the check could not be made."""

import json
from typing import Any

#: How much of a server's text is shown, in characters.
SHOWN_CHARS_MAX = 240


class Failed(Exception):
    """The server does not do what the protocol says.

    Args:
        expected: what should have come.
        came: what came instead.
    """

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected {expected}; came {came}")
        self.expected = expected
        self.came = came


class Skipped(Exception):
    """This server, or this completion, does not allow the check."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def expect(holds: bool, expected: str, came: Any) -> None:
    """Go on only if the condition holds.

    Raises:
        Failed: it does not.
    """
    if not holds:
        raise Failed(expected, shown(came))


def shown(value: Any) -> str:
    """A value for people: as JSON unless it is text, and shortened."""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}… ({len(text)} characters)"
