"""One attempt to connect, and whether another one can succeed after it failed.

Owns addresses, the handshake and close codes; link.py decides when to try again.
"""

import asyncio
import ipaddress
import json
import ssl
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidProxyMessage,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.http11 import Response
from websockets.typing import Subprotocol

from archer_ws.client.errors import ClientError, ClosedByServer, NotArcher, Unreachable
from archer_ws.core.exceptions import ErrorInfo
from archer_ws.rpc.messages import SUBPROTOCOL

SOCKET_PATH = "/api/v1/ws"
#: The server's default port.
DEFAULT_PORT = 8000
#: How long the handshake may take, in seconds.
OPEN_LIMIT_S = 10.0
#: How long the closing handshake may take, in seconds.
CLOSE_LIMIT_S = 1.0
#: The limit of a message, in bytes: one message can be a whole conversation.
MESSAGE_BYTES_MAX = 64 * 1024 * 1024

#: Where a person finds the proxy: urllib reads these variables, and on Windows and macOS the system's settings.
PROXY_HINT = "Correct it (HTTPS_PROXY, HTTP_PROXY, or the system's settings), or leave this host out of it: NO_PROXY."
_ANOTHER_SERVER = "Check the port and the path: another program may listen there, or a proxy may need a path prefix."
#: Close codes after which to connect again (protocol section 11), besides 4000-4499.
_PASSING = frozenset({1001, 1005, 1006, 1011, 1012, 1013})
_MEANINGS: dict[int, tuple[str, str | None]] = {
    1009: ("a message was larger than the server's limit", None),
    4500: ("the server got no credential in time", "Pass the server's token (AUTH_TOKEN)."),
    4501: ("this server does not know the token", "Pass the server's token (AUTH_TOKEN)."),
    4504: ("the server received something that is not JSON-RPC", "Check that client and server have the same version."),
    4505: ("there are too many connections", "Close some first."),
}


class ConnectionLost(ClientError):
    """There is no connection, but a later attempt may succeed. `nobody_there`: no server was found at all."""

    def __init__(self, message: str, hint: str | None = None, *, nobody_there: bool = False) -> None:
        super().__init__(message, hint)
        self.nobody_there = nobody_there


class Address:
    """A server's address.

    Args:
        url: http(s) or ws(s); `http://` where no scheme is given. A path is taken as the prefix of the server's routes.

    Raises:
        ClientError: it is not the URL of a server.
    """

    def __init__(self, url: str) -> None:
        self.url = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(self.url)
            host = parts.hostname or ""
            host.encode("idna")  # as asyncio will do, to find its address
            is_host = bool(host) and host.isprintable() and " " not in host
            usable = is_host and parts.port != 0 and "@" not in parts.netloc and not parts.query
            scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}[parts.scheme]
        except (ValueError, KeyError):
            usable = False
        if not usable:
            # It may have a password or a token.
            shown = "a URL with a user or a query" if "@" in url or "?" in url else url
            raise ClientError(f"{shown} is not the URL of a server", "Write it like http://127.0.0.1:8000.")
        prefix = parts.path.rstrip("/").removesuffix(SOCKET_PATH)
        self.socket_url = urlunsplit((scheme, parts.netloc, prefix + SOCKET_PATH, "", ""))
        self._base = urlunsplit((scheme.replace("ws", "http"), parts.netloc, f"{prefix}/", "", ""))
        self.is_local = _is_loopback(host)

    def http_url(self, path: str) -> str:
        """The URL of a route, whose path begins without a slash."""
        return self._base + path


class WatchedConnection(ClientConnection):
    """A connection that remembers when the last byte came."""

    heard_at = 0.0

    def data_received(self, data: bytes) -> None:
        """Note the time (the loop's)."""
        self.heard_at = self.loop.time()
        super().data_received(data)


