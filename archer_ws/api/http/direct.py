"""Reading a request and writing its response past the layers of ASGI, where the server offers it: `archer-ws serve`
does.

A stream writes for every token. By `send`, each would cost a coroutine, the calls of the middleware, and a task to run.
"""

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Protocol

#: The ASGI extension: a function that returns the Direct of the scope's request.
DIRECT = "archer.direct"


class DirectBody(Protocol):
    """Writing to the body of a response that has begun."""

    def is_ready(self) -> bool:
        """Whether `write` is possible now; if not, `send` waits, or knows better."""

    def write(self, block: bytes) -> None:
        """Write a piece of the body, not empty, as `send` would."""


class Direct(DirectBody, Protocol):
    """What our server's HTTP protocol offers for a request. All but the body of the response is only for those who are
    sure that no layer has to see it (hot_request.py)."""

    def take_body(self, most: int) -> bytes | None:
        """The request's body, as `receive` would give it, if the whole of it is here and has at most `most` bytes."""

    def begin(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> bool:
        """Write the head of a response without a length. False: nothing was written, `send` it."""

    def end(self, block: bytes) -> bool:
        """Write the last piece of the body of such a response. False: nothing was written, `send` it."""

    def respond(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Write a whole response; one of `fields` is its length. False: nothing was written, `send` it."""


def direct(scope: MutableMapping[str, Any]) -> Direct | None:
    """The direct way for a request; None under another server."""
    offered: Callable[[], Direct | None] | None = (scope.get("extensions") or {}).get(DIRECT)
    return None if offered is None else offered()
