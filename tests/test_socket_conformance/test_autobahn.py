"""The results of Autobahn's cases are those that are committed, and what is not plainly OK there has a reason here."""

import asyncio
import difflib
import json
import os
import sys
from pathlib import Path

from tests.processes import ROOT
from tests.test_socket_conformance import autobahn

#: Why a case may have another verdict than OK.
PERMITTED = {
    **dict.fromkeys(
        sorted(autobahn.LAST_ECHO_IS_CHANCE),
        "The frame that breaks the rules may fail the connection before an earlier message's echo is out, or after.",
    ),
    **dict.fromkeys(
        ("6.4.1", "6.4.2", "6.4.3", "6.4.4"),
        "Invalid UTF-8 is found when the message is complete, not at the first fragment that has it: RFC 6455, section "
        "8.1, asks only that the connection fails.",
    ),
    "7.1.5": (
        "A close in the middle of a fragmented message is answered by 1002 instead of 1000: the message can't be "
        "completed any more, since nothing may follow a close (RFC 6455, section 5.5.1)."
    ),
    **dict.fromkeys(("7.1.6", "7.13.1", "7.13.2"), "RFC 6455 leaves the behaviour open: no verdict is possible."),
    **dict.fromkeys(("9.1.4", "9.2.4"), "4 MiB in one message: our limit is 1 MiB, and 1009 says so."),
}
#: Verdicts of the exchange and of the close that need no reason.
CONFORMS = "OK, close OK, "
COMMAND = f"python -m {autobahn.__name__}"


async def run_cases(file: Path) -> dict[str, str]:
    """What the cases give now."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        autobahn.__name__,
        str(file),
        cwd=ROOT,
        # Cases, client and server are one process, of native code in part: if it crashes, this tells where.
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(autobahn.RUN_LIMIT_S + 20):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    found: dict[str, str] = json.loads(file.read_text("utf-8"))
    return found


def committed() -> dict[str, str]:
    known: dict[str, str] = json.loads(autobahn.RESULTS.read_text("utf-8"))
    return known


async def test_autobahn_gives_the_committed_results(tmp_path: Path) -> None:
    results = await run_cases(tmp_path / "results.json")
    before, now = ([f"{case}: {result}" for case, result in all_.items()] for all_ in (committed(), results))
    difference = "\n".join(difflib.unified_diff(before, now, "results.json", "now", lineterm="", n=0))
    assert not difference, f"\n{difference}\n\nWhere that is right: {COMMAND}"


def test_every_deviation_has_a_reason() -> None:
    deviating = {case for case, result in committed().items() if not result.startswith(CONFORMS)}
    assert deviating == set(PERMITTED)


def test_the_longest_message_passes_and_a_longer_one_is_refused_as_too_big() -> None:
    known = committed()
    assert [known[case] for case in ("9.1.3", "9.2.3")] == ["OK, close OK, 1000"] * 2
    assert [known[case].rpartition(" ")[2] for case in ("9.1.4", "9.2.4")] == ["1009"] * 2
