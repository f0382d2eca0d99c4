"""Runs the checks in parallel, each with a time limit, and prints their findings.

A check that blocks runs in a thread of its own, and the program does not wait for it at the end: a name server may take
a minute.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TextIO

from archer_ws import __version__
from archer_ws.doctor.conversations import check_conversations
from archer_ws.doctor.finding import Finding, secrets_in, without
from archer_ws.doctor.machine import check_disk, check_model_file, check_open_files, check_python
from archer_ws.doctor.network import check_address, check_certificates, check_clock, check_proxies
from archer_ws.doctor.providers import check_providers
from archer_ws.doctor.setup import Setup, read_setup

#: The time limit for one check, in seconds.
CHECK_S = 12.0

Check = Callable[[Setup], list[Finding]]
#: In the order of the output; the settings come before them, and the providers after `address`.
BLOCKING: dict[str, Check] = {
    "python": check_python,
    "address": check_address,
    "model file": check_model_file,
    "proxies": check_proxies,
    "certificates": check_certificates,
    "clock": check_clock,
    "disk": check_disk,
    "conversations": check_conversations,
    "open files": check_open_files,
}
#: Spaces and joiners that names have in many languages.
_HARMLESS = "\u00a0\u3000\u200c\u200d"
_COLOURS = {"ok": "\x1b[32m", "warning": "\x1b[33m", "problem": "\x1b[31m"}


def diagnose(given: Mapping[str, str | None], model: str | None, provider: str | None, *, as_json: bool) -> int:
    """Run the checks and print the findings. Returns the exit status: 0 if nothing prevents the server from serving,
    else 1."""
    setup = read_setup(given, model, provider)
    findings = asyncio.run(examine(setup))
    clean = without(_secrets(setup))
    if as_json:
        told = [{key: value and clean(value) for key, value in each.as_json().items()} for each in findings]
        status = {"ok": not _problems(findings), "version": __version__, "findings": told}
        sys.stdout.write(json.dumps(status, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(clean(report(findings, is_coloured=_takes_colours(sys.stdout))) + "\n")
    return 1 if _problems(findings) else 0


async def examine(setup: Setup) -> list[Finding]:
    """The findings of all checks, those about the settings first."""
    names = list(BLOCKING)
    waits: list[Awaitable[list[Finding]]] = [
        _within(name, _in_thread(check, setup)) for name, check in BLOCKING.items()
    ]
    *found, of_providers = await asyncio.gather(*waits, _within("providers", check_providers(setup)))
    by_name = dict(zip(names, found, strict=True))
    ordered = [by_name["python"], list(setup.findings), by_name["address"], of_providers]
    ordered += [by_name[name] for name in names[2:]]
    return [finding for findings in ordered for finding in findings]


def report(findings: Sequence[Finding], *, is_coloured: bool) -> str:
    """The findings as lines for a person."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        word = f"{finding.state:<7}"
        if is_coloured:
            word = f"{_COLOURS[finding.state]}{word}\x1b[0m"
        lines.append(f"{word}  {finding.check:<{width}}  {_on_one_line(finding.message)}")
        if finding.advice and finding.state != "ok":
            lines.append(f"{'':7}  {'':{width}}  -> {_on_one_line(finding.advice)}")
    return "\n".join([*lines, "", _verdict(findings)])


def _on_one_line(text: str) -> str:
    """The text, in which names and versions that other programs tell can neither forge lines nor control a terminal."""
    return "".join(letter if letter.isprintable() or letter in _HARMLESS else repr(letter)[1:-1] for letter in text)


def _verdict(findings: Sequence[Finding]) -> str:
    problems = _problems(findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    beside = f", and {_count(warnings, 'warning')}" if warnings else ""
    if problems:
        return f"{_count(problems, 'problem')}{beside}: archer-ws serve would not start, or not answer."
    if any(finding.is_running for finding in findings):
        return f"No problem{beside}: a server runs already. Another one needs another --port."
    return f"No problem{beside}: archer-ws serve can start."


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _problems(findings: Sequence[Finding]) -> int:
    return sum(finding.state == "problem" for finding in findings)


async def _within(name: str, wait: Awaitable[list[Finding]]) -> list[Finding]:
    """The findings of a check; or one that says that it took too long or failed."""
    try:
        async with asyncio.timeout(CHECK_S):
            return await wait
    except TimeoutError:
        advice = "Something it needs does not respond: a name server, or a network disk."
        return [Finding(name, "warning", f"this check did not end within {CHECK_S:g} s", advice)]
    except Exception as error:  # noqa: BLE001 - one check that breaks must not hide what the others found
        return [Finding(name, "warning", f"this check itself failed ({type(error).__name__}: {error})", None)]


async def _in_thread(check: Check, setup: Setup) -> list[Finding]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[Finding]] = loop.create_future()

    def settle(found: list[Finding] | None, error: Exception | None) -> None:
        if not done.done():
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(found or [])

    def run() -> None:
        found, failed = None, None
        try:
            found = check(setup)
        except Exception as error:  # noqa: BLE001 - reported by the waiting side
            failed = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, found, failed)

    threading.Thread(target=run, name=f"doctor-{check.__name__}", daemon=True).start()
    return await done


def _secrets(setup: Setup) -> list[str]:
    settings = setup.settings
    keys = [settings.openai_api_key or "", settings.anthropic_api_key or ""]
    tokens = [token.get_secret_value() for token in settings.auth_tokens.values()]
    tokens += [settings.auth_token.get_secret_value()] if settings.auth_token else []
    return secrets_in([*keys, *tokens], setup.environment)


def _takes_colours(out: TextIO) -> bool:
    return out.isatty() and not os.environ.get("NO_COLOR") and (sys.platform != "win32" or "WT_SESSION" in os.environ)
