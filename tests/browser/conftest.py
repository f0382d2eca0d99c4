"""What the console's tests share: a server before a scripted Ollama, and its page in Chromium."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.console import Console
from tests.browser.scripted_model import ScriptedModel
from tests.interop.browser import Browser
from tests.interop.fixtures import browser, js, proxy, shared_chromium
from tests.processes import Server, server

__all__ = ["browser", "js", "proxy", "shared_chromium"]


@pytest.fixture
def model() -> ScriptedModel:
    """What Ollama answers."""
    return ScriptedModel()


@pytest.fixture
async def sidecar(tmp_path: Path, model: ScriptedModel) -> AsyncIterator[Server]:
    """A running `archer-ws serve`."""
    async with server(model, cwd=tmp_path) as running:
        yield running


@pytest.fixture
async def console(browser: Browser, sidecar: Server) -> AsyncIterator[Console]:
    """The page, connected; it may complain of nothing, and ask nobody else."""
    async with Console(browser, sidecar.url) as page:
        yield page
