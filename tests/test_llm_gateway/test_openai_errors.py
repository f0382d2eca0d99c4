"""Each way OpenAI, and servers like it, refuse or break becomes one exception that says what to do."""

import asyncio
import json
from typing import Any

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
)
from archer_ws.llm_gateway.failures import ProviderIdentity
from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from tests.fakes.openai_api import adapter_for, delta, error, error_event, event, stream
from tests.fakes.scripted_server import Abort, Reply, scripted_server

MESSAGES = [ChatMessage(role=MessageRole.USER, content="hi")]

#: Error bodies as servers send them: status, body, the failure, whether a retry can help.
BODIES: list[Any] = [
    pytest.param(400, {"error": {"message": "bad", "type": "invalid_request_error"}}, ProviderError, False, id="400"),
    pytest.param(
        400,
        {
            "error": {
                "message": "This model's maximum context length is 128000 tokens.",
                "code": "context_length_exceeded",
            }
        },
        ContextTooLong,
        False,
        id="context",
    ),
    pytest.param(
        400,
        {"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 400},
        ContextTooLong,
        False,
        id="context, vLLM",
    ),
    pytest.param(
        400,
        {"error": {"code": 400, "message": "the request exceeds the size", "type": "exceed_context_size_error"}},
        ContextTooLong,
        False,
        id="context, llama.cpp",
    ),
    pytest.param(401, {"error": {"message": "wrong", "code": "invalid_api_key"}}, ProviderAuth, False, id="401"),
    pytest.param(403, {"error": {"message": "not in your country"}}, ProviderAuth, False, id="403"),
    pytest.param(
        403, {"error": {"message": "no access", "code": "model_not_found"}}, ModelNotFound, False, id="403 on the model"
    ),
    pytest.param(
        404,
        {"error": {"message": "The model `gpt-x` does not exist", "code": "model_not_found"}},
        ModelNotFound,
        False,
        id="404 on the model",
    ),
    pytest.param(
        404,
        {"error": {"message": "This is not a chat model", "param": "model"}},
        ModelNotFound,
        False,
        id="404 on no chat model",
    ),
    pytest.param(404, {"error": 'model "x" not found'}, ModelNotFound, False, id="404, a bare message"),
    pytest.param(
        400, {"error": {"message": "x is not a valid model ID", "code": 400}}, ModelNotFound, False, id="OpenRouter"
    ),
    pytest.param(
        400,
        {"error": {"message": "Model Not Exist", "type": "invalid_request_error", "code": "invalid_request_error"}},
        ModelNotFound,
        False,
        id="400 on the model, DeepSeek",
    ),
    pytest.param(
        400,
        {"code": "Client specified an invalid argument", "error": "Model not found: gpt-x"},
        ModelNotFound,
        False,
        id="400 on the model, xAI",
    ),
    pytest.param(
        400,
        {"error": {"code": "unknown_model", "message": "Unknown model: gpt-x", "details": "Unknown model: gpt-x"}},
        ModelNotFound,
        False,
        id="400 on the model, GitHub",
    ),
    pytest.param(
        400,
        {
            "error": {
                "message": "/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view …",
                "type": "None",
                "param": "None",
                "code": "400",
            }
        },
        ModelNotFound,
        False,
        id="400 on the model, LiteLLM",
    ),
    pytest.param(
        404,
        {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}},
        ModelNotFound,
        False,
        id="404 on the deployment, Azure",
    ),
    pytest.param(404, {"detail": "Not Found"}, ProviderError, False, id="404 on the route"),
    pytest.param(413, {"error": {"message": "too large"}}, ContentTooLarge, False, id="413"),
    pytest.param(
        429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, ProviderRateLimited, True, id="429"
    ),
    pytest.param(
        429,
        {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}},
        ProviderQuota,
        False,
        id="quota",
    ),
    pytest.param(
        429,
        {"error": {"message": "limit", "type": "billing_hard_limit_reached", "code": None}},
        ProviderQuota,
        False,
        id="billing, by type",
    ),
    pytest.param(402, {"error": {"message": "Insufficient Balance"}}, ProviderQuota, False, id="402"),
    pytest.param(
        429,
        {"error": {"message": "Your account is suspended", "type": "exceeded_current_quota_error"}},
        ProviderQuota,
        False,
        id="quota, Kimi",
    ),
    pytest.param(
        400,
        {"error": {"message": "Access denied, please make sure …", "type": "Arrearage", "code": "Arrearage"}},
        ProviderQuota,
        False,
        id="quota, Alibaba",
    ),
    pytest.param(
        400,
        {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***ab. You can …"},
        ProviderAuth,
        False,
        id="a wrong key, xAI",
    ),
    pytest.param(
        403,
        {"error": {"code": 403, "message": 'openai/gpt-x requires moderation. Your input was flagged for "violence".'}},
        ProviderError,
        False,
        id="moderation, OpenRouter",
    ),
    pytest.param(500, {"error": {"message": "oops", "type": "server_error"}}, ProviderError, True, id="500"),
    pytest.param(503, {"error": {"message": "busy"}}, ProviderUnavailable, True, id="503"),
    pytest.param(504, None, ProviderTimeout, True, id="504"),
    pytest.param(500, [1], ProviderError, True, id="a list"),
    pytest.param(500, {"error": {"message": 7, "code": {"a": 1}}}, ProviderError, True, id="fields of odd types"),
]

