"""A provider that answers with a redirect is told as such, and neither prompt nor key reaches where it points."""

import asyncio

import pytest

from archer_ws.core.exceptions import ProviderError
from archer_ws.llm_gateway.failures import ProviderIdentity
from archer_ws.llm_gateway.transport.redirects import redirect_failure
from tests.fakes.any_provider import PROVIDERS, adapter_at, call
from tests.fakes.scripted_server import Reply, scripted_server

SETTINGS = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL", "ollama": "OLLAMA_HOST"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("how", ["chat", "stream", "list"])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_nothing_reaches_the_server_that_a_redirect_points_to(provider: str, how: str, status: int) -> None:
    async with scripted_server() as there, scripted_server() as here, asyncio.timeout(60):
        location = f"{there.url.replace('//', '//bob:hunter2@')}/private?token=abc"
        here.responder = lambda _: Reply(status=status, headers={"location": location})
        async with adapter_at(provider, here.url) as adapter:
            with pytest.raises(ProviderError) as caught:
                await call(adapter, how)
            state = await adapter.health_check()
        assert not there.exchanges
        error = caught.value
        assert not error.retryable
        assert f"responded with a redirect ({status}) to {there.url}" in error.message
        assert SETTINGS[provider] in (error.hint or "")
        for told in (f"{error.message} {error.hint}", f"{state.error} {state.hint}"):
            assert there.url in told
            assert not [secret for secret in ("hunter2", "private", "abc") if secret in told]


IDENTITY = ProviderIdentity(
    name="acme", address="http://127.0.0.1:9/v1", auth_hint="", unavailable_hint="", model_hint=""
)


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("/elsewhere?key=secret", "to another path of the same host"),
        ("elsewhere/", "to another path of the same host"),
        ("http://127.0.0.1:9/secret", "to another path of the same host"),
        ("https://127.0.0.1:9/secret", "to https://127.0.0.1:9"),
        ("//secret@other/secret", "to http://other"),
        ("https://other:443/", "to https://other"),
        ("javascript:secret()", "to something that is not an HTTP address"),
        ("http://[::1", "to something that is not an HTTP address"),
        ("http://sec ret/", "to something that is not an HTTP address"),
        ("", "without an address"),
        (None, "without an address"),
    ],
)
def test_of_where_it_points_only_the_origin_is_told(location: str | None, where: str) -> None:
    message = redirect_failure(IDENTITY, 302, location).message
    assert message == f"acme at http://127.0.0.1:9/v1 responded with a redirect (302) {where}"


def test_at_a_providers_own_address_the_proxy_is_suspected() -> None:
    assert "HTTPS_PROXY" in (redirect_failure(IDENTITY, 302, "https://login.example/").hint or "")


@pytest.mark.parametrize("location", ["javascript:alert(1)", "http://[::1", "http://h:99999999/", "\\\\other\\x"])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_odd_location_is_no_defect_of_ours(provider: str, location: str) -> None:
    redirect = Reply(status=302, headers={"location": location})
    async with scripted_server(responder=lambda _: redirect) as server, adapter_at(provider, server.url) as adapter:
        for how in ("chat", "stream", "list"):
            with pytest.raises(ProviderError, match="responded with a redirect"):
                await call(adapter, how)
