"""The error responses of the routes as OpenAPI describes them: their kinds under each status, each with an example.

The exception tree (core/exceptions.py) has the kinds and their statuses. A route names the exceptions that it can
raise: `responses=error_responses(*GUARDED, StreamNotFound)`. http/error_handlers.py makes the responses.
"""

from typing import Any

from pydantic import BaseModel

from archer_ws.api.http.error_forms import ErrorBody
from archer_ws.api.openai.error_object import OpenAIErrorBody
from archer_ws.api.openapi.success_responses import STREAM_ID_HEADER, reference
from archer_ws.core.exceptions import (
    ArcherError,
    Conflict,
    ContentTooLarge,
    ContextTooLong,
    Draining,
    FieldError,
    FileNotFound,
    Forbidden,
    InternalError,
    InvalidParams,
    MethodNotFound,
    ModelNotFound,
    NotFound,
    OutputTooLong,
    Overloaded,
    ParseError,
    ProviderAuth,
    ProviderError,
    ProviderNotConfigured,
    ProviderQuota,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    SessionBusy,
    SessionNotFound,
    StorageFull,
    StorageUnavailable,
    StreamIdConflict,
    StreamNotFound,
    Unauthenticated,
    Unsupported,
    UpstreamTruncated,
    WorkerLost,
)
from archer_ws.examples.story import (
    FILE_ID,
    NO_KEY,
    OLLAMA_IS_AWAY,
    REQUEST_ID,
    SESSION_ID,
    SET_KEY,
    SKY_STREAM_ID,
    START_OLLAMA,
    SUNSET_STREAM_ID,
)

#: The errors of every route except the health probes, which pass the guards.
GUARDED = (Unauthenticated, Forbidden, InternalError)
#: The further errors of a route with a JSON body.
BODY = (ParseError, ContentTooLarge, InvalidParams)
#: The errors of any request to a provider.
PROVIDER = (
    ProviderError,
    ProviderTimeout,
    ProviderRateLimited,
    ProviderUnavailable,
    ProviderNotConfigured,
    ProviderAuth,
    ProviderQuota,
    ModelNotFound,
)
#: The errors that a generation may end with.
GENERATION = (
    *PROVIDER,
    InvalidParams,
    ContextTooLong,
    ContentTooLarge,
    Unsupported,
    UpstreamTruncated,
    OutputTooLong,
    WorkerLost,
    InternalError,
)


_ERRORS: tuple[ArcherError, ...] = (
    ParseError("the body is not valid JSON: EOF while parsing an object at line 1 column 14", hint="Send valid JSON."),
    InvalidParams(
        "messages: Field required",
        hint="Correct what `errors` names; see /docs.",
        errors=[FieldError(path="messages", message="Field required")],
    ),
    ContentTooLarge("the body is larger than 5242880 bytes", hint="Send less, or raise MAX_CONTENT_BYTES."),
    Unauthenticated("this server needs a credential", hint="Send the header Authorization: Bearer TOKEN."),
    Forbidden("pages of the origin https://elsewhere.example may not use this server", hint="Add it to CORS_ORIGINS."),
    NotFound("there is no provider 'zebra'", hint="Use one of: ollama, openai, anthropic, local."),
    StreamNotFound("there is no stream 'sky-9'", hint="It never existed, or its log was deleted.", stream_id="sky-9"),
    StreamIdConflict(
        f"stream '{SKY_STREAM_ID}' exists with other parameters",
        hint="Mint a fresh stream_id.",
        stream_id=SKY_STREAM_ID,
    ),
    Conflict(
        "messages.0.message_id: the session already has a message 'msg-7'",
        hint="Mint a fresh id for each message.",
        errors=[FieldError(path="messages.0.message_id", message="the session already has a message 'msg-7'")],
    ),
    FileNotFound(f"there is no file '{FILE_ID}'", hint="Upload it (POST /api/v1/files)."),
    StorageFull("your files use all the space that they may", hint="DELETE files that are no longer needed."),
    SessionNotFound(f"there is no session '{SESSION_ID}'", hint="Create it first: POST /api/v1/sessions."),
    SessionBusy(
        f"the session is busy with stream '{SUNSET_STREAM_ID}'",
        hint='Wait for it to end, cancel it, or send with on_busy "interrupt".',
        stream_id=SUNSET_STREAM_ID,
        retry_after_ms=1000,
    ),
    Overloaded("1000 streams are running, the most there may be", hint="Wait for some to end.", retry_after_ms=1000),
    Draining("the server is about to stop", hint="Connect again in a moment.", retry_after_ms=5000),
    StorageUnavailable(
        "the conversation store did not respond within 5 s", hint="Try again in a moment.", retry_after_ms=1000
    ),
    StorageFull("there is no room to store this conversation", hint="Delete conversations that are no longer needed."),
    ProviderError("openai failed (500)", hint="Try again.", retryable=True, provider="openai"),
    ProviderTimeout("openai did not answer in time", hint="Try again, or raise the time-outs.", provider="openai"),
    ProviderRateLimited("openai limits the rate", hint="Wait.", retry_after_ms=20_000, provider="openai"),
    ProviderUnavailable(OLLAMA_IS_AWAY, hint=START_OLLAMA, provider="ollama"),
    ProviderNotConfigured(NO_KEY, hint=SET_KEY, provider="openai"),
    ProviderAuth("openai refuses the API key", hint="Check OPENAI_API_KEY.", provider="openai"),
    ProviderQuota("the openai account is used up", hint="Check its plan and billing.", provider="openai"),
    ModelNotFound("ollama has no model 'llama9'", hint="Run: ollama pull llama9", provider="ollama"),
    ContextTooLong("the messages do not fit the model's context", hint="Send fewer messages.", provider="openai"),
    Unsupported(
        "messages.0.content.1: llama3.2 takes no pictures",
        hint="Send text alone.",
        errors=[FieldError(path="messages.0.content.1", message="llama3.2 takes no pictures")],
    ),
    UpstreamTruncated("openai's response broke off before its end", hint="Send the request again.", provider="openai"),
    WorkerLost(
        "the server stopped or crashed during the generation",
        hint="The text up to then is stored. To generate it again, send the request again with replace_from.",
        stream_id=SKY_STREAM_ID,
    ),
    OutputTooLong("the completion exceeds what a stream may hold", hint="Limit it with max_tokens."),
    InternalError("something went wrong inside the server", hint="Its log has the details under this request_id."),
)
EXAMPLES = {error.kind: error for error in _ERRORS}

