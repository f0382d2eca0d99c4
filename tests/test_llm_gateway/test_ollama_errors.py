"""Each way in which Ollama fails, and what users are told of it."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from archer_ws.core.exceptions import ArcherError, ProviderUnavailable, UpstreamTruncated
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from tests.fakes.ollama_api import adapter_at, ollama_error, ollama_error_line, ollama_stream
from tests.fakes.scripted_server import Abort, Reply, Step, Wait, forever, scripted_server

MESSAGES = [ChatMessage(role=MessageRole.USER, content="Hi")]
START_HINT = "Start Ollama (ollama serve), or set OLLAMA_HOST, or run: archer-ws serve --provider local"


async def failure_of(host: str, connect_s: float = 5) -> tuple[str, ArcherError]:
    """What a stream from there says before it fails, and how it fails."""
    text = ""
    try:
        async with adapter_at(host, connect_s=connect_s) as adapter, asyncio.timeout(10):
            async for chunk in adapter.stream_chat(MESSAGES):
                text += chunk.content
    except ArcherError as failure:
        return text, failure
    raise AssertionError("it did not fail")


@pytest.mark.parametrize(
    ("status", "message", "kind", "retryable", "hint"),
    [
        (404, "model 'llama3.2' not found", "model_not_found", False, "Run: ollama pull llama3.2"),
        (400, '"llama3.2" does not support chat', "provider_error", False, "Choose another model"),
        (400, "invalid options: seed", "provider_error", False, "Correct the request"),
        (401, "unauthorized", "provider_auth", False, "ollama signin"),
        (403, "ollama cloud is disabled", "provider_auth", False, "ollama signin"),
        (429, "too many requests", "provider_rate_limited", True, "Wait a while, or"),
        (
            429,
            "you (x) have reached your session usage limit, upgrade for higher limits",
            "provider_quota",
            False,
            "plan",
        ),
        (403, "this model requires a subscription, upgrade for access: https://…", "provider_quota", False, "plan"),
        (503, "server busy, please try again.  maximum pending requests exceeded", "provider_unavailable", True, "Try"),
        (
            500,
            "model requires more system memory (5.0 GiB) than is available (3.9 GiB)",
            "provider_error",
            False,
            "small",
        ),
        (
            500,
            "llama runner process has terminated: cudaMalloc failed: out of memory",
            "provider_error",
            False,
            "small",
        ),
        (500, "llama-server reported out-of-memory during startup: x", "provider_error", False, "small"),
        (500, "model runner has unexpectedly stopped", "provider_error", True, "Try again"),
        (400, "request (9 tokens) exceeds the available context size (8)", "context_too_long", False, "shorter"),
        (400, "prompt too long; exceeded maximum context length by 5", "context_too_long", False, "shorter"),
        (500, "llama-server: Context size has been exceeded.", "context_too_long", False, "shorter"),
        (502, "upstream", "provider_error", True, "Try again"),
    ],
)
async def test_an_error_status_is_told_with_what_to_do(
    status: int, message: str, kind: str, retryable: bool, hint: str
) -> None:
    async with scripted_server(ollama_error(message, status)) as server:
        text, failure = await failure_of(server.url)
    assert (text, failure.kind, failure.retryable, failure.provider) == ("", kind, retryable, "ollama")
    assert hint in (failure.hint or "")


async def test_a_busy_server_says_when_to_come_back() -> None:
    async with scripted_server(ollama_error("server busy", 503, retry_after="7")) as server:
        assert (await failure_of(server.url))[1].retry_after_ms == 7000


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        (Reply([b"<html>Not Found</html>"], status=404, content_type="text/html"), "404"),
        (Reply([b"404 page not found"], status=404, content_type="text/plain"), "404"),
        (Reply([], status=308, headers={"location": "https://elsewhere.test/"}), "a redirect"),
        (Reply([b"<!doctype html>", forever()], content_type="text/html; charset=utf-8"), "a web page"),
        (Reply([b"Ollama is running\n"], content_type="text/plain"), "not a JSON object"),
        (Reply([b"not gzip"], headers={"content-encoding": "gzip"}), "can't be decompressed"),
    ],
)
async def test_what_is_not_ollama_is_told_as_such(reply: Reply, what: str) -> None:
    async with scripted_server(reply) as server:
        _, failure = await failure_of(server.url)
        assert server.url in failure.message
    assert what in failure.message
    assert failure.kind == "provider_error"
    assert "Check that the configured address is the API itself" in (failure.hint or "")


async def test_an_error_body_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archer_ws.llm_gateway.transport.response.PROVIDER_ERROR_BODY_S", 0.05)
    async with scripted_server(Reply([b'{"error"', forever()], status=503)) as server:
        assert (await failure_of(server.url))[1].kind == "provider_unavailable"
        async with asyncio.timeout(20):
            await (await server.exchange()).client_left.wait()


async def test_an_error_body_without_bounds_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archer_ws.llm_gateway.transport.response.PROVIDER_ERROR_BODY_S", 1000)
    async with scripted_server(Reply([b"x" * 65_536, forever()], status=500)) as server:
        assert (await failure_of(server.url))[1].kind == "provider_error"


@pytest.mark.parametrize(
    ("steps", "kind", "retryable"),
    [
        ((ollama_error_line("an error was encountered while running the model"),), "provider_error", True),
        ((ollama_error_line("CUDA error: out of memory"),), "provider_error", False),
        ((b"<html>\n",), "provider_error", True),
        ((Abort(),), "upstream_truncated", True),
        ((), "upstream_truncated", True),
    ],
)
async def test_a_failure_after_text_keeps_the_text(steps: tuple[Step, ...], kind: str, retryable: bool) -> None:
    text_is_there = asyncio.Event()
    reply = ollama_stream("so far", Wait(text_is_there), *steps, end=False)
    async with scripted_server(reply) as server, adapter_at(server.url) as adapter:
        stream = adapter.stream_chat(MESSAGES)
        async with asyncio.timeout(10):
            assert [(await anext(stream)).content for _ in range(2)] == ["", "so far"]
            text_is_there.set()
            with pytest.raises(ArcherError) as caught:
                await anext(stream)
    assert (caught.value.kind, caught.value.retryable) == (kind, retryable)


async def test_a_connection_cut_before_the_answer_is_no_truncated_answer() -> None:
    async with scripted_server(ollama_stream("Hi", before_headers=[Abort()])) as server:
        _, failure = await failure_of(server.url)
    assert isinstance(failure, ProviderUnavailable)
    assert failure.retryable


async def test_a_whole_answer_cut_in_its_body_is_truncated() -> None:
    async with scripted_server(Reply([b'{"message"', Abort()])) as server, adapter_at(server.url) as adapter:
        with pytest.raises(UpstreamTruncated):
            await adapter.chat(MESSAGES)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_where_nothing_listens_the_hint_says_how_to_start(closed_port: int, name: str) -> None:
    _, failure = await failure_of(f"http://{name}:{closed_port}")
    assert (failure.kind, failure.retryable, failure.hint) == ("provider_unavailable", True, START_HINT)
    assert f"http://{name}:{closed_port}" in failure.message


async def test_nothing_listening_makes_an_unhealthy_provider(closed_port: int) -> None:
    async with adapter_at(f"http://127.0.0.1:{closed_port}") as adapter:
        status = await adapter.health_check()
        assert (status.available, status.hint, status.latency_ms) == (False, START_HINT, None)
        assert await adapter.context_window("llama3.2") is None
        with pytest.raises(ProviderUnavailable):
            await adapter.list_models()


async def test_speaking_tls_to_a_plain_server_is_told(plain_speaker: str) -> None:
    _, failure = await failure_of(plain_speaker.replace("http:", "https:"))
    assert (failure.kind, failure.retryable) == ("provider_unavailable", False)
    assert "TLS" in failure.message


@pytest.fixture
async def plain_speaker() -> AsyncIterator[str]:
    """A server that answers anything in plain HTTP at once, as real ones answer a TLS hello."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_host_name_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    _, failure = await failure_of("http://ollama.test:11434")
    assert (failure.kind, failure.retryable) == ("provider_unavailable", True)
    assert "http://ollama.test:11434 can't be resolved" in failure.message


async def test_a_host_that_does_not_take_the_connection_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("aiohappyeyeballs.start_connection", silent)
    _, failure = await failure_of("http://127.0.0.1:11434", connect_s=0.05)
    assert failure.kind == "provider_timeout"
    assert "did not accept a connection in time" in failure.message


async def test_a_long_message_of_ollama_is_shortened() -> None:
    async with scripted_server(ollama_error("x" * 5000, 500)) as server:
        assert len((await failure_of(server.url))[1].message) < 400
