"""The frames of almost all messages, parsed and made at the least cost: whole text messages (RFC 6455, section 5.2).

The library websockets parses everything else.
"""

from collections.abc import Generator
from typing import Any

from websockets import http11
from websockets.frames import apply_mask  # type: ignore[attr-defined]  # it chooses between C and Python
from websockets.streams import StreamReader

from archer_ws.core.limits import HTTP_SLICE_BYTES, MAX_HEAD_BYTES

#: The first byte of a whole text message: final, without reserved bits.
_WHOLE_TEXT = 0x81
_MASK_BIT = 0x80
#: In place of a length: two bytes follow with it; eight bytes do.
_TWO_BYTES, _EIGHT_BYTES = 126, 127

# The limit of the whole head was applied before; the library's own, 128 fields, would refuse a handshake whose other
# requests are served. It reads this for each handshake.
http11.MAX_NUM_HEADERS = MAX_HEAD_BYTES + HTTP_SLICE_BYTES


def text_frame(text: str) -> bytes:
    """A whole text message from a server: final, not masked."""
    payload = text.encode()
    size = len(payload)
    if size < _TWO_BYTES:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8), payload)


def whole_text(data: bytes) -> str | None:
    """The text of a client's frame, if `data` is one frame, it is a whole text message, and nothing is wrong with it;
    otherwise None."""
    if len(data) < 6 or data[0] != _WHOLE_TEXT or data[1] < _MASK_BIT:
        return None
    size, begin = data[1] - _MASK_BIT, 6
    if size == _EIGHT_BYTES:
        return None
    if size == _TWO_BYTES:
        size, begin = int.from_bytes(data[2:4]), 8
    if len(data) != begin + size:
        return None
    try:
        text: str = apply_mask(data[begin:], data[begin - 4 : begin]).decode()
    except UnicodeDecodeError:
        return None
    return text


class FrameReader(StreamReader):
    """The input of the library's parser; records whether the parser waits for a frame to begin."""

    is_between_frames = False

    def read_line(self, _m: int, *how: Any) -> Generator[None, None, bytearray]:
        """The parser calls this for each line of the handshake. The limit of the whole head was applied before; the
        library's own for a line, 8 KiB, would refuse a handshake with many cookies whose other requests are served."""
        return super().read_line(MAX_HEAD_BYTES + HTTP_SLICE_BYTES, *how)

    def at_eof(self) -> Generator[None, None, bool]:
        """The parser calls this before each frame, and waits in it while there is no input."""
        self.is_between_frames = True
        return super().at_eof()

    def read_exact(self, n: int) -> Generator[None, None, bytearray]:
        """The parser calls this for each part of a frame."""
        self.is_between_frames = False
        return super().read_exact(n)
