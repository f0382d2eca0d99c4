"""Fields that are bound to the logging context for every request."""

from contextvars import ContextVar
from typing import Any

from structlog.contextvars import bind_contextvars, reset_contextvars


def bound_field(name: str) -> ContextVar[Any]:
    """The variable in which structlog keeps a bound field: `set` binds it, at a quarter of the cost of
    `bind_contextvars`."""
    tokens = bind_contextvars(**{name: None})
    reset_contextvars(**tokens)
    return tokens[name].var
