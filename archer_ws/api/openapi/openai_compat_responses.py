"""The responses of the OpenAI-compatible routes as OpenAPI describes them: examples, headers, errors and events.

error_responses.py decides which error kinds a route returns and what they say; openai/error_object.py gives them
OpenAI's form.
"""

import json
from typing import Any

from archer_ws.api.openai.error_object import OpenAIErrorBody, openai_error, openai_status
from archer_ws.api.openai.ignored import HEADER
from archer_ws.api.openapi.error_responses import EXAMPLES
from archer_ws.api.openapi.success_responses import STREAM_ID_HEADER
from archer_ws.api.streaming.sse import MEDIA_TYPE
from archer_ws.core.exceptions import ArcherError, ErrorInfo, ProviderError, ProviderUnavailable
from archer_ws.examples.openai import CHUNKS
from archer_ws.examples.story import REQUEST_ID, SKY_STREAM_ID

_IGNORED_HEADER = {
    "description": "The fields of the request that the model does not get, separated by commas: fields without an "
    "effect, and parameters that the model does not accept.",
    "schema": {"type": "string"},
}
_HEADERS = {
    "X-Should-Retry": {
        "description": "`false` if a retry by OpenAI's SDKs would not help, or the server has retried already.",
        "schema": {"type": "string", "const": "false"},
    },
    "Retry-After": {"description": "When to retry, in whole seconds.", "schema": {"type": "integer", "minimum": 0}},
    "Retry-After-Ms": {"description": "The same, in milliseconds.", "schema": {"type": "integer", "minimum": 0}},
    HEADER: _IGNORED_HEADER,
}
_CANCELLED = ErrorInfo(
    kind="cancelled",
    message="the stream was cancelled before the completion was whole",
    hint=f"Somebody asked for the end of stream {SKY_STREAM_ID}.",
    retryable=False,
    request_id=REQUEST_ID,
)
#: Failures that no retry mends, of kinds that a retry may mend otherwise: their status is another here.
_FOR_GOOD = (
    ProviderError("openai refused the request (422): top_p is too large", retryable=False, provider="openai"),
    ProviderUnavailable(
        "no TLS connection to openai at https://api.openai.com/v1: the certificate or protocol was refused",
        hint="Check the address (http or https), the system clock and the certificate authorities.",
        retryable=False,
        provider="openai",
    ),
)

COMPLETION_RESPONSE: dict[str, Any] = {
    "description": "The completion, or with `stream: true` its chunks. A stream that failed or was cancelled ends with "
    "an event whose data is an error, and without `[DONE]`.",
    "headers": {"X-Stream-ID": STREAM_ID_HEADER, HEADER: _IGNORED_HEADER},
    "content": {
        MEDIA_TYPE: {
            # The schema of one event, as OpenAPI 3.1's tools expect.
            "schema": {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]},
            "example": "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n",
        }
    },
}


def openai_error_responses(*errors: type[ArcherError], cancellable: bool = False) -> dict[int | str, dict[str, Any]]:
    """A route's `responses` for these errors: one for each status, with an example for each kind.

    `cancellable`: whether another client can cancel the stream that the route waits for.
    """
    examples = [EXAMPLES[error.kind].info(REQUEST_ID) for error in errors]
    examples += [error.info(REQUEST_ID) for error in _FOR_GOOD if type(error) in errors]
    if cancellable:
        examples.append(_CANCELLED)
    by_status: dict[int, list[ErrorInfo]] = {}
    for info in sorted(examples, key=lambda each: each.kind):
        by_status.setdefault(openai_status(info.kind, retryable=info.retryable), []).append(info)
    return {status: _described(same) for status, same in sorted(by_status.items())}


def _described(errors: list[ErrorInfo]) -> dict[str, Any]:
    kinds = {info.kind: openai_error(info) for info in errors}
    return {
        "model": OpenAIErrorBody,
        "description": "; or ".join(f"`{body['error']['code']}`" for body in kinds.values()),
        "headers": _HEADERS,
        "content": {"application/json": {"examples": {kind: {"value": body} for kind, body in kinds.items()}}},
    }
