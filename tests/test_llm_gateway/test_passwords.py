"""A user and password in a base URL are sent as Basic, and appear in nothing that is told."""

import asyncio
import base64
import logging

import pytest

from archer_ws.core.exceptions import ArcherError
from tests.conftest import StartArcher
from tests.fakes.any_provider import PROVIDERS, adapter_at, call, playing_all, settings_for
from tests.fakes.scripted_server import scripted_server

PAIR = base64.b64encode(b"bob:hunt/er2").decode()
SECRETS = ("hunt", "er2", "bob", PAIR)


def with_password(url: str) -> str:
    return url.replace("//", "//bob:hunt%2Fer2@")


@pytest.mark.parametrize("how", ["chat", "stream", "list"])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_password_is_sent_where_there_is_no_key_and_a_key_wins(provider: str, how: str) -> None:
    async with scripted_server(responder=playing_all) as server, asyncio.timeout(60):
        for key in (None, "sk-test"):
            async with adapter_at(provider, with_password(server.url), key=key) as adapter:
                assert await call(adapter, how)
        sent = {exchange.headers.get("authorization") for exchange in server.exchanges}
        assert sent == ({f"Basic {PAIR}"} if provider == "ollama" else {f"Basic {PAIR}", "Bearer sk-test"})


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_password_is_in_no_error(provider: str) -> None:
    async with adapter_at(provider, with_password("http://127.0.0.1:9"), key=None) as adapter, asyncio.timeout(60):
        for how in ("chat", "stream", "list"):
            with pytest.raises(ArcherError) as caught:
                await call(adapter, how)
            told = f"{caught.value.message} {caught.value.hint}"
            assert "127.0.0.1:9" in told
            assert not [secret for secret in SECRETS if secret in told]
        state = await adapter.health_check()
        assert not [secret for secret in SECRETS if secret in str(state)]


async def test_a_password_is_in_no_answer_and_no_log_line(
    start_archer: StartArcher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with scripted_server(responder=playing_all) as server:
        for url, works in ((server.url, True), ("http://127.0.0.1:9", False)):
            told = ""
            async with start_archer(llm_provider="openai", **settings_for(with_password(url))) as archer:
                await archer.app.state.preparing
                for path in ("/health/ready", "/health/providers", "/api/v1/models", "/v1/models"):
                    answer = await archer.http.get(path)
                    assert answer.status_code == 200 or (path == "/health/ready" and not works)
                    told += answer.text
                for provider in PROVIDERS:
                    asked = {"provider": provider, "model": "m", "messages": [{"role": "user", "content": "x"}]}
                    for route in ("", "/stream"):
                        answer = await archer.http.post(f"/api/v1/chat/completions{route}", json=asked)
                        assert ("Hello" in answer.text) is works
                        told += answer.text
                    told += (await archer.http.get(f"/api/v1/models/{provider}")).text
            told += caplog.text
            assert not [secret for secret in SECRETS if secret in told]
