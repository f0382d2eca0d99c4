"""`archer-ws` on a disk that stands still, once the test says so: when something of `STANDS_STILL` is written, or the
streams of the process before are read.

STANDS_STILL=files STILL_FOLDER=… python -m tests.fakes.still_disk serve
"""

import os
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any


def stand_still(folder: Path) -> None:
    """From now on it does."""
    (folder / "still").touch()


def is_noticed(folder: Path) -> bool:
    """Whether the server waits for it."""
    return (folder / "noticed").exists()


def _make_still(place: type | ModuleType, method: str, folder: Path) -> None:
    write = getattr(place, method)

    def wait(*args: Any, **options: Any) -> Any:
        if not (folder / "still").exists():
            return write(*args, **options)
        (folder / "noticed").touch()
        return threading.Event().wait()

    setattr(place, method, wait)


if __name__ == "__main__":
    from archer_ws.cli import main
    from archer_ws.files import files
    from archer_ws.files.disk_shelf import _Draft
    from archer_ws.server import exit_limit, server
    from archer_ws.sessions.storage.sqlite import streams
    from archer_ws.sessions.storage.sqlite.worker import Worker

    # Nobody waits long.
    files.CLOSE_LIMIT_S = exit_limit.EXIT_LIMIT_S = server.SHUTDOWN_LIMIT_S = 0.2
    places: dict[str, tuple[type | ModuleType, str]] = {
        "files": (_Draft, "write"),
        "conversations": (Worker, "_write"),
        "streams": (streams, "recover"),
    }
    place, method = places[os.environ["STANDS_STILL"]]
    _make_still(place, method, Path(os.environ["STILL_FOLDER"]))
    sys.exit(main())
