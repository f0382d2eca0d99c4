"""HTTP for streamed answers: one event loop's connections to providers, kept for the next request for a while.

Owns who is asked straight, over transport/connection.py, and who by aiohttp, which knows proxies. Knows no provider:
what is asked and what the answer means is the adapters', and a redirect is an answer like any other. The SDKs and httpx
make the other requests, which are few.
"""

import asyncio
import ssl
from base64 import b64encode
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote, urlsplit

from archer_ws.core.lean_event import LeanEvent
from archer_ws.llm_gateway.transport.answer import StreamedAnswer, in_slices
from archer_ws.llm_gateway.transport.connection import ConnectError, Connection, Origin, connect
from archer_ws.llm_gateway.transport.content_coding import DecodingError, coding_of

if TYPE_CHECKING:
    import aiohttp

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Where a connection leads, and for which principal it is used.
_Use: TypeAlias = tuple[Origin, str]


class NotSendable(ConnectError):
    """No request can be made of what was given."""


class StreamPool:
    """The connections; to be made and used in one event loop.

    A connection is kept only if its answer's end was beyond doubt (RFC 9112, section 6.3) and nothing stood behind it,
    is closed when anything comes while it is idle, and is not used when anything has come that was not read yet. What
    is left: a provider that sends a second answer, which nobody asked for, so late that it is still on its way when the
    next request is written, has it taken for that request's answer. So a connection that carried one principal's answer
    is never used for another's: what a provider mixes up stays theirs whose it was. (Through a proxy aiohttp keeps the
    connections, for all alike.)

    Args:
        connections: how many there may be through a proxy; straight ones are as many as there are answers.
        connect_s: how long connecting may take. All other waits are the caller's.
        keep_alive_s: how long an idle connection is kept.
        proxy: where requests go through; None is straight.
        tls: how certificates are verified; None where no URL is https.
    """

    def __init__(
        self,
        *,
        connections: int,
        connect_s: float,
        keep_alive_s: float,
        proxy: str | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._connections = connections
        self._connect_s = connect_s
        self._keep_alive_s = keep_alive_s
        self._proxy = proxy
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self._none_open = LeanEvent()
        #: Each with the timer that closes it; the one used last is used next.
        self._idle: dict[_Use, list[tuple[Connection, asyncio.TimerHandle]]] = defaultdict(list)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], method: str = "POST", *, principal: str = ""
    ) -> StreamedAnswer:
        """The answer to a principal's request, whatever its status.

        Raises:
            aiohttp.ClientError, NotHttp, DecodingError, OSError: there is none.
        """
        if self._proxy is not None:
            return await self._ask_by_aiohttp(method, url, body, headers)
        origin, head = self._prepared(method, url, len(body), headers)
        use = origin, principal
        connection = self._take_idle(use)
        if connection is None:
            connection = await connect(origin, self._connect_s)
            self._open.add(connection)
            connection.on_lost = partial(self._forget, use, connection)
        # A server that is asked to close need not say that it will.
        is_last = headers.get("Connection") == "close"
        return await connection.ask(head, body, on_over=Connection.abort if is_last else partial(self._keep, use))

    async def close(self) -> None:
        """Close all connections."""
        # The sockets of a loop that was closed went with it.
        if self._open and not self._loop.is_closed():
            for connection in tuple(self._open):
                connection.abort()
            self._none_open.clear()
            await self._none_open.wait()
        if self._session is not None:
            await self._session.close()

    def _prepared(self, method: str, url: str, size: int, headers: Mapping[str, str]) -> tuple[Origin, bytes]:
        """Where a request goes, and its head."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
            name = host if host.isascii() else host.encode("idna").decode()
        except (ValueError, KeyError) as error:
            raise NotSendable("a request that can't be sent: its address is no HTTP address") from error
        at = (f"[{name}]" if ":" in name else name) + (f":{parts.port}" if parts.port else "")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {target} HTTP/1.1", f"Host: {at}"]
        if method != "GET":
            lines.append(f"Content-Length: {size}")
        if parts.username is not None and "authorization" not in map(str.lower, headers):
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            lines.append(f"Authorization: Basic {b64encode(pair.encode()).decode()}")
        lines += [f"{field}: {value}" for field, value in headers.items()]
        if not all(line.isprintable() for line in lines):
            raise NotSendable("a request that can't be sent: its address or a header field has a control character")
        origin = Origin(host, port, self._tls if parts.scheme == "https" else None)
        return origin, "\r\n".join([*lines, "", ""]).encode()

    def _take_idle(self, use: _Use) -> Connection | None:
        idle = self._idle.get(use)
        while idle:
            connection, timer = idle.pop()
            timer.cancel()
            if connection.is_open and connection.is_silent:
                return connection
            connection.abort()
        return None

    def _keep(self, use: _Use, connection: Connection) -> None:
        timer = self._loop.call_later(self._keep_alive_s, connection.abort)
        self._idle[use].append((connection, timer))

    def _forget(self, use: _Use, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()
        idle = self._idle.get(use, [])
        for entry in idle:
            if entry[0] is connection:
                entry[1].cancel()
                idle.remove(entry)
                break
        if not idle:
            # Principals come and go.
            self._idle.pop(use, None)

    async def _ask_by_aiohttp(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> StreamedAnswer:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections, keepalive_timeout=self._keep_alive_s, ssl=self._tls or True
                ),
                # No limit on waiting for the pool: it is as large as the concurrency that is let through to here.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # it has no bounds
            )
        try:
            return _AiohttpAnswer(
                await self._session.request(
                    method, url, data=body or None, headers=headers, proxy=self._proxy, allow_redirects=False
                )
            )
        except aiohttp.ClientError:
            raise
        except ValueError as error:
            # Of an address that can't be used.
            raise aiohttp.ClientConnectionError from error


class _AiohttpAnswer(StreamedAnswer):
    def __init__(self, response: "aiohttp.ClientResponse") -> None:
        self._response = response
        self.status = response.status
        headers = response.headers.copy()
        # What is read is decompressed.
        packed = headers.popall("content-encoding", [])
        self.headers = headers
        try:
            coding = coding_of(", ".join(packed), response.status)
        except DecodingError:
            response.close()
            raise
        self._reads = in_slices(response.content.iter_any(), coding)

    async def read_some(self) -> bytes:
        return await anext(self._reads, b"")

    async def aclose(self) -> None:
        self._response.close()
