"""`archer-ws conformance`: what is checked, what is shown, and the exit status."""

import asyncio
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from archer_ws.client.errors import ClientError
from archer_ws.conformance.probe import probe
from archer_ws.conformance.registry import Check, all_checks
from archer_ws.conformance.report import Table, as_json, titles_as_json
from archer_ws.conformance.runner import run
from archer_ws.terminal.chat import INTERRUPTED
from archer_ws.terminal.screen import Terminal

#: How long silence must last before it counts as the server's response, in seconds; never more than a check may take.
QUIET_S = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a run.

    Attributes:
        only: names of checks; empty for all.
        is_strict: whether a skipped check counts as failed.
        timeout_s: how long each check may take, in seconds.
    """

    only: Collection[str] = ()
    as_json: bool = False
    is_strict: bool = False
    timeout_s: float = 60.0


def list_checks(*, json: bool) -> int:
    """Print every check's name and title; returns the exit status."""
    checks = all_checks()
    if json:
        sys.stdout.write(f"{titles_as_json(checks)}\n")
    else:
        Table(sys.stdout).titles(checks)
    return 0


def conform(url: str, token: str | None, route: Mapping[str, str], options: Options) -> int:
    """Check the server; returns the exit status: 0 all passed, 1 some failed, 2 nothing could be checked.

    Args:
        url: the server's address.
        token: its token, if it needs one.
        route: the `provider` and `model` to chat with; empty for the server's default.
    """
    terminal = Terminal(sys.stdout, sys.stderr)
    checks = all_checks()
    unknown = sorted(set(options.only) - {check.name for check in checks})
    if unknown:
        terminal.error(f"there is no check {', '.join(unknown)}", "--list shows them all.")
        return 2
    wanted = [check for check in checks if not options.only or check.name in options.only]
    try:
        return asyncio.run(_conform(url, token, route, wanted, options))
    except ClientError as error:
        terminal.error(error.message, error.hint)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


async def _conform(
    url: str, token: str | None, route: Mapping[str, str], checks: Sequence[Check], options: Options
) -> int:
    quiet_s = min(QUIET_S, options.timeout_s / 4)
    needs_answers = any(check.needs_answers for check in checks)
    target = await probe(url, token, route, timeout_s=options.timeout_s, quiet_s=quiet_s, needs_answers=needs_answers)
    table = Table(sys.stdout)
    if not options.as_json:
        table.head(target)
    results = await run(
        target,
        checks,
        timeout_s=options.timeout_s,
        quiet_s=quiet_s,
        on_result=(lambda _: None) if options.as_json else table.row,
    )
    if options.as_json:
        sys.stdout.write(f"{as_json(target, results)}\n")
    else:
        table.foot(results)
    bad = {"failed", "skipped"} if options.is_strict else {"failed"}
    return 1 if any(result.state in bad for result in results) else 0
