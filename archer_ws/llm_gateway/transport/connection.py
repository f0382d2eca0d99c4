"""HTTP/1.1 to a provider, for responses in many small pieces.

Owns a connection from start to end: several addresses, TLS, one request and its response after the other.
transport/parsing.py parses responses; transport/pool.py keeps connections for later requests.

The overhead of a general client, for each piece and each request, would be most of the cost of a token, and of a first
token.
"""

import asyncio
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import aiohappyeyeballs

from archer_ws.core.patience import patient_timeout
from archer_ws.llm_gateway.transport.json_body import Body
from archer_ws.llm_gateway.transport.parsing import HttpResponse

#: The delay before the next of a host's addresses is tried in parallel (RFC 8305, section 5), in seconds.
NEXT_ADDRESS_S = 0.25
#: The size of one write of a large request: encrypting it takes less than a millisecond.
SLICE_BYTES = 512 * 1024


class ConnectError(OSError):
    """No connection could be made; the exception's cause says why."""


class ConnectTimeout(TimeoutError):
    """No connection was made in time."""


class Unanswered(ConnectionResetError):
    """The connection was lost before a byte of a response came."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The address to connect to; `tls` is None for plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None


async def connect(origin: Origin, limit_s: float) -> "ProviderConnection":
    """A connection, made within so many seconds.

    Raises:
        ConnectTimeout, ConnectError: there is none.
    """
    loop = asyncio.get_running_loop()
    try:
        async with patient_timeout(limit_s):
            addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            connected = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S)
            try:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _, connection = await loop.create_connection(
                    ProviderConnection,
                    sock=connected,
                    ssl=origin.tls,
                    server_hostname=origin.host if origin.tls else None,
                )
            except BaseException:
                connected.close()
                raise
    except TimeoutError:
        raise ConnectTimeout(f"no connection within {limit_s:g} s") from None
    except (OSError, UnicodeError) as error:
        # UnicodeError: raised for names that DNS can't have.
        raise ConnectError(str(error)) from error
    return connection


class ProviderConnection(asyncio.Protocol):
    """A connection that carries one request at a time; made by `connect`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._response: HttpResponse | None = None
        self._is_readable: Callable[[], bool] | None = None
        self._was_aborted = False
        #: Done when writing may continue; None if it may now.
        self._written: asyncio.Future[None] | None = None
        #: Whether a request was only partly sent.
        self._is_cut = False
        #: Called when the connection ends.
        self.on_lost: Callable[[], None] = lambda: None

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent, as far as is known."""
        return not self._transport.is_closing()

    @property
    def is_silent(self) -> bool:
        """Whether there is no unread input, and no end of the connection: input before a request is not a response."""
        if self._is_readable is None:
            self._is_readable = _readable(self._transport.get_extra_info("socket").fileno())
        return not self._is_readable()

    async def ask(self, head: bytes, body: Body, *, on_over: "Callable[[ProviderConnection], None]") -> "HttpResponse":
        """The response to a request, after its head was read. `on_over` gets the connection after a response that
        leaves it usable; after any other response it is closed.

        Raises:
            Unanswered: it was lost before a byte came, and was not closed on this side.
            NotHttp, DecodingError, OSError: there is no valid response.
        """
        response = self._response = HttpResponse(self._transport, partial(self._over, on_over))
        try:
            if isinstance(body, bytes):
                self._transport.writelines((head, body))
            else:
                await self._send((head, *body), response)
            await response.head
        except BaseException as error:
            is_lost = isinstance(error, OSError) and response.is_untouched and not self._was_aborted
            response.let_go()
            if is_lost:
                raise Unanswered(str(error)) from error
            raise
        return response

    async def _send(self, pieces: Sequence[bytes | bytearray | memoryview], response: HttpResponse) -> None:
        """Write a large request in slices: a transport would encrypt, or copy, all of it at once."""
        self._is_cut = True
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), SLICE_BYTES):
                if response.head.done() or not self.is_open:
                    # The server responded before reading all of it: further bytes would be taken for the next request.
                    return
                self._transport.write(view[start : start + SLICE_BYTES])
                # At least one loop iteration, in which a response may come.
                await asyncio.sleep(0)
                await self._until_written(response)
        self._is_cut = False

    async def _until_written(self, response: HttpResponse) -> None:
        """Wait while the peer reads more slowly than we write; a response or the connection's end ends the wait,
        too."""
        if self._written is not None:
            await asyncio.wait((self._written, response.head), return_when=asyncio.FIRST_COMPLETED)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._written = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._written is not None and not self._written.done():
            self._written.set_result(None)
        self._written = None

    def abort(self) -> None:
        """Close it at once."""
        self._was_aborted = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._response is None:
            # A response without a request: a server that stops waiting says so (408), and closes.
            self.abort()
        else:
            self._response.feed(data)

    def eof_received(self) -> None:
        """See asyncio.Protocol: the transport closes itself."""
        if self._response is not None:
            self._response.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._response is not None:
            self._response.end(exc)
        # It may refer to this connection: dropped, so that both are freed at once and not by the garbage collector.
        on_lost, self.on_lost = self.on_lost, lambda: None
        on_lost()

    def _over(self, on_over: "Callable[[ProviderConnection], None]", is_reusable: bool) -> None:
        self._response = None
        if is_reusable and self.is_open and not self._is_cut:
            on_over(self)
        else:
            self.abort()


def _readable(fd: int) -> Callable[[], bool]:
    """A function that says whether there is something to read, with one system call, since it runs before each
    request."""
    if not hasattr(select, "poll"):
        return lambda: bool(select.select([fd], [], [], 0)[0])
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return lambda: bool(waiting.poll(0))
