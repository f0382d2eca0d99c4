"""Runs the checks: concurrently where they do not disturb each other, each with a time limit."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from archer_ws.conformance.bench import Bench, Target
from archer_ws.conformance.failing import Failed, Skipped
from archer_ws.conformance.ledger import Ledger
from archer_ws.conformance.peer import Trial
from archer_ws.conformance.registry import Check

#: How many checks run at once: more would only wait for a model that serves few at once.
SIDE_BY_SIDE = 4

State = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How a check ended, and after how many ms; `expected` and `came` of a failed one, `reason` of a skipped one."""

    check: Check
    state: State
    ms: int
    expected: str | None = None
    came: str | None = None
    reason: str | None = None


async def run(
    target: Target,
    checks: Sequence[Check],
    *,
    timeout_s: float,
    quiet_s: float,
    on_result: Callable[[CheckResult], None],
) -> list[CheckResult]:
    """The results, in the order of the checks.

    Args:
        target: the server.
        checks: the checks to run.
        timeout_s: how long each may take, in seconds.
        quiet_s: how long silence must last to count as a response, in seconds.
        on_result: called with each result, in the order of the checks, as soon as possible.
    """
    ledger = Ledger()
    results: dict[Check, CheckResult] = {}
    told = 0
    gate = asyncio.Semaphore(SIDE_BY_SIDE)

    async def settle(check: Check) -> None:
        nonlocal told
        async with gate:
            results[check] = await _ask(target, check, Trial(ledger, quiet_s), timeout_s)
        while told < len(checks) and checks[told] in results:
            on_result(results[checks[told]])
            told += 1

    try:
        async with asyncio.TaskGroup() as tasks:
            for check in checks:
                if check.when == "any time":
                    tasks.create_task(settle(check))
    except ExceptionGroup as errors:
        # What a check meets is its result: this is from `on_result`, such as a pipe that nobody reads any more.
        raise errors.exceptions[0] from None
    for when in ("alone", "last"):
        for check in checks:
            if check.when == when:
                await settle(check)
    return [results[check] for check in checks]


async def _ask(target: Target, check: Check, trial: Trial, timeout_s: float) -> CheckResult:
    loop = asyncio.get_running_loop()
    began = loop.time()
    bench = Bench(target, trial)
    try:
        problem = await _problem_of(check, bench, timeout_s)
        ms = round((loop.time() - began) * 1000)
    finally:
        await bench.tidy()
    match problem:
        case None:
            return CheckResult(check, "ok", ms)
        case Skipped(reason=reason):
            return CheckResult(check, "skipped", ms, reason=reason)
        case Failed(expected=expected, came=came):
            return CheckResult(check, "failed", ms, expected=expected, came=came)


async def _problem_of(check: Check, bench: Bench, timeout_s: float) -> Failed | Skipped | None:
    try:
        async with asyncio.timeout(timeout_s):
            await check.ask(bench)
    except (Failed, Skipped) as problem:
        return problem
    except TimeoutError:
        return Failed(bench.trial.waiting_for, f"nothing of that in {timeout_s:g} s")
    except InvalidStatus as refused:
        return Failed("a connection", f"the status {refused.response.status_code} instead of the upgrade")
    except (ConnectionClosed, InvalidHandshake, OSError) as error:
        return Failed("a connection that lasts", f"{type(error).__name__}: {error}")
    return None
