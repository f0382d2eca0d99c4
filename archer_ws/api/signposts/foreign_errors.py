"""Our errors in the forms of Anthropic's and Ollama's APIs, for their clients that came to a wrong address. Pure.

OpenAI's, which is served, is openai/errors.py's.
"""

from collections.abc import Mapping
from typing import Any

from archer_ws.core.exceptions import ErrorInfo

#: Anthropic's types by status (its documentation, "Errors"); others are `invalid_request_error` below 500.
_ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


def anthropic_error(info: ErrorInfo, status: int) -> dict[str, Any]:
    """The body of an error as Anthropic's API has it."""
    default = "api_error" if status >= 500 else "invalid_request_error"
    kind = _ANTHROPIC_TYPES.get(status, default)
    return {
        "type": "error",
        "error": {"type": kind, "message": sentences(info)},
        "request_id": info.request_id,
    }


def ollama_error(info: ErrorInfo) -> dict[str, Any]:
    """The body of an error as Ollama's API has it: its clients expect text."""
    return {"error": sentences(info)}


def sentences(info: ErrorInfo) -> str:
    """What happened and what to do, in one text."""
    return f"{info.message.rstrip('.')}. {info.hint}" if info.hint else info.message
