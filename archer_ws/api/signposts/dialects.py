"""Which API a request is made for, and the base URLs of this server's APIs. Pure: an ASGI scope in, values out.

A client of another API may have been given a wrong address. It shows its user an error only if that has its own API's
form, so the form of an error follows the client. Clients are recognised by what no client of our own API sends; the
tables at the head of this file have all of that.
"""

import re
from collections.abc import Collection, Mapping
from enum import Enum
from functools import lru_cache
from urllib.parse import quote

from starlette.types import Scope

from archer_ws.api.http.scope import header_values, path_of, state


class Dialect(Enum):
    """The API that a request is made for."""

    ARCHER = "archer"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"


#: The same members. Before Python 3.12, reading one from its enumeration is a call, and each request is compared.
ARCHER, OPENAI = Dialect.ARCHER, Dialect.OPENAI

#: Every route below this path has OpenAI's form, its errors included.
PREFIX = "/v1"

#: Header fields that only one API's clients send, by the beginnings of their names. Anthropic's come first: its SDKs
#: come from the same generator as OpenAI's.
_FIELDS: tuple[tuple[bytes, Dialect], ...] = (
    (b"anthropic-", Dialect.ANTHROPIC),
    (b"x-stainless-", Dialect.OPENAI),
    (b"openai-", Dialect.OPENAI),
)
#: The names of these clients, anywhere in User-Agent.
_AGENTS: tuple[tuple[re.Pattern[bytes], Dialect], ...] = (
    (re.compile(rb"\bai-sdk/anthropic/|\banthropic/|\bclaude-cli/", re.I), Dialect.ANTHROPIC),
    (re.compile(rb"\bai-sdk/|\b(?:async)?(?:azure)?openai/|\blitellm/|\bcodex_", re.I), Dialect.OPENAI),
    (re.compile(rb"\bollama-(?:python|js)/|\bollama/", re.I), Dialect.OLLAMA),
)
#: How many of them, and of their requests' names of fields, are searched once: a server has few kinds of clients, and
#: some may send long ones.
_AGENTS_KEPT = 16
#: Paths that only one API's clients request, after whatever base URL they were given. A path may have line ends (%0A):
#: if `.` did not match them, such a path would be searched again from each place, for seconds.
_PATHS: tuple[tuple[re.Pattern[str], Dialect], ...] = (
    (re.compile(r"(?s).*/messages(?:/count_tokens|/batches(?:/.*)?)?|.*/v1/complete"), Dialect.ANTHROPIC),
    (re.compile(r"(?s).*/api/(?:chat|generate|tags|show|ps|version|embed|embeddings|pull|push|copy)"), Dialect.OLLAMA),
    (re.compile(r"(?s).*/responses(?:/.*)?"), Dialect.OPENAI),
)
#: Paths that clients of OpenAI's API request, and clients of other APIs too.
_FAMILIAR = re.compile(r"(?s).*/(?:chat/completions|completions|embeddings|models(?:/.*)?|moderations)")
#: Our own API, where the name of a session or a provider may look like one of these paths.
_OURS = re.compile(
    r"/api/v1/(?:chat|models|sessions|streams|ws|files)(?:/.*)?|/(?:health|console|docs)(?:/.*)?", re.DOTALL
)


def dialect_of(scope: Scope) -> Dialect:
    """The form that an error response to this request must have."""
    told: Dialect | None = state(scope).get("dialect")
    path = path_of(scope)
    below_v1 = Dialect.OPENAI if is_below_v1(path) else None
    # A library for many providers sends its own name with each provider's requests: then the path decides.
    by_path = dialect_of_path(path)
    own, agent = _by_fields(scope["headers"])
    return told or own or by_path or agent or below_v1 or Dialect.ARCHER


def dialect_of_path(path: str) -> Dialect | None:
    """The only API whose clients request such a path, if there is one."""
    if _OURS.fullmatch(path):
        return None
    return next((dialect for pattern, dialect in _PATHS if pattern.fullmatch(path)), None)


def dialect_of_fields(fields: Collection[tuple[bytes, bytes]]) -> Dialect:
    """The API whose client sent these header fields, as far as they show it."""
    own, agent = _by_fields(fields)
    return own or agent or ARCHER


def dialect_of_sole_fields(fields: Mapping[bytes, bytes]) -> Dialect:
    """The same, of a request that has no header field twice."""
    agent = fields.get(b"user-agent")
    return _dialect_of_names(tuple(fields)) or (agent and _dialect_of_agent(agent)) or ARCHER


def note_dialect(scope: Scope, dialect: Dialect) -> None:
    """From now on errors of this request have that form, because of its body."""
    state(scope)["dialect"] = dialect


def _by_fields(fields: Collection[tuple[bytes, bytes]]) -> tuple[Dialect | None, Dialect | None]:
    """The API whose clients alone send one of these fields, and the one whose client User-Agent names."""
    names = tuple([name for name, _ in fields])
    if b"user-agent" not in names:
        return _dialect_of_names(names), None
    agents = (_dialect_of_agent(value) for name, value in fields if name == b"user-agent")
    return _dialect_of_names(names), next(filter(None, agents), None)


@lru_cache(_AGENTS_KEPT)
def _dialect_of_names(names: tuple[bytes, ...]) -> Dialect | None:
    return next((dialect for prefix, dialect in _FIELDS for name in names if name.startswith(prefix)), None)


@lru_cache(_AGENTS_KEPT)
def _dialect_of_agent(agent: bytes) -> Dialect | None:
    return next((dialect for pattern, dialect in _AGENTS if pattern.search(agent)), None)


def is_below_v1(path: str) -> bool:
    """Whether a path is below `/v1`."""
    return path == PREFIX or path.startswith(PREFIX + "/")


def is_responses(path: str) -> bool:
    """Whether a path is one of OpenAI's Responses API, after whatever base URL."""
    return dialect_of_path(path) is Dialect.OPENAI


def is_familiar(path: str) -> bool:
    """Whether clients of OpenAI's API, among others, request such a path."""
    return _FAMILIAR.fullmatch(path) is not None and not _OURS.fullmatch(path)


def base_url(scope: Scope) -> str:
    """The base URL of OpenAI's API on this server, as the sender of this request sees it."""
    return f"{_origin(scope)}{PREFIX}"


def own_url(scope: Scope) -> str:
    """The base URL of our own API, as the sender of this request sees it."""
    return f"{_origin(scope)}/api/v1"


def _origin(scope: Scope) -> str:
    hosts = header_values(scope, b"host")
    host = hosts[0].decode("ascii", "replace") if hosts else "HOST:PORT"
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    return f"{scheme}://{host}{quote(scope.get('root_path', ''))}"
