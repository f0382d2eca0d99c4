"""Structured logging: one format for our own lines and those of libraries.

Owns the format (console or JSON), the levels, and the guards below. The code that logs decides what is worth a line.

What may be logged: ids, names of models and providers, statuses, kinds of errors, counts, sizes, durations. Never, at
any level: prompts, completions, keys, request headers, query strings. `redact` is a safety net for that rule: it
recognises keys, not sentences. Libraries that log what they send or receive at DEBUG (the SDKs and their HTTP clients
log bodies, websockets logs frames) are kept above DEBUG, whatever our own level is.

Modules get their logger by `structlog.get_logger(__name__)`. The request log binds `request_id`, and the code that runs
a stream binds `stream_id` (bound_field.py; other code uses `structlog.contextvars.bind_contextvars`).

We run uvicorn with `log_config=None`, so it does not configure logging. Under plain `uvicorn archer_ws.main:app` its
own configuration comes first, and this module replaces it.
"""

import json
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from archer_ws.core.console_line import console_form, console_line, one_line
from archer_ws.core.line_writer import LineWriter
from archer_ws.core.own_logger import (
    OURS,
    LineHandler,
    OwnLines,
    OwnLogger,
    Render,
    RenderForm,
    stamped,
    with_traceback,
)
from archer_ws.core.redaction import redact
from archer_ws.core.secrets import without_secrets

#: How long the process waits at exit until its last lines are written, in seconds.
FLUSH_S = 1.0

#: Loggers that log every request at INFO, and bodies and headers at DEBUG.
_TALKATIVE = ("openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2")
#: uvicorn writes a socket's query string into this line (uvicorn.error, INFO); the request log has a line of its own.
_SOCKET_LINE = '%s - "WebSocket %s"'

#: What JSON has no form for is written as Python shows it.
_JSON = json.JSONEncoder(default=repr)

#: One list for the life of the process: cached loggers refer to it, so a later configuration reaches them, too.
_processors: list[Processor] = []


class _Handler(LineHandler):
    """Our handler. The class distinguishes it from other handlers of the root logger, such as a test runner's.

    Without a stream it writes to the current standard error, which may be replaced later. A thread does the writing
    (line_writer.py): the process that started us need not read what we log.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record."""
        self.queue(record.name, self.format, record)

    def queue(self, name: str, render: Callable[..., str], *args: Any) -> None:
        """Queue what `render(*args)` returns, a line of the logger `name`."""
        try:
            line = without_secrets(render(*args))
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

    def __init__(self, render: Render) -> None:
        super().__init__(
            foreign_pre_chain=[stamped, with_traceback, redact],
            processors=[ProcessorFormatter.remove_processors_meta, render],
        )
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        if not isinstance(record.msg, dict) or not hasattr(record, "_logger"):
            return super().format(record)
        return self._render(None, record.levelname, record.msg.copy())


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
    handler, render = _Handler(stream), _rendering(fmt, stream or sys.stderr)
    plain = RenderForm(render)
    _processors[:] = [OwnLines(handler, console_form if render is console_line else lambda _: plain)]
    structlog.configure(
        processors=_processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Not structlog's filtering logger: it keeps the level it had when it was cached.
        wrapper_class=OwnLogger,
        cache_logger_on_first_use=True,
    )
    handler.setFormatter(_Formatter(render))
    handler.addFilter(_may_pass)
    _set_levels(threshold)
    _take_over(handler)


def _rendering(fmt: Literal["json", "console"], stream: TextIO | None) -> Render:
    if fmt == "json":
        return _json_line
    if stream is None or not stream.isatty():
        return console_line
    renderer = structlog.dev.ConsoleRenderer(
        colors=True, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )
    return lambda logger, method, event_dict: renderer(logger, method, one_line(logger, method, event_dict))


def _json_line(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    return _JSON.encode(event_dict)


def _may_pass(record: logging.LogRecord) -> bool:
    """Keep the levels of libraries' loggers, even if an SDK lowers them itself (`OPENAI_LOG=debug` does)."""
    family = record.name.partition(".")[0]
    if family == OURS:
        return True
    if family in _TALKATIVE:
        return record.levelno >= logging.WARNING
    if family == "uvicorn" and isinstance(record.msg, str) and record.msg.startswith(_SOCKET_LINE):
        return False
    return record.levelno >= logging.INFO


def _set_levels(threshold: int) -> None:
    logging.getLogger().setLevel(max(threshold, logging.INFO))
    logging.getLogger(OURS).setLevel(threshold)
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
