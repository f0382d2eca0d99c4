"""A key that a provider repeats reaches no client and no log: through the real server, on real sockets."""

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest

from archer_ws.core import secrets
from archer_ws.core.logging import configure_logging
from archer_ws.core.secrets import MASK
from tests.conftest import Archer, StartArcher
from tests.fakes import anthropic_api, ollama_api, openai_api
from tests.fakes.scripted_server import Reply, scripted_server

KEY = "sk-canary-A/1"
PASSWORD = "correct-horse"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
SAID = f"what is {KEY} or {quote(KEY, safe='')} or {PASSWORD}, Bearer 0123456789?"
PROVIDERS = ["openai", "anthropic", "ollama"]


@pytest.fixture(autouse=True)
def _nothing_is_known_before() -> Iterator[None]:
    before, secrets._known = secrets._known, secrets._Known()
    yield
    secrets._known = before


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """All that is logged meanwhile."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


@asynccontextmanager
async def before(start_archer: StartArcher, reply: Reply, out: io.StringIO, **more: object) -> AsyncIterator[Archer]:
    """The server, with keys, before a provider that answers everything so."""
    async with scripted_server(responder=lambda _: reply) as provider:
        host = provider.url.removeprefix("http://")
        settings: dict[str, object] = {
            "openai_api_key": KEY,
            "openai_base_url": f"{provider.url}/v1",
            "anthropic_api_key": KEY,
            "anthropic_base_url": provider.url,
            "ollama_host": f"http://clerk:{PASSWORD}@{host}",
        }
        async with start_archer(**settings, **more) as archer:
            configure_logging("DEBUG", "json", out)
            yield archer


def refusal(provider: str, status: int) -> Reply:
    match provider:
        case "openai":
            return openai_api.error(status, SAID)
        case "anthropic":
            return anthropic_api.error(status, "api_error", SAID)
        case _:
            return Reply.of_json({"error": SAID}, status)


def check(told: str) -> None:
    for secret in ("canary", PASSWORD, "0123456789"):
        assert secret not in told, told


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 503])
async def test_a_key_in_a_refusal_reaches_neither_clients_nor_the_log(
    start_archer: StartArcher, provider: str, status: int, out: io.StringIO
) -> None:
    request = {**HELLO, "provider": provider, "model": "m"}
    async with before(start_archer, refusal(provider, status), out) as archer:
        for answer in (
            await archer.http.post("/api/v1/chat/completions", json=request),
            await archer.http.post("/api/v1/chat/completions/stream", json=request),
            await archer.http.post("/v1/chat/completions", json={**HELLO, "model": f"{provider}/m"}),
            await archer.http.get(f"/api/v1/models/{provider}"),
            await archer.http.get("/health/providers"),
        ):
            check(answer.text)
    check(out.getvalue())


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_key_in_a_failure_that_is_retried_reaches_no_reader_of_its_progress(
    start_archer: StartArcher, provider: str, out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.llm_gateway.resilience.retry.FIRST_PAUSE_S", 0.001)
    request = {**HELLO, "provider": provider, "model": "m"}
    async with before(start_archer, refusal(provider, 500), out, max_retries=1) as archer:
        answer = await archer.http.post("/api/v1/chat/completions/stream", json=request)
    assert "retrying" in answer.text
    assert MASK in answer.text
    check(answer.text)
    check(out.getvalue())


def spoken(provider: str, pieces: list[str]) -> Reply:
    match provider:
        case "openai":
            return openai_api.text_stream(pieces)
        case "anthropic":
            return anthropic_api.text_stream(pieces)
        case _:
            lines = [ollama_api.ollama_line(piece) for piece in pieces]
            return Reply([*lines, ollama_api.ollama_end()], content_type="application/x-ndjson")


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize(
    "pieces", [[f"It is {KEY}, yes."], ["It is sk-can", "ary", "-A/1, yes."], [*f"It is {KEY}, yes."]]
)
async def test_a_key_in_an_answer_is_masked_also_where_it_is_split_over_chunks(
    start_archer: StartArcher, provider: str, pieces: list[str], out: io.StringIO
) -> None:
    request = {**HELLO, "provider": provider, "model": "m"}
    async with before(start_archer, spoken(provider, pieces), out) as archer:
        whole = (await archer.http.post("/api/v1/chat/completions", json=request)).json()
        events = (await archer.http.post("/api/v1/chat/completions/stream", json=request)).text
    assert whole["status"] == "completed"
    streamed = "".join(json.loads(line[6:])["content"] for line in events.splitlines() if line.startswith("data: {"))
    assert whole["content"].startswith("It is ")
    assert whole["content"].endswith(f"{MASK}, yes.")
    assert streamed.endswith(f"{MASK}, yes.")
    check(whole["content"] + events + out.getvalue())


async def test_what_was_held_back_as_the_beginning_of_a_key_comes_with_the_end(
    start_archer: StartArcher, out: io.StringIO
) -> None:
    request: dict[str, Any] = {**HELLO, "provider": "openai", "model": "m"}
    async with before(start_archer, spoken("openai", ["It begins with ", "sk-can"]), out) as archer:
        whole = (await archer.http.post("/api/v1/chat/completions", json=request)).json()
    assert (whole["status"], whole["content"]) == ("completed", "It begins with sk-can")
    broken = openai_api.stream(openai_api.delta("It begins with "), openai_api.delta("sk-can"))
    async with before(start_archer, broken, out) as archer:
        whole = (await archer.http.post("/api/v1/chat/completions", json=request)).json()
    assert (whole["status"], whole["content"]) == ("incomplete", "It begins with sk-can")


async def test_an_answer_may_speak_of_what_is_also_a_key(start_archer: StartArcher, out: io.StringIO) -> None:
    request = {**HELLO, "provider": "openai", "model": "m"}
    async with scripted_server(responder=lambda _: spoken("openai", ["I run in lm-", "studio."])) as provider:
        settings = {"openai_api_key": "lm-studio", "openai_base_url": f"{provider.url}/v1"}
        async with start_archer(**settings) as archer:
            whole = (await archer.http.post("/api/v1/chat/completions", json=request)).json()
    assert whole["content"] == "I run in lm-studio."
