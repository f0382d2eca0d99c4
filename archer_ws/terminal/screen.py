"""A terminal, or files in its place: shows completions, and keeps them from controlling the terminal."""

import os
import shutil
import sys
import unicodedata
from typing import TextIO

from archer_ws.client.events import Delta, Progress, Step, StreamEvent, ToolCall, ToolResult
from archer_ws.terminal.columns import Columns
from archer_ws.terminal.markdown import Markdown

#: Narrower columns are hard to read, in cells.
COLUMN_WIDTH_MIN = 24
#: How much of a call's arguments and of its result is shown, in characters: a line or two.
CALL_CHARS_MAX = 120

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
#: C0 and C1 controls except tab and line feed: escape sequences begin with these.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])
#: Unicode's categories of invisible characters: formats (such as changes of direction), controls, line ends.
_UNSEEN = frozenset({"Cf", "Cc", "Zl", "Zp"})


def printable(text: str) -> str:
    """The text without characters that could control a terminal."""
    return text.translate(_CONTROLS)


def _one_line(text: str) -> str:
    """The beginning of the text, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= CALL_CHARS_MAX else f"{text[: CALL_CHARS_MAX - 1]}…"


def _whole(arguments: str) -> str:
    """All of the arguments that a person must judge; invisible characters and those that change the direction are shown
    as codes."""
    return "".join(
        f"\\u{ord(each):04x}" if unicodedata.category(each) in _UNSEEN else each for each in " ".join(arguments.split())
    )


class Terminal:
    """Where completions are shown.

    Args:
        out: gets the completion's text and, on a terminal, the reasoning, dimmed.
        err: gets notices and errors.
        is_plain: whether a terminal gets the text unchanged; otherwise Markdown is styled.
    """

    def __init__(self, out: TextIO, err: TextIO, *, is_plain: bool = False) -> None:
        self._out = out
        self._err = err
        self._is_tty = out.isatty()
        # Older Windows consoles and dumb terminals print escape sequences instead of obeying them.
        obeys = os.environ.get("TERM") != "dumb" and (sys.platform != "win32" or "WT_SESSION" in os.environ)
        self._obeys = self._is_tty and obeys
        is_styled = self._obeys and not is_plain and not os.environ.get("NO_COLOR")
        self._markdown = Markdown() if is_styled else None
        self._in_reasoning = False
        self._at_line_start = True
        self._is_untouched = True
        self._in_question = False
        #: The names of the calls' tools, by call id.
        self._calls: dict[str, str] = {}
        #: The rows of columns on the screen: the number of the first row that may change, and the rows from there on.
        self._drawn_from = 0
        self._drawn: list[str] = []

    def show(self, event: StreamEvent) -> None:
        """Show a piece of a completion at once."""
        match event:
            case Delta(content=content) if content:
                if self._in_reasoning:
                    self._end_reasoning()
                    self._write("\n" if self._at_line_start else "\n\n")
                if self._markdown is None:
                    self._write(content)
                else:
                    self._write(self._markdown.feed(printable(content)), is_styled=True)
            case Delta(reasoning=reasoning) if self._is_tty and reasoning:
                if self._obeys and not self._in_reasoning:
                    self._out.write(_DIM)
                self._in_reasoning = True
                self._write(reasoning)
            case Progress(phase=phase, detail=detail):
                self.notice(f"[{phase}: {detail}]" if detail else f"[{phase}]")
            case ToolCall(name=name, arguments=arguments):
                self._calls[event.call_id] = name
                self.notice(f"[calls {name} {_whole(arguments) if event.needs_approval else _one_line(arguments)}]")
            case ToolResult(call_id=call_id, status=status):
                told = _one_line(event.content or "")
                name = self._calls.get(call_id, call_id)
                self.notice(f"[{name}: {told}]" if status == "ok" else f"[{name}, {status}: {told}]")
            case Step():
                self.end_line()

    def end_line(self) -> None:
        """Move the cursor to the start of a line."""
        self._end_reasoning()
        if self._markdown is not None:
            self._write(self._markdown.end(), is_styled=True)
        if not self._at_line_start:
            self._write("\n")

    def notice(self, text: str) -> None:
        """Print something that is not part of the completion."""
        self.end_line()
        self.answered(is_line_over=False)
        # Rows above a notice cannot be redrawn: those that may still change are printed again.
        self._drawn = []
        self._err.write(f"{printable(text)}\n")
        self._err.flush()

    def question(self, text: str) -> None:
        """Print a question; the person types after it."""
        self.end_line()
        self._drawn = []
        self._err.write(printable(text))
        self._err.flush()
        self._in_question = True

    def answered(self, *, is_line_over: bool) -> None:
        """The question has been answered, or is no longer needed."""
        if self._in_question and not is_line_over:
            self._err.write("\n")
        self._in_question = False

    def error(self, message: str, hint: str | None) -> None:
        """Print what went wrong, and what to do."""
        self.notice(f"archer-ws: {message}")
        if hint:
            self.notice("\n".join(f"  {line}" for line in hint.splitlines()))

    def heading(self, text: str) -> None:
        """Begin one of several completions."""
        self.end_line()
        self._write(f"{'' if self._is_untouched else chr(10)}## {text}\n\n")

    def column_width(self, count: int) -> int | None:
        """How wide each of this many columns can be, in cells; None if they do not fit."""
        size = shutil.get_terminal_size()
        width = (size.columns - 1 - 3 * (count - 1)) // count
        return width if self._obeys and width >= COLUMN_WIDTH_MIN and size.lines > 4 else None

    def redraw(self, columns: Columns) -> None:
        """Show what has arrived. Rows that scrolled off the screen cannot be changed, so a column may be ahead of the
        others by at most one screen."""
        end = min(columns.height, columns.final_rows + shutil.get_terminal_size().lines - 2)
        rows = [columns.row(number) for number in range(self._drawn_from, end)]
        same = next((i for i, (a, b) in enumerate(zip(rows, self._drawn, strict=False)) if a != b), len(self._drawn))
        if rows[same:] or len(self._drawn) > same:
            up = len(self._drawn) - same
            self._out.write((f"\x1b[{up}A" if up else "") + "".join(f"\x1b[2K{row}\n" for row in rows[same:]))
            self._out.flush()
        final = max(0, min(columns.final_rows, end) - self._drawn_from)
        self._drawn_from += final
        self._drawn = rows[final:]

    def leave(self, columns: Columns) -> None:
        """Show the rest of the columns, which have ended."""
        while self._drawn_from < columns.final_rows:
            self.redraw(columns)
        self._drawn_from, self._drawn = 0, []

    def prompt(self) -> str:
        """The prompt for the person's line: empty if standard output is a file."""
        return "> " if self._is_tty else ""

    def _end_reasoning(self) -> None:
        if self._in_reasoning and self._obeys:
            self._out.write(_PLAIN)
            self._out.flush()
        self._in_reasoning = False

    def _write(self, text: str, *, is_styled: bool = False) -> None:
        """Write text of the completion; `is_styled`: it went through Markdown, whose escape sequences the terminal
        should obey."""
        shown = printable(text) if self._is_tty and not is_styled else text
        if shown:
            self._out.write(shown)
            self._is_untouched = False
            self._at_line_start = shown.endswith("\n")
        self._out.flush()
