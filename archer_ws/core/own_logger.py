"""Our own loggers: a line goes from the call that logs it to the thread that writes it in one pass.

structlog runs a list of processors for each line, and the logging package makes a record of it. For the two lines of a
request that took a seventh of the request's time, nearly all of it in steps that had no effect. So the list of our own
loggers has one processor, `OwnLines`, which takes only the steps that a line needs. Everybody else may treat it as a
processor: `structlog.testing.capture_logs` replaces it, and others may be put before it.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import lru_cache
from typing import Any, Protocol

import structlog
from structlog.contextvars import STRUCTLOG_KEY_PREFIX
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from archer_ws.core.redaction import exception_text, redact

#: The name that all our own loggers' names begin with.
OURS = "archer_ws"

#: Makes the text of a line from its fields. Called as structlog calls a processor.
Render = Callable[[WrappedLogger, str, EventDict], str]


class Form(Protocol):
    """How lines with the same fields, whose values have the same types, are written."""

    #: Whether `redact` would change nothing in such a line.
    is_harmless: bool

    def line(self, fields: EventDict, /) -> str:
        """The line, without its end."""


class RenderForm:
    """The form of all lines, where a function makes them whatever their fields are."""

    is_harmless = False

    def __init__(self, render: Render) -> None:
        self._render = render

    def line(self, fields: EventDict) -> str:
        """The line, without its end."""
        return self._render(None, "", fields)


_LEVEL_OF = {name.lower(): level for name, level in logging.getLevelNamesMapping().items()} | {
    "exception": logging.ERROR
}
#: The frame of a line's caller, counted from that which calls the logging package: `_write`, `info`, the caller.
_FRAMES = 3


class LineHandler(logging.Handler, ABC):
    """A handler of the logging package that also takes lines without a record."""

    @abstractmethod
    def queue(self, name: str, render: Callable[..., str], *args: Any) -> None:
        """Queue what `render(*args)` returns, a line of the logger `name`."""


class OwnLines:
    """The only processor of our own lines: it writes them by our handler, as the logging package would.

    A record of that package, with the search for the caller's name, takes half of a line's time. It is made only where
    somebody else listens as well, such as a test.

    Args:
        handler: receives the lines.
        form_of: finds the form of a line with these fields.
    """

    def __init__(self, handler: LineHandler, form_of: Callable[[EventDict], Form]) -> None:
        self._handler = handler
        self._form_of = form_of

    def __call__(self, logger: logging.Logger, method: str, fields: EventDict) -> Any:
        """The same as `write`, in the form that structlog asks of a processor."""
        arguments = self.write(logger, method, fields)
        if arguments is None:
            raise structlog.DropEvent
        return arguments

    def write(
        self, logger: logging.Logger, method: str, fields: EventDict
    ) -> tuple[tuple[EventDict], dict[str, Any]] | None:
        """Write a line, if its level is logged.

        Returns:
            The arguments for the logger's method, if that must write the line because others listen as well.
        """
        if logger.disabled or _LEVEL_OF[method] < logger.getEffectiveLevel():
            return None
        stamped(logger, method, fields)
        if "exc_info" in fields or "stack_info" in fields:
            fields = with_traceback(logger, method, fields)
        form = self._form_of(fields)
        if not form.is_harmless:
            redact(logger, method, fields)
            form = self._form_of(fields)
        if not self._is_alone(logger):
            return ProcessorFormatter.wrap_for_formatter(logger, method, fields)
        self._handler.queue(logger.name, form.line, fields)
        return None

    def _is_alone(self, logger: logging.Logger) -> bool:
        """Whether the lines of one of our loggers reach our handler, and nothing else."""
        handlers = logging.root.handlers
        if len(handlers) != 1 or handlers[0] is not self._handler:
            return False
        family, above = "", logger
        while above is not logging.root:
            if above.handlers or above.filters or not above.propagate or above.parent is None:
                return False
            family, above = above.name, above.parent
        return family == OURS


class OwnLogger(structlog.stdlib.BoundLogger):
    """structlog's logger, which hands a line to `OwnLines` directly if that is its only processor."""

    _processors: list[Processor]

    def debug(self, event: str | None = None, *args: Any, **fields: Any) -> None:
        """Log a line at this level, as the methods below do."""
        self._write("debug", event, args, fields)

    def info(self, event: str | None = None, *args: Any, **fields: Any) -> None:
        self._write("info", event, args, fields)

    def warning(self, event: str | None = None, *args: Any, **fields: Any) -> None:
        self._write("warning", event, args, fields)

    def error(self, event: str | None = None, *args: Any, **fields: Any) -> None:
        self._write("error", event, args, fields)

    def _write(self, method: str, event: str | None, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        processors = self._processors
        if args or len(processors) != 1 or type(lines := processors[0]) is not OwnLines:
            self._proxy_to_logger(method, event, *args, **fields)
            return
        if self._context:
            fields = {**self._context, **fields}
        if event is not None:
            fields["event"] = event
        arguments = lines.write(self._logger, method, fields)
        if arguments is not None:
            (line,), options = arguments
            getattr(self._logger, method)(line, **options, stacklevel=_FRAMES)


def stamped(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    """Add what is bound to the context, the logger's name, the level, and the time. For all lines, libraries' too."""
    for variable, value in copy_context().items():
        name = _bound_name(variable)
        if name is not None and value is not Ellipsis and name not in fields:
            fields[name] = value
    # A library's line comes with its record, and without a logger.
    fields["logger"] = fields["_record"].name if "_record" in fields else logger.name
    fields["level"] = "error" if method == "exception" else method
    nanoseconds = str(time.time_ns())
    fields["timestamp"] = f"{_second_text(nanoseconds[:-9])}.{nanoseconds[-9:-3]}Z"
    return fields


@lru_cache(maxsize=256)
def _bound_name(variable: ContextVar[Any]) -> str | None:
    """The field for which structlog made this variable; None if the variable is another library's."""
    name = variable.name
    return name.removeprefix(STRUCTLOG_KEY_PREFIX) if name.startswith(STRUCTLOG_KEY_PREFIX) else None


@lru_cache(maxsize=1)
def _second_text(second: str) -> str:
    """A second since 1970 in UTC, as in ISO 8601. The lines of one second share it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(int(second)))


_with_stack = structlog.processors.StackInfoRenderer([__name__])
_with_exception = structlog.processors.ExceptionRenderer(exception_text)


def with_traceback(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    """Replace `exc_info` and `stack_info` by their texts, `exception` and `stack`."""
    return _with_exception(logger, method, _with_stack(logger, method, fields))