#: Error objects that come after a 200.
EVENTS: list[Any] = [
    pytest.param(error_event(kind="server_error"), ProviderError, True, id="server_error"),
    pytest.param(error_event(code="rate_limit_exceeded"), ProviderRateLimited, True, id="rate limit"),
    pytest.param(error_event(code="insufficient_quota", kind="tokens"), ProviderQuota, False, id="quota"),
    pytest.param(error_event(code="context_length_exceeded"), ContextTooLong, False, id="context"),
    pytest.param(error_event(kind="invalid_request_error"), ProviderError, False, id="invalid request"),
    pytest.param(error_event(kind="service_unavailable_error"), ProviderUnavailable, True, id="unavailable"),
    pytest.param(event({"error": {"message": "x", "code": 429}}), ProviderRateLimited, True, id="a status for a code"),
    pytest.param(event({"error": {"message": "x", "code": "502"}}), ProviderError, True, id="a status in a string"),
    pytest.param(event({"error": "gone"}), ProviderError, True, id="a bare message"),
    pytest.param(
        event({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
        ProviderQuota,
        False,
        id="quota, MiniMax",
    ),
    pytest.param(
        event({"object": "error", "message": "x", "type": "BadRequestError", "code": 400}),
        ProviderError,
        False,
        id="vLLM",
    ),
    pytest.param(b'event: error\ndata: {"message": "x", "code": "timeout"}\n\n', ProviderTimeout, True, id="by event"),
]


async def failure_of_stream(adapter: OpenAIAdapter) -> tuple[str, ArcherError]:
    text = ""
    try:
        async for piece in adapter.stream_chat(MESSAGES, "gpt-x"):
            text += piece.content
    except ArcherError as failure:
        return text, failure
    raise AssertionError("the stream succeeded")


async def failure_of_chat(adapter: OpenAIAdapter) -> ArcherError:
    with pytest.raises(ArcherError) as caught:
        await adapter.chat(MESSAGES, "gpt-x")
    return caught.value


@pytest.mark.parametrize(("status", "body", "expected", "retryable"), BODIES)
async def test_error_statuses_are_mapped_alike_for_chat_and_stream(
    status: int, body: object, expected: type[ArcherError], retryable: bool
) -> None:
    async with (
        scripted_server(Reply.of_json(body, status), Reply.of_json(body, status)) as server,
        adapter_for(server) as adapter,
    ):
        whole = await failure_of_chat(adapter)
        _, streamed = await failure_of_stream(adapter)
    for failure in (whole, streamed):
        assert type(failure) is expected
        assert failure.retryable is retryable
        assert failure.provider == "openai"
        assert failure.hint
    # Our retries are before the first delta and elsewhere: the SDK made none.
    assert len(server.exchanges) == 2


@pytest.mark.parametrize(("said", "expected", "retryable"), EVENTS)
async def test_errors_after_a_200_are_mapped_and_keep_the_text_before(
    said: bytes, expected: type[ArcherError], retryable: bool
) -> None:
    async with scripted_server(stream(delta("par") + delta("tial") + said)) as server, adapter_for(server) as adapter:
        text, failure = await failure_of_stream(adapter)
    assert text == "partial"
    assert type(failure) is expected
    assert failure.retryable is retryable


async def test_a_flagged_input_is_not_said_to_be_a_refused_key() -> None:
    said = 'openai/gpt-x requires moderation on OpenRouter. Your input was flagged for "violence".'
    async with scripted_server(error(403, said)) as server, adapter_for(server) as adapter:
        failure = await failure_of_chat(adapter)
    assert said in failure.message
    assert "credential" not in failure.message
    assert "OPENAI_API_KEY" not in (failure.hint or "")


async def test_what_no_endpoint_of_openrouter_supports_is_not_said_to_be_a_wrong_address() -> None:
    said = "No endpoints found that support tool use. To learn more, visit: https://openrouter.ai/docs/provider-routing"
    async with scripted_server(error(404, said)) as server, adapter_for(server) as adapter:
        failure = await failure_of_chat(adapter)
    assert (type(failure), failure.retryable) == (ProviderError, False)
    assert f"refused the request (404): {said}" in failure.message
    assert "address" not in (failure.hint or "")


async def test_an_error_in_a_json_body_with_status_200_is_mapped() -> None:
    body = {"error": {"message": "no more", "code": "insufficient_quota"}}
    async with scripted_server(*[Reply.of_json(body)] * 2) as server, adapter_for(server) as adapter:
        assert isinstance(await failure_of_chat(adapter), ProviderQuota)
        assert isinstance((await failure_of_stream(adapter))[1], ProviderQuota)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry_after": "7"}, 7000),
        ({"retry_after_ms": "250", "retry_after": "7"}, 250),
        ({"Retry_After": "Fri, 01 Jan 2100 00:00:00 GMT"}, 86_400_000),
        ({}, None),
    ],
)
async def test_retry_after_is_passed_on(headers: dict[str, str], expected: int | None) -> None:
    async with scripted_server(error(429, "slow down", **headers)) as server, adapter_for(server) as adapter:
        assert (await failure_of_chat(adapter)).retry_after_ms == expected


