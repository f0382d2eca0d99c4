"""`archer-ws` with a wall clock that jumps: by as many hours as stand in the file that `CLOCK_FILE` names.

    python -m tests.fakes.jumping_clock serve

The monotonic clock goes on, as a machine's does.
"""

import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any


def jump(folder: Path, hours: float) -> None:
    """From now on the clock is so far ahead, or behind."""
    new = folder / "clock.new"
    new.write_text(str(hours))
    new.replace(clock_of(folder))


def clock_of(folder: Path) -> Path:
    """The file by which `jump` moves a server's clock."""
    return folder / "clock"


def _make_jumping() -> None:
    file, real = Path(os.environ["CLOCK_FILE"]), time.time

    def jumping() -> float:
        return real() + (float(file.read_text()) * 3600 if file.exists() else 0.0)

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromtimestamp(jumping(), tz)

    time.time = jumping
    # Before anything has it by name.
    from archer_ws.core import clock

    vars(clock)["datetime"] = Jumping


if __name__ == "__main__":
    _make_jumping()
    from archer_ws.cli import main

    sys.exit(main())
