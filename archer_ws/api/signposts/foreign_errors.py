"""Our errors in the forms of Anthropic's and Ollama's APIs, for their clients that use a wrong address.

openai/error_object.py has the form of OpenAI's API, which this server supports.
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Scope

from archer_ws.api.http.error_forms import error_json
from archer_ws.api.signposts.dialects import Dialect, dialect_of
from archer_ws.core.exceptions import ArcherError, ErrorInfo

#: Anthropic's types by status (its documentation, "Errors"); other statuses below 500 are `invalid_request_error`.
_ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


class AnthropicErrors:
    """The form of errors for clients of Anthropic's API."""

    places = "message"

    def claims(self, scope: Scope) -> bool:
        """Whether a client of Anthropic's API sent the request."""
        return dialect_of(scope) is Dialect.ANTHROPIC

    def response(
        self, error: ArcherError, request_id: str, *, status: int | None, headers: Mapping[str, str]
    ) -> JSONResponse:
        """The response with Anthropic's error object."""
        info, status = error.info(request_id), status or error.http_status
        return error_json(anthropic_error(info, status), info, status, headers)


class OllamaErrors:
    """The form of errors for clients of Ollama's API."""

    places = "error"

    def claims(self, scope: Scope) -> bool:
        """Whether a client of Ollama's API sent the request."""
        return dialect_of(scope) is Dialect.OLLAMA

    def response(
        self, error: ArcherError, request_id: str, *, status: int | None, headers: Mapping[str, str]
    ) -> JSONResponse:
        """The response with Ollama's error text."""
        info = error.info(request_id)
        return error_json(ollama_error(info), info, status or error.http_status, headers)


def anthropic_error(info: ErrorInfo, status: int) -> dict[str, Any]:
    """The body of an error in Anthropic's form."""
    default = "api_error" if status >= 500 else "invalid_request_error"
    kind = _ANTHROPIC_TYPES.get(status, default)
    return {
        "type": "error",
        "error": {"type": kind, "message": sentences(info)},
        "request_id": info.request_id,
    }


def ollama_error(info: ErrorInfo) -> dict[str, Any]:
    """The body of an error in Ollama's form: its clients expect text."""
    return {"error": sentences(info)}


def sentences(info: ErrorInfo) -> str:
    """What happened and what to do, as one text."""
    return f"{info.message.rstrip('.')}. {info.hint}" if info.hint else info.message
