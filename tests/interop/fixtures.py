"""Fixtures of the tests that run JavaScript: a Node process, a Chromium, and a proxy before the server.

A `conftest.py` imports them, and has a fixture `sidecar`: its own server.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.interop.browser import Browser, chromium_at, chromium_for_many
from tests.interop.javascript import Javascript, javascript
from tests.interop.scripted_chat import address_of
from tests.processes import Server

__all__ = ["browser", "js", "proxy", "shared_chromium"]


@pytest.fixture
async def js() -> AsyncIterator[Javascript]:
    """A Node process."""
    async with javascript() as running:
        yield running


@pytest.fixture(scope="session")
def shared_chromium() -> Iterator[int]:
    """The port of a headless Chromium for all tests of a worker."""
    with chromium_for_many() as port:
        yield port


@pytest.fixture
async def browser(shared_chromium: int) -> AsyncIterator[Browser]:
    """A context of its own in the headless Chromium."""
    async with chromium_at(shared_chromium) as running:
        yield running


@pytest.fixture
async def proxy(sidecar: Server) -> AsyncIterator[CuttingProxy]:
    """A proxy before the sidecar, which can be cut."""
    async with cutting_proxy(address_of(sidecar)) as running:
        yield running
