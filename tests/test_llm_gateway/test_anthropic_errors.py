"""Each way Anthropic, its network or a proxy can fail, provoked through a real server, and what becomes of it."""

import asyncio

import pytest

from archer_ws.core.exceptions import (
    ArcherError,
    ContentTooLarge,
    ContextTooLong,
    ModelNotFound,
    ProviderAuth,
    ProviderError,
    ProviderQuota,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    UpstreamTruncated,
)
from archer_ws.llm_gateway.anthropic_adapter import AnthropicAdapter
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from tests.fakes import anthropic_api as api
from tests.fakes.anthropic_api import adapter_at
from tests.fakes.scripted_server import Abort, Exchange, Reply, scripted_server

HELLO = [ChatMessage(role=MessageRole.USER, content="Hello")]
SECRET = "sk-test"


async def failure_of(adapter: AnthropicAdapter, *, stream: bool) -> tuple[ArcherError, str]:
    """The error of a call, and the text that came before it."""
    text = ""

    async def call() -> None:
        nonlocal text
        if not stream:
            await adapter.chat(HELLO)
            return
        async for chunk in adapter.stream_chat(HELLO):
            text += chunk.content

    async with asyncio.timeout(10):
        with pytest.raises(ArcherError) as caught:
            await call()
    return caught.value, text


async def failure_from(reply: Reply, *, stream: bool = True) -> tuple[ArcherError, str]:
    async with scripted_server(reply) as server, adapter_at(server.url) as adapter:
        return await failure_of(adapter, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "kind", "retryable", "says"),
    [
        (api.error(401, "authentication_error", "invalid x-api-key"), ProviderAuth, False, "ANTHROPIC_API_KEY"),
        (api.error(403, "permission_error", "no access"), ProviderAuth, False, "no access"),
        (api.error(402, "billing_error", "payment"), ProviderQuota, False, "billing"),
        (api.error(404, "not_found_error", f"model: {api.MODEL}"), ModelNotFound, False, api.MODEL),
        (api.error(413, "request_too_large", "too large"), ContentTooLarge, False, "too large"),
        (api.error(500, "api_error", "Internal"), ProviderError, True, "Internal"),
        (api.error(504, "timeout_error", "slow"), ProviderTimeout, True, "Try again"),
        (api.error(529, "overloaded_error", "Overloaded"), ProviderUnavailable, True, "Overloaded"),
        (
            api.error(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            ContextTooLong,
            False,
            "210000 tokens",
        ),
        (
            api.error(400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2 > 2"),
            ContextTooLong,
            False,
            "max_tokens",
        ),
        (
            api.error(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            ProviderQuota,
            False,
            "credit balance",
        ),
        (
            api.error(400, "invalid_request_error", "You have reached your specified API usage limits."),
            ProviderQuota,
            False,
            "usage limits",
        ),
        (
            api.error(429, "rate_limit_error", "spent", code="enforced_spend_limit_reached"),
            ProviderQuota,
            False,
            "retrying does not help",
        ),
        # Kimi's, in this dialect.
        (
            api.error(429, "exceeded_current_quota_error", "Your account is suspended"),
            ProviderQuota,
            False,
            "retrying does not help",
        ),
        (
            api.error(400, "invalid_request_error", "max_tokens: 99999 > 8192, which is the maximum"),
            ProviderError,
            False,
            "99999 > 8192",
        ),
        (Reply([b"<h1>Bad gateway</h1>"], status=502, content_type="text/html"), ProviderError, True, "502"),
        (Reply([b"<h1>Not here</h1>"], status=404, content_type="text/html"), ProviderError, False, "_BASE_URL"),
    ],
)
async def test_an_error_status_becomes_the_kind_that_says_what_to_do(
    reply: Reply, kind: type[ArcherError], retryable: bool, says: str, stream: bool
) -> None:
    error, _ = await failure_from(reply, stream=stream)

    assert type(error) is kind
    assert error.retryable is retryable
    assert says in f"{error.message} {error.hint}"
    assert error.provider == "anthropic"
    assert SECRET not in f"{error.message} {error.hint}"
    assert "<h1>" not in error.message


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [({"retry_after": "7"}, 7000), ({"retry_after_ms": "250", "retry_after": "9"}, 250), ({}, None)],
)
async def test_a_rate_limit_says_when_to_try_again(headers: dict[str, str], wait_ms: int | None) -> None:
    error, _ = await failure_from(api.error(429, "rate_limit_error", "slow down", **headers))

    assert type(error) is ProviderRateLimited
    assert error.retryable
    assert error.retry_after_ms == wait_ms


@pytest.mark.parametrize(
    ("event", "kind", "retryable"),
    [
        (api.error_event("overloaded_error", "Overloaded"), ProviderUnavailable, True),
        (api.error_event("rate_limit_error"), ProviderRateLimited, True),
        (api.error_event("api_error"), ProviderError, True),
        (api.error_event("timeout_error"), ProviderTimeout, True),
        (api.error_event("of_the_future"), ProviderError, True),
        (api.error_event("invalid_request_error"), ProviderError, False),
        (api.error_event("invalid_request_error", "Your credit balance is too low"), ProviderQuota, False),
        (b"event: error\ndata: gone\n\n", ProviderError, True),
        (b"event: content_block_delta\ndata: {\n\n", ProviderError, True),
    ],
)
async def test_an_error_in_mid_stream_comes_after_the_text_before_it(
    event: bytes, kind: type[ArcherError], retryable: bool
) -> None:
    error, text = await failure_from(api.stream(api.start() + api.delta("Hel") + event))

    assert text == "Hel"
    assert type(error) is kind
    assert error.retryable is retryable


@pytest.mark.parametrize(
    "reply",
    [
        api.stream(api.start(), api.delta("Hel")),
        api.stream(api.start(), api.delta("Hel"), api.finish()),
        api.stream(api.start(), api.delta("Hel"), b"event: message_stop\ndata: {"),
        api.stream(api.start(), api.delta("Hel"), Abort()),
    ],
)
async def test_a_stream_without_its_end_marker_was_truncated(reply: Reply) -> None:
    error, text = await failure_from(reply)

    assert text == "Hel"
    assert type(error) is UpstreamTruncated
    assert error.hint


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "reply",
    [
        Reply([b"<h1>Log in</h1>"], content_type="text/html"),
        Reply([b"{"]),
        Reply([b"[1]"]),
        Reply([b'{"hello": 1}']),
        Reply([b"<h1>Log in</h1>"], content_type="text/event-stream"),
    ],
)
async def test_something_else_with_a_200_is_unreadable(reply: Reply, stream: bool) -> None:
    error, _ = await failure_from(reply, stream=stream)

    assert type(error) is ProviderError
    assert " sent " in error.message
    assert "address" in str(error.hint)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_object_with_a_200_is_that_error(stream: bool) -> None:
    error, _ = await failure_from(api.error(200, "overloaded_error", "Overloaded"), stream=stream)

    assert type(error) is ProviderUnavailable


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("url", "says"),
    [("http://127.0.0.1:1", "nothing answers"), ("http://no-such-host.invalid", "can't be resolved")],
)
async def test_where_nobody_is_the_address_and_its_variable_are_told(url: str, says: str, stream: bool) -> None:
    async with adapter_at(url) as adapter:
        error, _ = await failure_of(adapter, stream=stream)

    assert type(error) is ProviderUnavailable
    assert error.retryable
    assert says in error.message
    assert url in error.message
    assert "ANTHROPIC_BASE_URL" in str(error.hint)


