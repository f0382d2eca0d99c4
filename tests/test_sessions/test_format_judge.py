"""Finished answers against the form that was asked for: at once, or in a child process."""

import asyncio
import json
import os
import select
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from archer_ws.core.judging import engine
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.sessions.format_judge import CHILD_COMMAND, FormatJudge, Judgement

WAIT_S = 60.0
OBJECT = ResponseFormat(type="json_object")
LONG = "x" * 50_000

#: A program in the child's place.
NEVER_ENDS = "import sys, threading; sys.stdin.read(); threading.Event().wait()"

MakeJudge = Callable[..., FormatJudge]


@pytest.fixture
async def make_judge() -> AsyncIterator[MakeJudge]:
    """Makes judges, whose child is the real one unless these lines are in its place; and closes them."""
    made: list[FormatJudge] = []

    def make(*lines: str, within_s: float = WAIT_S, queue_max: int = 16) -> FormatJudge:
        command = (sys.executable, "-I", "-S", "-c", "\n".join(lines)) if lines else CHILD_COMMAND
        made.append(FormatJudge(command, within_s=within_s, queue_max=queue_max))
        return made[-1]

    yield make
    for judge in made:
        await judge.aclose()


def by(schema: Any) -> ResponseFormat:
    return ResponseFormat.model_validate({"type": "json_schema", "json_schema": {"name": "form", "schema": schema}})


def errors(judgement: Judgement | None) -> list[tuple[str, str]]:
    assert judgement
    assert judgement.valid == (not judgement.errors)
    return [(error.path, error.message) for error in judgement.errors]


async def judged(judge: FormatJudge, text: str, form: ResponseFormat) -> Judgement | None:
    async with asyncio.timeout(WAIT_S):
        return await judge.judge(text, form)


async def test_text_is_not_judged(make_judge: MakeJudge) -> None:
    assert await judged(make_judge(), "{", ResponseFormat(type="text")) is None


@pytest.mark.parametrize("padding", ["", LONG], ids=["at once", "in the child"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": "PAD"}', None),
        ('["PAD"]', "it is not of type"),
        ('```json\n{"a": "PAD"}\n```', "not valid JSON"),
        ('{"a": "PAD", "a": 1}', "not valid JSON: Detected duplicate key"),
        ('{"a": "PAD", "b": NaN}', "not valid JSON"),
        ('{"a": "PAD", "b": "\\ud800"}', "not valid JSON"),
        ('{"a": "PAD\ud800"}', "not valid JSON: a lone surrogate"),
        ('{"a": "PAD", "b": ' + "[" * 10_000 + "]" * 10_000 + "}", "not valid JSON: recursion limit"),
        ('{"a": "PAD', "not valid JSON"),
    ],
)
async def test_json_object_takes_objects_of_strict_json_alone(
    make_judge: MakeJudge, text: str, message: str | None, padding: str
) -> None:
    found = errors(await judged(make_judge(), text.replace("PAD", padding), OBJECT))
    assert [path for path, _ in found] == ([] if message is None else [""])
    assert all(said.startswith(str(message)) for _, said in found)


@pytest.mark.parametrize("padding", ["", LONG], ids=["at once", "in the child"])
async def test_an_answer_is_held_to_the_schema_in_both_places_alike(make_judge: MakeJudge, padding: str) -> None:
    judge, form = make_judge(), by({"properties": {"a": {"items": {"type": "integer"}}}, "required": ["a", "b"]})
    assert errors(await judged(judge, json.dumps({"a": [1], "b": padding}), form)) == []
    assert sorted(errors(await judged(judge, json.dumps({"a": [1, "x"], "c": padding}), form))) == [
        ("", '"b" is a required property'),
        ("a.1", 'it is not of type "integer"'),
    ]


async def test_an_answer_of_four_megabytes_is_judged_and_not_quoted(make_judge: MakeJudge) -> None:
    found = errors(await judged(make_judge(), json.dumps(["x" * 4_000_000]), by({"items": {"type": "integer"}})))
    assert found == [("0", 'it is not of type "integer"')]


async def test_that_an_answer_is_invalid_is_told_though_what_is_wrong_takes_too_long_to_list(
    make_judge: MakeJudge,
) -> None:
    endless = by({"allOf": [{"contains": {"const": n}} for n in range(1000)]})
    # For the engine minutes of work, behind a verdict of a moment.
    found = errors(await judged(make_judge(within_s=8.0), json.dumps([-1] * 60_000), endless))
    assert found == [engine.UNLISTED]


async def test_a_schema_that_would_take_minutes_does_not_hold_the_loop_and_is_not_judged(
    make_judge: MakeJudge,
) -> None:
    endless = by({"items": {"enum": [[n] for n in range(1500)]}})
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    assert await judged(make_judge(within_s=1.0), json.dumps([[1499]] * 400_000), endless) is None
    turning.cancel()
    assert turns > 100


