"""HTTP/1.1 to a provider, for answers of many small pieces.

Owns a connection, from its making to its end: several addresses, TLS, one request and its answer after the other. What
an answer's bytes mean is transport/parsing.py's; keeping connections for the next request is transport/pool.py's.

What a general client does for each piece and each request is most of what a token, and a first token, would cost here.
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

from archer_ws.llm_gateway.transport.json_body import Body
from archer_ws.llm_gateway.transport.parsing import HttpResponse

#: When the next of a host's addresses is tried beside the one that does not answer (RFC 8305, section 5), in seconds.
NEXT_ADDRESS_S = 0.25
#: What of a large request is written at once: encrypting it takes less than a millisecond.
SLICE_BYTES = 512 * 1024


class ConnectError(OSError):
    """No connection could be made; the cause says why."""


class ConnectTimeout(TimeoutError):
    """No connection was made in time."""


class Unanswered(ConnectionResetError):
    """The connection was lost before a byte of an answer came."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where to connect to; `tls` is None for plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None


async def connect(origin: Origin, limit_s: float) -> "Connection":
    """A connection, made within so many seconds.

    Raises:
        ConnectTimeout, ConnectError: there is none.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limit_s):
            addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            connected = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S)
            try:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _, connection = await loop.create_connection(
                    Connection, sock=connected, ssl=origin.tls, server_hostname=origin.host if origin.tls else None
                )
            except BaseException:
                connected.close()
                raise
    except TimeoutError:
        raise ConnectTimeout(f"no connection within {limit_s:g} s") from None
    except (OSError, UnicodeError) as error:
        # The latter of names that DNS can't have.
        raise ConnectError(str(error)) from error
    return connection


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time; made by `connect`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._answer: HttpResponse | None = None
        self._is_readable: Callable[[], bool] | None = None
        self._was_aborted = False
        #: Done when more may be written; None where that is now.
        self._written: asyncio.Future[None] | None = None
        #: Whether a request was not sent to its end.
        self._is_cut = False
        #: Called when it ends.
        self.on_lost: Callable[[], None] = lambda: None

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent, as far as is known."""
        return not self._transport.is_closing()

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come, nor the end, that was not read yet: what comes before a request is no answer."""
        if self._is_readable is None:
            self._is_readable = _readable(self._transport.get_extra_info("socket").fileno())
        return not self._is_readable()

    async def ask(self, head: bytes, body: Body, *, on_over: "Callable[[Connection], None]") -> "HttpResponse":
        """The answer to a request, its head read. `on_over` is given the connection after an answer that leaves it fit
        for another; after any other it is closed.

        Raises:
            Unanswered: it was lost before a byte came, and not because somebody here closed it.
            NotHttp, DecodingError, OSError: there is no answer.
        """
        answer = self._answer = HttpResponse(self._transport, partial(self._over, on_over))
        try:
            if isinstance(body, bytes):
                self._transport.writelines((head, body))
            else:
                await self._send((head, *body), answer)
            await answer.head
        except BaseException as error:
            is_lost = isinstance(error, OSError) and answer.is_untouched and not self._was_aborted
            answer.let_go()
            if is_lost:
                raise Unanswered(str(error)) from error
            raise
        return answer

    async def _send(self, pieces: Sequence[bytes | bytearray | memoryview], answer: HttpResponse) -> None:
        """Write a large request, a slice at a time: a transport would encrypt, or copy, all of it in one go."""
        self._is_cut = True
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), SLICE_BYTES):
                if answer.head.done() or not self.is_open:
                    # It is refused before it is read: whatever else were sent would be a next request.
                    return
                self._transport.write(view[start : start + SLICE_BYTES])
                # One turn of the loop at least, in which an answer may come.
                await asyncio.sleep(0)
                await self._until_written(answer)
        self._is_cut = False

    async def _until_written(self, answer: HttpResponse) -> None:
        """Wait while the peer reads slower than is written; an answer or the connection's end ends the wait, too."""
        if self._written is not None:
            await asyncio.wait((self._written, answer.head), return_when=asyncio.FIRST_COMPLETED)

    def pause_writing(self) -> None:
        """As asyncio has it."""
        self._written = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """As asyncio has it."""
        if self._written is not None and not self._written.done():
            self._written.set_result(None)
        self._written = None

    def abort(self) -> None:
        """Close it at once."""
        self._was_aborted = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio has it."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """As asyncio has it."""
        if self._answer is None:
            # Unasked: a server that gives up waiting says so (408), and closes.
            self.abort()
        else:
            self._answer.feed(data)

    def eof_received(self) -> None:
        """As asyncio has it: the transport closes itself."""
        if self._answer is not None:
            self._answer.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio has it."""
        if self._answer is not None:
            self._answer.end(exc)
        self.on_lost()

    def _over(self, on_over: "Callable[[Connection], None]", is_reusable: bool) -> None:
        self._answer = None
        if is_reusable and self.is_open and not self._is_cut:
            on_over(self)
        else:
            self.abort()


def _readable(fd: int) -> Callable[[], bool]:
    """What tells whether there is something to read. One call of the system: this is asked before each request."""
    if not hasattr(select, "poll"):
        return lambda: bool(select.select([fd], [], [], 0)[0])
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return lambda: bool(waiting.poll(0))
