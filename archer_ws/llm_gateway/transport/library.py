"""Requests over httpx's or httpx2's own transport: through proxies, and wherever our own connections are not wanted.

Owns what these libraries leave to their user: connections that are nobody else's, bounds on what is unpacked, and
errors that mean the same as those of transport/pool.py. Everything about HTTP/1.1, TLS and proxies is theirs. Their
clients, with redirects, cookies and an eye on the environment, are not used.

Three things are not as with transport/pool.py, for httpcore has no place for them: heads that break RFC 9112 are
refused and not put right; a kept connection that its server closes just then is an error, which the router may try
again; and bytes that come behind a whole answer in the same read stay in the connection's buffer, where the same
principal's next request may take them for its answer.
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

#: How httpcore and h11 word an end that came too early; they have no exception of its own for it.
_BROKEN_OFF = ("Server disconnected", "peer closed connection")


class ProxyRefused(OSError):
    """The proxy did not let the request through; the message is its status."""


class _HttpTransport(Protocol):
    """Both libraries' `AsyncHTTPTransport`."""

    async def handle_async_request(self, request: Any, /) -> Any: ...

    async def aclose(self) -> None: ...


@dataclass(slots=True, eq=False)
class _Kept:
    """One principal's connections, how many answers come over them, and what closes them when none does."""

    http: _HttpTransport
    running: int = 0
    expiry: asyncio.TimerHandle | None = None


class _Made:
    """The connection that was made for a request, where none was kept; told by httpcore's trace."""

    stream: Any = None

    async def __call__(self, event: str, details: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self.stream = details["return_value"]


class LibraryTransport(Carrier):
    """The connections; to be made and used in one event loop.

    Args:
        library: httpx or httpx2.
        connections: the most there may be for one principal.
        connect_s: how long connecting may take. All other waits are the caller's.
        keep_alive_s: how long an idle connection is kept.
        proxy: where requests go through, perhaps with a user and password; None is straight.
        tls: how certificates are verified, the proxy's too; None where nothing is encrypted.
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
        # Where nothing is encrypted, one that believes nobody: to read the certificates would take 100 ms.
        self._tls = tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._loop = asyncio.get_running_loop()
        #: By principal; and those beside it over which answers still come.
        self._kept: dict[str, _Kept] = {}
        self._alive: set[_Kept] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def ask(self, request: RequestTemplate, body: Body, *, principal: str = "") -> StreamedResponse:
        """As `Carrier` has it; ProxyRefused, an OSError, is the proxy's no."""
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
            # What is read is plain: an SDK that is told otherwise would decompress it again.
            coding = coding_of(headers.pop("content-encoding", ""), response.status_code)
        except DecodingError:
            try:
                await response.stream.aclose()
            finally:
                self._left(principal, kept)
            raise
        return _Response(self._library, response, headers, coding, lambda: self._left(principal, kept))

    async def close(self) -> None:
        """As `Carrier` has it."""
        alive = list(self._alive)
        self._alive.clear()
        self._kept.clear()
        # The sockets of a loop that was closed went with it.
        if self._loop.is_closed():
            return
        for kept in alive:
            if kept.expiry is not None:
                kept.expiry.cancel()
            self._close_soon(kept)
        # All of them, and at once: one that fails or is slow to close keeps no other open.
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
        """One answer less; httpcore looks at idle connections only when it is asked, and principals come and go."""
        kept.running -= 1
        if kept.running or kept not in self._alive:
            return
        if self._kept.get(principal) is kept:
            kept.expiry = self._loop.call_later(self._keep_alive_s, self._retire, principal, kept)
        else:
            self._close_soon(kept)

    async def _given_up(self, principal: str, kept: _Kept, made: _Made) -> None:
        """One answer less, of which nothing came.

        Cancelled in TLS's handshake, httpcore leaves its connection open, and it keeps a proxy's tunnel that came to
        nothing as if it were in use. So a connection that was made in vain takes those beside it along: they carry what
        they carry, and no more.
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
        """What breaks while a connection is closed, a peer's reset mostly, closes it as well."""
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
    """A response of the library, read as it comes and unpacked within bounds."""

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
        # The library unpacks without bounds, and only the first of several members.
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
    """The library's errors, and those it lets through, as those that `Carrier` names."""
    try:
        yield
    except library.ConnectTimeout as error:
        raise ConnectTimeout(str(error)) from error
    except (library.ConnectError, UnicodeError) as error:
        # The latter of names that DNS can't have.
        raise ConnectError(str(error)) from error
    except library.ProxyError as error:
        # Without what stands behind it, which looks like a provider's refusal.
        raise ProxyRefused(str(error)) from None
    except (library.InvalidURL, library.UnsupportedProtocol, library.LocalProtocolError) as error:
        raise NotSendable(f"a request that can't be sent: {type(error).__name__}") from error
    except library.RemoteProtocolError as error:
        if str(error).startswith(_BROKEN_OFF):
            raise ConnectionResetError(str(error)) from None
        raise NotHttp(str(error)) from error
    except library.TransportError as error:
        raise ConnectionResetError(f"the connection was lost ({type(error).__name__})") from None
