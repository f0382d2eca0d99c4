"""Compressed bodies that nobody asked for, unpacked a slice at a time.

Pure. A few hundred bytes may unpack to a gigabyte: what is unpacked is asked for, and only as much.
"""

import zlib

#: Names that proxies and frameworks write where there is no coding (Next.js sites say `none` so that nobody gathers).
_NO_CODING = frozenset({"", "identity", "none", "utf-8", "utf8", "binary", "8bit", "chunked", "null", "text"})
#: `x-gzip` is gzip (RFC 9110, section 8.4.1.3); the other names are old libraries' for the format inside deflate.
_GZIP, _DEFLATE = frozenset({"gzip", "x-gzip"}), frozenset({"deflate", "x-deflate", "zlib"})
_GZIP_MAGIC = b"\x1f\x8b"
#: How answers begin that are not compressed, whatever their head says: a proxy unpacked them.
_PLAIN = (b"{", b"[", b":", b"data:", b"event:", b"id:", b"retry:")
#: What can't be told apart with less.
_MAGIC_BYTES = 2
#: Of the members of a gzip file (a proxy's, one a piece), so many are begun before others have their turn.
_MEMBERS_AT_ONCE = 64


class DecodingError(Exception):
    """The body is compressed, and can't be decompressed."""


def coding_of(field: str, status: int) -> str | None:
    """How a body is compressed, by its Content-Encoding (RFC 9110, section 8.4): gzip, deflate or None.

    Raises:
        DecodingError: in another way, or in several; unless it is an error's, whose status says enough.
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
    """One compressed body: `put` what comes, and `take` while it `has_more`.

    Args:
        coding: gzip or deflate; of the latter there are two (RFC 9110, section 8.4.1.2), which are told apart.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._packed = b""
        self._inflate: zlib._Decompress | None = None
        self._is_plain = self._is_over = self._needs_more = False
        #: The last piece was as long as was allowed: zlib may hold more of what it was given.
        self._is_full = False

    @property
    def has_more(self) -> bool:
        """Whether `take` may give something before more is put."""
        return self._is_full or (bool(self._packed) and not self._needs_more)

    def put(self, data: bytes) -> None:
        """What has come next."""
        self._needs_more = False
        if not self._is_over:
            self._packed += data

    def take(self, limit: int) -> bytes:
        """At most so many bytes of what is unpacked; empty where there is none, yet or (not `has_more`) at all.

        Raises:
            DecodingError: it is not compressed like that.
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
                    # Another member may follow; what is none is a file's padding.
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
        """What is left of a body too short for any compression."""
        data, self._packed = self._packed, b""
        return data if self._inflate is None and not self._is_over and self._coding != "member" else b""

    def _begin(self) -> bool:
        """Whether it is known how to unpack the next member, or that there is none."""
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
