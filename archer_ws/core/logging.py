"""Structured logging: one format for our own lines and those of libraries.

Owns the format (console or JSON), the levels, and the guards below. The code that logs decides what is worth a line.

What may be logged: ids, names of models and providers, statuses, kinds of errors, counts, sizes, durations. Never, at
any level: prompts, completions, keys, request headers, query strings. `redact` is a safety net for that rule: it
recognises keys, not sentences. Libraries that log what they send or receive at DEBUG (the SDKs and their HTTP clients
log bodies, websockets logs frames) are kept above DEBUG, whatever our own level is.

Modules get their logger by `structlog.get_logger(__name__)`. The request log binds `request_id`, and the code that runs
a stream binds `stream_id`, with `structlog.contextvars.bind_contextvars`.

We run uvicorn with `log_config=None`, so it does not configure logging. Under plain `uvicorn archer_ws.main:app` its
own configuration comes first, and this module replaces it.
"""

import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TextIO

import structlog
from pydantic import BaseModel
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from archer_ws.core.console_line import console_line
from archer_ws.core.line_writer import LineWriter
from archer_ws.core.secrets import MASK, scrubbed, without_secrets

REDACTED = MASK
#: How long the process waits at exit until its last lines are written, in seconds.
FLUSH_S = 1.0

_OURS = "archer_ws"
#: Loggers that log every request at INFO, and bodies and headers at DEBUG.
_TALKATIVE = ("openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2")
#: uvicorn writes a socket's query string into this line (uvicorn.error, INFO); the request log has a line of its own.
_SOCKET_LINE = '%s - "WebSocket %s"'

_SECRET_KEYS = frozenset(
    {"api_key", "authorization", "token", "auth_tokens", "ticket", "password", "secret", "cookie", "headers"}
    | {"query_string", "prompt", "content", "messages", "answer", "reasoning", "body"}
)
_SECRET_ENDINGS = ("_api_key", "_token", "_password", "_secret")
#: The types of nearly all values: they can't contain a secret, and checking them would take half of a line's time.
_PLAIN = frozenset({str, int, float, bool, type(None)})
#: Names of lines' fields that are no secrets', found by `_is_masked`; and how many are remembered.
_harmless: set[str] = set()
_HARMLESS_MAX = 1024
#: The depth to which `redact` checks values; deeper ones are left out.
_MAX_DEPTH = 4
#: pydantic's and FastAPI's validation errors print the value they refuse, which may be a prompt.
_ECHOED_INPUT = re.compile(r"(?<=input_value=).*(?=, input_type=)|(?<='input': ).*")

#: One list for the life of the process: cached loggers refer to it, so a later configuration reaches them, too.
_processors: list[Processor] = []


class _Handler(logging.Handler):
    """Our handler. The class distinguishes it from other handlers of the root logger, such as a test runner's.

    Without a stream it writes to the current standard error, which may be replaced later. A thread does the writing
    (line_writer.py): the process that started us need not read what we log.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record."""
        self._queue(record.name, partial(self.format, record))

    def write(self, name: str, render: Callable[[], str]) -> None:
        """Queue one line of the logger `name`, without a record."""
        self._queue(name, render)

    def _queue(self, name: str, render: Callable[[], str]) -> None:
        try:
            line = without_secrets(render())
        except Exception as error:  # noqa: BLE001 - a bad line must not fail the code that logs it
            line = f"a line of {name} could not be formatted ({type(error).__name__})"
        _lines.put(self._stream or sys.stderr, f"{line}\n")

    def flush(self) -> None:
        """Wait a moment for unwritten lines; called at exit."""
        _lines.flush(FLUSH_S)


class _Formatter(ProcessorFormatter):
    """Formats a record as a line.

    Our own records need only rendering. structlog's formatter first copies each record, for other handlers that may
    exist; records of libraries still go that way.
    """

    def __init__(self, preparing: Sequence[Processor], rendering: Sequence[Processor]) -> None:
        super().__init__(
            foreign_pre_chain=preparing, processors=[ProcessorFormatter.remove_processors_meta, *rendering]
        )
        self._rendering = tuple(rendering)

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        if not isinstance(record.msg, dict) or not hasattr(record, "_logger"):
            return super().format(record)
        return self.render(record.levelname, record.msg.copy())

    def render(self, level: str, line: Any) -> str:
        """A prepared line of ours as text."""
        for process in self._rendering:
            line = process(None, level, line)
        return str(line)


def _tell_dropped(count: int) -> None:
    structlog.get_logger(__name__).warning(
        "log_lines_dropped", count=count, hint="the process that started the server does not read its log fast enough"
    )


#: One writer for the process, since there is one log.
_lines = LineWriter(_tell_dropped)


def log_stray_output() -> None:
    """Log what Python would write to standard error directly, and perhaps block on: warnings, and exceptions that no
    code can catch. Only for a process that is nothing but the server.
    """
    logging.captureWarnings(True)
    log = structlog.get_logger(__name__)

    def unraisable(about: "sys.UnraisableHookArgs") -> None:
        log.error("exception_ignored", where=repr(about.object)[:200], exc_info=about.exc_value)

    def in_thread(about: threading.ExceptHookArgs) -> None:
        if about.exc_type is not SystemExit:
            log.error("thread_died", thread=about.thread and about.thread.name, exc_info=about.exc_value)

    sys.unraisablehook = unraisable
    threading.excepthook = in_thread


