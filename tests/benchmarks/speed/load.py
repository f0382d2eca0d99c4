"""A load generator: a process that is given an order as JSON, and prints what it found as JSON.

It reads the CPU and the memory of the server and the provider itself, at the very moments it measures between. The
kinds of load are in load_streams.py (many answers at once) and load_probes.py (one thing at a time, and idle sockets).
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from archer_ws.server.listening import raise_file_limit
from tests.benchmarks.speed import load_probes, load_streams
from tests.benchmarks.speed.orders import Kind, Order, Report, say
from tests.benchmarks.speed.processes import run_loop, stop_with_parent

KINDS: dict[Kind, Callable[[Order], Awaitable[Report]]] = {
    "streams": load_streams.streams,
    "batch": load_streams.batch,
    "first_token": load_probes.first_tokens,
    "whole": load_probes.whole_answers,
    "cancel": load_probes.cancels,
    "idle": load_probes.idle,
    "held": load_probes.held,
    "newcomers": load_probes.newcomers,
}


async def main() -> None:
    raise_file_limit()
    order = Order(**json.loads(sys.argv[1]))
    say(asdict(await KINDS[order.kind](order)))
    # Thousands of open connections need no farewell.
    os._exit(0)


if __name__ == "__main__":
    stop_with_parent()
    sys.exit(run_loop(main()))
