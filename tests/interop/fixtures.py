"""Fixtures of the tests that run JavaScript: a Node process, a Chromium, and a proxy before the server.

A `conftest.py` imports them, and has a fixture `sidecar`: its own server.
"""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.interop.browser import Browser, chromium
from tests.interop.javascript import Javascript, javascript
from tests.interop.scripted_chat import address_of
from tests.processes import Server

__all__ = ["browser", "js", "proxy"]


@pytest.fixture
async def js() -> AsyncIterator[Javascript]:
    """A Node process; it also drives the browser."""
    async with javascript() as running:
        yield running


@pytest.fixture
async def browser(js: Javascript) -> AsyncIterator[Browser]:
    """A headless Chromium."""
    async with chromium(js) as running:
        yield running


@pytest.fixture
async def proxy(sidecar: Server) -> AsyncIterator[CuttingProxy]:
    """A proxy before the sidecar, which can be cut."""
    async with cutting_proxy(address_of(sidecar)) as running:
        yield running
