"""`archer-ws serve`, unchanged, in a process that also tells how many tasks, descriptors and bytes it has.

    python -m tests.benchmarks.soak_server serve ...

Each byte on standard input asks for a line of JSON on standard output: `s` for a sample, `c` for one after a garbage
collection, with the number of objects by type. The end of standard input stops the server.
"""

import asyncio
import gc
import json
import os
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from archer_ws import cli
from archer_ws.server import server

PROC = Path("/proc/self")


def sample() -> dict[str, Any]:
    """This process now; what the system does not tell is 0. Memory in bytes."""
    report: dict[str, Any] = {"tasks": len(asyncio.all_tasks()), "fds": 0, "memory": 0}
    if PROC.exists():
        report["fds"] = len(list((PROC / "fd").iterdir()))
        report["memory"] = int((PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return report


def collected_sample() -> dict[str, Any]:
    """A sample without garbage, the memory blocks that Python has in use, and the live objects by type."""
    for _ in range(3):
        gc.collect()
    blocks = sys.getallocatedblocks()
    objects = Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())
    return {**sample(), "blocks": blocks, "objects": dict(objects)}


class ReportingServer(server.ArcherServer):
    """The server, and the thread that reads what is asked."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._answer, args=(loop,), name="reports", daemon=True).start()

    def _answer(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not through sys.stdin's buffer: the interpreter can't exit while another thread is reading there.
        while asked := os.read(sys.stdin.fileno(), 1):
            loop.call_soon_threadsafe(self._report, asked == b"c")
        self.request_stop("end of standard input")

    def _report(self, collected: bool) -> None:
        report = collected_sample() if collected else sample()
        report["sockets"] = self._services.sockets.count
        report["streams"] = self._services.manager.running
        report["orphans"] = self._services.manager.orphans
        sys.stdout.write(f"{json.dumps(report)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    # The command line takes it from there when it serves.
    server.ArcherServer = ReportingServer  # type: ignore[misc]  # the class under test, with a way to look into it
    sys.exit(cli.main())
