"""The speed benchmark in small: every scenario runs, and what was asked for came whole. No figure is judged here."""

import asyncio
import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.benchmarks.speed.answers import Answer, Tally
from tests.benchmarks.speed.figures import Figures, medians
from tests.benchmarks.speed.load_probes import WARM_UPS, first_tokens, whole_answers
from tests.benchmarks.speed.orders import Order, Report
from tests.benchmarks.speed.report import SECTIONS, as_json, table
from tests.benchmarks.speed.scale import TOY
from tests.benchmarks.speed.scenarios import SCENARIOS, Run
from tests.benchmarks.speed.servers import Bench

ONE_BY_ONE = TOY.probes + WARM_UPS
#: Answers that must have come whole: exactly so many, or, where new ones follow for some time, at least.
EXPECTED = {
    "openai": 3 * TOY.paced,
    "highest": TOY.paced * (1 + TOY.steps),
    "anthropic": 2 * TOY.paced,
    "ollama": TOY.paced,
    "ttft": 5 * ONE_BY_ONE,
    "cancel": TOY.paced,
    "length": sum(TOY.length_tokens // tokens for tokens in TOY.lengths),
}
AT_LEAST = {
    "multiplex": 3 * TOY.unthrottled,
    "sse": 4 * TOY.unthrottled,
    "paced-sse": 4 * TOY.sse_streams,
    "rest": 2 * (2 * ONE_BY_ONE + TOY.at_once),
    "saturated": sum(TOY.saturating) + TOY.saturating[-1] + 4 * (len(TOY.saturating) + 1),
}
#: Those that measure the arguments of calls beside text.
CALLING = {"multiplex", "sse", "openai", "anthropic"}
#: Those that a proxy can serve, beside the sidecar: configured for the same provider.
COMPARED = {"sse", "paced-sse", "saturated", "ttft", "rest"}
#: In the place of Bifrost: reads the configuration that it is given, and relays all bytes to the provider named there.
STAND_IN = """
import argparse, asyncio, json, pathlib, urllib.parse

options = argparse.ArgumentParser()
for name in ("-app-dir", "-host", "-port", "-log-level"):
    options.add_argument(name, required=True)
given = options.parse_args()
settings = json.loads(pathlib.Path(given.app_dir, "config.json").read_text())
assert settings["providers"]["openai"]["keys"][0]["models"] == ["gpt-4o-mini"]  # "*" names no model there
provider = urllib.parse.urlsplit(settings["providers"]["openai"]["network_config"]["base_url"])


async def relay(reader, writer):
    first = await reader.read(65536)
    if first.startswith(b"GET /health"):
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
        writer.close()
        return
    assert not first or b'"openai/' in first, first
    back, forth = await asyncio.open_connection(provider.hostname, provider.port)
    forth.write(first)

    async def copy(source, target):
        while data := await source.read(65536):
            target.write(data)
        target.close()

    await asyncio.gather(copy(reader, forth), copy(back, writer), return_exceptions=True)


async def main():
    await (await asyncio.start_server(relay, given.host, int(given.port))).serve_forever()


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One run, whose scenarios share their sidecars, with a proxy to compare."""
    directory: Path = tmp_path_factory.mktemp("speed")
    command = directory / "bifrost-http"
    program = directory / "stand_in.py"
    program.write_text(STAND_IN)
    # Not as the program's first line, where a path with a space would end at it.
    command.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(program)])} "$@"\n')
    command.chmod(0o755)
    with Bench(directory, proxies={"bifrost": str(command)}, shared=True) as bench:
        yield Run(bench, TOY)


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_scenario_measures_and_every_answer_comes_whole(run: Run, name: str) -> None:
    figures = SCENARIOS[name](run)
    assert not figures.wrong
    assert figures.values
    if name in AT_LEAST:
        assert figures.completed >= AT_LEAST[name]
    else:
        assert figures.completed == EXPECTED.get(name, 0)
    lines = list(table({name: figures}, TOY))
    assert len(lines) > 2
    assert max(map(len, lines)) <= 100
    if name in CALLING:
        assert any("arguments of calls: CPU a token" in line for line in lines)
    if name in COMPARED:
        assert [key for key, value in figures.values.items() if key.startswith("bifrost") and value is not None]
        assert any("Bifrost" in line for line in lines)


def test_each_scenario_has_its_part_of_the_table() -> None:
    assert list(SECTIONS) == list(SCENARIOS)


def test_an_answer_that_lacks_a_token_is_told() -> None:
    tally = Tally()
    answer = Answer(3)
    tally.text(answer, b" word word", 1)
    tally.end(answer, "completed", 2, told_bytes=10)
    assert dict(tally.wrong) == {"10 bytes of 15 came, and 10 were told": 1}
    assert tally.completed == 0


@pytest.mark.parametrize("ask", [first_tokens, whole_answers])
async def test_answers_that_are_errors_give_no_figures(ask: Callable[[Order], Awaitable[Report]]) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(65536):
                writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as refusing:
        address = f"127.0.0.1:{refusing.sockets[0].getsockname()[1]}"
        report = await ask(Order("whole", address, {"server": os.getpid()}, address, target="relay", count=2))
    assert report.figures == {"direct": None, "http": None, "server_us": None, "completed": 0}
    assert report.wrong


def test_tokens_and_their_latencies_are_counted_however_the_text_was_cut() -> None:
    tally = Tally()
    tally.is_measuring = True
    answer = Answer(2, stamp=True)
    stamps = b"%014d%014d" % (1000, 1500)
    tally.text(answer, stamps[:20], 2000)
    tally.text(answer, stamps[20:], 2600)
    tally.end(answer, "completed", 2600, told_bytes=28)
    assert (round(tally.tokens), tally.latencies_us, tally.completed) == (2, [1000, 1100], 1)


def test_arguments_are_whole_though_the_server_counts_no_text() -> None:
    tally = Tally()
    answer = Answer(2, arguments=True)
    tally.text(answer, b" word word", 1)
    tally.end(answer, "completed", 2, told_bytes=0)
    assert (tally.completed, dict(tally.wrong)) == (1, {})


def test_a_missed_goal_and_a_fault_are_shown() -> None:
    slow = [Figures({"kib_each": kib}, notes=["slow"]) for kib in (39.0, 41.0, 80.0)]
    slow[0].wrong["pings without a reply"] += 2
    lines = list(table({"idle": medians(slow)}, TOY))
    assert any("41.0 KiB" in line and line.endswith("NOT MET") for line in lines)
    assert lines[-2:] == ["  ! slow", "  WRONG, 2 times: pings without a reply"]


def test_what_was_before_stands_beside_what_is() -> None:
    now, before = Figures({"kib_each": 39.0}), Figures({"kib_each": 52.5})
    before.wrong["pings without a reply"] += 1
    lines = list(table({"idle": now}, TOY, {"idle": before}))
    assert any("52.5 KiB" in line and "39.0 KiB" in line and line.endswith(" met") for line in lines)
    assert lines[-1] == "  WRONG before, 1 times: pings without a reply"
    written = as_json({"idle": [now]}, {}, {}, before={"idle": [before]})
    assert written["before"]["runs"]["idle"][0]["wrong"] == {"pings without a reply": 1}
    assert (written["medians"]["idle"], written["before"]["medians"]["idle"]) == (now.values, before.values)
