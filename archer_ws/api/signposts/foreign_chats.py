"""Recognises chat requests in OpenAI's form by their bodies.

Our own API ignores unknown fields: such a client would get a response that it misreads, after the model was paid for.
The tables at the head of this file have what no client of our own API sends.
"""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from archer_ws.api.http.scope import is_json
from archer_ws.core.exceptions import ArcherError
from archer_ws.core.strict_json import decode_json


def _is_nested(name: str) -> Callable[[Any], bool]:
    """Whether a tool, or the first of a list, has OpenAI's form: its fields are below a key of their own."""

    def judge(value: Any) -> bool:
        first = value[0] if isinstance(value, list) and value else value
        return isinstance(first, dict) and isinstance(first.get(name), dict)

    return judge


def _is_any(_: Any) -> bool:
    return True


def _has_foreign_parts(content: Any) -> bool:
    """Whether there are parts that our own API does not have: parts of text are the same in both."""
    return isinstance(content, list) and any(
        isinstance(part, dict) and (part.get("type") in _FOREIGN_PARTS or isinstance(part.get("file"), dict))
        for part in content
    )


_FOREIGN_PARTS = ("image_url", "input_audio", "input_text", "input_image", "input_file", "output_text", "refusal")
#: Fields that only clients of OpenAI's API send in a chat, with the test of their values.
_CHAT_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "stream_options": _is_any,
    "max_completion_tokens": _is_any,
    "n": _is_any,
    "logprobs": _is_any,
    "top_logprobs": _is_any,
    "logit_bias": _is_any,
    "functions": _is_any,
    "function_call": _is_any,
    "tools": _is_nested("function"),
    "tool_choice": _is_nested("function"),
}
#: The same for a message; checked only if our own API refuses the request.
_MESSAGE_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "content": _has_foreign_parts,
    "role": lambda role: role in ("developer", "function"),
    "tool_calls": _is_nested("function"),
    "tool_call_id": _is_any,
}


async def is_foreign_request(request: Request) -> bool:
    """Whether the request's body is such a chat; reads the body."""
    try:
        body = decode_json(await request.body()) if is_json(request.headers.get("content-type", "")) else None
    except (ArcherError, ClientDisconnect):
        return False
    return is_foreign_chat(body) or has_foreign_messages(body)


def is_foreign_chat(body: Any) -> bool:
    """Whether a chat's body has fields that only a client of OpenAI's API sends."""
    return isinstance(body, dict) and not _CHAT_FIELDS.keys().isdisjoint(body) and _has(body, _CHAT_FIELDS)


def has_foreign_messages(body: Any) -> bool:
    """Whether a chat that our own API refuses has messages in OpenAI's form."""
    messages = body.get("messages") if isinstance(body, dict) else None
    return isinstance(messages, list) and any(
        isinstance(message, dict) and _has(message, _MESSAGE_FIELDS) for message in messages
    )


def _has(given: Mapping[str, Any], fields: Mapping[str, Callable[[Any], bool]]) -> bool:
    # Null counts as missing.
    return any(given.get(name) is not None and is_foreign(given[name]) for name, is_foreign in fields.items())
