"""Requests over httpx's or httpx2's own transport: through proxies, and if our own connections are turned off.

Owns what these libraries leave to their user: connections for a single principal, limits on unpacking, and errors with
the same meaning as those of transport/pool.py. The libraries handle HTTP/1.1, TLS and proxies. Their clients, with
redirects, cookies and environment variables, are not used.

Three things differ from transport/pool.py, since httpcore has no hook for them. Heads that violate RFC 9112 are refused
and not corrected. A kept connection that its server closes just then is an error, which the router may retry. And bytes
after a complete response in the same read stay in the connection's buffer, where the same principal's next request may
take them for its response.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

from archer_ws.llm_gateway.transport.carrier import Carrier
from archer_ws.llm_gateway.transport.connection import ConnectError, ConnectTimeout
from archer_ws.llm_gateway.transport.content_coding import DecodingError, coding_of
from archer_ws.llm_gateway.transport.json_body import Body, in_one
from archer_ws.llm_gateway.transport.parsing import NotHttp
from archer_ws.llm_gateway.transport.request import NotSendable, RequestTemplate
from archer_ws.llm_gateway.transport.response import StreamedResponse, in_slices

#: The texts of httpcore and h11 for a premature end; they have no separate exception for it.
_BROKEN_OFF = ("Server disconnected", "peer closed connection")


class ProxyRefused(OSError):
    """The proxy refused the request; the message is its status."""


class _HttpTransport(Protocol):
    """Both libraries' `AsyncHTTPTransport`."""

    async def handle_async_request(self, request: Any, /) -> Any: ...

    async def aclose(self) -> None: ...


@dataclass(slots=True, eq=False)
class _Kept:
    """One principal's connections, the number of responses on them, and the timer that closes them if there is none."""

    http: _HttpTransport
    running: int = 0
    expiry: asyncio.TimerHandle | None = None


class _Made:
    """The connection that was made for a request, if none was kept; reported by httpcore's trace."""

    stream: Any = None

    async def __call__(self, event: str, details: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self.stream = details["return_value"]


class LibraryTransport(Carrier):
    """The connections; to be created and used in one event loop.

    Args:
        library: httpx or httpx2.
        connections: the limit of connections for one principal.
        connect_s: the time limit for connecting. The caller sets all other limits.
        keep_alive_s: how long an idle connection is kept.
        proxy: the proxy's URL, perhaps with a user and password; None for none.
        tls: how certificates are verified, including the proxy's; None if nothing is encrypted.
    """

    def __init__(
        self,
        library: ModuleType,
        *,
        connections: int,
        connect_s: float,
        keep_alive_s: float,
        proxy: str | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._library = library
        self._timeouts = {"connect": connect_s}
        self._limits = library.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=keep_alive_s
        )
        self._keep_alive_s = keep_alive_s
        self._proxy = proxy
        # If nothing is encrypted, a context without certificates: reading them would take 100 ms.
        self._tls = tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._loop = asyncio.get_running_loop()
        #: By principal; and retired connections with unfinished responses.
        self._kept: dict[str, _Kept] = {}
        self._alive: set[_Kept] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def ask(self, request: RequestTemplate, body: Body, *, principal: str = "") -> StreamedResponse:
        """See `Carrier`; raises ProxyRefused, an OSError, if the proxy refuses."""
        made = _Made()
        with _translated(self._library):
            asked = self._library.Request(
                request.method,
                request.url,
                headers=[(name.encode(), value.encode()) for name, value in request.fields],
                content=in_one(body) or None,
                extensions={"timeout": self._timeouts, "trace": made},
            )
        kept = self._used_by(principal)
        try:
            with _translated(self._library):
                response = await kept.http.handle_async_request(asked)
        except BaseException:
            await self._given_up(principal, kept, made)
            raise
        headers = dict(response.headers.items())
        try:
            # The body is unpacked here: with this header, an SDK would unpack it again.
            coding = coding_of(headers.pop("content-encoding", ""), response.status_code)
        except DecodingError:
            try:
                await response.stream.aclose()
            finally:
                self._left(principal, kept)
            raise
        return _Response(self._library, response, headers, coding, lambda: self._left(principal, kept))

    async def close(self) -> None:
        """See `Carrier`."""
        alive = list(self._alive)
        self._alive.clear()
        self._kept.clear()
        # The sockets of a closed loop are gone.
        if self._loop.is_closed():
            return
        for kept in alive:
            if kept.expiry is not None:
                kept.expiry.cancel()
            self._close_soon(kept)
        # All at once: one that fails or closes slowly must not keep the others open.
        await asyncio.gather(*self._closing)

    def _used_by(self, principal: str) -> _Kept:
        kept = self._kept.get(principal)
        if kept is None:
            kept = self._kept[principal] = _Kept(self._make_http())
            self._alive.add(kept)
        if kept.expiry is not None:
            kept.expiry.cancel()
            kept.expiry = None
        kept.running += 1
        return kept

    def _left(self, principal: str, kept: _Kept) -> None:
        """Count a response less. httpcore checks idle connections only at the next request, and principals come and
        go."""
        kept.running -= 1
        if kept.running or kept not in self._alive:
            return
        if self._kept.get(principal) is kept:
            kept.expiry = self._loop.call_later(self._keep_alive_s, self._retire, principal, kept)
        else:
            self._close_soon(kept)

    async def _given_up(self, principal: str, kept: _Kept, made: _Made) -> None:
        """Count a request less that got no response.

        Cancelled during a TLS handshake, httpcore leaves its connection open, and it counts a failed proxy tunnel as in
        use. So a connection that was made in vain retires all connections beside it: they finish their responses, and
        get no more.
        """
        if made.stream is not None and self._kept.get(principal) is kept:
            del self._kept[principal]
        self._left(principal, kept)
        if made.stream is not None:
            await made.stream.aclose()

    def _retire(self, principal: str, kept: _Kept) -> None:
        del self._kept[principal]
        self._close_soon(kept)

    def _close_soon(self, kept: _Kept) -> None:
        self._alive.discard(kept)
        closing = self._loop.create_task(self._close(kept.http))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, http: _HttpTransport) -> None:
        """Ignore errors while closing, usually a peer's reset: the connection is closed, too."""
        with contextlib.suppress(OSError), _translated(self._library):
            await http.aclose()

    def _make_http(self) -> _HttpTransport:
        proxy = self._proxy and self._library.Proxy(
            self._proxy, ssl_context=self._tls if self._proxy.startswith("https:") else None
        )
        made: _HttpTransport = self._library.AsyncHTTPTransport(
            verify=self._tls, trust_env=False, limits=self._limits, proxy=proxy or None
        )
        return made


