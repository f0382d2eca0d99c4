"""One version, wherever it is told."""

from importlib.metadata import version
from inspect import signature

import httpx

from archer_ws import __version__
from archer_ws.client import archer
from archer_ws.config import Settings
from archer_ws.main import create_app


async def test_every_place_that_tells_the_version_tells_the_packages() -> None:
    app = create_app(Settings(_env_file=None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        health = (await client.get("/health")).json()["version"]
        document = (await client.get("/openapi.json")).json()["info"]["version"]
    told = {
        "initialize": app.state.services.rpc.server_version,
        "health": health,
        "openapi": document,
        "client": signature(archer.connect).parameters["client_version"].default,
        "installed": version("archer-ws"),
    }

    assert told == dict.fromkeys(told, __version__)
