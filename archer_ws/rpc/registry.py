"""The table of methods: the params and result of each, and the function that serves it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel

from archer_ws.rpc.context import Context


class Reply(NamedTuple):
    """A result, and what to run once it is queued: deliveries begin only after their response."""

    result: BaseModel
    then: Callable[[], None] | None = None


#: A method's function runs synchronously in the reader, so that the next frame sees what it registered. Work that has
#: to wait it returns as an awaitable, which runs as a task of the connection.
Handler = Callable[[Context, Any], Reply | Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    `is_control`: never refused for too many requests (protocol section 8). `is_open`: allowed before authentication.
    """

    name: str
    params: type[BaseModel]
    result: type[BaseModel]
    handler: Handler
    summary: str
    is_control: bool = False
    is_open: bool = False


class Registry:
    """Methods by name."""

    def __init__(self, *methods: Method) -> None:
        self._methods = {method.name: method for method in methods}

    def get(self, name: str) -> Method | None:
        """The method of that name."""
        return self._methods.get(name)

    def all(self) -> list[Method]:
        """Every method, in the order in which they were passed."""
        return list(self._methods.values())
