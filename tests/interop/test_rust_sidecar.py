"""A Rust program that starts the sidecar itself: it has its address and a token, and the sidecar ends with it."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.fakes.ollama_api import ollama_server, ollama_show, ollama_tags
from tests.fakes.scripted_server import scripted_server
from tests.interop.scripted_chat import TEXT, Answers
from tests.interop.test_rust_core import rust_core

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]


@pytest.fixture
def archer_ws() -> str:
    """The program, as it is installed."""
    found = shutil.which("archer-ws", path=str(Path(sys.executable).parent))
    assert found
    return found


async def test_it_is_asked_with_its_token_and_stopped(archer_ws: str, tmp_path: Path, answers: Answers) -> None:
    responder = ollama_server(
        {"/api/chat": answers, "/api/show": ollama_show(4096), "/api/tags": ollama_tags("llama3.2:latest")}
    )
    async with (
        scripted_server(responder=responder) as ollama,
        rust_core(
            *("start", archer_ws, "Why?"), ARCHER_OLLAMA_HOST=ollama.url, ARCHER_DATA_DIR=str(tmp_path / "data")
        ) as rust,
    ):
        ready, end, exited = await rust.lines()
        log = await rust.errors()
    assert (ready["model"], ready["provider_ready"]) == ("llama3.2", True)
    assert (end["text"], end["status"]) == (TEXT, "completed")
    assert exited == {"exit": 0}
    assert "listening_without_credential" not in log
    assert "end of standard input" in log


async def test_it_ends_when_the_program_crashes(archer_ws: str, tmp_path: Path) -> None:
    async with rust_core("start-abort", archer_ws, ARCHER_DATA_DIR=str(tmp_path)) as rust:
        assert (await rust.line())["url"].startswith("http://127.0.0.1:")
        # Both write there, so it ends when both have ended.
        assert "end of standard input" in await rust.errors()


async def test_it_ends_when_it_is_dropped_ready_or_not(archer_ws: str, tmp_path: Path) -> None:
    async with rust_core("start-drop", archer_ws, ARCHER_DATA_DIR=str(tmp_path)) as rust:
        assert await rust.line() == {"dropped": "begun", "was_ready": False}
        await rust.complains("standard input has ended before the server was ready")
        assert (await rust.line())["url"]
        assert await rust.line() == {"dropped": "ready"}
        await rust.complains("end of standard input")
        rust.leave()
        assert await rust.lines() == []


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"ARCHER_LLM_PROVIDER": "none"}, "ended before it was ready (exit status: 2)"),
        ({}, "can't be started: No such file"),
    ],
    ids=["wrong settings", "no program"],
)
async def test_one_that_does_not_start_is_told(
    archer_ws: str, tmp_path: Path, settings: dict[str, str], complaint: str
) -> None:
    program = archer_ws if settings else str(tmp_path / "missing")
    async with rust_core("start", program, "Why?", ARCHER_DATA_DIR=str(tmp_path), **settings) as rust:
        assert complaint in await rust.errors()


async def test_another_program_is_told_by_what_it_prints(tmp_path: Path) -> None:
    program = tmp_path / "archer-ws"
    program.write_text("#!/bin/sh\necho 'archer-ws 3 (unknown options)'\n")
    program.chmod(0o755)
    async with rust_core("start", str(program), "Why?") as rust:
        assert 'it printed "archer-ws 3 (unknown options)"' in await rust.errors()
