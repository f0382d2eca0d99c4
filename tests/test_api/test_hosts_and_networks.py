"""What the application as it is made by default lets in: hosts, and pages of public addresses."""

import httpx
import pytest
from fastapi.testclient import TestClient

from archer_ws.main import create_app
from tests.conftest import Archer, MakeSettings


def test_the_name_that_a_test_client_sends_is_known_unless_hosts_are_set(make_settings: MakeSettings) -> None:
    assert TestClient(create_app(make_settings())).get("/api/v1/streams").status_code == 200
    assert TestClient(create_app(make_settings(allowed_hosts=["localhost"]))).get("/api/v1/streams").status_code == 403


@pytest.mark.parametrize("host", ["test", "ai-engine", "*"])
def test_other_names_of_one_label_are_not(make_settings: MakeSettings, host: str) -> None:
    client = TestClient(create_app(make_settings()))
    assert client.get("/api/v1/streams", headers={"Host": host}).status_code == 403


async def preflight(archer: Archer, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Private-Network": "true",
    }
    return await archer.http.options("/api/v1/chat/completions", headers=headers)


async def test_a_listed_page_of_a_public_address_may_call_a_private_one(archer: Archer) -> None:
    answer = await preflight(archer, "http://localhost:1420")
    assert (answer.status_code, answer.headers["access-control-allow-private-network"]) == (200, "true")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1421"])
async def test_no_other_page_may(archer: Archer, origin: str) -> None:
    answer = await preflight(archer, origin)
    assert answer.status_code == 403
    assert "access-control-allow-private-network" not in answer.headers
    own = await preflight(archer, f"http://{archer.address}")
    assert "access-control-allow-origin" not in own.headers
