"""Where OpenAI's API lies on this server, and who asks for it. Pure: an ASGI scope in, answers out."""

from urllib.parse import quote

from starlette.types import Scope

from archer_ws.api.scope import header_values

#: Every route below this one speaks OpenAI's API, its errors included.
PREFIX = "/v1"
ROUTES_HINT = (
    f"The OpenAI-compatible routes are POST {PREFIX}/chat/completions, GET {PREFIX}/models and GET {PREFIX}/models/ID."
)
#: How the paths end that clients of OpenAI's API ask for: without our prefix they have the wrong base URL.
_FAMILIAR_ENDS = ("/chat/completions", "/completions", "/responses", "/embeddings", "/models")


def speaks_openai(scope: Scope) -> bool:
    """Whether the answer to this request must have OpenAI's form."""
    if scope["type"] != "http":
        return False
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path == PREFIX or path.startswith(PREFIX + "/")


def is_openai_sdk(scope: Scope) -> bool:
    """Whether one of OpenAI's own SDKs asks. Anthropic's have the same generator, and name their version."""
    return bool(header_values(scope, b"x-stainless-lang")) and not header_values(scope, b"anthropic-version")


def base_url(scope: Scope) -> str:
    """What a client must have as its base URL, seen from where this request was sent to."""
    hosts = header_values(scope, b"host")
    host = hosts[0].decode("ascii", "replace") if hosts else "HOST:PORT"
    return f"{scope['scheme']}://{host}{quote(scope.get('root_path', ''))}{PREFIX}"


def hint_for_missing(scope: Scope) -> str:
    """What to say about a path that leads nowhere."""
    if speaks_openai(scope):
        return ROUTES_HINT
    if scope["path"].endswith(_FAMILIAR_ENDS):
        return f"Clients of OpenAI's API need the base URL {base_url(scope)}. See /docs for all routes."
    return "See /docs for the routes."
