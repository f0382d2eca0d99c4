"""What a client is told when its provider refuses, breaks or is not there: through the real server, on real sockets.

Every answer has a kind that programs can switch on, and a hint that tells a person what to do.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.conftest import Archer, StartArcher
from tests.fakes import anthropic_api, openai_api
from tests.fakes.scripted_server import Abort, Reply

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
SOON = format_datetime(datetime.now(UTC) + timedelta(seconds=3600), usegmt=True)
BLOCKED = Reply([b"<html><body>This site is blocked</body></html>"], status=403, content_type="text/html")
HTML = Reply([b"<html><body>Sign in to the Wi-Fi</body></html>"], content_type="text/html")

OPENAI = [
    ("a wrong key", openai_api.error(401, "Incorrect API key"), 502, "provider_auth", "OPENAI_API_KEY"),
    ("a forbidden model", openai_api.error(403, "not allowed"), 502, "provider_auth", "OPENAI_API_KEY"),
    ("a page that blocks the API", BLOCKED, 502, "provider_error", "proxy"),
    ("an unknown model", openai_api.error(404, "no such model", code="model_not_found"), 404, "model_not_found", ""),
    ("a time-out there", openai_api.error(408, "too slow"), 504, "provider_timeout", "again"),
    ("too large a request", openai_api.error(413, "too large"), 413, "content_too_large", "shorter"),
    ("a rate limit", openai_api.error(429, "slow down", Retry_After="7"), 429, "provider_rate_limited", "Wait 7 s"),
    ("a rate limit by date", openai_api.error(429, "slow", Retry_After=SOON), 429, "provider_rate_limited", "Wait"),
    (
        "a used-up quota",
        openai_api.error(429, "quota", code="insufficient_quota"),
        402,
        "provider_quota",
        "billing",
    ),
    ("a failure there", openai_api.error(500, "oops"), 502, "provider_error", "again"),
    ("a page in place of the API", HTML, 502, "provider_error", "address"),
    (
        "broken JSON",
        Reply([b"data: {broken\n\n"], content_type="text/event-stream"),
        502,
        "provider_error",
        "",
    ),
    (
        "an error event after a 200",
        openai_api.stream(openai_api.error_event("engine died", kind="server_error")),
        502,
        "provider_error",
        "",
    ),
    ("a truncated answer", openai_api.stream(openai_api.delta("half")), 502, "upstream_truncated", "again"),
    (
        "a read error",
        openai_api.stream(openai_api.delta("half"), Abort()),
        502,
        "upstream_truncated",
        "again",
    ),
    (
        "too long a context",
        openai_api.error(400, "maximum context length", code="context_length_exceeded"),
        400,
        "context_too_long",
        "shorter",
    ),
]

ANTHROPIC = [
    ("overload", anthropic_api.error(529, "overloaded_error"), 503, "provider_unavailable", "again"),
    (
        "overload after a 200",
        anthropic_api.stream(anthropic_api.start(), anthropic_api.error_event("overloaded_error")),
        503,
        "provider_unavailable",
        "again",
    ),
    ("a page that blocks the API", BLOCKED, 502, "provider_error", "proxy"),
    ("a wrong key", anthropic_api.error(401, "authentication_error"), 502, "provider_auth", "ANTHROPIC_API_KEY"),
    (
        "a truncated answer",
        anthropic_api.stream(anthropic_api.start(), anthropic_api.delta("half")),
        502,
        "upstream_truncated",
        "again",
    ),
]


async def told(archer: Archer, provider: str, model: str | None = "m") -> tuple[int, dict[str, Any]]:
    """The status and the error of a chat."""
    body = {**HELLO, "provider": provider, "model": model}
    response = await archer.http.post("/api/v1/chat/completions", json=body)
    error: dict[str, Any] = response.json()["error"]
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["message"]
    assert error["hint"], error
    if "retry_after_ms" in error:
        assert int(response.headers["retry-after"]) * 1000 >= error["retry_after_ms"]
    return response.status_code, error


@pytest.mark.parametrize(
    ("provider", "case"),
    [pytest.param("openai", case, id=f"openai: {case[0]}") for case in OPENAI]
    + [pytest.param("anthropic", case, id=f"anthropic: {case[0]}") for case in ANTHROPIC],
)
async def test_a_provider_s_failure_says_what_to_do(
    start_archer: StartArcher, provider: str, case: tuple[str, Reply, int, str, str]
) -> None:
    _, reply, status, kind, hint = case
    async with start_archer() as outer:
        base = outer.ollama.url
        outer.ollama.responder = lambda _: reply
        async with start_archer(openai_base_url=f"{base}/v1", anthropic_base_url=base) as archer:
            answered, error = await told(archer, provider)
    assert (answered, error["kind"]) == (status, kind), error
    assert hint in error["hint"]
    if kind == "provider_rate_limited":
        assert error["retry_after_ms"] in range(6_000, 3_700_000)


@asynccontextmanager
async def deaf_server() -> AsyncIterator[str]:
    """A server that answers everything with words that are neither TLS nor HTTP."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama"])
async def test_where_nobody_answers_is_told_with_the_address(start_archer: StartArcher, provider: str) -> None:
    nowhere = "http://127.0.0.1:9"
    async with start_archer(ollama_host=nowhere, openai_base_url=f"{nowhere}/v1", anthropic_base_url=nowhere) as archer:
        status, error = await told(archer, provider)
    assert (status, error["kind"]) == (503, "provider_unavailable")
    assert "127.0.0.1:9" in error["message"]


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama"])
async def test_a_server_without_tls_behind_https_is_told_as_such(start_archer: StartArcher, provider: str) -> None:
    async with deaf_server() as address:
        https = f"https://{address}"
        async with start_archer(ollama_host=https, openai_base_url=f"{https}/v1", anthropic_base_url=https) as archer:
            status, error = await told(archer, provider)
    assert (status, error["kind"]) == (503, "provider_unavailable")
    assert "TLS" in error["message"]


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama"])
async def test_a_name_that_does_not_resolve_is_told_as_such(
    start_archer: StartArcher, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    name = "http://no-such-host.invalid"
    async with start_archer(ollama_host=name, openai_base_url=f"{name}/v1", anthropic_base_url=name) as archer:
        # The tests' own client talks to an address, which needs no look-up; no test asks the network's name server.
        loop = asyncio.get_running_loop()
        ask = loop.getaddrinfo

        async def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
            if host in {"127.0.0.1", b"127.0.0.1"}:
                return await ask(host, *arguments, **options)
            return unknown()

        monkeypatch.setattr(loop, "getaddrinfo", look_up)
        status, error = await told(archer, provider)
    assert (status, error["kind"]) == (503, "provider_unavailable")
    assert "resolve" in error["message"]


async def test_the_embedded_model_without_its_packages_says_what_to_install(
    start_archer: StartArcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "xllamacpp" else find(name, *rest)
    )
    async with start_archer() as archer:
        status, error = await told(archer, "local", None)
    assert (status, error["kind"]) == (503, "provider_not_configured")
    assert "requirements-local.txt" in error["hint"]
