"""A provider that can't be set up, whatever the reason, is that provider's failure and nobody else's."""

import asyncio
import json
import logging
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from archer_ws.core.exceptions import ProviderNotConfigured, ProviderUnavailable
from archer_ws.llm_gateway.failures import ProviderIdentity
from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.transport.per_loop import ForeignFailures, PerLoopClient
from tests.conftest import Archer, MakeSettings, StartArcher
from tests.fakes.any_provider import PROVIDERS, adapter_at, call, playing_all, settings_for
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.scripted_server import scripted_server
from tests.processes import Server
from tests.processes import server as server_process

ASKED = {"messages": [{"role": "user", "content": "x"}]}
#: Hosts that nobody has (RFC 2606): with TLS, and beyond this machine.
FAR = settings_for("https://provider.invalid")
BROKEN = [
    ("SSL_CERT_FILE", "/nonexistent/ca.pem"),
    ("SSL_CERT_FILE", "/"),
    ("ALL_PROXY", "socks5://bob:hunter2@127.0.0.1:1080"),
    ("HTTPS_PROXY", "gopher://bob:hunter2@host"),
    ("HTTPS_PROXY", "http://bob:hunter2@host:port"),
]


async def states_of(archer: Archer) -> dict[str, Any]:
    """The providers' states, once both lists have answered."""
    for path in ("/api/v1/models", "/v1/models", "/health/providers"):
        answer = await archer.http.get(path)
        assert answer.status_code == 200, (path, answer.text)
    states: dict[str, Any] = answer.json()
    return states


@pytest.mark.parametrize(("variable", "value"), BROKEN)
async def test_a_variable_that_is_wrong_is_named_and_breaks_no_list(
    start_archer: StartArcher, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    far = {name: url for name, url in FAR.items() if name != "ollama_host"}
    async with start_archer(llm_provider="openai", anthropic_api_key="sk-ant", **far) as archer:
        archer.ollama.responder = playing_all
        failure = await archer.app.state.preparing
        assert variable in failure
        states = await states_of(archer)
        # Plain HTTP on this machine needs neither certificates nor a proxy.
        assert states["ollama"]["available"] is True
        told = json.dumps(states)
        for provider in ("openai", "anthropic"):
            assert states[provider]["available"] is False
            assert variable in states[provider]["hint"]
            for route in ("", "/stream"):
                answer = await archer.http.post(
                    f"/api/v1/chat/completions{route}", json=ASKED | {"provider": provider, "model": "m"}
                )
                assert '"provider_not_configured"' in answer.text
                assert variable in answer.text
                told += answer.text
            lists = await archer.http.get(f"/api/v1/models/{provider}")
            assert lists.json()["error"]["kind"] == "provider_not_configured"
        ready = await archer.http.get("/health/ready")
        assert ready.status_code == 503
        assert variable in ready.json()["hint"]
        items, unavailable = await archer.app.state.services.router.listing(None)
        assert {"openai", "anthropic"} <= {state.provider for state in unavailable}
        assert [model.id for model in items if model.provider == "ollama"] == ["m:latest"]
        assert "hunter2" not in told


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_server_on_this_machine_is_reached_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    for variable, value in [
        *BROKEN,
        ("SSLKEYLOGFILE", "/nonexistent/x"),
        ("HTTP_PROXY", "junk://"),
        ("NO_PROXY", "[::1, fe80::/10, ,a b"),
    ]:
        monkeypatch.setenv(variable, value)
    async with (
        asyncio.timeout(60),
        scripted_server(responder=playing_all) as server,
        adapter_at(provider, server.url) as adapter,
    ):
        for how in ("chat", "stream", "list"):
            assert await call(adapter, how)
        assert (await adapter.health_check()).available


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_proxy_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "[::1, fe80::/10")
    async with adapter_at(provider, "http://provider.invalid") as adapter, asyncio.timeout(60):
        for how in ("chat", "stream", "list"):
            with pytest.raises(ProviderUnavailable) as caught:
                await call(adapter, how)
            assert "HTTP_PROXY" in (caught.value.hint or "")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_proxy_that_wants_a_credential_is_named(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy, asyncio.timeout(60):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        async with adapter_at(provider, "https://provider.invalid") as adapter:
            for how in ("chat", "stream", "list"):
                with pytest.raises(ProviderUnavailable) as caught:
                    await call(adapter, how)
                assert "HTTPS_PROXY" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "url", ["http://a..b", "http://.:9", "http://xn--:9", "http://a\u202eb", f"http://{'a' * 70}.b"]
)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_address_that_is_none_is_told_whoever_finds_it_out(provider: str, url: str) -> None:
    async with adapter_at(provider, url) as adapter, asyncio.timeout(60):
        for how in ("chat", "stream", "list"):
            with pytest.raises((ProviderNotConfigured, ProviderUnavailable)) as caught:
                await call(adapter, how)
            assert caught.value.hint
        assert not (await adapter.health_check()).available