async def test_a_password_in_the_address_is_not_told() -> None:
    async with adapter_at("http://user:hunter2@127.0.0.1:1") as adapter:
        error, _ = await failure_of(adapter, stream=True)

    assert "hunter2" not in f"{error.message} {error.hint}"


async def test_a_server_without_tls_is_not_tried_again() -> None:
    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with adapter_at(f"https://127.0.0.1:{port}") as adapter:
            error, _ = await failure_of(adapter, stream=True)

    assert type(error) is ProviderUnavailable
    assert not error.retryable
    assert "TLS" in error.message


@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_closed_before_the_headers_may_be_tried_again(stream: bool) -> None:
    error, _ = await failure_from(Reply(before_headers=[Abort()]), stream=stream)

    assert type(error) is ProviderUnavailable
    assert error.retryable
    assert "was lost" in error.message


async def test_a_whole_answer_that_breaks_off_may_be_tried_again() -> None:
    error, _ = await failure_from(Reply([b'{"id":', Abort()]), stream=False)

    assert error.retryable


@pytest.mark.parametrize("reply", [Reply([b"<p>"], content_type="text/html"), Reply([b"{}"]), Reply([b'{"data": 1}'])])
async def test_a_list_of_models_that_is_none_is_an_error_and_an_unhealthy_provider(reply: Reply) -> None:
    def list_alone(exchange: Exchange) -> Reply:
        return reply if exchange.method == "GET" else Reply(status=404)

    async with scripted_server(responder=list_alone) as server, adapter_at(server.url) as adapter:
        with pytest.raises(ProviderError):
            await adapter.list_models()
        status = await adapter.health_check()

    assert not status.available
    assert status.error
