"""Who may speak to this server: the checks of protocol section 2, on the ASGI scope, for HTTP and WebSockets alike.

`HostAndOriginGuard` keeps out pages of other sites and names rebound to this address (DNS rebinding);
`CredentialGuard` says who is asking; `TicketOffice` gives browsers, which cannot set a header on a WebSocket, something
to show instead. What a principal may do is not decided here.
"""

import hmac
import ipaddress
import re
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from archer_ws.api.http.errors import refuse
from archer_ws.api.http.scope import (
    header_values,
    is_console_file,
    is_front_page,
    is_health,
    is_probe,
    state,
)
from archer_ws.api.security.seats import seat_of
from archer_ws.core.exceptions import Forbidden, Unauthenticated

log = structlog.get_logger(__name__)

#: What Tauri's web views send as their origin, by platform. CORS must allow these as well.
TAURI_ORIGINS = ("tauri://localhost", "http://tauri.localhost", "https://tauri.localhost")
#: Who everybody is where no token is configured.
LOCAL_PRINCIPAL = "local"

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/?#@\[\]]+)(?::(\d{1,5}))?")
_HTTP_SCHEME = {"ws": "http", "wss": "https"}
_DEFAULT_PORT = {"http": "80", "https": "443"}
#: The most characters of a client's header that are repeated, in an answer or in a log.
_MAX_SHOWN_CHARS = 100
#: The most distinct hosts and origins that get a line: a client can invent any number of them.
_MAX_REPORTED = 1000


class HostAndOriginGuard:
    """Refuses with 403 what was sent to another name than ours, or by a page that may not call us.

    Health probes pass: they come from machines that know an address and no name. What tells of the providers is none.

    Args:
        app: what to guard.
        allowed_hosts: names without a port, IPv6 in brackets, each written out.
        cors_origins: origins as browsers spell them, each exactly `scheme://host[:port]`.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str], cors_origins: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(_plain_host(host) for host in allowed_hosts)
        self._origins = frozenset((*cors_origins, *TAURI_ORIGINS))
        self._reported: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it; a WebSocket before its upgrade."""
        if scope["type"] in {"http", "websocket"} and not is_probe(scope):
            error = self._wrong_host(scope) or self._wrong_origin(scope)
            if error is not None:
                await refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _wrong_host(self, scope: Scope) -> Forbidden | None:
        values = header_values(scope, b"host")
        match = _HOST.fullmatch(values[0].decode("latin-1")) if len(values) == 1 else None
        if match is not None and _plain_host(match[1]) in self._hosts:
            return None
        named = _shown(values[0]) if values else "no host"
        self._report("host", named, "ALLOWED_HOSTS")
        return Forbidden(
            f"this server does not answer to {named}",
            hint="Use one of the names in its setting ALLOWED_HOSTS, or add this one there.",
        )

    def _wrong_origin(self, scope: Scope) -> Forbidden | None:
        values = header_values(scope, b"origin")
        if not values:
            return None
        origin = values[0].decode("latin-1")
        if len(values) == 1 and origin != "null" and (origin in self._origins or origin == _own_origin(scope)):
            return None
        named = _shown(values[0])
        self._report("origin", named, "CORS_ORIGINS")
        if origin == "null":
            hint = "Pages opened from a file and sandboxed frames have no origin: serve the page over http."
        else:
            hint = "If the page is yours, add its origin to the server's setting CORS_ORIGINS."
        return Forbidden(f"pages of the origin {named} may not use this server", hint=hint)

    def _report(self, what: str, value: str, setting: str) -> None:
        """One line for each value: what a misconfigured page sends over and over must not fill the log."""
        key = f"{what} {value}"
        if key not in self._reported and len(self._reported) < _MAX_REPORTED:
            self._reported.add(key)
            log.warning(f"{what}_refused", **{what: value}, hint=f"if it is yours, add it to {setting}")


def _plain_host(host: str) -> str:
    """A host as it is compared: lower case, no trailing dot, IPv6 in brackets and in its shortest form."""
    host = host.lower()
    if host.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            return host
    return host.removesuffix(".")


def _own_origin(scope: Scope) -> str:
    """The origin of a page that came from here: browsers leave out a scheme's default port.

    Only of use once the Host header has been judged: by itself it is whatever the client says.
    """
    scheme: str = scope["scheme"]
    scheme = _HTTP_SCHEME.get(scheme, scheme)
    host = header_values(scope, b"host")[0].decode("latin-1").lower()
    return f"{scheme}://{host.removesuffix(':' + _DEFAULT_PORT.get(scheme, ''))}"


def _shown(value: bytes) -> str:
    text = value.decode("ascii", "replace")
    return text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 1] + "…"