ACME = ProviderIdentity(
    name="acme", address="http://127.0.0.1:9", auth_hint="", unavailable_hint="Check ACME_URL.", model_hint=""
)


@pytest.mark.parametrize("error", [ValueError("x"), TypeError("x"), ImportError("x"), OSError("x"), RuntimeError("x")])
async def test_whatever_is_raised_while_a_client_is_made_is_the_providers_failure(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(_: ModuleType) -> Any:
        raise error

    client: PerLoopClient[Any] = PerLoopClient("json", fail, identity=ACME)
    for _ in range(2):
        with pytest.raises(ProviderNotConfigured, match=type(error).__name__) as caught:
            await client.get()
        assert "ACME_URL" in (caught.value.hint or "")
    assert len([record for record in caplog.records if "provider_client_failed" in record.getMessage()]) <= 1


async def test_an_import_that_fails_oddly_is_the_providers_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "an_odd_sdk.py").write_text("raise FileNotFoundError('/no/such/file')")
    monkeypatch.syspath_prepend(tmp_path)
    client: PerLoopClient[Any] = PerLoopClient("an_odd_sdk", lambda module: module, identity=ACME)
    with pytest.raises(ProviderNotConfigured, match="FileNotFoundError"):
        await client.get()
    assert "an_odd_sdk" not in sys.modules


def test_what_is_foreseen_passes_as_it_is() -> None:
    with pytest.raises(KeyError), ForeignFailures(ACME, KeyError):
        raise KeyError("x")


async def test_a_defect_of_one_adapter_is_logged_and_leaves_the_others(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: OpenAIAdapter, *__: object) -> Any:
        raise LookupError("a defect")

    for name in ("health_check", "list_models", "prepare"):
        monkeypatch.setattr(OpenAIAdapter, name, broken)
    caplog.set_level(logging.ERROR)
    async with scripted_server(responder=playing_all) as ollama:
        router = LLMRouter(make_settings(ollama_host=ollama.url, llm_provider="openai"))
        states = await router.health_check_all()
        assert (states["ollama"].available, states["openai"].available) == (True, False)
        assert "LookupError" in (states["openai"].error or "")
        assert states["openai"].hint
        items, unavailable = await router.listing(None)
        assert "m:latest" in {model.id for model in items}
        assert "openai" in {state.provider for state in unavailable}
        with pytest.raises(Exception, match="LookupError") as caught:
            await router.prepare()
        assert type(caught.value).__name__ == "ProviderError"
        await router.aclose()
    assert "a defect" in caplog.text


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSLKEYLOGFILE"])
async def test_a_server_that_starts_with_a_stale_variable_serves_the_others(tmp_path: Path, variable: str) -> None:
    def start(**environment: Any) -> AbstractAsyncContextManager[Server]:
        return server_process(ollama_stream("Hi"), cwd=tmp_path, **environment)

    async with start(**{"ARCHER_OPENAI_API_KEY": "sk-x", variable: "/nonexistent/file"}) as running:
        for path in ("/api/v1/models", "/v1/models"):
            answer = await running.http.get(path)
            assert (answer.status_code, "llama3.2:latest" in answer.text) == (200, True)
        states = (await running.http.get("/health/providers")).json()
        assert states["openai"]["available"] is False
        assert variable in states["openai"]["hint"]
        refused = await running.http.post("/api/v1/chat/completions", json=ASKED | {"provider": "openai"})
        assert refused.json()["error"]["kind"] == "provider_not_configured"
        assert variable in refused.json()["error"]["hint"]
        chat = await running.http.post("/api/v1/chat/completions", json=ASKED)
        assert chat.json()["content"] == "Hi"
