"""What the console's tests share: a server before a scripted Ollama, and its page in Chromium."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.console import Console
from tests.browser.scripted_model import ScriptedModel
from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.interop.browser import Browser, chromium
from tests.interop.javascript import Javascript, javascript
from tests.interop.scripted_chat import address_of
from tests.processes import Server, server


@pytest.fixture
def model() -> ScriptedModel:
    """What Ollama answers."""
    return ScriptedModel()


@pytest.fixture
async def js() -> AsyncIterator[Javascript]:
    """A Node process, which drives the browser."""
    async with javascript() as running:
        yield running


@pytest.fixture
async def browser(js: Javascript) -> AsyncIterator[Browser]:
    """A headless Chromium."""
    async with chromium(js) as running:
        yield running


@pytest.fixture
async def sidecar(tmp_path: Path, model: ScriptedModel) -> AsyncIterator[Server]:
    """A running `archer-ws serve`."""
    async with server(model, cwd=tmp_path) as running:
        yield running


@pytest.fixture
async def proxy(sidecar: Server) -> AsyncIterator[CuttingProxy]:
    """What stands before the sidecar and can be cut."""
    async with cutting_proxy(address_of(sidecar)) as running:
        yield running


@pytest.fixture
async def console(browser: Browser, sidecar: Server) -> AsyncIterator[Console]:
    """The page, connected; it may complain of nothing, and ask nobody else."""
    async with Console(browser, sidecar.url) as page:
        yield page
