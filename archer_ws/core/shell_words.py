"""Writes words of commands as a shell takes them, for commands that a person copies. Pure."""

import shlex
import subprocess
import sys


def shell_word(text: str) -> str:
    """The text as one word of a command: quoted if it has a space, for example."""
    return subprocess.list2cmdline([text]) if sys.platform == "win32" else shlex.quote(text)
