"""Checks Host and Origin (protocol section 2) on the ASGI scope, for HTTP and WebSockets alike.

This keeps out pages of other sites, and names rebound to this address (DNS rebinding). credentials.py authenticates.
"""

import ipaddress
import re
from collections.abc import Collection, Mapping
from functools import lru_cache

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from archer_ws.api.http.error_handlers import refuse
from archer_ws.api.http.scope import header_values, is_file, is_probe, state
from archer_ws.core.exceptions import Forbidden

log = structlog.get_logger(__name__)

#: The origins of Tauri's web views, by platform. CORS must allow these as well.
TAURI_ORIGINS = ("tauri://localhost", "http://tauri.localhost", "https://tauri.localhost")

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/?#@\[\]]+)(?::(\d{1,5}))?")
_HTTP_SCHEME = {"ws": "http", "wss": "https"}
_DEFAULT_PORT = {"http": "80", "https": "443"}
#: What browsers say of requests of the server's own pages and of a person's (Fetch Metadata, section 2.3).
_OWN_SITES = {b"same-origin", b"none"}
#: How much of a client's header is repeated in a response or in the log, in characters.
_MAX_SHOWN_CHARS = 100
#: The most distinct hosts and origins that are logged: a client can invent any number of them.
_MAX_REPORTED = 1000
#: How many Host fields are parsed once: clients of one server send few, and some may send long ones.
_NAMES_KEPT = 16


class HostAndOriginGuard:
    """Refuses with 403 requests with a foreign Host, and requests of pages whose origin is not allowed.

    Browsers send no Origin with a page's images, frames and the like; Fetch Metadata and Referer tell whose these are.

    Health probes pass: they come from machines that know an address and no name. `request.state.is_foreign` tells that
    such a request would have been refused. The page about the providers' states is not one of them.

    Args:
        app: the application.
        allowed_hosts: names without a port, IPv6 in brackets, without wildcards.
        cors_origins: origins as browsers spell them, each exactly `scheme://host[:port]`.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str], cors_origins: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(_plain_host(host) for host in allowed_hosts)
        self._origins = frozenset((*cors_origins, *TAURI_ORIGINS))
        self._reported: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it; a WebSocket before its upgrade."""
        if scope["type"] in {"http", "websocket"} and (error := self._refusal(scope)) is not None:
            await refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def passes(self, _scope: Scope, fields: Mapping[bytes, bytes]) -> bool:
        """Whether the Host is one of ours, and no browser sent the request; there is no Origin."""
        return _name_in(fields.get(b"host", b"")) in self._hosts and b"sec-fetch-site" not in fields

    def _refusal(self, scope: Scope) -> Forbidden | None:
        if is_probe(scope):
            state(scope)["is_foreign"] = not (self._knows_host(scope) and self._knows_origin(scope))
            return None
        if not self._knows_host(scope):
            return self._wrong_host(scope)
        if self._knows_origin(scope):
            return None
        return self._wrong_origin(scope) if header_values(scope, b"origin") else self._unnamed_page(scope)

    def _knows_host(self, scope: Scope) -> bool:
        values = header_values(scope, b"host")
        return len(values) == 1 and _name_in(values[0]) in self._hosts

    def _knows_origin(self, scope: Scope) -> bool:
        """Whether no page sent the request, or one of a known origin. The Host must have been checked before."""
        values = header_values(scope, b"origin")
        if not values:
            return not _is_of_foreign_page(scope) or self._is_known(_referring_origin(scope), scope)
        return len(values) == 1 and self._is_known(values[0].decode("latin-1"), scope)

    def _is_known(self, origin: str, scope: Scope) -> bool:
        return origin != "null" and (origin in self._origins or origin == _own_origin(scope))

    def _wrong_host(self, scope: Scope) -> Forbidden:
        values = header_values(scope, b"host")
        named = _shown(values[0]) if values else "no host"
        self._report("host", named, "if it is yours, add it to ALLOWED_HOSTS")
        return Forbidden(
            f"this server does not answer to {named}",
            hint="Use one of the names in its setting ALLOWED_HOSTS, or add this one there.",
        )

    def _wrong_origin(self, scope: Scope) -> Forbidden:
        values = header_values(scope, b"origin")
        named = _shown(values[0])
        self._report("origin", named, "if it is yours, add it to CORS_ORIGINS")
        if values[0] == b"null":
            hint = "Pages opened from a file and sandboxed frames have no origin: serve the page over http."
        else:
            hint = "If the page is yours, add its origin to the server's setting CORS_ORIGINS."
        return Forbidden(f"pages of the origin {named} may not use this server", hint=hint)

    def _unnamed_page(self, scope: Scope) -> Forbidden:
        origin = _referring_origin(scope)
        named = _shown(origin.encode("latin-1")) if origin else "an origin that it does not tell"
        hint = (
            "If the page is yours, use fetch(), or the attribute crossorigin: then the browser tells the origin. "
            "Add that to the server's setting CORS_ORIGINS, unless it is Tauri's."
        )
        self._report("origin", named, hint)
        return Forbidden(f"a page of {named} may not load this", hint=hint)

    def _report(self, what: str, value: str, hint: str) -> None:
        """Log each value once: what a misconfigured page sends repeatedly must not fill the log."""
        key = f"{what} {value}"
        if key not in self._reported and len(self._reported) < _MAX_REPORTED:
            self._reported.add(key)
            log.warning(f"{what}_refused", **{what: value}, hint=hint)


@lru_cache(_NAMES_KEPT)
def _name_in(field: bytes) -> str | None:
    """The host that a Host field names, without its port and in the form for comparison; None if it is not valid."""
    match = _HOST.fullmatch(field.decode("latin-1"))
    return None if match is None else _plain_host(match[1])


def _plain_host(host: str) -> str:
    """A host in the form for comparison: lower case, no trailing dot, IPv6 in brackets and in its shortest form."""
    host = host.lower()
    if host.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            return host
    return host.removesuffix(".")


def _own_origin(scope: Scope) -> str:
    """The origin of a page that this server sent; browsers leave out a scheme's default port.

    Only valid once the Host header has been checked: on its own it is whatever the client sends.
    """
    scheme: str = scope["scheme"]
    scheme = _HTTP_SCHEME.get(scheme, scheme)
    host = header_values(scope, b"host")[0].decode("latin-1").lower()
    return f"{scheme}://{host.removesuffix(':' + _DEFAULT_PORT.get(scheme, ''))}"


def _is_of_foreign_page(scope: Scope) -> bool:
    """Whether a page of another origin sent this request, which has no Origin: an image, a frame, a prefetch. The page
    can't read the response, but it learns whether there is one.

    A link to the server is not such a request, but for one to a file: the page that opens it sees whether it becomes a
    download, and a file's id is a hash of its content.
    """
    site = header_values(scope, b"sec-fetch-site")
    if not site or _OWN_SITES.issuperset(site):
        return False
    mode, destination = header_values(scope, b"sec-fetch-mode"), header_values(scope, b"sec-fetch-dest")
    return (mode, destination) != ([b"navigate"], [b"document"]) or is_file(scope)


def _referring_origin(scope: Scope) -> str:
    """The origin of the page that a browser names in Referer; a page can hide it, and can't invent it."""
    values = header_values(scope, b"referer")
    return "/".join(values[0].decode("latin-1").split("/", 3)[:3]) if len(values) == 1 else ""


def _shown(value: bytes) -> str:
    text = value.decode("ascii", "replace")
    return text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 1] + "…"
