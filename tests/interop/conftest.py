"""What the JavaScript client's tests share: Node, and the real server in a process of its own before an Ollama."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.fixtures import browser, js, proxy
from tests.interop.scripted_chat import Answers
from tests.processes import Server, server

__all__ = ["browser", "js", "proxy"]


@pytest.fixture
def answers() -> Answers:
    """What Ollama answers."""
    return Answers()


@pytest.fixture
async def sidecar(tmp_path: Path, answers: Answers) -> AsyncIterator[Server]:
    """A running `archer-ws serve`."""
    async with server(answers, cwd=tmp_path) as running:
        yield running