class _Dial(websocket):
    """Follows no redirect: the next message may contain a credential."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def dial(address: Address) -> WatchedConnection:
    """Open a connection with the subprotocol archer.v1.

    Raises:
        ConnectionLost: a later attempt may succeed.
        Unreachable: no later attempt will succeed, because TLS or the proxy fails, or the server refuses it.
        NotArcher: the server there is not an Archer server.
    """
    try:
        connection = await _Dial(
            address.socket_url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            # A proxy can't reach the loopback addresses of this machine.
            proxy=None if address.is_local else True,
            open_timeout=OPEN_LIMIT_S,
            # The link watches the server's heartbeats instead.
            ping_interval=None,
            close_timeout=CLOSE_LIMIT_S,
            max_size=MESSAGE_BYTES_MAX,
            create_connection=WatchedConnection,
        )
    except (OSError, EOFError, InvalidHandshake, InvalidURI, ConnectionClosed) as error:
        _explain(address, error)
    except (InvalidProxy, ImportError, ValueError) as error:
        raise Unreachable(useless_proxy(address, error), PROXY_HINT) from error
    assert isinstance(connection, WatchedConnection)
    if connection.subprotocol != SUBPROTOCOL:
        await connection.close()
        raise NotArcher(f"{address.url} accepts WebSockets, but not {SUBPROTOCOL}", _ANOTHER_SERVER)
    connection.heard_at = connection.loop.time()
    return connection


def _explain(address: Address, error: Exception) -> NoReturn:
    match error:
        case ssl.SSLError():
            raise Unreachable(
                f"no secure connection to {address.url}: {error}", "If the server has no TLS, use http://."
            ) from error
        case TimeoutError():
            raise ConnectionLost(
                f"{address.url} sent no response within {OPEN_LIMIT_S:g} s", "See the server's log.", nobody_there=True
            ) from error
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            raise ConnectionLost(
                f"{address.url} closed the connection during the handshake", "See the server's log."
            ) from error
        case OSError():
            raise ConnectionLost(
                f"nothing answers at {address.url}", _how_to_start(address), nobody_there=True
            ) from error
        case ProxyError():
            _explain_proxy(address, error)
        case InvalidStatus(response=response) if response.status_code >= 500 or response.status_code == 429:
            # 503: the server is draining, or a proxy's server is restarting.
            raise ConnectionLost(
                f"{address.url} accepts no connections now ({response.status_code})", "Try again in a moment."
            ) from error
        case InvalidStatus(response=response) if refusal := _refusal(response):
            # It has another path, does not go by this name, or a proxy has made a plain request of the WebSocket's.
            raise Unreachable(f"{address.url} refused the connection: {refusal.message}", refusal.hint) from error
        case InvalidStatus(response=response) if response.status_code == 403:
            raise NotArcher(
                f"{address.url} forbids the connection (403)",
                "The server's log says which host to add to ALLOWED_HOSTS.",
            ) from error
        case InvalidStatus(response=response):
            raise NotArcher(
                f"{address.url} responded with {response.status_code}, unlike an Archer server", _ANOTHER_SERVER
            ) from error
        case InvalidMessage(__cause__=EOFError()) | EOFError() | ConnectionClosed():
            raise ConnectionLost(
                f"{address.url} closed the connection during the handshake", "See the server's log."
            ) from error
    raise NotArcher(f"the response of {address.url} is not an Archer server's", _ANOTHER_SERVER) from error


def _refusal(response: Response) -> ErrorInfo | None:
    """The error in a response; None where it is not an Archer server's."""
    try:
        return ErrorInfo.model_validate(json.loads(response.body or b"")["error"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def useless_proxy(address: Address, error: Exception) -> str:
    """What is wrong with a proxy that was not even tried: the package for SOCKS is not installed, or its URL (which may
    have a password) is invalid."""
    why = error.msg if isinstance(error, ImportError) else "its URL is invalid"
    return f"the proxy for {address.url} can't be used: {why}"


def _explain_proxy(address: Address, error: ProxyError) -> NoReturn:
    told = f"the proxy made no connection to {address.url}: {error}"
    match error:
        case InvalidProxyStatus(response=response) if response.status_code < 500 and response.status_code != 429:
            raise Unreachable(told, PROXY_HINT) from error
        case InvalidProxyMessage() if not isinstance(error.__cause__, EOFError):
            raise Unreachable(told, PROXY_HINT) from error
    # A proxy that works reports so that there is no server: 502 to 504 from HTTP, any error from SOCKS.
    raise ConnectionLost(told, _how_to_start(address), nobody_there=True) from error


def closing_error(address: Address, closed: ConnectionClosed) -> ClientError:
    """The error for a closed connection; ConnectionLost where connecting again may succeed."""
    # If this client closed it first, it could not read a frame: that close code counts.
    ours = closed.sent is not None and not (closed.rcvd is not None and closed.rcvd_then_sent)
    close = closed.sent if ours else closed.rcvd
    code = close.code if close else 1006
    if code in _PASSING or 4000 <= code <= 4499:
        return ConnectionLost(f"the connection to {address.url} was lost ({code})", "See the server's log.")
    if ours and close is not None:
        return ClosedByServer(code, f"this client can't read what {address.url} sent: {close.reason or code}")
    meaning, hint = _MEANINGS.get(code, (close.reason if close and close.reason else "no reason given", None))
    return ClosedByServer(code, f"{address.url} closed the connection for good: {meaning} ({code})", hint)


async def close(connection: ClientConnection) -> None:
    """Close with the closing handshake; after two seconds, abort."""
    try:
        async with asyncio.timeout(2 * CLOSE_LIMIT_S):
            await connection.close()
    except TimeoutError:
        pass
    finally:
        connection.transport.abort()


def _how_to_start(address: Address) -> str:
    """The hint where there is no server: the command that starts one at this address."""
    if not address.is_local:
        return "Start a server there (archer-ws serve), or correct the URL."
    port = urlsplit(address.url).port
    option = "" if port in {None, DEFAULT_PORT} else f" --port {port}"
    return (
        f"Start one in another terminal: archer-ws serve --host 127.0.0.1{option} --provider local\n"
        "(the demo model; others: archer-ws serve --help). If it does not start, archer-ws doctor says why."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
