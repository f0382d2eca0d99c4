"""The table of results for people, and the same as JSON for programs. 80 columns are enough."""

import json
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from archer_ws.conformance.bench import Target
from archer_ws.conformance.registry import Check
from archer_ws.conformance.runner import CheckResult
from archer_ws.terminal.screen import printable

WIDTH = 80
TITLE_WIDTH = 62
_DETAILS_INDENT = " " * 5
_WORDS = {"ok": "ok", "failed": "FAILED", "skipped": "skipped"}
_COLOURS = {"ok": "\x1b[32m", "failed": "\x1b[1;31m", "skipped": "\x1b[33m"}
_PLAIN = "\x1b[0m"


class Table:
    """The rows, printed as they become known, and the sums.

    Args:
        out: where to print; coloured only on a terminal that supports it, and if NO_COLOR is not set.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        # Older Windows consoles print escape sequences instead of obeying them.
        obeys = out.isatty() and (sys.platform != "win32" or "WT_SESSION" in os.environ)
        self._is_coloured = obeys and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def head(self, target: Target) -> None:
        """Print what is checked."""
        server = target.greeting.server
        self._line(printable(f"{target.address.socket_url}: {server.name} {server.version}"))
        self._line("")

    def row(self, result: CheckResult) -> None:
        """Print a result, and what went wrong."""
        check = result.check
        word = f"{_WORDS[result.state]:<7}"
        if self._is_coloured:
            word = f"{_COLOURS[result.state]}{word}{_PLAIN}"
        self._line(f"{check.section:<4} {check.title:<{TITLE_WIDTH}} {word}{result.ms:>5}")
        if result.state == "skipped":
            self._details("", result.reason or "")
        elif result.state == "failed":
            self._details("expected: ", result.expected or "")
            self._details("came: ", result.came or "")
            self._details("", f"protocol section {check.section}; again: --only {check.name}")

    def foot(self, results: Sequence[CheckResult]) -> None:
        """Print the sums."""
        count = Counter(result.state for result in results)
        parts = [f"{count['ok']} passed", f"{count['failed']} failed", f"{count['skipped']} skipped"]
        self._line("")
        self._line(f"{len(results)} checks: {', '.join(parts)}")

    def titles(self, checks: Sequence[Check]) -> None:
        """Print the available checks."""
        for check in checks:
            self._line(f"{check.section:<4} {check.name}")
            self._details("", check.title)

    def _details(self, label: str, text: str) -> None:
        for line in textwrap.wrap(
            f"{label}{printable(' '.join(text.split()))}",
            WIDTH - 1,
            initial_indent=_DETAILS_INDENT,
            subsequent_indent=f"{_DETAILS_INDENT}  ",
        ):
            self._line(line)

    def _line(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()


def as_json(target: Target, results: Sequence[CheckResult]) -> str:
    """One object: the server, every result, and the sums."""
    count = Counter(result.state for result in results)
    report = {
        "url": target.address.socket_url,
        "server": target.greeting.server.model_dump(),
        "protocol_version": target.greeting.protocol_version,
        "passed": count["ok"],
        "failed": count["failed"],
        "skipped": count["skipped"],
        "checks": [_as_json(result) for result in results],
    }
    return json.dumps(report, ensure_ascii=False, indent=2)


def titles_as_json(checks: Sequence[Check]) -> str:
    """The available checks."""
    return json.dumps([_check_as_json(check) for check in checks], ensure_ascii=False, indent=2)


def _check_as_json(check: Check) -> dict[str, str]:
    return {"name": check.name, "section": check.section, "title": check.title}


def _as_json(result: CheckResult) -> dict[str, object]:
    said = {"expected": result.expected, "came": result.came, "reason": result.reason}
    told = {name: text for name, text in said.items() if text is not None}
    return {**_check_as_json(result.check), "state": result.state, "ms": result.ms, **told}
