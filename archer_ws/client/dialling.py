"""One attempt to connect, and what its failure means: try again, or never.

Owns addresses, the handshake and close codes; when to try again is link.py's.
"""

import asyncio
import ipaddress
import ssl
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)
from websockets.typing import Subprotocol

from archer_ws.client.errors import ClientError, ClosedByServer, NotArcher, Unreachable
from archer_ws.rpc.messages import SUBPROTOCOL

SOCKET_PATH = "/api/v1/ws"
#: Where a server listens that was told nothing else.
DEFAULT_PORT = 8000
#: How long the handshake may take, in seconds.
OPEN_LIMIT_S = 10.0
#: How long closing politely may take, in seconds.
CLOSE_LIMIT_S = 1.0
#: The largest message taken, in bytes: a whole conversation can be one.
MESSAGE_BYTES_MAX = 64 * 1024 * 1024

_ANOTHER_SERVER = "Is another program listening there, or is a path missing in the URL?"
#: Close codes on which to connect again (protocol section 11), besides 4000-4499.
_PASSING = frozenset({1001, 1005, 1006, 1011, 1012, 1013})
_MEANINGS: dict[int, tuple[str, str | None]] = {
    1009: ("a message was larger than the other side takes", None),
    4500: ("no credential came in time", "Pass the server's token (AUTH_TOKEN)."),
    4501: ("the token is not one this server knows", "Pass the server's token (AUTH_TOKEN)."),
    4504: ("it found what we send to be no JSON-RPC", "Is it an Archer server of this age?"),
    4505: ("there are too many connections", "Close some first."),
}


class ConnectionLost(ClientError):
    """There is no connection now; connecting again may help. `nobody_there` where no server was found at all."""

    def __init__(self, message: str, hint: str | None = None, *, nobody_there: bool = False) -> None:
        super().__init__(message, hint)
        self.nobody_there = nobody_there


class Address:
    """Where a server is.

    Args:
        url: http(s) or ws(s); `http://` where no scheme is given. A path is a prefix of the server's.

    Raises:
        ClientError: it can't be used.
    """

    def __init__(self, url: str) -> None:
        self.url = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(self.url)
            host = parts.hostname or ""
            usable = bool(host) and parts.port != 0 and "@" not in parts.netloc and not parts.query
            scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}[parts.scheme]
        except (ValueError, KeyError):
            usable = False
        if not usable:
            raise ClientError(f"{url} is not the URL of a server", "Write it like http://127.0.0.1:8000.")
        prefix = parts.path.rstrip("/").removesuffix(SOCKET_PATH)
        self.socket_url = urlunsplit((scheme, parts.netloc, prefix + SOCKET_PATH, "", ""))
        self._base = urlunsplit((scheme.replace("ws", "http"), parts.netloc, f"{prefix}/", "", ""))
        self.is_local = _is_loopback(host)

    def http_url(self, path: str) -> str:
        """The URL of a route, whose path begins without a slash."""
        return self._base + path


class WatchedConnection(ClientConnection):
    """A connection that remembers when it last heard anything, be it part of a message."""

    heard_at = 0.0

    def data_received(self, data: bytes) -> None:
        """Note the time (the loop's)."""
        self.heard_at = self.loop.time()
        super().data_received(data)


class _Dial(websocket):
    """Follows no redirect: what is said next may be a credential."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def dial(address: Address) -> WatchedConnection:
    """A new connection that speaks archer.v1.

    Raises:
        ConnectionLost: it may work later.
        Unreachable: it will not: TLS does not match.
        NotArcher: another kind of server is there.
    """
    try:
        connection = await _Dial(
            address.socket_url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            # A proxy could not reach this machine's own addresses.
            proxy=None if address.is_local else True,
            open_timeout=OPEN_LIMIT_S,
            # The server's heartbeats are watched instead.
            ping_interval=None,
            close_timeout=CLOSE_LIMIT_S,
            max_size=MESSAGE_BYTES_MAX,
            create_connection=WatchedConnection,
        )
    except (OSError, EOFError, InvalidHandshake, InvalidURI, ConnectionClosed) as error:
        _explain(address, error)
    assert isinstance(connection, WatchedConnection)
    if connection.subprotocol != SUBPROTOCOL:
        await connection.close()
        raise NotArcher(f"{address.url} speaks WebSocket, but not {SUBPROTOCOL}", _ANOTHER_SERVER)
    connection.heard_at = connection.loop.time()
    return connection


def _explain(address: Address, error: Exception) -> NoReturn:
    match error:
        case ssl.SSLError():
            raise Unreachable(f"no secure connection to {address.url}: {error}", "Is it http:// there?") from error
        case TimeoutError():
            raise ConnectionLost(
                f"{address.url} did not answer in {OPEN_LIMIT_S:g} s", "Look into the server's log.", nobody_there=True
            ) from error
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            raise ConnectionLost(f"{address.url} broke the connection off", "Look into the server's log.") from error
        case OSError():
            raise ConnectionLost(
                f"nothing answers at {address.url}", _how_to_start(address), nobody_there=True
            ) from error
        case InvalidStatus(response=response) if response.status_code >= 500 or response.status_code == 429:
            # 503: it is draining, or a proxy's server is being started anew.
            raise ConnectionLost(
                f"{address.url} takes no connection now ({response.status_code})", "Try again in a moment."
            ) from error
        case InvalidStatus(response=response) if response.status_code == 403:
            raise NotArcher(
                f"{address.url} forbids the connection (403)", "Its log says which host to add to ALLOWED_HOSTS."
            ) from error
        case InvalidStatus(response=response):
            raise NotArcher(
                f"{address.url} answered {response.status_code}, and not as an Archer server does", _ANOTHER_SERVER
            ) from error
        case InvalidMessage(__cause__=EOFError()) | EOFError() | ConnectionClosed():
            raise ConnectionLost(f"{address.url} broke the connection off", "Look into the server's log.") from error
    raise NotArcher(f"{address.url} does not answer as an Archer server does", _ANOTHER_SERVER) from error


def closing_error(address: Address, closed: ConnectionClosed) -> ClientError:
    """What a closed connection means; ConnectionLost where connecting again is right."""
    # A close of our own stands for a frame that could not be read.
    ours = closed.sent is not None and not (closed.rcvd is not None and closed.rcvd_then_sent)
    close = closed.sent if ours else closed.rcvd
    code = close.code if close else 1006
    if code in _PASSING or 4000 <= code <= 4499:
        return ConnectionLost(f"the connection to {address.url} broke off ({code})", "Look into the server's log.")
    meaning, hint = _MEANINGS.get(code, (close.reason if close and close.reason else "no reason given", None))
    return ClosedByServer(code, f"{address.url} closed the connection for good: {meaning} ({code})", hint)


async def close(connection: ClientConnection) -> None:
    """Close politely, within a second or two; then by force."""
    try:
        async with asyncio.timeout(2 * CLOSE_LIMIT_S):
            await connection.close()
    except TimeoutError:
        pass
    finally:
        connection.transport.abort()


def _how_to_start(address: Address) -> str:
    """What to do where no server is: the command that starts one just there."""
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