class _Response(StreamedResponse):
    """A response of the library, read as it comes and unpacked within limits."""

    __slots__ = ("_library", "_on_closed", "_reads", "_stream", "headers", "status")

    def __init__(
        self,
        library: ModuleType,
        response: Any,
        headers: dict[str, str],
        coding: str | None,
        on_closed: Callable[[], None],
    ) -> None:
        self.status: int = response.status_code
        self.headers = headers
        self._library = library
        self._stream = response.stream
        self._on_closed: Callable[[], None] | None = on_closed
        # The library unpacks without a limit, and only the first of several members.
        self._reads = in_slices(self._raw(), coding)

    async def read_some(self) -> bytes:
        if self._on_closed is None:
            raise ConnectionResetError("closed before its end")
        return await anext(self._reads, b"")

    async def aclose(self) -> None:
        on_closed, self._on_closed = self._on_closed, None
        if on_closed is None:
            return
        try:
            await self._stream.aclose()
        finally:
            on_closed()

    async def _raw(self) -> AsyncIterator[bytes]:
        with _translated(self._library):
            async for data in self._stream:
                yield data


@contextlib.contextmanager
def _translated(library: ModuleType) -> Iterator[None]:
    """Translates the errors of the library, and of the layers below, into those of `Carrier`."""
    try:
        yield
    except library.ConnectTimeout as error:
        raise ConnectTimeout(str(error)) from error
    except (library.ConnectError, UnicodeError) as error:
        # UnicodeError: raised for names that DNS can't have.
        raise ConnectError(str(error)) from error
    except library.ProxyError as error:
        # Without its cause, which looks like a provider's refusal.
        raise ProxyRefused(str(error)) from None
    except (library.InvalidURL, library.UnsupportedProtocol, library.LocalProtocolError) as error:
        raise NotSendable(f"a request that can't be sent: {type(error).__name__}") from error
    except library.RemoteProtocolError as error:
        if str(error).startswith(_BROKEN_OFF):
            raise ConnectionResetError(str(error)) from None
        raise NotHttp(str(error)) from error
    except library.TransportError as error:
        raise ConnectionResetError(f"the connection was lost ({type(error).__name__})") from None