class Credentials:
    """The configured tokens, and whose they are.

    Args:
        tokens: principal → token. Empty: no credential is needed, and everybody is `LOCAL_PRINCIPAL`.

    Raises:
        ValueError: a token is empty, which an empty header would match.
    """

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._tokens = tuple((name, token.encode()) for name, token in tokens.items())
        for name, token in self._tokens:
            if not token:
                raise ValueError(f"the token of {name} is empty")

    @property
    def required(self) -> bool:
        """Whether a credential is needed at all."""
        return bool(self._tokens)

    def principal_of(self, token: str | bytes) -> str | None:
        """Whose token this is, or None.

        Every configured token is compared, each in constant time, so that how long it takes tells nothing of them.
        """
        given = token.encode("utf-8", "replace") if isinstance(token, str) else token
        found = None
        for name, expected in self._tokens:
            if hmac.compare_digest(given, expected):
                found = name
        return found


class CredentialGuard:
    """Finds the principal and puts it into `request.state.principal`; refuses HTTP without one with 401.

    What tells of health needs none, nor do the page at `/` and the console's files. A WebSocket always passes: it may
    still show its credential in the first message or as a ticket. Its `principal` is then None, and
    `credential_refused` tells whether its header was wrong or absent.
    """

    def __init__(self, app: ASGIApp, tokens: Mapping[str, str]) -> None:
        self._app = app
        self._credentials = Credentials(tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its principal, or refuse it."""
        if scope["type"] in {"http", "websocket"}:
            shown = header_values(scope, b"authorization")
            principal = self._principal(shown)
            state(scope)["principal"] = principal
            if principal is not None and (seat := seat_of(scope)) is not None:
                seat.vouch()
            state(scope)["credential_refused"] = principal is None and bool(shown)
            is_open = is_health(scope) or is_console_file(scope) or is_front_page(scope)
            if principal is None and scope["type"] == "http" and not is_open:
                await refuse(_unauthenticated(bool(shown)), scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _principal(self, shown: list[bytes]) -> str | None:
        if not self._credentials.required:
            return LOCAL_PRINCIPAL
        if len(shown) != 1:
            return None
        scheme, _, token = shown[0].partition(b" ")
        return self._credentials.principal_of(token.strip()) if scheme.lower() == b"bearer" else None


def _unauthenticated(wrong: bool) -> Unauthenticated:
    return Unauthenticated(
        "the credential is not one this server knows" if wrong else "this server needs a credential",
        hint="Send the header Authorization: Bearer TOKEN, with the token of the server's setting AUTH_TOKEN or "
        "AUTH_TOKENS.",
    )


class TicketGone(Unauthenticated):
    """The ticket is unknown, used or expired: a new one will do."""


class TicketMisplaced(Unauthenticated):
    """The ticket is good, but for another origin; it is used up by this."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a browser shows in place of a credential: `token` is URL-safe, and good once within `expires_in_s`."""

    token: str
    expires_in_s: int


@dataclass(frozen=True, slots=True)
class _Issued:
    principal: str
    origin: str | None
    expires_at: float


class TicketOffice:
    """Issues and redeems tickets: single use, short-lived, bound to the origin they were issued for.

    Args:
        lifetime_s: how long a ticket is good, in seconds.
        limit: the most outstanding tickets; one more drops the oldest of the principal who has the most.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, *, lifetime_s: int = 30, limit: int = 4096, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime_s = lifetime_s
        self._limit = limit
        self._clock = clock
        # Oldest first, and so soonest expired first.
        self._outstanding: OrderedDict[str, _Issued] = OrderedDict()

    def issue(self, principal: str, origin: str | None) -> Ticket:
        """A new ticket for the principal, to be shown by a page of `origin` (None: by what is no page)."""
        now = self._clock()
        while self._outstanding and next(iter(self._outstanding.values())).expires_at <= now:
            self._outstanding.popitem(last=False)
        if len(self._outstanding) >= self._limit:
            owners = Counter(issued.principal for issued in self._outstanding.values())
            greediest, _ = owners.most_common(1)[0]
            del self._outstanding[
                next(token for token, issued in self._outstanding.items() if issued.principal == greediest)
            ]
        # 256 random bits: looking one up in a table tells nothing that could be guessed from.
        token = secrets.token_urlsafe(32)
        self._outstanding[token] = _Issued(principal, origin, now + self._lifetime_s)
        return Ticket(token, self._lifetime_s)

    def redeem(self, token: str, origin: str | None) -> str:
        """The principal the ticket was issued to; it is used up, whatever comes of it.

        Raises:
            TicketGone: unknown, used or expired.
            TicketMisplaced: issued for another origin.
        """
        issued = self._outstanding.pop(token, None)
        if issued is None or issued.expires_at <= self._clock():
            raise TicketGone("the ticket is unknown, used or expired", hint="Fetch a new ticket, and use it at once.")
        if issued.origin != origin:
            raise TicketMisplaced(
                "the ticket was issued for another origin", hint="Fetch the ticket from the page that uses it."
            )
        return issued.principal


def warn_if_exposed(host: str, tokens: Mapping[str, str]) -> None:
    """Say so in the log where other machines can reach this server and no credential is needed."""
    if tokens or _is_loopback(host):
        return
    log.warning(
        "listening_without_credential",
        host=host,
        hint="other machines can use this server: set AUTH_TOKEN, or listen on this one alone with HOST=127.0.0.1",
    )


def _is_loopback(host: str) -> bool:
    name = host.lower().removesuffix(".")
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
