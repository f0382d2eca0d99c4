"""Structured logging: one form for our lines and for everybody else's.

Owns the form (console or JSON), the levels, and the guards below. What is worth a line is decided by whoever knows it.

Who may log what. Everyone: ids, names of models and providers, statuses, kinds of errors, counts, sizes, durations.
Nobody, at any level: prompts, answers, keys, request headers, query strings. `redact` is the net under that rule, not
a licence: it knows keys, not sentences. Libraries that log what they send or receive at DEBUG (the SDKs and their HTTP
clients log bodies, websockets logs frames) are held above it whatever our own level is.

Modules take their logger with `structlog.get_logger(__name__)`. The request log binds `request_id`, and whoever runs a
stream binds `stream_id`, with `structlog.contextvars.bind_contextvars`.

uvicorn is run with `log_config=None`, so that it leaves this alone. Under plain `uvicorn archer_ws.main:app` its own
configuration comes first and is taken over.
"""

import logging
import re
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TextIO

import structlog
from pydantic import BaseModel
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from archer_ws.core.console_line import console_line
from archer_ws.core.line_writer import LineWriter
from archer_ws.core.secrets import MASK, scrubbed, without_secrets

REDACTED = MASK
#: How long the end of the process waits for its last lines to be read, in seconds.
FLUSH_S = 1.0

_OURS = "archer_ws"
#: Loggers that tell of every request at INFO, and of bodies and headers at DEBUG.
_TALKATIVE = ("openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2")
#: uvicorn writes a socket's query string into this line (uvicorn.error, INFO); the request log has a line of its own.
_SOCKET_LINE = '%s - "WebSocket %s"'

_SECRET_KEYS = frozenset(
    {"api_key", "authorization", "token", "auth_tokens", "ticket", "password", "secret", "cookie", "headers"}
    | {"query_string", "prompt", "content", "messages", "answer", "reasoning", "body"}
)
_SECRET_ENDINGS = ("_api_key", "_token", "_password", "_secret")
#: What nearly all values are: nothing can hide in them, and looking costs a line half its time.
_PLAIN = frozenset({str, int, float, bool, type(None)})
#: How deep `redact` looks into values; what lies deeper is left out.
_MAX_DEPTH = 4
#: pydantic's and FastAPI's validation errors print the value they refuse, which may be a prompt.
_ECHOED_INPUT = re.compile(r"(?<=input_value=).*(?=, input_type=)|(?<='input': ).*")

#: One list for the life of the process: cached loggers hold on to it, so that a later configuration reaches them too.
_processors: list[Processor] = []


class _Handler(logging.Handler):
    """Ours, told apart from other handlers of the root logger, such as a test runner's.

    Without a stream it writes to whatever standard error is at that moment: it may be swapped after us. The writing
    itself is a thread's (line_writer.py): whoever started us need not read what we log.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Have one record written."""
        try:
            line = without_secrets(self.format(record))
        except Exception as error:  # noqa: BLE001 - what can't be formatted must not fail whoever logs it
            line = f"a line of {record.name} could not be formatted ({type(error).__name__})"
        _lines.put(self._stream or sys.stderr, f"{line}\n")

    def flush(self) -> None:
        """Wait a moment for what is still to be written; called when the process ends."""
        _lines.flush(FLUSH_S)


class _Formatter(ProcessorFormatter):
    """Makes a record's line.

    Our own records need no more than the rendering; structlog's formatter copies each of them first, for other handlers
    that there might be. Other people's records still go its way.
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
        line: Any = record.msg.copy()
        for process in self._rendering:
            line = process(None, record.levelname, line)
        return str(line)


def _tell_dropped(count: int) -> None:
    structlog.get_logger(__name__).warning(
        "log_lines_dropped", count=count, hint="whoever started the server does not read its log fast enough"
    )


#: One for the life of the process, as there is one log.
_lines = LineWriter(_tell_dropped)


def log_stray_output() -> None:
    """Log what Python itself would write to standard error, straight and perhaps waiting: warnings, and exceptions
    that nobody can catch. For a process that is the server and nothing else."""
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
    """Send all logging of this process to `stream` (standard error by default), in one form.

    May be called again; the last call holds. `level` (DEBUG, INFO, WARNING, ERROR, CRITICAL) is that of our own
    loggers; other people's never go below INFO, talkative ones never below WARNING.

    Raises:
        ValueError: `level` is none of these.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"{level!r} is no log level; take DEBUG, INFO, WARNING, ERROR or CRITICAL")
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.ExceptionRenderer(_exception_text),
        redact,
    ]
    _processors[:] = [structlog.stdlib.filter_by_level, *common, ProcessorFormatter.wrap_for_formatter]
    structlog.configure(
        processors=_processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Not structlog's filtering logger: that one keeps the level it had when it was cached.
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _Handler(stream)
    handler.setFormatter(_Formatter(common, _rendering(fmt, stream or sys.stderr)))
    handler.addFilter(_may_pass)
    _set_levels(threshold)
    _take_over(handler)


def redact(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Mask what must never be logged: values under telling keys at any depth, raw bytes, and whole models."""
    for key, value in event_dict.items():
        # `_record`, where the standard library's record is on its way through.
        if key.startswith("_"):
            continue
        if _is_secret_field(key):
            event_dict[key] = REDACTED
        elif type(value) not in _PLAIN:
            event_dict[key] = _safe(value)
    return event_dict


@lru_cache(maxsize=1024)
def _is_secret_field(key: str) -> bool:
    # The fields of our own lines: few. What lies inside their values has anybody's keys.
    return _is_secret(key)


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
    """A traceback as text: without local variables, which hold prompts, without what a validation error echoes, and
    without what looks like a key: libraries put a provider's whole answer into their exceptions."""
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
    """Keep a client's text from forging lines or steering the terminal; only a traceback may span lines."""
    for key, value in event_dict.items():
        if isinstance(value, str):
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
    """Hold other people's loggers at their levels even when an SDK lowers them itself (`OPENAI_LOG=debug` does)."""
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
    """Put our handler on the root logger, in place of an older one of ours and of uvicorn's own."""
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    # Without a handler in reach uvicorn does not even format its access lines.
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
