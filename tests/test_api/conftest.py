"""What the tests of the HTTP edge share: a real server."""

from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import pytest
import uvicorn
from starlette.types import ASGIApp

from tests.fakes.prompt_server import PromptServer, served


class Serve(Protocol):
    """`async with serve(app) as address`: the app under uvicorn on loopback, at `host:port`."""

    def __call__(self, app: ASGIApp, *, lifespan: Literal["on", "off"] = "off") -> AbstractAsyncContextManager[str]: ...


def serving(app: ASGIApp, *, lifespan: Literal["on", "off"] = "off") -> AbstractAsyncContextManager[str]:
    return served(PromptServer(uvicorn.Config(app, log_config=None, lifespan=lifespan)))


@pytest.fixture
def serve() -> Serve:
    """A real server for an application."""
    return serving
