"""Unpacks compressed bodies, which no request asked for, a slice at a time.

Pure. A few hundred bytes may unpack to a gigabyte, so the caller asks for each slice with a limit.
"""

import zlib

#: Names that proxies and frameworks use for no coding (Next.js sites send `none`, so that no proxy buffers).
_NO_CODING = frozenset({"", "identity", "none", "utf-8", "utf8", "binary", "8bit", "chunked", "null", "text"})
#: `x-gzip` is gzip (RFC 9110, section 8.4.1.3); the other names are old libraries' for the format inside deflate.
_GZIP, _DEFLATE = frozenset({"gzip", "x-gzip"}), frozenset({"deflate", "x-deflate", "zlib"})
_GZIP_MAGIC = b"\x1f\x8b"
#: The first bytes of bodies that are not compressed, whatever their head says: a proxy unpacked them.
_PLAIN = (b"{", b"[", b":", b"data:", b"event:", b"id:", b"retry:")
#: The number of bytes needed to recognise the format.
_MAGIC_BYTES = 2
#: The number of members of a gzip file (one per piece, from a proxy) that are begun before other tasks run.
_MEMBERS_AT_ONCE = 64


class DecodingError(Exception):
    """The body can't be decompressed."""


def coding_of(field: str, status: int) -> str | None:
    """The compression of a body, by its Content-Encoding (RFC 9110, section 8.4): gzip, deflate or None.

    Raises:
        DecodingError: another compression, or several; except for an error, whose status is enough.
    """
    named = [name.strip().lower() for name in field.split(",")]
    codings = [name for name in named if name not in _NO_CODING]
    if not codings:
        return None
    if len(codings) == 1 and codings[0] in _GZIP:
        return "gzip"
    if len(codings) == 1 and codings[0] in _DEFLATE:
        return "deflate"
    if status >= 400:
        return None
    raise DecodingError(f"Content-Encoding {', '.join(codings)[:60]}, which was not asked for")


class ContentDecoder:
    """One compressed body: call `put` with each read, and `take` while it `has_more`.

    Args:
        coding: gzip or deflate; the two forms of the latter (RFC 9110, section 8.4.1.2) are distinguished
            automatically.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._packed = b""
        self._inflate: zlib._Decompress | None = None
        self._is_plain = self._is_over = self._needs_more = False
        #: The last piece was as long as allowed: zlib may have more output.
        self._is_full = False

    @property
    def has_more(self) -> bool:
        """Whether `take` may return something before the next `put`."""
        return self._is_full or (bool(self._packed) and not self._needs_more)

    def put(self, data: bytes) -> None:
        """Add the next bytes."""
        self._needs_more = False
        if not self._is_over:
            self._packed += data

    def take(self, limit: int) -> bytes:
        """At most so many unpacked bytes; empty if there are none yet or, when not `has_more`, none at all.

        Raises:
            DecodingError: the body does not have this compression.
        """
        self._is_full = False
        try:
            for _ in range(_MEMBERS_AT_ONCE):
                if self._inflate is None and not self._begin():
                    self._needs_more = True
                    break
                if self._is_plain:
                    data, self._packed = self._packed[:limit], self._packed[limit:]
                    return data
                assert self._inflate is not None
                data = self._inflate.decompress(self._packed, limit)
                self._packed = self._inflate.unconsumed_tail
                if self._inflate.eof:
                    # Another member may follow; anything else is padding.
                    self._packed, self._inflate = self._inflate.unused_data, None
                    self._coding = "member"
                else:
                    self._is_full = len(data) == limit
                if data or not self._packed:
                    return data
        except zlib.error as error:
            raise DecodingError(str(error)) from error
        return b""

    def finish(self) -> bytes:
        """The rest of a body that is too short for any compression."""
        data, self._packed = self._packed, b""
        return data if self._inflate is None and not self._is_over and self._coding != "member" else b""

    def _begin(self) -> bool:
        """Begin the next member; returns whether its format is known, or there is no further one."""
        if self._is_plain:
            return True
        if len(self._packed) < _MAGIC_BYTES and self._coding != "member":
            return False
        if self._packed.startswith(_GZIP_MAGIC):
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif self._coding == "member":
            if len(self._packed) < _MAGIC_BYTES and _GZIP_MAGIC.startswith(self._packed):
                return False
            self._packed, self._is_over = b"", True
            return False
        elif self._packed.startswith(_PLAIN):
            self._is_plain = True
        elif any(plain.startswith(self._packed) for plain in _PLAIN):
            return False
        else:
            first, second = self._packed[0], self._packed[1]
            has_zlib_head = first & 15 == zlib.DEFLATED and (first << 8 | second) % 31 == 0
            is_raw = self._coding == "deflate" and not has_zlib_head
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else zlib.MAX_WBITS | 32)
        return True
