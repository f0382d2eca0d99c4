"""Which API a request is made for, and where OpenAI's lies on this server. Pure: an ASGI scope in, answers out.

A client of another API may have been given the wrong address here. It shows its user what went wrong only where that
stands in its own API's form, so the form of an error follows who asks. Told apart by what no client of our own API
sends; all of that stands in the tables at the head of this file.
"""

import re
from enum import Enum
from urllib.parse import quote

from starlette.types import Scope

from archer_ws.api.http.scope import header_values, path_of, state


class Dialect(Enum):
    """Whose API a request is made for."""

    ARCHER = "archer"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"


#: Every route below this one speaks OpenAI's API, its errors included.
PREFIX = "/v1"

#: Header fields that only one API's clients send, by the beginnings of their names. Anthropic's come first: its SDKs
#: have the same generator as OpenAI's.
_FIELDS: tuple[tuple[bytes, Dialect], ...] = (
    (b"anthropic-", Dialect.ANTHROPIC),
    (b"x-stainless-", Dialect.OPENAI),
    (b"openai-", Dialect.OPENAI),
)
_FIELD_PREFIXES = tuple(prefix for prefix, _ in _FIELDS)
#: What these clients call themselves, anywhere in User-Agent.
_AGENTS: tuple[tuple[re.Pattern[bytes], Dialect], ...] = (
    (re.compile(rb"\bai-sdk/anthropic/|\banthropic/|\bclaude-cli/", re.I), Dialect.ANTHROPIC),
    (re.compile(rb"\bai-sdk/|\b(?:async)?(?:azure)?openai/|\blitellm/|\bcodex_", re.I), Dialect.OPENAI),
    (re.compile(rb"\bollama-(?:python|js)/|\bollama/", re.I), Dialect.OLLAMA),
)
#: What one API's clients alone ask for, behind whatever base URL they were given.
_PATHS: tuple[tuple[re.Pattern[str], Dialect], ...] = (
    (re.compile(r".*/messages(?:/count_tokens|/batches(?:/.*)?)?|.*/v1/complete"), Dialect.ANTHROPIC),
    (re.compile(r".*/api/(?:chat|generate|tags|show|ps|version|embed|embeddings|pull|push|copy)"), Dialect.OLLAMA),
    (re.compile(r".*/responses(?:/.*)?"), Dialect.OPENAI),
)
#: What others ask for as well that were made for OpenAI's API, or for ours.
_FAMILIAR = re.compile(r".*/(?:chat/completions|completions|embeddings|models(?:/.*)?|moderations)")
#: Our own API, where a session's or a provider's name may look like one of those.
_OURS = re.compile(r"/api/v1/(?:chat|models|sessions|streams|ws|files)(?:/.*)?|/(?:health|console|docs)(?:/.*)?")


def dialect_of(scope: Scope) -> Dialect:
    """Whose form the answer to this request must have, where it is an error."""
    told: Dialect | None = state(scope).get("dialect")
    path = path_of(scope)
    below_v1 = Dialect.OPENAI if is_below_v1(path) else None
    # A library for many providers names itself, and asks each in its own way: then the path says more.
    by_path = dialect_of_path(path)
    return told or _by_fields(scope) or by_path or _by_agent(scope) or below_v1 or Dialect.ARCHER


def dialect_of_path(path: str) -> Dialect | None:
    """Whose clients alone ask for such a path."""
    if _OURS.fullmatch(path):
        return None
    return next((dialect for pattern, dialect in _PATHS if pattern.fullmatch(path)), None)


def dialect_of_caller(scope: Scope) -> Dialect:
    """Whose client asks, as far as the header fields tell."""
    return _by_fields(scope) or _by_agent(scope) or Dialect.ARCHER


def note_dialect(scope: Scope, dialect: Dialect) -> None:
    """From now on errors of this request have that form: its body tells."""
    state(scope)["dialect"] = dialect


def _by_fields(scope: Scope) -> Dialect | None:
    # Nearly all requests have none of them, and are through with one look at each field.
    told = [name for name, _ in scope["headers"] if name.startswith(_FIELD_PREFIXES)]
    return next((dialect for prefix, dialect in _FIELDS for name in told if name.startswith(prefix)), None)


def _by_agent(scope: Scope) -> Dialect | None:
    for agent in header_values(scope, b"user-agent"):
        for pattern, dialect in _AGENTS:
            if pattern.search(agent):
                return dialect
    return None


def is_below_v1(path: str) -> bool:
    """Whether a path is below `/v1`."""
    return path == PREFIX or path.startswith(PREFIX + "/")


def is_responses(path: str) -> bool:
    """Whether a path is one of OpenAI's Responses API, behind whatever base URL."""
    return dialect_of_path(path) is Dialect.OPENAI


def is_familiar(path: str) -> bool:
    """Whether clients of OpenAI's API ask for such a path, among others."""
    return _FAMILIAR.fullmatch(path) is not None and not _OURS.fullmatch(path)


def base_url(scope: Scope) -> str:
    """What a client of OpenAI's API must have as its base URL, seen from where this request was sent to."""
    return f"{_origin(scope)}{PREFIX}"


def own_url(scope: Scope) -> str:
    """Where our own API begins, seen from there."""
    return f"{_origin(scope)}/api/v1"


def _origin(scope: Scope) -> str:
    hosts = header_values(scope, b"host")
    host = hosts[0].decode("ascii", "replace") if hosts else "HOST:PORT"
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    return f"{scheme}://{host}{quote(scope.get('root_path', ''))}"
