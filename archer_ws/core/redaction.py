"""Masks what must never be logged: a safety net for the rule in logging.py. It recognises keys, not sentences. Pure."""

import traceback
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from structlog.typing import EventDict, ExcInfo, WrappedLogger

from archer_ws.core.secrets import MASK, scrubbed

REDACTED = MASK

_SECRET_KEYS = frozenset(
    {"api_key", "authorization", "token", "auth_tokens", "ticket", "password", "secret", "cookie", "headers"}
    | {"query_string", "prompt", "content", "messages", "answer", "reasoning", "body"}
)
_SECRET_ENDINGS = ("_api_key", "_token", "_password", "_secret")
#: The types of nearly all values: they can't contain a secret, and checking them would take half of a line's time.
PLAIN = frozenset({str, int, float, bool, type(None)})
#: Names of lines' fields that are no secrets', found by `is_masked`; and how many are remembered.
_harmless: set[str] = set()
_HARMLESS_MAX = 1024
#: The depth to which `redact` checks values; deeper ones are left out.
_MAX_DEPTH = 4
#: pydantic's and FastAPI's validation errors print the value they refuse, which may be a prompt. It stands between the
#: first two of these, or between the third and the end of the line.
_ECHO_BEGINS, _ECHO_ENDS, _ECHO_TO_LINE_END = "input_value=", ", input_type=", "'input': "


def redact(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Mask what must never be logged: values under secret-looking keys at any depth, raw bytes, and whole models."""
    if _harmless.issuperset(event_dict) and PLAIN.issuperset(map(type, event_dict.values())):
        return event_dict
    for key, value in event_dict.items():
        if key in _harmless or not is_masked(key):
            # `_record` is the standard library's record, for records that pass through.
            if type(value) not in PLAIN and not key.startswith("_"):
                event_dict[key] = _safe(value)
        else:
            event_dict[key] = REDACTED
    return event_dict


def is_masked(key: str) -> bool:
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


def exception_text(exc_info: ExcInfo) -> str:
    """A traceback as text: without local variables, which contain prompts; without the input that a validation error
    repeats; and without key-like text, since libraries put a provider's whole response into their exceptions.
    """
    lines = "".join(traceback.format_exception(*exc_info)).rstrip().split("\n")
    return scrubbed("\n".join(map(_without_echo, lines)))


def _without_echo(line: str) -> str:
    """A traceback's line without the value that a validation error repeats; read once, however often the words come."""
    head, begins, rest = line.partition(_ECHO_BEGINS)
    if begins and _ECHO_TO_LINE_END not in head:
        echo, ends, tail = rest.rpartition(_ECHO_ENDS)
        if ends:
            shown = "" if echo.endswith(_ECHO_TO_LINE_END) else ends + _without_line_end(tail)
            return f"{head}{begins}{REDACTED}{shown}"
    return _without_line_end(line)


def _without_line_end(line: str) -> str:
    head, begins, _ = line.partition(_ECHO_TO_LINE_END)
    return f"{head}{begins}{REDACTED}" if begins else line
