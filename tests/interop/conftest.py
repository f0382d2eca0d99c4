"""What the JavaScript client's tests share: Node, and the real server in a process of its own before an Ollama."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.fixtures import browser, js, proxy, shared_chromium
from tests.interop.scripted_chat import Answers
from tests.interop.test_rust_core import program
from tests.processes import Server, server

__all__ = ["browser", "js", "proxy", "shared_chromium"]


@pytest.fixture
def answers() -> Answers:
    """What Ollama answers."""
    return Answers()


@pytest.fixture(scope="session")
def rust_program() -> Path:
    """The program of the Rust core, built before the time limits of a test begin."""
    return program()


@pytest.fixture
async def sidecar(tmp_path: Path, answers: Answers) -> AsyncIterator[Server]:
    """A running `archer-ws serve`."""
    async with server(answers, cwd=tmp_path) as running:
        yield running