_RETRY_AFTER = {
    "description": "When to retry, in whole seconds, if known: `retry_after_ms` rounded up.",
    "schema": {"type": "integer", "minimum": 0},
}
_WWW_AUTHENTICATE = {
    "description": "How to show a credential.",
    "required": True,
    "schema": {"type": "string", "const": "Bearer"},
}


def error_responses(
    *errors: type[ArcherError], generated: type[BaseModel] | None = None
) -> dict[int | str, dict[str, Any]]:
    """A route's `responses` for these errors: one for each status, with an example for each kind.

    If a route waits for a whole generation, a failed one is answered with `generated`: the error, and beside it the
    text that was generated. `MethodNotFound` is for clients of OpenAI's API at a route of ours, in their form.
    """
    by_status: dict[int | str, list[type[ArcherError]]] = {}
    for error in sorted(set(errors), key=lambda each: (each.http_status, each.kind)):
        by_status.setdefault(error.http_status, []).append(error)
    return {status: _described(same, generated) for status, same in by_status.items()}


def _described(errors: list[type[ArcherError]], generated: type[BaseModel] | None) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    schema: dict[str, Any] = reference(ErrorBody)
    if MethodNotFound in errors:
        schema = {"anyOf": [schema, reference(OpenAIErrorBody)]}
    if generated is not None and not set(GENERATION).isdisjoint(errors):
        schema = {"anyOf": [reference(generated), *schema.get("anyOf", [schema])]}
        headers["X-Stream-ID"] = {**STREAM_ID_HEADER, "required": False}
    if any(error.retryable for error in errors):
        headers["Retry-After"] = _RETRY_AFTER
    if Unauthenticated in errors:
        headers["WWW-Authenticate"] = _WWW_AUTHENTICATE
    return {
        "description": "; or ".join(_said(error) for error in errors),
        # Written out: FastAPI would use the media type of the route's success, which may be events.
        "content": {
            "application/json": {
                "schema": schema,
                "examples": {error.kind: _example(error) for error in errors if error.kind in EXAMPLES},
            }
        },
        **({"headers": headers} if headers else {}),
    }


def _said(error: type[ArcherError]) -> str:
    return f"`{error.kind}`" + (", which may be temporary" if error.retryable else "")


def _example(error: type[ArcherError]) -> dict[str, Any]:
    example = EXAMPLES[error.kind]
    return {
        "summary": f"{example.message[0].upper()}{example.message[1:]}",
        "value": ErrorBody(error=example.info(REQUEST_ID)).model_dump(mode="json"),
    }
