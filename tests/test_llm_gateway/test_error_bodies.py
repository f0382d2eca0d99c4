"""A provider's explanation reaches the user, whatever shape the error has and wherever in the answer it comes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.core.exceptions import ContextTooLong
from archer_ws.core.limits import PROVIDER_MESSAGE_CHARS
from archer_ws.llm_gateway.decoding.error_bodies import decoded_error, error_details
from tests.fakes import openai_api as api
from tests.fakes.dialects import OLLAMA, OPENAI, Dialect, asked, cut, every_dialect, every_event_stream, reply_of

SAID = "the adapter is not loaded"
SHAPES: dict[str, Any] = {
    "OpenAI": {"error": {"message": SAID, "type": "invalid_request_error", "param": None, "code": None}},
    "Anthropic": {"type": "error", "error": {"type": "api_error", "message": SAID}},
    "Ollama": {"error": SAID},
    "Google, a list": [{"error": {"code": 400, "message": SAID, "status": "FAILED_PRECONDITION"}}],
    "FastAPI, text": {"detail": SAID},
    "FastAPI, a list": {"detail": [{"loc": ["body", "top_p"], "msg": SAID, "type": "value_error"}]},
    "nested": {"error": {"error": {"message": SAID}}},
    "nested in the message": {"error": {"message": {"detail": SAID}}},
    "JSON in the message": {"error": {"message": json.dumps({"error": {"message": SAID}})}},
    "OpenRouter": {"error": {"message": "Provider returned error", "metadata": {"raw": json.dumps({"detail": SAID})}}},
    "several": {"errors": [{"message": SAID}, {"message": "and another"}]},
    "several texts": {"errors": [SAID]},
    "message": {"message": SAID, "code": 7},
    "msg": {"msg": SAID},
    "OAuth": {"error": "invalid_grant", "error_description": SAID},
    "Spring": {"status": 400, "error": "Bad Request", "message": SAID, "path": "/v1"},
    "RFC 9457": {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": SAID},
}
every_shape = pytest.mark.parametrize("body", SHAPES.values(), ids=list(SHAPES))


@every_dialect
@every_shape
@pytest.mark.parametrize("status", [400, 422, 500])
async def test_an_error_status_tells_what_the_body_says(dialect: Dialect, body: object, status: int) -> None:
    reply = reply_of(dialect, json.dumps(body).encode(), label="application/json", status=status)

    outcome = await asked(dialect, reply)

    assert outcome.kind == "provider_error"
    assert SAID in str(outcome.failure)


@every_dialect
@every_shape
@pytest.mark.parametrize("is_first", [True, False], ids=["at once", "in mid-stream"])
async def test_an_error_with_a_200_is_an_error_and_never_text(dialect: Dialect, body: object, is_first: bool) -> None:
    before = b"" if is_first else dialect.start + dialect.text("Hello")

    outcome = await asked(dialect, reply_of(dialect, before, dialect.spoken(body)))

    assert outcome.text == ("" if is_first else "Hello")
    assert outcome.failure is not None
    assert SAID in str(outcome.failure)


@every_event_stream
@every_shape
async def test_an_error_without_the_streams_framing_is_one_too(dialect: Dialect, body: object) -> None:
    steps = [dialect.start + dialect.text("Hello"), json.dumps(body).encode()]

    outcome = await asked(dialect, reply_of(dialect, *steps))

    assert outcome.text == "Hello"
    assert SAID in str(outcome.failure)


@every_dialect
async def test_the_label_of_an_errors_body_decides_nothing(dialect: Dialect) -> None:
    for body in (json.dumps({"detail": SAID}), f"data: {json.dumps({'error': SAID})}\n\n"):
        outcome = await asked(dialect, reply_of(dialect, body.encode(), label="text/plain", status=400))
        assert SAID in str(outcome.failure)


@every_dialect
@pytest.mark.parametrize(
    "page", [b"<html>secret</html>", b"no healthy upstream: secret", b'{"error": "<p>secret</p>"}']
)
async def test_a_page_of_somebody_on_the_way_is_never_told(dialect: Dialect, page: bytes) -> None:
    outcome = await asked(dialect, reply_of(dialect, page, label="text/html", status=502))

    assert outcome.kind == "provider_error"
    assert "secret" not in str(outcome.failure)


@every_dialect
async def test_a_long_explanation_is_cut(dialect: Dialect) -> None:
    body = json.dumps({"detail": "x " * 5_000}).encode()

    outcome = await asked(dialect, reply_of(dialect, body, status=400))

    assert outcome.failure is not None
    assert PROVIDER_MESSAGE_CHARS <= len(outcome.failure.message) < PROVIDER_MESSAGE_CHARS + 100


async def test_googles_sentence_about_a_model_is_told_as_such() -> None:
    said = "models/gemini-9 is not found for API version v1main, or is not supported for generateContent."
    body = json.dumps([{"error": {"code": 404, "message": said, "status": "NOT_FOUND"}}]).encode()

    outcome = await asked(OPENAI, reply_of(OPENAI, body, status=404))

    assert outcome.kind == "model_not_found"
    assert "gemini-9" in str(outcome.failure)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("INVALID_ARGUMENT", "provider_error"),
        ("PERMISSION_DENIED", "provider_auth"),
        ("NOT_FOUND", "model_not_found"),
        ("RESOURCE_EXHAUSTED", "provider_rate_limited"),
        ("UNAVAILABLE", "provider_unavailable"),
        ("DEADLINE_EXCEEDED", "provider_timeout"),
        ("401", "provider_auth"),
    ],
)
@every_event_stream
async def test_in_mid_stream_the_words_stand_for_the_status(dialect: Dialect, status: str, kind: str) -> None:
    error = {"error": {"message": "the model is so", "status": status}}

    assert (await asked(dialect, reply_of(dialect, dialect.spoken(error)))).kind == kind


async def test_a_key_that_google_calls_an_invalid_argument_is_a_refused_key() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    body = {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT", "details": details}}

    reply = reply_of(OPENAI, json.dumps([body]).encode(), status=400)

    assert (await asked(OPENAI, reply)).kind == "provider_auth"


_RETRY_INFO = [
    {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaMetric": "requests"}]},
    {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"},
]


@pytest.mark.parametrize("is_in_stream", [True, False], ids=["in the stream", "by status"])
@pytest.mark.parametrize(
    ("fields", "wait_ms"),
    [
        pytest.param({"status": "RESOURCE_EXHAUSTED", "details": _RETRY_INFO}, 34_500, id="Gemini"),
        pytest.param({"metadata": {"retry_after_seconds": 2, "provider_name": "x"}}, 2000, id="OpenRouter"),
        pytest.param({"metadata": {"retry_after_seconds": "soon"}}, None, id="no time"),
        pytest.param({"metadata": {"retry_after_seconds": -1, "retry_after_ms": "inf"}}, None, id="no real time"),
        pytest.param({"details": [{"retryDelay": "999999999s"}]}, 86_400_000, id="very long"),
        pytest.param({}, None, id="none"),
    ],
)
@every_event_stream
async def test_the_time_to_wait_may_be_in_the_body(
    dialect: Dialect, fields: dict[str, Any], wait_ms: int | None, is_in_stream: bool
) -> None:
    body = {"error": {"code": 429, "message": "slow down", **fields}}
    reply = dialect.spoken(body) if is_in_stream else json.dumps(body).encode()

    failure = (await asked(dialect, reply_of(dialect, reply, status=200 if is_in_stream else 429))).failure

    assert failure is not None
    assert (failure.kind, failure.retry_after_ms) == ("provider_rate_limited", wait_ms)


@every_event_stream
async def test_the_header_for_the_time_to_wait_precedes_the_body(dialect: Dialect) -> None:
    body = json.dumps({"error": {"message": "slow down", "metadata": {"retry_after_seconds": 2}}}).encode()

    failure = (await asked(dialect, reply_of(dialect, body, status=429, headers={"retry-after": "7"}))).failure

    assert failure is not None
    assert failure.retry_after_ms == 7000


@pytest.mark.parametrize("name", ["http_status_code", "http_code"])
@every_event_stream
async def test_in_mid_stream_a_status_may_have_a_name_of_its_own(dialect: Dialect, name: str) -> None:
    error = {"error": {"message": "Input validation error", name: 422}}

    failure = (await asked(dialect, reply_of(dialect, dialect.spoken(error)))).failure

    assert failure is not None
    assert "(422)" in failure.message
    assert not failure.retryable


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("OpenAI, vLLM", "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."),
        ("vLLM", "The decoder prompt (length 5951) is longer than the maximum model length of 4096."),
        ("SGLang", "The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
        # sgl-project/sglang#4048: what fits beside other requests, or a model's context less one token.
        ("SGLang, memory", "Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens)."),
        ("Poolside", "Input length 300000 exceeds the maximum allowed input length of 262144 tokens."),
        ("llama.cpp", "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it"),
        (
            "text-generation-inference",
            "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens",
        ),
        ("text-generation-inference, prompt", "`inputs` must have less than 4095 tokens. Given: 5000"),
        ("Anthropic", "prompt is too long: 210000 tokens > 200000 maximum"),
        ("Anthropic, with the limit", "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000"),
        ("Bedrock", "Input is too long for requested model."),
        ("xAI", "This model's maximum prompt length is 131072 but the request contains 135142 tokens."),
        ("Gemini", "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)."),
        ("GitHub", "prompt token count of 391491 exceeds the limit of 128000"),
        ("Alibaba", "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 129024]"),
        ("Kimi", "Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)"),
        ("Zhipu", "Prompt exceeds max length"),
        ("MiniMax", "invalid params, context window exceeds limit (2013)"),
        ("Groq", "Please reduce the length of the messages or completion."),
    ],
    ids=str,
)
@every_event_stream
async def test_a_prompt_that_is_too_long_is_told_as_such_in_any_providers_words(
    dialect: Dialect, server: str, said: str
) -> None:
    body = {"error": {"message": said, "type": "invalid_request_error"}}

    outcome = await asked(dialect, reply_of(dialect, json.dumps(body).encode(), status=400))

    assert (outcome.kind, outcome.requests) == ("context_too_long", 1)


BOTH = "This model's maximum context length is 8192 tokens. However, you requested"


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("OpenAI", f"{BOTH} 9000 tokens ({{messages}} in the messages, {{limit}} in the completion). Please reduce"),
        (
            "OpenAI, tools",
            f"{BOTH} 9 tokens ({{messages}} in the messages, 9 in the functions, {{limit}} in the completion)",
        ),
        ("OpenRouter", f"{BOTH} about 9000 tokens ({{messages}} of text input, {{limit}} in the output)."),
        (
            "vLLM",
            "'max_tokens' or 'max_completion_tokens' is too large: {limit}. This model's maximum context length is "
            "8192 tokens and your request has {messages} input tokens ({limit} > 8192 - {messages}).",
        ),
        ("vLLM, newer", f"{BOTH} {{limit}} output tokens and your prompt contains at least {{messages}} input tokens"),
        (
            "text-generation-inference",
            "`inputs` tokens + `max_new_tokens` must be <= 8192. Given: {messages} `inputs` tokens and {limit} "
            "`max_new_tokens`",
        ),
        (
            "Anthropic",
            "input length and `max_tokens` exceed context limit: {messages} + {limit} > 8192, decrease input length or "
            "`max_tokens` and try again",
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize(("messages", "limit", "expected"), [(1000, 8000, True), (7000, 2000, False)])
@every_event_stream
async def test_a_limit_of_the_completion_that_leaves_the_messages_no_room_is_told_as_the_reason(
    dialect: Dialect, server: str, said: str, *, messages: int, limit: int, expected: bool
) -> None:
    told = said.format(messages=messages, limit=limit)
    body = {"error": {"message": told, "type": "invalid_request_error"}}

    failure = (await asked(dialect, reply_of(dialect, json.dumps(body).encode(), status=400))).failure

    assert isinstance(failure, ContextTooLong)
    assert failure.is_by_completion is expected
    assert failure.message.startswith("max_tokens is too large") is expected
    assert failure.hint is not None
    assert ("the messages take 1000 of the 8192 tokens of" in failure.hint) is expected


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("llama.cpp", "Context size has been exceeded."),
        ("LM Studio", "The number of tokens to keep from the initial prompt is greater than the context length."),
        ("LM Studio, older", "However, the model is loaded with context length of only 32768 tokens"),
        ("a gateway", "litellm.InternalServerError: This model's maximum context length is 4096 tokens."),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_in_stream", [True, False], ids=["in the stream", "by status"])
@every_event_stream
async def test_a_prompt_that_is_too_long_is_told_as_such_without_a_status_that_says_it(
    dialect: Dialect, is_in_stream: bool, server: str, said: str
) -> None:
    body = {"error": {"message": said}, "message": said}
    told = b"event: error\ndata: " + json.dumps(body).encode() + b"\n\n" if is_in_stream else json.dumps(body).encode()

    outcome = await asked(dialect, reply_of(dialect, told, status=200 if is_in_stream else 500))

    assert outcome.kind == "context_too_long"


@pytest.mark.parametrize("said", ["failed to create context with model", "could not allocate the context's window"])
@every_event_stream
async def test_a_server_that_fails_with_its_context_says_nothing_of_the_prompt(dialect: Dialect, said: str) -> None:
    body = {"error": {"message": said, "code": 500}}

    failure = (await asked(dialect, reply_of(dialect, json.dumps(body).encode(), status=500))).failure

    assert failure is not None
    assert (failure.kind, failure.retryable) == ("provider_error", True)


@pytest.mark.parametrize(
    "said",
    [
        "max_tokens: 99999 > 8192, which is the maximum",
        "Range of max_tokens should be [1, 8192]",
        "Invalid 'messages[1].content': string too long. Expected a string with maximum length 10485760.",
        "too many stop sequences",
    ],
)
@every_event_stream
async def test_another_limit_is_not_the_contexts(dialect: Dialect, said: str) -> None:
    body = {"error": {"message": said, "type": "invalid_request_error"}}

    assert (await asked(dialect, reply_of(dialect, json.dumps(body).encode(), status=400))).kind == "provider_error"


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "after text"])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n", b""], ids=["blank line", "CR LF", "end of the body"])
@pytest.mark.parametrize("size", [1, 10_000])
@every_event_stream
async def test_an_error_in_a_field_of_that_name_is_one(dialect: Dialect, size: int, end: bytes, is_first: bool) -> None:
    """llama.cpp's server in versions of 2024 and 2025: `error: {…}` in place of `data:`."""
    said = b'error: {"code":400,"message":"the prompt is so and so","type":"invalid_request_error"}' + end
    before = b"" if is_first else dialect.start + dialect.text("Hello")

    outcome = await asked(dialect, reply_of(dialect, *cut(before + said, size)))

    assert (outcome.text, outcome.kind) == ("" if is_first else "Hello", "provider_error")
    assert "(400): the prompt is so and so" in str(outcome.failure)
    assert not (outcome.failure and outcome.failure.retryable)