@pytest.mark.parametrize(("said", "retryable"), [("false", False), ("true", True)])
async def test_a_provider_that_says_that_no_retry_helps_is_believed(said: str, retryable: bool) -> None:
    """The header that the official SDKs heed: with it, Groq and OpenAI refuse what is larger than a whole minute's
    limit."""
    async with scripted_server(error(429, "too large", x_should_retry=said)) as server, adapter_for(server) as adapter:
        failure = await failure_of_chat(adapter)
    assert (type(failure), failure.retryable) == (ProviderRateLimited, retryable)


@pytest.mark.parametrize(
    "reply",
    [
        Reply([b"<html>a page</html>"], content_type="text/html"),
        Reply([b"not json"]),
        Reply([b"\xff\xfe"]),
        Reply([]),
        Reply([b"[]"]),
        Reply([b"{}"]),
        Reply([b'{"choices": []}']),
        Reply([b'{"choices": [{}]}']),
        Reply([b'{"choices": [{"message": {"content": 7}}]}']),
        Reply([b"[" * 100_000]),
    ],
)
async def test_a_200_that_is_no_answer_says_to_check_the_address(reply: Reply) -> None:
    async with scripted_server(reply) as server, adapter_for(server) as adapter:
        failure = await failure_of_chat(adapter)
        assert isinstance(failure, ProviderError)
        assert f"{server.url}/v1 sent" in failure.message
        assert "address" in (failure.hint or "")
        assert "a page" not in failure.message


async def test_something_that_is_not_http_says_so() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.test ESMTP\r\n")
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    async with listening, scripted_server() as unused, adapter_for(unused, base_url=url) as adapter:
        failure = await failure_of_chat(adapter)
    assert isinstance(failure, ProviderError)
    assert "not HTTP" in failure.message


async def test_a_server_that_is_not_there_says_what_to_start() -> None:
    async with scripted_server() as server:
        url = f"{server.url}/v1"
    async with scripted_server() as unused, adapter_for(unused, base_url=url) as adapter:
        for failure in (await failure_of_chat(adapter), (await failure_of_stream(adapter))[1]):
            assert isinstance(failure, ProviderUnavailable)
            assert failure.retryable
            assert url in failure.message
            assert "OPENAI_BASE_URL" in (failure.hint or "")


async def test_a_connection_cut_before_the_headers_is_retryable() -> None:
    async with scripted_server(Reply(before_headers=[Abort()])) as server, adapter_for(server) as adapter:
        failure = await failure_of_chat(adapter)
    assert isinstance(failure, ProviderUnavailable)
    assert failure.retryable


async def test_a_body_cut_short_is_retryable() -> None:
    async with (
        scripted_server(Reply([b'{"id":', Abort()]), Reply([b'{"error":', Abort()], status=500)) as server,
        adapter_for(server) as adapter,
    ):
        for _ in range(2):
            assert (await failure_of_chat(adapter)).retryable


async def test_neither_key_nor_raw_body_is_told() -> None:
    page = Reply([b"<html>secret page</html>"], status=502, content_type="text/html")
    key = error(401, "Incorrect API key provided: sk-test", code="invalid_api_key")
    async with scripted_server(page, key) as server, adapter_for(server) as adapter:
        for _ in range(2):
            failure = await failure_of_chat(adapter)
            told = json.dumps([failure.message, failure.hint])
            assert "sk-test" not in told
            assert "secret page" not in told


async def test_a_long_message_with_halves_of_characters_is_fit_to_be_shown() -> None:
    async with scripted_server(error(400, "\ud83d\n" + "x" * 5000)) as server, adapter_for(server) as adapter:
        failure = await failure_of_chat(adapter)
    assert len(failure.message) < 400
    failure.message.encode()


async def test_another_provider_speaks_with_its_own_words() -> None:
    identity = ProviderIdentity(
        name="local",
        address="the local model",
        auth_hint="restart it",
        unavailable_hint="look at its log",
        model_hint="set LOCAL_MODEL_PATH for {model}",
    )
    async with (
        scripted_server(error(404, "no such model", code="model_not_found")) as server,
        adapter_for(server, provider_name="local", identity=identity) as adapter,
    ):
        failure = await failure_of_chat(adapter)
    assert failure.provider == "local"
    assert failure.hint == "set LOCAL_MODEL_PATH for gpt-x"
