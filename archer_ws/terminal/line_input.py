"""Reads a person's lines, with editing, and with a history that is kept between conversations.

This module chooses the way to read a line (prompt_toolkit, an extra of this package; else readline, which most Python
installations have; else the terminal's own) and owns the history file. No other module imports prompt_toolkit.
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: Where the history is stored: a file, or `off`.
HISTORY_VARIABLE = "ARCHER_CHAT_HISTORY"
#: How many lines of history readline keeps.
_LINES_MAX = 1000


class LineInput:
    """How lines are read.

    Args:
        read: returns the next line after a prompt; raises EOFError and KeyboardInterrupt like input().
        keys: what the arrow keys do, for the help line; empty if they do nothing.
    """

    def __init__(self, read: Callable[[str], str], keys: str = "") -> None:
        self.keys = keys
        self._read = read

    def line(self, prompt: str) -> str | None:
        """The person's next line; None when they leave (Ctrl-D, or Ctrl-C at an empty prompt)."""
        try:
            return self._read(prompt)
        except (EOFError, KeyboardInterrupt):
            return None


def line_input() -> LineInput:
    """The best way that this terminal and this installation offer."""
    is_dumb = os.environ.get("TERM", "") in {"", "dumb"} and sys.platform != "win32"
    history = history_file()
    if not is_dumb and sys.stdin.isatty() and sys.stdout.isatty():
        if importlib.util.find_spec("prompt_toolkit") is not None:
            return LineInput(_prompt_toolkit(history), "Up: earlier lines")
        with suppress(ImportError):
            return LineInput(_readline(history), "Up: earlier lines")
    return LineInput(input)


def history_file() -> Path | None:
    """The history file, readable by this user only; None if none is wanted, or it can't be written."""
    given = os.environ.get(HISTORY_VARIABLE, "").strip()
    if given.lower() in {"off", "no", "none", "0", "false"}:
        return None
    state = os.environ.get("XDG_STATE_HOME") or (os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else None)
    try:
        folder = Path(state or Path.home() / ".local/state") / "archer-ws"
        path = Path(given).expanduser() if given else folder / "chat_history"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        with path.open("a", encoding="utf-8"):
            return path
    except (OSError, RuntimeError):  # a home that can't be written, or none at all
        return None


def _prompt_toolkit(history: Path | None) -> Callable[[str], str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def begin_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def give_up(event: KeyPressEvent) -> None:
        # As in a shell: the first Ctrl-C clears the line, the next one leaves.
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt())

    kept = InMemoryHistory() if history is None else FileHistory(str(history))
    session: PromptSession[str] = PromptSession(history=kept, key_bindings=keys, multiline=False)
    return session.prompt


def _readline(history: Path | None) -> Callable[[str], str]:
    import readline

    if history is not None:
        with suppress(OSError, UnicodeDecodeError):
            readline.read_history_file(history)
    readline.set_history_length(_LINES_MAX)

    def read(prompt: str) -> str:
        line = input(prompt)
        if history is not None and line.strip():
            with suppress(OSError):
                readline.write_history_file(history)
        return line

    return read
