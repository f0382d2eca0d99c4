"""`archer-ws` as PyInstaller freezes it: an executable with Python inside, which takes no arguments of Python's."""

import os
import shlex
import stat
import sys
from pathlib import Path

from archer_ws.cli import main

_EXECUTABLE = "FROZEN_PROGRAM"


def frozen_program(folder: Path) -> tuple[Path, dict[str, str]]:
    """The executable, made in this folder, and the environment that it needs."""
    executable = folder / "my sidecar"
    executable.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {__spec__.name} "$@"\n')
    executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
    return executable, {_EXECUTABLE: str(executable)}


if __name__ == "__main__":
    sys.frozen = True  # type: ignore[attr-defined]  # as PyInstaller does
    sys.executable = os.environ[_EXECUTABLE]
    sys.exit(main())
