"""Our errors in the form of OpenAI's API: its error object, status and headers, for all errors below `/v1`.

`message` has what happened and what to do. `code` is OpenAI's word if it has one, else our kind. The type follows from
the status. OpenAI's SDKs retry 408, 409, 429 and 5xx by themselves, and obey `x-should-retry: false`.
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

#: nginx's and Google's status for a cancelled request: no SDK retries it.
CANCELLED_STATUS = 499
_REFUSED_STATUS = 400
#: When a stopping server is likely to be back, in milliseconds.
_DRAINING_RETRY_MS = 5000

#: Statuses that differ from our protocol's. A missing key is 503 there, a refused one 502, and so is a completion that
#: is too long; but many clients retry a 5xx, some for minutes, and waiting does not bring a key.
_STATUS: Mapping[str, int] = {
    "invalid_params": 400,
    "provider_not_configured": 400,
    "provider_auth": 400,
    "output_too_long": 400,
    "provider_quota": 429,
    "cancelled": CANCELLED_STATUS,
}
#: Kinds that are a 400, for the same reason, where they are not retryable.
_REFUSABLE = frozenset({"provider_error", "provider_unavailable"})
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
#: The `param` of errors that name no field themselves.
_PARAM: Mapping[str, str] = {"model_not_found": "model", "context_too_long": "messages"}


class OpenAIError(BaseModel):
    """OpenAI's error object."""

    message: str = Field(description="What happened, and what to do.")
    type: str = Field(description="The class of errors, by the status.")
    param: str | None = Field(description="The parameter that the error is about.")
    code: str | None = Field(description="The error's code, for programs.")


class OpenAIErrorBody(BaseModel):
    """The body of every response below `/v1` that is not a success, and the last event of a stream that failed."""

    error: OpenAIError


class OpenAIErrors:
    """The form of errors for clients of OpenAI's API, at whatever path."""

    places = "param"

    def claims(self, scope: Scope) -> bool:
        """Whether a client of OpenAI's API sent the request, or its path is below `/v1`."""
        return dialect_of(scope) is Dialect.OPENAI

    def response(
        self, error: ArcherError, request_id: str, *, status: int | None, headers: Mapping[str, str]
    ) -> JSONResponse:
        """The response with OpenAI's error object."""
        return openai_error_response(error.info(request_id), status=status, headers=headers)


def openai_error_response(
    info: ErrorInfo, *, status: int | None = None, was_retried: bool = False, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The HTTP response for an error.

    Args:
        info: what went wrong.
        status: overrides the status of its kind.
        was_retried: whether the server has retried already.
        headers: further header fields.
    """
    status = status or openai_status(info.kind, retryable=info.retryable)
    told = retry_headers(info, status, was_retried=was_retried)
    return error_json(openai_error(info, status=status), info, status, {**told, **(headers or {})})


def openai_error(info: ErrorInfo, *, status: int | None = None) -> dict[str, Any]:
    """The body for an error; `status` overrides the status of its kind."""
    status = status or openai_status(info.kind, retryable=info.retryable)
    default_type = "server_error" if status >= 500 else "invalid_request_error"
    kind = "insufficient_quota" if info.kind == "provider_quota" else _TYPE_OF_STATUS.get(status, default_type)
    error = OpenAIError(
        message=sentences(in_openai_places(info)),
        type=kind,
        param=as_param(info.errors[0].path) if info.errors else _PARAM.get(info.kind),
        code=_CODE.get(info.kind, info.kind),
    )
    return OpenAIErrorBody(error=error).model_dump()


def openai_status(kind: str, *, retryable: bool = True) -> int:
    """The status of an error in OpenAI's API.

    Args:
        kind: its kind.
        retryable: whether the same request may succeed later.
    """
    if kind in _REFUSABLE and not retryable:
        return _REFUSED_STATUS
    return _STATUS.get(kind) or http_status(kind)


def retry_headers(info: ErrorInfo, status: int, *, was_retried: bool = False) -> dict[str, str]:
    """The headers that tell OpenAI's SDKs whether to retry, and when.

    They say not to after the server has retried by itself: two layers of retries multiply, and the client has already
    waited through ours.
    """
    if status in {408, 409, 429} or status >= 500:
        if was_retried or not info.retryable:
            return {"X-Should-Retry": "false"}
        if info.retry_after_ms is not None:
            return {"Retry-After-Ms": str(info.retry_after_ms)}
    return {}


def error_of_end(ended: StreamEnded, *, stream_id: str, request_id: str) -> ErrorInfo | None:
    """Why an ended stream is not a whole completion; None if it is one.

    OpenAI's API has no cancelled completion: with `stop`, half a text would pass for a whole one.
    """
    if ended.error is not None:
        return ended.error
    if ended.status != "cancelled":
        return None
    if ended.reason == "draining":
        stopped = Draining(
            "the server stopped before the completion was whole",
            hint="Send the request again in a moment.",
            retry_after_ms=_DRAINING_RETRY_MS,
        )
        return stopped.info(request_id, stream_id=stream_id)
    return ErrorInfo(
        kind="cancelled",
        message="the stream was cancelled before the completion was whole",
        hint=f"Somebody asked for the end of stream {stream_id}.",
        retryable=False,
        request_id=request_id,
        stream_id=stream_id,
    )
