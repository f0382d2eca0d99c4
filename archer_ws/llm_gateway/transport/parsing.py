"""Parses an HTTP/1.1 response as it comes, with llhttp and no further layer.

Owns a response's head, its body's framing and compression, and the limits on both. transport/connection.py has the
connection.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context

import httptools

from archer_ws.core.limits import PROVIDER_HEAD_BYTES, PROVIDER_SLICE_BYTES, PROVIDER_UNREAD_BYTES
from archer_ws.llm_gateway.transport.content_coding import ContentDecoder, DecodingError, coding_of
from archer_ws.llm_gateway.transport.head import is_about_framing, mended
from archer_ws.llm_gateway.transport.response import StreamedResponse, TakeBytes, slices_of

#: The number of unread pieces of a body at which reading pauses: many chunks of one byte take long to join.
_PIECES_MAX = 16 * 1024
#: The bytes of a header field on the wire besides its name and value.
_FIELD_BYTES = 4


class NotHttp(Exception):
    """The response is not HTTP/1."""


class HttpResponse(StreamedResponse):
    """A response as it comes: first its head, then its body. llhttp's parser calls its `on_` methods."""

    def __init__(self, transport: asyncio.Transport, on_over: Callable[[bool], None]) -> None:
        self.status = 0
        #: The fields as they come; repeated names are joined.
        self._fields: dict[str, str] = {}
        self._repeated: dict[str, list[str]] = {}
        self.headers = {}
        self._loop = asyncio.get_running_loop()
        #: Done when the head is complete.
        self.head: asyncio.Future[None] = self._loop.create_future()
        #: The bytes since the last piece of the body (or since the start), and those of them in header and trailer
        #: fields.
        self._bodyless_bytes = self._field_bytes = 0
        #: The bytes before the head was complete, in case it must be corrected.
        self._raw_head: list[bytes] | None = []
        self._is_mended = self._has_two_lengths = False
        self._transport = transport
        self._on_over: Callable[[bool], None] | None = on_over
        #: The pieces of the body that were not read yet.
        self._pieces: list[bytes] = []
        #: The bytes of these pieces, or more: those of the reads that brought them.
        self._unread_bytes = 0
        # Called by the parser for each piece of the body; a method would cost more than all the parsing.
        self.on_body = self._pieces.append
        # The parser and this object refer to each other until `let_go`: cycles are collected late.
        self._parser: httptools.HttpResponseParser | None = self._make_parser()
        self._coding: ContentDecoder | None = None
        #: The rest of a large read, in slices, the last one first.
        self._slices: list[bytes] = []
        #: Whether the next bytes are a slice, or unpacked: of a compressed body always.
        self._is_sliced = False
        self._is_paused = False
        self._is_whole = False
        self._is_reusable = False
        self._error: Exception | None = None
        #: Done when there is something to read; its result is whether reading ends before the body does.
        self._waiter: asyncio.Future[bool] | None = None
        #: Takes small reads that somebody waits for.
        self._take: TakeBytes | None = None
        self._context: Context

    @property
    def is_untouched(self) -> bool:
        """Whether not a byte of it has come."""
        return self._raw_head is not None and not self._raw_head

    @property
    def is_read_out(self) -> bool:
        """See `StreamedResponse`."""
        return self._is_whole and not self._pieces and not self._is_sliced

    async def read_some(self) -> bytes:
        """The next bytes of the body: all that have come, or a slice if that is much; empty at the end, and once the
        one who takes pushed bytes wants no more.

        Raises:
            NotHttp, DecodingError, OSError: it broke off.
        """
        if self._is_sliced:
            return await self._read_slice()
        pieces = self._pieces
        while not pieces:
            if self._is_whole:
                return b""
            if self._error is not None:
                raise self._error
            ends_here = await self._next_read()
            if ends_here:
                return b""
        data = self._taken()
        if len(data) <= PROVIDER_SLICE_BYTES:
            return data
        self._slices = slices_of(data)[::-1]
        first = self._slices.pop()
        self._is_sliced = bool(self._slices)
        return first

    def _taken(self) -> bytes:
        """All bytes of the body that came and were not read yet: now they are."""
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._unread_bytes = 0
        if self._is_paused:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return data

    async def _read_slice(self) -> bytes:
        """The next slice of the bytes that came, after other tasks ran; or of the unpacked bytes."""
        if self._slices:
            await asyncio.sleep(0)
            data = self._slices.pop()
            self._is_sliced = bool(self._slices)
            return data
        coding = self._coding
        assert coding is not None
        while True:
            if coding.has_more:
                await asyncio.sleep(0)
                try:
                    if data := coding.take(PROVIDER_SLICE_BYTES):
                        return data
                except DecodingError as error:
                    self._fail(error)
                    raise
            elif self._pieces:
                coding.put(self._taken())
            elif self._is_whole:
                return coding.finish()
            elif self._error is not None:
                raise self._error
            else:
                await self._next_read()

    def push_to(self, take: TakeBytes | None) -> None:
        """See `StreamedResponse`; `take` runs in the caller's context, so that its log lines name the request."""
        if take is None:
            self._take = None
        elif self._coding is None:
            self._take, self._context = take, copy_context()

    def _next_read(self) -> asyncio.Future[bool]:
        """The waiter: done when there is something to read, or nothing more to expect."""
        self._waiter = self._loop.create_future()
        return self._waiter

    async def aclose(self) -> None:
        """See `StreamedResponse`."""
        self.let_go()

    def let_go(self) -> None:
        """Release the connection; a second call does nothing."""
        self._parser = self._take = None
        on_over, self._on_over = self._on_over, None
        if on_over is not None:
            # A paused connection would not read its next response.
            on_over(self._is_reusable and not self._is_paused)
        if not self._is_whole:
            self._fail(ConnectionResetError("closed before its end"))
            self._wake()

    def feed(self, data: bytes) -> None:
        """Parse the bytes that came (called by the connection)."""
        if self._parser is None or self._error is not None:
            return
        if self._raw_head is not None:
            self._raw_head.append(data)
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError:
                if not self._mend():
                    raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # The callback's exception is in its chain.
            raised = error.__cause__ or error.__context__
            self._fail(raised if isinstance(raised, DecodingError | NotHttp) else NotHttp(str(error)))
        if self._pieces:
            self._bodyless_bytes = 0
            take, waiter = self._take, self._waiter
            # A task that waits has read everything before.
            if take is not None and waiter is not None and len(data) <= PROVIDER_SLICE_BYTES and not waiter.done():
                self._push(take, waiter)
                return
            self._unread_bytes += len(data)
            if self._unread_bytes > PROVIDER_UNREAD_BYTES and not self._is_paused:
                self._pause_if_full()
        else:
            self._bodyless_bytes += len(data)
            if self._bodyless_bytes > PROVIDER_HEAD_BYTES:
                self._fail(NotHttp("a head, or trailer fields, without end"))
        self._wake()

    def _pause_if_full(self) -> None:
        """Count exactly what is unread, and pause reading if it is too much."""
        self._unread_bytes = sum(map(len, self._pieces))
        if self._unread_bytes > PROVIDER_UNREAD_BYTES or len(self._pieces) > _PIECES_MAX:
            self._is_paused = True
            self._transport.pause_reading()

    def _push(self, take: TakeBytes, waiter: asyncio.Future[bool]) -> None:
        """Hand on what came; wake the task that waits only for what it must do itself."""
        # (As `_taken`, with one call less per token: while a task waits, nothing is unread, and reading is not paused.)
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        try:
            wants_no_more = self._context.run(take, data)
        except Exception as error:  # noqa: BLE001 - it is raised where the reader waits
            self._take = self._waiter = None
            if not waiter.done():
                waiter.set_exception(error)
            return
        if wants_no_more:
            self._take = self._waiter = None
            if not waiter.done():
                waiter.set_result(True)
        elif self._is_whole or self._error is not None:
            self._wake()

    def end(self, error: Exception | None = None) -> None:
        """Handle the end of the connection (called by the connection)."""
        # Without a length and chunks, the connection's end is the body's end (RFC 9112, section 6.3).
        has_own_end = "content-length" in self.headers or "transfer-encoding" in self.headers
        if self.status and not has_own_end and error is None and self._error is None:
            self._is_whole = True
        self._fail(error or ConnectionResetError("closed before the response was complete"))
        self._wake()

    def on_message_begin(self) -> None:
        """A response begins; or, after the end of this one, another one without a request."""
        if self._is_whole:
            raise NotHttp("a response without a request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field; or a trailer field, which is dropped (RFC 9110, section 6.5.1)."""
        self._field_bytes += len(name) + len(value) + _FIELD_BYTES
        if self._field_bytes > PROVIDER_HEAD_BYTES:
            raise NotHttp("a head, or trailer fields, without end")
        if not self.status:
            key, text = name.decode("latin-1").lower(), value.decode("utf-8", "replace").strip()
            if key not in self._fields:
                self._fields[key] = text
            else:
                self._repeated.setdefault(key, [self._fields[key]]).append(text)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 100:
            raise NotHttp(f"a status of {status:03}")
        if status < 200:
            return  # An interim response (RFC 9110, section 15.2).
        headers = self._fields
        for name, values in self._repeated.items():
            headers[name] = ", ".join(values)
        if headers.get("transfer-encoding", "chunked").lower() != "chunked":
            raise NotHttp("a transfer coding in another spelling")  # will be corrected
        self._has_two_lengths = "transfer-encoding" in headers and "content-length" in headers
        self.status, self.headers = status, headers
        self._raw_head, self._field_bytes = None, 0
        self._unpack_what_is_packed(headers)
        self.head.set_result(None)

    def on_message_complete(self) -> None:
        """The body is complete."""
        assert self._parser is not None
        if self.status:
            self._is_whole = True
            # A server that contradicts itself about the body's end may also disagree with us (RFC 9112, section 6.3).
            is_clear = not (self._is_mended or self._has_two_lengths)
            self._is_reusable = is_clear and self._parser.should_keep_alive()
        else:
            self._fields, self._repeated = {}, {}

    def _make_parser(self) -> httptools.HttpResponseParser:
        parser = httptools.HttpResponseParser(self)
        parser.set_dangerous_leniencies(
            # Control characters in values may be kept (RFC 9110, section 5.5): they have no meaning here.
            lenient_headers=True,
            # A line may end in LF only (RFC 9112, section 2.2), as in hand-written servers.
            lenient_optional_cr_before_lf=True,
            # Servers that reserve room for a chunk's size pad it with spaces (Apache 1.3 did); browsers and curl accept
            # that, and a space can't be part of the size (RFC 9112, section 7.1).
            lenient_spaces_after_chunk_size=True,
            # Chunks override a length (RFC 9112, section 6.3). The danger is in the next response, which is not read:
            # the connection is closed.
            lenient_chunked_length=True,
        )
        return parser

    def _mend(self) -> bool:
        """Parse again with a corrected head; returns False if the framing is not the problem. An incomplete head is
        corrected later."""
        raw = b"".join(self._raw_head or ())
        if self._is_mended or not is_about_framing(raw):
            return False
        data = mended(raw)
        if data is not None:
            self._is_mended = True
            self._fields, self._repeated = {}, {}
            self._field_bytes = 0
            self._parser = self._make_parser()
            self._parser.feed_data(data)
        return True

    def _unpack_what_is_packed(self, headers: dict[str, str]) -> None:
        """Unpack a compressed body, although no request asks for one."""
        # The body is unpacked here: with this header, an SDK would unpack it again.
        packed = headers.pop("content-encoding", None)
        coding = coding_of(packed, self.status) if packed else None
        if coding is not None:
            self._coding = ContentDecoder(coding)
            self._is_sliced = True

    def _fail(self, error: Exception) -> None:
        self._is_reusable = False
        if self._is_whole or self._error is not None:
            return
        self._error = error
        if not self.head.done():
            self.head.set_exception(error)
            self.head.exception()  # mark it as retrieved, even if nobody waits any more

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(False)
