"""An answer over HTTP/1.1 as it comes: nothing between llhttp and the one who reads.

Owns an answer's head, its body's framing and compression, and the bounds on both. The connection is
transport/connection.py's.
"""

import asyncio
from collections.abc import Callable

import httptools

from archer_ws.core.limits import PROVIDER_HEAD_BYTES, PROVIDER_SLICE_BYTES, PROVIDER_UNREAD_BYTES
from archer_ws.llm_gateway.transport.content_coding import ContentDecoder, DecodingError, coding_of
from archer_ws.llm_gateway.transport.head import is_about_framing, mended
from archer_ws.llm_gateway.transport.response import StreamedResponse, slices_of

#: What a field takes on the wire beside its name and value, in bytes.
_FIELD_BYTES = 4


class NotHttp(Exception):
    """What came is not HTTP/1."""


class HttpResponse(StreamedResponse):
    """An answer as it comes: at first its head, then its body. Its `on_` methods are called by llhttp's parser."""

    def __init__(self, transport: asyncio.Transport, on_over: Callable[[bool], None]) -> None:
        self.status = 0
        #: As they come; and all of a name that comes again.
        self._fields: dict[str, str] = {}
        self._repeated: dict[str, list[str]] = {}
        self.headers = {}
        self._loop = asyncio.get_running_loop()
        #: Done when the head is whole.
        self.head: asyncio.Future[None] = self._loop.create_future()
        #: What came since the last of the body (or ever), and of that, header and trailer fields. In bytes.
        self._bodyless_bytes = self._field_bytes = 0
        #: What came before the head was whole, for one that has to be mended.
        self._raw_head: list[bytes] | None = []
        self._is_mended = self._has_two_lengths = False
        self._transport = transport
        self._on_over: Callable[[bool], None] | None = on_over
        # It holds on to us as we do to it, until we let go: circles are rarely looked for.
        self._parser: httptools.HttpResponseParser | None = self._make_parser()
        self._coding: ContentDecoder | None = None
        self._pieces: list[bytes] = []
        #: What was taken of the pieces and not yet read, last slice first.
        self._slices: list[bytes] = []
        self._is_sliced = False
        self._unread_bytes = 0
        self._is_paused = False
        self._is_whole = False
        self._is_reusable = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_untouched(self) -> bool:
        """Whether nothing of it has come, not a byte."""
        return self._raw_head is not None and not self._raw_head

    @property
    def is_read_out(self) -> bool:
        """As `StreamedResponse` has it."""
        return self._is_whole and not self._pieces and not self._is_sliced

    async def read_some(self) -> bytes:
        """The next of the body: all that has come by then, or a slice of it where that is much; empty at its end.

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
            self._waiter = self._loop.create_future()
            await self._waiter
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._unread_bytes = 0
        if self._is_paused:
            self._resume()
        if len(data) <= PROVIDER_SLICE_BYTES:
            return data
        self._slices = slices_of(data)[::-1]
        first = self._slices.pop()
        self._is_sliced = bool(self._slices)
        return first

    def _resume(self) -> None:
        self._is_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def _read_slice(self) -> bytes:
        """The next of what came already, after others had their turn; or of what is unpacked."""
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
                coding.put(b"".join(self._pieces))
                self._pieces.clear()
                self._unread_bytes = 0
                if self._is_paused:
                    self._resume()
            elif self._is_whole:
                return coding.finish()
            elif self._error is not None:
                raise self._error
            else:
                self._waiter = self._loop.create_future()
                await self._waiter

    async def aclose(self) -> None:
        """As `StreamedResponse` has it."""
        self.let_go()

    def let_go(self) -> None:
        """Leave the connection; a second time does nothing."""
        self._parser = None
        on_over, self._on_over = self._on_over, None
        if on_over is not None:
            # Paused, it would not hear its next answer.
            on_over(self._is_reusable and not self._is_paused)
        if not self._is_whole:
            self._fail(ConnectionResetError("closed before its end"))
            self._wake()

    def feed(self, data: bytes) -> None:
        """Take what came (the connection's to call)."""
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
            # What a callback raised is in its chain.
            raised = error.__cause__ or error.__context__
            self._fail(raised if isinstance(raised, DecodingError | NotHttp) else NotHttp(str(error)))
        if self._pieces:
            self._bodyless_bytes = 0
        else:
            self._bodyless_bytes += len(data)
            if self._bodyless_bytes > PROVIDER_HEAD_BYTES:
                self._fail(NotHttp("a head, or trailer fields, without end"))
        self._wake()

    def end(self, error: Exception | None = None) -> None:
        """No more comes (the connection's to call)."""
        # Without a length and chunks, the connection's end is the body's (RFC 9112, section 6.3).
        has_own_end = "content-length" in self.headers or "transfer-encoding" in self.headers
        if self.status and not has_own_end and error is None and self._error is None:
            self._is_whole = True
        self._fail(error or ConnectionResetError("closed before the answer was whole"))
        self._wake()

    def on_message_begin(self) -> None:
        """An answer begins; or, behind the whole of this one, another that nobody asked for."""
        if self._is_whole:
            raise NotHttp("an answer to no request")

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
        """The head is whole."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 100:
            raise NotHttp(f"a status of {status:03}")
        if status < 200:
            return  # Only a sign of life (RFC 9110, section 15.2).
        headers = self._fields
        for name, values in self._repeated.items():
            headers[name] = ", ".join(values)
        if headers.get("transfer-encoding", "chunked").lower() != "chunked":
            raise NotHttp("a transfer coding in other words")  # and is mended
        self._has_two_lengths = "transfer-encoding" in headers and "content-length" in headers
        self.status, self.headers = status, headers
        self._raw_head, self._field_bytes = None, 0
        self._unpack_what_is_packed(headers)
        self.head.set_result(None)

    def on_body(self, data: bytes) -> None:
        """Some of the body."""
        self._pieces.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes > PROVIDER_UNREAD_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The body is whole."""
        assert self._parser is not None
        if self.status:
            self._is_whole = True
            # Who disagrees with itself about where a body ends may disagree with us, too (RFC 9112, section 6.3).
            is_clear = not (self._is_mended or self._has_two_lengths)
            self._is_reusable = is_clear and self._parser.should_keep_alive()
        else:
            self._fields, self._repeated = {}, {}

    def _make_parser(self) -> httptools.HttpResponseParser:
        parser = httptools.HttpResponseParser(self)
        parser.set_dangerous_leniencies(
            # Control characters in values may be kept (RFC 9110, section 5.5): here they mean nothing to anyone.
            lenient_headers=True,
            # A line may end in LF alone (RFC 9112, section 2.2), as those of hand-written servers do.
            lenient_optional_cr_before_lf=True,
            # Servers that reserve room for a chunk's size fill it up with spaces (Apache 1.3 did); browsers and curl
            # read them, and a space can't be part of the size (RFC 9112, section 7.1).
            lenient_spaces_after_chunk_size=True,
            # Chunks win over a length (RFC 9112, section 6.3). What is dangerous in it, the next answer's beginning, is
            # not read: the connection is closed.
            lenient_chunked_length=True,
        )
        return parser

    def _mend(self) -> bool:
        """Begin anew with a head put right; false where it is not its framing that ails it. Where it is not whole yet,
        that is for later."""
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
        """Nobody asked for compression, but it comes."""
        # What is read is plain: an SDK that is told otherwise would decompress it again.
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
            self.head.exception()  # seen, also where nobody waits any more

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