def configure_logging(
    level: str = "INFO", fmt: Literal["json", "console"] = "console", stream: TextIO | None = None
) -> None:
    """Send all logging of this process to `stream` (standard error by default), in one format.

    May be called again; the last call wins. `level` (DEBUG, INFO, WARNING, ERROR, CRITICAL) applies to our own loggers;
    those of libraries are never below INFO, verbose ones never below WARNING.

    Raises:
        ValueError: `level` is none of these.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"{level!r} is not a log level; use DEBUG, INFO, WARNING, ERROR or CRITICAL")
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.ExceptionRenderer(_exception_text),
        redact,
    ]
    handler, formatter = _Handler(stream), _Formatter(common, _rendering(fmt, stream or sys.stderr))
    _processors[:] = [structlog.stdlib.filter_by_level, *common, _handing_to(handler, formatter)]
    structlog.configure(
        processors=_processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Not structlog's filtering logger: it keeps the level it had when it was cached.
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler.setFormatter(formatter)
    handler.addFilter(_may_pass)
    _set_levels(threshold)
    _take_over(handler)


def _handing_to(handler: _Handler, formatter: _Formatter) -> Processor:
    """The last processor for our own lines: writes them by our handler, as the logging package would.

    A record of that package, with the search for the caller's name, takes half of a line's time. It is made only where
    somebody else listens as well, such as a test.
    """

    def hand_over(logger: logging.Logger, method: str, event_dict: EventDict) -> Any:
        if not _is_alone(handler, logger):
            return ProcessorFormatter.wrap_for_formatter(logger, method, event_dict)
        handler.write(logger.name, partial(formatter.render, method, event_dict))
        raise structlog.DropEvent

    return hand_over


def _is_alone(handler: _Handler, logger: logging.Logger) -> bool:
    """Whether the lines of one of our loggers reach that handler, and nothing else."""
    handlers = logging.root.handlers
    if len(handlers) != 1 or handlers[0] is not handler or logger.name.partition(".")[0] != _OURS:
        return False
    above: logging.Logger | None = logger
    while above is not None and above is not logging.root:
        if above.handlers or above.filters or not above.propagate:
            return False
        above = above.parent
    return True


def redact(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Mask what must never be logged: values under secret-looking keys at any depth, raw bytes, and whole models."""
    for key, value in event_dict.items():
        if key in _harmless or not _is_masked(key):
            # `_record` is the standard library's record, for records that pass through.
            if type(value) not in _PLAIN and not key.startswith("_"):
                event_dict[key] = _safe(value)
        else:
            event_dict[key] = REDACTED
    return event_dict


def _is_masked(key: str) -> bool:
    """Whether the value of a line's field is masked; where it is not, that is remembered."""
    if not key.startswith("_") and _is_secret(key):
        return True
    # Only the fields of lines, which are few; keys inside their values may be anything.
    if len(_harmless) < _HARMLESS_MAX:
        _harmless.add(key)
    return False


def _is_secret(key: str) -> bool:
    name = key.lower().replace("-", "_")
    return name in _SECRET_KEYS or name.endswith(_SECRET_ENDINGS)


def _safe(value: Any, depth: int = 1) -> Any:
    match value:
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case BaseModel():
            return f"<{type(value).__name__}>"
        case Mapping() | list() | tuple() | set() | frozenset() if depth > _MAX_DEPTH:
            return "…"
        case Mapping():
            return {
                key: REDACTED if isinstance(key, str) and _is_secret(key) else _safe(inner, depth + 1)
                for key, inner in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_safe(inner, depth + 1) for inner in value]
        case _:
            return value


def _exception_text(exc_info: ExcInfo) -> str:
    """A traceback as text: without local variables, which contain prompts; without the input that a validation error
    repeats; and without key-like text, since libraries put a provider's whole response into their exceptions.
    """
    return scrubbed(_ECHOED_INPUT.sub(REDACTED, "".join(traceback.format_exception(*exc_info)).rstrip()))


def _rendering(fmt: Literal["json", "console"], stream: TextIO | None) -> list[Processor]:
    if fmt == "json":
        return [structlog.processors.JSONRenderer()]
    if stream is None or not stream.isatty():
        return [_one_line, console_line]
    coloured = structlog.dev.ConsoleRenderer(
        colors=True, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )
    return [_one_line, coloured]


def _one_line(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Keep a client's text from forging lines or controlling the terminal; only a traceback may span several lines."""
    for key, value in event_dict.items():
        if isinstance(value, str) and not (value.isprintable() and value[-1:] != " "):
            if key in {"exception", "stack"}:
                event_dict[key] = "\n".join(_printable(line) for line in value.split("\n"))
            else:
                event_dict[key] = _printable(value.rstrip())
    return event_dict


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _may_pass(record: logging.LogRecord) -> bool:
    """Keep the levels of libraries' loggers, even if an SDK lowers them itself (`OPENAI_LOG=debug` does)."""
    family = record.name.partition(".")[0]
    if family == _OURS:
        return True
    if family in _TALKATIVE:
        return record.levelno >= logging.WARNING
    if family == "uvicorn" and isinstance(record.msg, str) and record.msg.startswith(_SOCKET_LINE):
        return False
    return record.levelno >= logging.INFO


def _set_levels(threshold: int) -> None:
    logging.getLogger().setLevel(max(threshold, logging.INFO))
    logging.getLogger(_OURS).setLevel(threshold)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def _take_over(handler: _Handler) -> None:
    """Put our handler on the root logger; remove an older one of ours, and uvicorn's own."""
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    # Without any handler uvicorn does not format its access lines at all.
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
