"""What the middleware reads from an ASGI scope, http and websocket alike."""

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from starlette.types import Scope

from archer_ws.core.ids import is_valid_id, new_id

#: The path of the socket.
SOCKET_PATH = "/api/v1/ws"
#: The path of files.
FILES_PATH = "/api/v1/files"
#: How many Content-Types are parsed once: nearly all are the same, and some may be long.
_TYPES_KEPT = 16


#: Where the scope of a request that has no header field twice may have them all by their names.
FIELDS = "archer.fields"


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """All values of a header; `name` in lower case, as ASGI servers send it."""
    fields: Mapping[bytes, bytes] | None = scope.get(FIELDS)
    if fields is not None:
        return [fields[name]] if name in fields else []
    return [value for key, value in scope["headers"] if key == name]


def is_health(scope: Scope) -> bool:
    """Whether the path is `/health` or below it, wherever the application is mounted."""
    path = path_of(scope)
    return path == "/health" or path.startswith("/health/")


def is_probe(scope: Scope) -> bool:
    """Whether this is a health probe that reveals nothing about the providers' accounts, and so may come from
    anywhere."""
    return is_health(scope) and path_of(scope) != "/health/providers"


def is_console_file(scope: Scope) -> bool:
    """Whether this reads one of the console's public files: a page's `import` can't send a credential."""
    return scope.get("method") in {"GET", "HEAD"} and path_of(scope).startswith("/console/")


def is_front_page(scope: Scope) -> bool:
    """Whether this asks for the page at `/` or `/console`."""
    return scope.get("method") in {"GET", "HEAD"} and path_of(scope) in {"", "/", "/console"}


def is_file(scope: Scope) -> bool:
    """Whether this is about uploaded files."""
    path = path_of(scope)
    return scope["type"] == "http" and (path == FILES_PATH or path.startswith(f"{FILES_PATH}/"))


def path_of(scope: Scope) -> str:
    """The path within the application, wherever that is mounted."""
    path: str = scope.get("path", "").removeprefix(scope.get("root_path", ""))
    return path


def state(scope: Scope) -> dict[str, Any]:
    """What Starlette shows as `request.state`."""
    values: dict[str, Any] = scope.setdefault("state", {})
    return values


def note_departure(scope: Scope) -> None:
    """The client has closed its connection, and it was noticed by another way than `receive`."""
    state(scope)["left_at"] = time.perf_counter()


def departed_at(scope: Scope) -> float | None:
    """When that was (`time.perf_counter`)."""
    left_at: float | None = scope["state"].get("left_at")
    return left_at


def request_id(scope: Scope) -> str:
    """The request's id, always the same: the client's `X-Request-ID` where that has an id's form, else a new one."""
    values = state(scope)
    known: str | None = values.get("request_id")
    if known is None:
        given = header_values(scope, b"x-request-id")
        asked = given[0].decode("latin-1") if len(given) == 1 else None
        known = values["request_id"] = asked if asked is not None and is_valid_id(asked) else new_id("req")
    return known


@lru_cache(_TYPES_KEPT)
def is_json(content_type: str) -> bool:
    """Whether a Content-Type header names JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))
