"""A forked program is like one that was started: arguments, folder, environment, streams, exit status."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import archer_ws
from tests import forking
from tests.fakes.ollama_api import ollama_stream
from tests.processes import ROOT, program, server

pytestmark = pytest.mark.skipif(not forking.IS_POSSIBLE, reason="there is no fork here: every program is started")


async def test_it_has_its_own_arguments_streams_and_exit_status(tmp_path: Path) -> None:
    async with program("--version", cwd=tmp_path, environment={}, is_forked=True) as told:
        assert archer_ws.__version__ in await told.line()
        assert await told.ended() == 0
    async with program("--nothing", cwd=tmp_path, environment={}, is_forked=True) as refused:
        assert await refused.ended() == 2
        assert "--nothing" in await refused.errors()


async def test_it_has_its_own_folder_and_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LLM_DEFAULT_MODEL=of-this-folder\n")
    async with server(ollama_stream("Hi"), cwd=tmp_path, ARCHER_AUTH_TOKEN="right-right-right-right") as running:
        refused = await running.http.get("/api/v1/models")
        known = {"authorization": "Bearer right-right-right-right"}
        body = {"messages": [{"role": "user", "content": "hello"}]}
        answer = await running.http.post("/api/v1/chat/completions", json=body, headers=known)
    assert refused.status_code == 401
    assert answer.json()["model"] == "of-this-folder"


async def test_a_signal_ends_it_and_is_its_exit_status(tmp_path: Path) -> None:
    async with server(ollama_stream("Hi"), cwd=tmp_path) as killed, server(ollama_stream("Hi"), cwd=tmp_path) as asked:
        killed.program.send_signal(signal.SIGKILL)
        assert await killed.program.ended() == -signal.SIGKILL
        asked.program.send_signal(signal.SIGTERM)
        assert await asked.program.ended() == 0


async def test_a_start_that_is_given_up_keeps_no_other_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def give_up(_: forking.ForkedProcess, streams: Sequence[int | None], told: int) -> None:
        for descriptor in (*filter(None, streams), told):
            os.close(descriptor)
        raise asyncio.CancelledError

    given_up = program("serve", cwd=tmp_path, environment={"ARCHER_DATA_DIR": str(tmp_path)}, is_forked=True)
    with monkeypatch.context() as patch:
        patch.setattr(forking.ForkedProcess, "attach", give_up)
        with pytest.raises(asyncio.CancelledError):
            await given_up.__aenter__()
    async with program("--version", cwd=tmp_path, environment={}, is_forked=True) as told:
        assert archer_ws.__version__ in await told.line()


_ASKING = """
import asyncio, os, sys
from pathlib import Path
from tests.fakes.ollama_api import ollama_stream
from tests.processes import server

async def main():
    async with server(ollama_stream("Hi"), cwd=Path.cwd(), stdin=sys.stdout.fileno()) as running:
        print(running.program.process.pid, flush=True)
        os._exit(0)

asyncio.run(main())
"""


def test_it_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    # The server has the pipe of the script's output as its standard input: the pipe is at its end when both have ended.
    asking = subprocess.run(
        [sys.executable, "-c", _ASKING],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    assert int(asking.stdout) > 0
