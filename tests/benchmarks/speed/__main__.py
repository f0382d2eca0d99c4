"""Measure how fast the sidecar is, and print it beside the goals.

    python -m tests.benchmarks.speed [--quick] [--runs N] [--only ROW …] [--before DIRECTORY] [--json FILE]

Each process is one of its own: the sidecar (or what it is compared with) alone on one core, the scripted provider and
the load generators on the others. All traffic is on loopback. Compare figures within one run only: machines differ,
and so does one machine from hour to hour; to see what a change does, give the project as it was before (a `git
worktree` of it, say), which is measured by turns with this one. The exit status is 1 where an answer was not complete,
whatever the figures.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from archer_ws.server.listening import raise_file_limit
from tests.benchmarks.speed.figures import Figures, medians
from tests.benchmarks.speed.measuring import machine, split_cores
from tests.benchmarks.speed.processes import ROOT, Failed
from tests.benchmarks.speed.report import as_json, table
from tests.benchmarks.speed.scale import FULL, QUICK, Scale
from tests.benchmarks.speed.scenarios import SCENARIOS, Run
from tests.benchmarks.speed.servers import PROXIES, Bench

Runs = dict[str, list[Figures]]


def measure(benches: Sequence[Bench], scale: Scale, names: list[str], found: Sequence[Runs]) -> None:
    """One run of the named scenarios, of each bench by turns, added to what was found of it.

    Raises:
        Failed: a process did not do its part.
    """
    runs = [Run(bench, scale) for bench in benches]
    for name in names:
        began = time.monotonic()
        for run, of_bench in zip(runs, found, strict=True):
            of_bench.setdefault(name, []).append(SCENARIOS[name](run))
        print(f"  {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    options = _options()
    scale = QUICK if options.quick else FULL
    if options.seconds is not None:
        scale = scale.lasting(options.seconds)
    # As Ctrl-C: every process that was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    raise_file_limit()
    facts: dict[str, Any] = machine()
    trees = [ROOT, options.before] if options.before else [ROOT]
    found: list[Runs] = [{} for _ in trees]
    names = [name for name in SCENARIOS if not options.only or name in options.only]
    failure = None
    try:
        for number in range(options.runs):
            print(f"run {number + 1} of {options.runs}", file=sys.stderr, flush=True)
            with ExitStack() as stack:
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="archer-speed-")))
                # All are made before one takes its cores: none would find a core for its server then.
                benches = [Bench(directory, tree=tree, proxies=options.proxies, shared=options.quick) for tree in trees]
                for bench in benches:
                    stack.enter_context(bench)
                measure(benches, scale, names, found)
    except KeyboardInterrupt:
        failure = "stopped"
    except Failed as error:
        failure = str(error)
    together, *before = [{name: medians(each) for name, each in runs.items()} for runs in found]
    print(f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, runs: {options.runs}")
    if not all(split_cores()):
        print("The server has no core of its own here: its rates and latencies are those of a shared one.")
    if options.quick:
        print("Small and short: these figures say that the benchmark works, and nothing of the server.")
    print(*table(together, scale, before[0] if before else None), sep="\n")
    if options.json:
        arguments = {name: str(value) for name, value in vars(options).items()}
        written = as_json(found[0], facts, arguments, before=found[1] if before else None)
        options.json.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")
    if failure:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failure or any(figures.wrong for of_tree in (together, *before) for figures in of_tree.values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small and short: to see that it works, not to measure")
    parser.add_argument("--runs", type=int, help="whose medians are shown (3; 1 with --quick)")
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), metavar="ROW", help=", ".join(SCENARIOS))
    parser.add_argument("--seconds", type=float, help="how long each steady load is measured (8; 1 with --quick)")
    parser.add_argument(
        "--before",
        type=_checkout,
        metavar="DIRECTORY",
        help="the project as it was, to be measured by turns with this one",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    for name, about in PROXIES.items():
        parser.add_argument(f"--{name}", metavar="COMMAND", help=f"{about}'s executable, to be compared, too")
    options = parser.parse_args()
    options.runs = options.runs or (1 if options.quick else 3)
    options.proxies = {}
    for name in PROXIES:
        command: str | None = vars(options)[name]
        if command is not None:
            found = shutil.which(command)
            if found is None:
                parser.error(f"{command} is no program")
            options.proxies[name] = str(Path(found).absolute())
    return options


def _checkout(text: str) -> Path:
    directory = Path(text).absolute()
    if not (directory / "archer_ws" / "__main__.py").is_file():
        raise argparse.ArgumentTypeError(f"{text} has no archer_ws/__main__.py: give the root of a checkout")
    return directory


if __name__ == "__main__":
    sys.exit(main())
