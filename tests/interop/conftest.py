"""What the JavaScript client's tests share: Node, and the real server in a process of its own before an Ollama."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.interop.browser import Browser, chromium
from tests.interop.javascript import Javascript, javascript
from tests.interop.scripted_chat import Answers, address_of
from tests.interop.test_rust_core import program
from tests.processes import Server, server


@pytest.fixture
def answers() -> Answers:
    """What Ollama answers."""
    return Answers()


@pytest.fixture(scope="session")
def rust_program() -> Path:
    """The program of the Rust core, built before the time limits of a test begin."""
    return program()


@pytest.fixture
async def js() -> AsyncIterator[Javascript]:
    """A Node process."""
    async with javascript() as running:
        yield running


@pytest.fixture
async def browser(js: Javascript) -> AsyncIterator[Browser]:
    """A headless Chromium."""
    async with chromium(js) as running:
        yield running


@pytest.fixture
async def sidecar(tmp_path: Path, answers: Answers) -> AsyncIterator[Server]:
    """A running `archer-ws serve`."""
    async with server(answers, cwd=tmp_path) as running:
        yield running


@pytest.fixture
async def proxy(sidecar: Server) -> AsyncIterator[CuttingProxy]:
    """What stands before the sidecar and can be cut."""
    async with cutting_proxy(address_of(sidecar)) as running:
        yield running
