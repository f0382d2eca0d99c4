"""A log line for people, without colours: the format of structlog's ConsoleRenderer at a twentieth of its cost. Pure.

Each request writes two lines. The renderer joins each field from styled pieces, and took as long for two lines as all
guards of a request together. On a terminal, where lines are coloured and few, the renderer is still used.
"""

from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Any

from structlog.typing import EventDict, WrappedLogger

from archer_ws.core.redaction import PLAIN, is_masked

#: The first fields of a line, in their order, and how they are written. The widths are in characters.
_COLUMNS = {"timestamp": "%s", "level": "[%-9s]", "event": "%-30s", "logger": "[%s]"}
_TITLE = " ".join([_COLUMNS[name] for name in ("level", "event", "logger")])
#: Fields that are written below the line, or not at all.
_BELOW = frozenset({"stack", "exception"})
_NOT_IN_LINE = _BELOW | {"exc_info"}
#: A text that contains one of these is quoted.
_QUOTED = frozenset(" \t=\r\n\"'")
_SPECIAL = bytes(code for code in range(128) if chr(code) in _QUOTED or not chr(code).isprintable())
_RULE = "=" * 79


def console_line(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    """The time, level, event and logger in columns, then the other fields as `key=value`, then a stack and a
    traceback. Nothing but these two spans several lines (`one_line`)."""
    return console_form(event_dict).line(event_dict)


def console_form(event_dict: EventDict) -> "ConsoleForm":
    """The form of a line with these fields."""
    return _form(tuple(event_dict), tuple(map(type, event_dict.values())))


class ConsoleForm:
    """How lines with the same fields, whose values have the same types, are written."""

    def __init__(self, names: tuple[str, ...], types: tuple[type, ...]) -> None:
        self._columns = [name for name in _COLUMNS if name in names]
        self._others = [name for name in names if name not in _COLUMNS and name not in _NOT_IN_LINE]
        self._head = " ".join([_COLUMNS[name] for name in self._columns])
        self._tail = "".join([f" {name.replace('%', '%%')}=%s" for name in self._others])
        self._head_values, self._tail_values = _taking(self._columns), _taking(self._others)
        kinds = dict(zip(names, types, strict=True))
        #: Whether `redact` would change nothing in such a line.
        self.is_harmless = PLAIN.issuperset(types) and not any(map(is_masked, names))
        texts = [name for name in self._others if kinds[name] is str]
        self._texts = _taking([*texts, "timestamp"])
        self._may_be_plain = (
            PLAIN.issuperset(types) and _BELOW.isdisjoint(names) and all(kinds.get(name) is str for name in _COLUMNS)
        )

    def line(self, event_dict: EventDict) -> str:
        """The line, without its end."""
        line = self.plain_line(event_dict)
        if line is None:
            event_dict = one_line(None, "", event_dict)
            line = self.quoted_line(event_dict)
        if "stack" in event_dict or "exception" in event_dict:
            line += _below(event_dict.get("stack"), event_dict.get("exception"))
        return line

    def plain_line(self, event_dict: EventDict) -> str | None:
        """The line, if no value needs quotes or an escape, as in nearly all lines; else None."""
        if not self._may_be_plain:
            return None
        title = _title(event_dict["level"], event_dict["event"], event_dict["logger"])
        if title is None or not _is_plain("".join(self._texts(event_dict))):
            return None
        return f"{event_dict['timestamp']} {title}{self._tail % self._tail_values(event_dict)}"

    def quoted_line(self, event_dict: EventDict) -> str:
        """The line. No value may contain a line end."""
        head = self._head % self._head_values(event_dict)
        return "".join([head, *[f" {name}={_shown(event_dict[name])}" for name in self._others]]).rstrip(" ")


_form = lru_cache(maxsize=512)(ConsoleForm)


@lru_cache(maxsize=128)
def _title(level: str, event: str, logger: str) -> str | None:
    """The columns after the time, of which there are few in the code; None if something in them is escaped."""
    title = _TITLE % (level, event, logger)
    return title if title.isprintable() and event[-1:] != " " else None


def _is_plain(text: str) -> bool:
    """Whether the text is ASCII, and nothing in it is quoted or escaped."""
    return text.isascii() and len(text.encode().translate(None, _SPECIAL)) == len(text)


def _taking(names: list[str]) -> Callable[[EventDict], Any]:
    """Takes these values from a dictionary, as the right side of `%`."""
    return itemgetter(*names) if names else lambda _: ()


def _below(stack: str | None, traceback: str | None) -> str:
    below = "" if stack is None else f"\n{stack}"
    if stack is not None and traceback is not None:
        below += f"\n\n{_RULE}\n"
    return below if traceback is None else f"{below}\n{traceback}"


def one_line(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Keep a client's text from forging lines or controlling the terminal; only a traceback may span several lines."""
    for key, value in event_dict.items():
        if isinstance(value, str) and not (value.isprintable() and value[-1:] != " "):
            if key in {"exception", "stack"}:
                event_dict[key] = "\n".join(_printable(line) for line in value.split("\n"))
            else:
                event_dict[key] = _printable(value.rstrip())
    return event_dict


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and _QUOTED.isdisjoint(value) else repr(value)


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
