"""The errors for a path that does not exist, or that belongs to an API which the client does not use. Pure.

What to do is in `message`, or in the hint, which the form of the client's API appends to it: most clients show only
that.
"""

import re
from urllib.parse import quote

from starlette.types import Scope

from archer_ws.api.http.scope import SOCKET_PATH, header_values, path_of
from archer_ws.api.signposts.dialects import (
    PREFIX,
    Dialect,
    base_url,
    dialect_of,
    is_below_v1,
    is_familiar,
    is_responses,
    own_url,
)
from archer_ws.core.exceptions import MethodNotFound

#: How much of a path is repeated in a response, in characters.
_MAX_PATH_CHARS = 200
#: A base URL whose end was given twice, or with the whole path.
_DOUBLED = re.compile(
    rf"{PREFIX}(?:/.*)?(?:{PREFIX}/.*|/chat/completions/(?:chat/completions|completions|embeddings|models).*)",
    re.DOTALL,
)


def no_such_path(scope: Scope) -> MethodNotFound:
    """The error for a path that does not exist, or whose response this client would misread."""
    match dialect_of(scope):
        case Dialect.OPENAI:
            return _for_openai(scope)
        case Dialect.ANTHROPIC:
            return _not_served(scope, "Anthropic's Messages API")
        case Dialect.OLLAMA:
            return _not_served(scope, "Ollama's API")
    if path_of(scope) == SOCKET_PATH:
        return MethodNotFound(
            f"{SOCKET_PATH} is a WebSocket, and this request asks for none",
            hint="Connect with a WebSocket client. If this was one, a proxy before the server took the Upgrade header "
            "out: set it up to pass WebSockets on.",
        )
    if not is_familiar(path_of(scope)):
        return MethodNotFound(f"there is no {_path(scope)} here", hint=_hint(scope))
    right = base_url(scope)
    return MethodNotFound(
        f"there is no {_path(scope)} here: clients of OpenAI's API need the base URL {right}",
        hint=f"{right} is OpenAI's API, {own_url(scope)} the server's own. See /docs for all routes.",
    )


def no_such_socket(scope: Scope) -> MethodNotFound:
    """The error for a WebSocket at a path where OpenAI has one and this server has not."""
    return MethodNotFound(
        f"{_path(scope)} is not served over a WebSocket: send the request by POST",
        hint=f"Chat completions are at POST {PREFIX}/chat/completions: the base URL here is {base_url(scope)}.",
    )


def _for_openai(scope: Scope) -> MethodNotFound:
    path, right = path_of(scope), base_url(scope)
    if is_responses(path):
        return MethodNotFound(
            f"OpenAI's Responses API is not served here ({_path(scope)}), chat completions are",
            hint=f"Use POST {PREFIX}/chat/completions: the base URL here is {right}.",
        )
    if is_below_v1(path) and not _DOUBLED.fullmatch(path):
        return MethodNotFound(
            f"there is no {_path(scope)} here",
            hint=f"The OpenAI-compatible routes are POST {PREFIX}/chat/completions, GET {PREFIX}/models and "
            f"GET {PREFIX}/models/ID: the base URL here is {right}.",
        )
    return MethodNotFound(
        f"{_path(scope)} is not for clients of OpenAI's API: their base URL here is {right}",
        hint=f'Make the client with base_url="{right}" (Python) or baseURL: "{right}" (JavaScript).',
    )


def _not_served(scope: Scope, api: str) -> MethodNotFound:
    return MethodNotFound(
        f"{api} is not served here ({_path(scope)}); OpenAI's chat completions are, at the base URL {base_url(scope)}, "
        f"and the server's own API at {own_url(scope)}",
        hint="Set your application's provider to one that speaks OpenAI's API, with that base URL; or see /docs.",
    )


def _hint(scope: Scope) -> str:
    if b"websocket" in (value.lower() for value in header_values(scope, b"upgrade")):
        return f"The WebSocket is at {SOCKET_PATH}. See /docs for the routes."
    return "See /docs for the routes."


def _path(scope: Scope) -> str:
    path = quote(scope["path"], errors="replace")
    return path if len(path) <= _MAX_PATH_CHARS else path[: _MAX_PATH_CHARS - 1] + "…"
