"""A frozen program has no Python beside itself that could run a child process: it is its own."""

import asyncio
import sys
from asyncio.subprocess import STDOUT
from pathlib import Path

import pytest

from tests.e2e.sidecar import answered_and_judged, running_sidecar
from tests.fakes import frozen_program as frozen
from tests.processes import START_LIMIT_S, program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the executable is a shell's script here")

MODULE = frozen.__name__


async def test_its_model_and_the_judge_of_its_formats_are_the_program_itself(tmp_path: Path) -> None:
    _, environment = frozen.frozen_program(tmp_path)
    async with running_sidecar(tmp_path, module=MODULE, environment=environment) as sidecar:
        await answered_and_judged(sidecar)


async def test_its_doctor_loads_the_library_and_asks_for_no_packages(tmp_path: Path) -> None:
    executable, environment = frozen.frozen_program(tmp_path)
    arguments = ("doctor", "--host", "127.0.0.1", "--port", "0", "--provider", "local")
    async with program(*arguments, cwd=tmp_path, environment=environment, module=MODULE, stderr=STDOUT) as running:
        async with asyncio.timeout(START_LIMIT_S):
            told = (await running.stdout.read()).decode().splitlines()
    (python,) = (line for line in told if " python " in line)
    (model,) = (line for line in told if " model file " in line)
    assert python.startswith("ok")
    assert python.endswith(f"are inside {executable}")
    assert model.startswith("ok"), told


async def test_another_program_s_argument_of_that_name_is_an_unknown_one(tmp_path: Path) -> None:
    arguments = ("--as-child-process", "archer_ws.core.judging.engine")
    async with program(*arguments, cwd=tmp_path, environment={}, is_forked=True) as running:
        assert await running.ended() == 2
        assert "invalid choice" in await running.errors()
