"""Authentication: the configured tokens, and the guard that finds a request's principal (protocol section 2).

What a principal may do is decided elsewhere.
"""

import hmac
import ipaddress
from collections.abc import Mapping
from contextlib import suppress

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from archer_ws.api.http.error_handlers import refuse
from archer_ws.api.http.scope import header_values, is_console_file, is_file, is_front_page, is_health, state
from archer_ws.api.security.seats import seat_of
from archer_ws.api.security.tickets import TicketOffice
from archer_ws.core.exceptions import Unauthenticated

log = structlog.get_logger(__name__)

#: The principal of every client if no token is configured.
LOCAL_PRINCIPAL = "local"


class Credentials:
    """The configured tokens and their principals.

    Args:
        tokens: principal → token. Empty: no credential is needed, and every client is `LOCAL_PRINCIPAL`.

    Raises:
        ValueError: a token is empty; an empty header would match it.
    """

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._tokens = tuple((name, token.encode()) for name, token in tokens.items())
        #: Whether a credential is needed.
        self.required = bool(self._tokens)
        for name, token in self._tokens:
            if not token:
                raise ValueError(f"the token of {name} is empty")

    def principal_of(self, token: str | bytes) -> str | None:
        """The principal of this token, or None.

        Every configured token is compared, each in constant time, so that the duration reveals nothing about them.
        """
        given = token.encode("utf-8", "replace") if isinstance(token, str) else token
        found = None
        for name, expected in self._tokens:
            if hmac.compare_digest(given, expected):
                found = name
        return found


class CredentialGuard:
    """Finds the principal and sets `request.state.principal`; refuses HTTP requests without one with 401.

    For files a ticket is accepted like a token, once: pages without a token get one over their socket.

    Health probes, the page at `/` and the console's files need no credential. A WebSocket always passes, because it may
    still send its credential in the first message or as a ticket: its `principal` is then None, and
    `credential_refused` tells whether its header was wrong or missing.
    """

    def __init__(self, app: ASGIApp, tokens: Mapping[str, str], file_tickets: TicketOffice | None = None) -> None:
        self._app = app
        self._credentials = Credentials(tokens)
        self._file_tickets = file_tickets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its principal, or refuse it."""
        if scope["type"] in {"http", "websocket"}:
            is_known = self._is_known(scope, header_values(scope, b"authorization"))
            if not is_known and scope["type"] == "http" and not _is_open(scope):
                await refuse(_unauthenticated(state(scope)["credential_refused"]), scope, receive, send)
                return
        await self._app(scope, receive, send)

    def passes(self, scope: Scope, fields: Mapping[bytes, bytes]) -> bool:
        """Whether the request has a principal, which is set."""
        shown = fields.get(b"authorization")
        return self._is_known(scope, [] if shown is None else [shown])

    def _is_known(self, scope: Scope, shown: list[bytes]) -> bool:
        """Whether the request has a principal by its Authorization fields; it is set."""
        principal = self._principal(shown, scope)
        about = state(scope)
        about["principal"] = principal
        about["credential_refused"] = principal is None and bool(shown)
        if principal is None:
            return False
        if (seat := seat_of(scope)) is not None and seat.is_guest:
            seat.vouch()
        return True

    def _principal(self, shown: list[bytes], scope: Scope) -> str | None:
        if not self._credentials.required:
            return LOCAL_PRINCIPAL
        if len(shown) != 1:
            return None
        scheme, _, token = shown[0].partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        principal = self._credentials.principal_of(token.strip())
        if principal is None and self._file_tickets is not None and is_file(scope):
            with suppress(Unauthenticated):
                return self._file_tickets.redeem(token.strip().decode("latin-1"), None)
        return principal


def _is_open(scope: Scope) -> bool:
    return is_health(scope) or is_console_file(scope) or is_front_page(scope)


def _unauthenticated(wrong: bool) -> Unauthenticated:
    return Unauthenticated(
        "the credential is not one this server knows" if wrong else "this server needs a credential",
        hint="Send the header Authorization: Bearer TOKEN, with the token of the server's setting AUTH_TOKEN or "
        "AUTH_TOKENS; for files also a ticket of ticket/create, which is valid once.",
    )


def warn_if_exposed(host: str, tokens: Mapping[str, str]) -> None:
    """Log a warning if other machines can reach this server and no credential is needed."""
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