async def test_an_error_that_is_null_is_none() -> None:
    line = {"message": {"content": "Hello"}, "error": None, "done": False}

    outcome = await asked(OLLAMA, reply_of(OLLAMA, OLLAMA.spoken(line) + OLLAMA.end("stop")))

    assert (outcome.failure, outcome.text) == (None, "Hello")


async def test_a_choice_that_broke_says_why() -> None:
    broken = {"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 502, "message": SAID}}]}

    outcome = await asked(OPENAI, reply_of(OPENAI, api.delta("Hello"), api.event(broken)))

    assert (outcome.text, outcome.kind) == ("Hello", "provider_error")
    assert SAID in str(outcome.failure)


@pytest.mark.parametrize("reason", [None, "stop", "error"])
@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"content": "lo"}, "Hello"),
        ({"reasoning": "Hm"}, "Hel"),
        ({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]}, "Hel"),
    ],
    ids=["text", "reasoning", "a call"],
)
async def test_a_choice_that_broke_says_why_also_beside_its_last_piece(
    said: dict[str, object], text: str, reason: str | None
) -> None:
    # OpenRouter's `error` of a choice.
    broken = {"choices": [{"index": 0, "delta": said, "finish_reason": reason, "error": {"message": SAID}}]}

    outcome = await asked(OPENAI, reply_of(OPENAI, api.delta("Hel"), api.event(broken), api.DONE))

    assert (outcome.text, outcome.kind) == (text, "provider_error")
    assert SAID in str(outcome.failure)


def test_a_field_that_is_named_is_known() -> None:
    assert error_details({"error": {"message": "x", "param": "temperature"}}).param == "temperature"
    assert error_details({"detail": [{"loc": ["body", "a", 0], "msg": "x"}]}).param == "a.0"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "errors", "message", "detail", "code", "loc", "metadata"]), inner)
    ),
    max_leaves=15,
)


@given(_JSON)
def test_no_shape_is_too_odd_to_be_read(body: object) -> None:
    said = error_details(decoded_error(json.dumps(body).encode()))

    assert isinstance(said.message, str)
    assert 400 <= said.status < 600


def test_an_error_nested_without_end_is_read_to_a_depth() -> None:
    body: object = "deep"
    for _ in range(1_000):
        body = {"error": body}

    assert error_details(body).message == ""
