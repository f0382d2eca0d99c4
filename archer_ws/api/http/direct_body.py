"""Writing to a response's body past the layers of ASGI, where the server offers it: `archer-ws serve` does.

A stream writes for every token. By `send`, each would cost a coroutine, the calls of the middleware, and a task to run.
"""

from collections.abc import Callable, MutableMapping
from typing import Any, Protocol

#: The ASGI extension: a function that returns the DirectBody of the scope's response.
DIRECT_BODY = "archer.direct_body"


class DirectBody(Protocol):
    """What our server's HTTP protocol offers for a response that has begun."""

    def is_ready(self) -> bool:
        """Whether `write` is possible now; if not, `send` waits, or knows better."""

    def write(self, block: bytes) -> None:
        """Write a piece of the body, not empty, as `send` would."""


def direct_body(scope: MutableMapping[str, Any]) -> DirectBody | None:
    """The body of the response to a request; None under another server."""
    offered: Callable[[], DirectBody | None] | None = (scope.get("extensions") or {}).get(DIRECT_BODY)
    return None if offered is None else offered()
