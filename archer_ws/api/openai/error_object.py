"""Our errors as OpenAI's API tells them: their object, status and headers, and the form of all errors below `/v1`.

`message` holds what happened and what to do. `code` is OpenAI's word where it has one, else our kind. The types follow
the status. Its SDKs try 408, 409, 429 and 5xx again on their own, and obey `x-should-retry: false`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse
from starlette.types import Scope

from archer_ws.api.http.error_forms import error_json
from archer_ws.api.openai.places import as_param, in_openai_places
from archer_ws.api.signposts.dialects import Dialect, dialect_of
from archer_ws.api.signposts.foreign_errors import sentences
from archer_ws.core.exceptions import ArcherError, Draining, ErrorInfo, http_status
from archer_ws.sessions.streams.events import StreamEnded

#: nginx's and Google's status for a request that was cancelled: no SDK tries it again.
CANCELLED_STATUS = 499
#: When a server that stops is likely to be back, in milliseconds.
_DRAINING_RETRY_MS = 5000

#: Where OpenAI answers with another status than our protocol. A missing key is 503 there; but clients try a 5xx again,
#: and no time brings a key.
_STATUS: Mapping[str, int] = {
    "invalid_params": 400,
    "provider_not_configured": 400,
    "provider_quota": 429,
    "cancelled": CANCELLED_STATUS,
}
_TYPE_OF_STATUS: Mapping[int, str] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODE: Mapping[str, str] = {
    "unauthenticated": "invalid_api_key",
    "invalid_params": "invalid_value",
    "unsupported": "unsupported_parameter",
    "context_too_long": "context_length_exceeded",
    "provider_quota": "insufficient_quota",
    "provider_rate_limited": "rate_limit_exceeded",
    "too_many_streams": "rate_limit_exceeded",
}
#: What an error is about where its own places do not tell.
_PARAM: Mapping[str, str] = {"model_not_found": "model", "context_too_long": "messages"}


class OpenAIError(BaseModel):
    """OpenAI's error object."""

    message: str = Field(description="What happened, and what to do.")
    type: str = Field(description="A class of errors, by its status.")
    param: str | None = Field(description="The parameter it is about.")
    code: str | None = Field(description="What to switch on.")


class OpenAIErrorBody(BaseModel):
    """The body of every answer below `/v1` that is not a success, and a stream's last event where it failed."""

    error: OpenAIError


class OpenAIErrors:
    """The form of errors for clients of OpenAI's API, wherever they ask."""

    places = "param"

    def claims(self, scope: Scope) -> bool:
        """Whether such a client asks, or anybody below `/v1`."""
        return dialect_of(scope) is Dialect.OPENAI

    def response(
        self, error: ArcherError, request_id: str, *, status: int | None, headers: Mapping[str, str]
    ) -> JSONResponse:
        """Their error object."""
        return openai_error_response(error.info(request_id), status=status, headers=headers)


def openai_error_response(
    info: ErrorInfo, *, status: int | None = None, was_retried: bool = False, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The HTTP answer for an error.

    Args:
        info: what went wrong.
        status: overrides what its kind says.
        was_retried: whether the server has tried again before it gave up.
        headers: further header fields.
    """
    status = status or openai_status(info.kind)
    told = retry_headers(info, status, was_retried=was_retried)
    return error_json(openai_error(info, status=status), info, status, {**told, **(headers or {})})


def openai_error(info: ErrorInfo, *, status: int | None = None) -> dict[str, Any]:
    """The body for an error; `status` overrides what its kind says."""
    status = status or openai_status(info.kind)
    default_type = "server_error" if status >= 500 else "invalid_request_error"
    kind = "insufficient_quota" if info.kind == "provider_quota" else _TYPE_OF_STATUS.get(status, default_type)
    error = OpenAIError(
        message=sentences(in_openai_places(info)),
        type=kind,
        param=as_param(info.errors[0].path) if info.errors else _PARAM.get(info.kind),
        code=_CODE.get(info.kind, info.kind),
    )
    return OpenAIErrorBody(error=error).model_dump()


def openai_status(kind: str) -> int:
    """The status that OpenAI's API has for a kind."""
    return _STATUS.get(kind) or http_status(kind)


def retry_headers(info: ErrorInfo, status: int, *, was_retried: bool = False) -> dict[str, str]:
    """What tells OpenAI's SDKs whether to try again, and when.

    Not where the server has tried again by itself: two layers that retry multiply, and the caller has waited through
    our pauses already.
    """
    if status in {408, 409, 429} or status >= 500:
        if was_retried or not info.retryable:
            return {"X-Should-Retry": "false"}
        if info.retry_after_ms is not None:
            return {"Retry-After-Ms": str(info.retry_after_ms)}
    return {}


def error_of_end(ended: StreamEnded, *, stream_id: str, request_id: str) -> ErrorInfo | None:
    """Why an ended stream must not look like a whole answer; None where it is one.

    OpenAI's API knows no cancelled answer: told as `stop`, half a text would pass for a whole one.
    """
    if ended.error is not None:
        return ended.error
    if ended.status != "cancelled":
        return None
    if ended.reason == "draining":
        stopped = Draining(
            "the server stopped before the answer was whole",
            hint="Send the request again in a moment.",
            retry_after_ms=_DRAINING_RETRY_MS,
        )
        return stopped.info(request_id, stream_id=stream_id)
    return ErrorInfo(
        kind="cancelled",
        message="the answer was cancelled before it was whole",
        hint=f"Somebody asked for the end of stream {stream_id}.",
        retryable=False,
        request_id=request_id,
        stream_id=stream_id,
    )