@pytest.mark.parametrize(
    "schema",
    [{"$ref": "#"}, {"$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, {"items": {"$ref": "#"}}],
)
async def test_a_schema_that_leads_back_to_itself_is_judged_in_the_child(make_judge: MakeJudge, schema: Any) -> None:
    assert await judged(make_judge(), "[" * 150 + "]" * 150, by(schema)) is not None


async def test_a_regular_expression_that_gives_up_decides_nothing(make_judge: MakeJudge) -> None:
    assert await judged(make_judge(), json.dumps("a" * 60_000), by({"pattern": r"(?:(a*)*)*b\1"})) is None


@pytest.mark.parametrize(
    "program",
    ["pass", "import os; os.abort()", "print('[', end='')", NEVER_ENDS],
    ids=["silent", "crashes", "half a line", "hangs"],
)
async def test_a_child_that_says_nothing_whole_decides_nothing(make_judge: MakeJudge, program: str) -> None:
    assert await judged(make_judge(program, within_s=1.0), LONG, OBJECT) is None


async def test_a_child_that_cannot_be_started_decides_nothing() -> None:
    judge = FormatJudge(["/nowhere/python"])
    assert await judged(judge, LONG, OBJECT) is None
    await judge.aclose()


async def test_the_child_gets_the_text_and_no_keys(make_judge: MakeJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-secret")
    monkeypatch.setenv("HARMLESS", "seen")
    judge = make_judge(
        "import json, os, sys",
        "schema = sys.stdin.readline(); size = len(sys.stdin.read())",
        "print(json.dumps([[schema.strip(), str(size)], *([name, ''] for name in os.environ)]))",
    )
    found = errors(await judged(judge, LONG, OBJECT))
    assert found[0] == ('{"type": "object"}', str(len(LONG)))
    names = {name for name, _ in found[1:]}
    assert "HARMLESS" in names
    assert "OPENAI_API_KEY" not in names


async def test_one_child_runs_at_a_time_and_no_more_than_some_wait(make_judge: MakeJudge, tmp_path: Path) -> None:
    mark = tmp_path / "running"
    judge = make_judge(
        "import os, sys, time",
        f"os.close(os.open({str(mark)!r}, os.O_CREAT | os.O_EXCL))",  # fails where another runs
        f"sys.stdin.read(); time.sleep(0.05); os.unlink({str(mark)!r}); print('[]')",
        queue_max=2,
    )
    verdicts = await asyncio.gather(*(judged(judge, LONG, OBJECT) for _ in range(5)))
    assert [verdict is not None for verdict in verdicts] == [True, True, True, False, False]
    assert await judged(judge, LONG, OBJECT) is not None


async def test_what_waits_longer_than_its_time_is_not_judged(make_judge: MakeJudge) -> None:
    # Its time is over before its turn comes.
    judge = make_judge("raise SystemExit('nobody may run this')", within_s=0.0)
    with capture_logs() as lines:
        async with asyncio.timeout(WAIT_S):
            assert await asyncio.gather(*(judge.judge(LONG, OBJECT) for _ in range(3))) == [None] * 3
    assert [line["reason"] for line in lines] == ["waited_too_long"] * 3


async def test_closing_ends_the_child_and_what_waits_for_it(make_judge: MakeJudge) -> None:
    judge = make_judge(NEVER_ENDS)
    waiting = [asyncio.create_task(judge.judge(LONG, OBJECT)) for _ in range(3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(WAIT_S):
        await judge.aclose()
        assert await asyncio.gather(*waiting) == [None] * 3
        assert await judge.judge(LONG, OBJECT) is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the child ends itself after some seconds")
def test_the_child_dies_with_its_parent_though_the_engine_is_at_work() -> None:
    schema = json.dumps({"items": {"enum": [[n] for n in range(8000)]}})
    parent = "\n".join(
        (
            "import os, subprocess, sys, time",
            f"child = subprocess.Popen({CHILD_COMMAND!r}, stdin=subprocess.PIPE)",
            f"child.stdin.write({(schema + chr(10)).encode()!r} + b'[' + b'[7999],' * 100_000 + b'[1]]')",
            "child.stdin.close(); print(child.pid, flush=True); sys.stdin.read(); os.abort()",
        )
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=-1, stdout=-1, stderr=subprocess.DEVNULL) as running:
        assert running.stdin
        assert running.stdout
        pid = int(running.stdout.readline())
        descriptor = os.pidfd_open(pid)
        running.stdin.close()
    # Readable at its end. By itself it would end only when its own time is over.
    assert select.select([descriptor], [], [], 4.0)[0]
    os.close(descriptor)
