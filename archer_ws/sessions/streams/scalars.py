"""Converts a provider's pieces of text to UTF-8 without lone surrogates (protocol section 1).

JSON allows half of a surrogate pair in one chunk and the other half in the next; such halves are joined. A half without
its other half becomes U+FFFD.
"""


class ScalarEncoder:
    """Encodes pieces in order. A high surrogate at the end of a piece is held back until the next piece."""

    def __init__(self) -> None:
        self._half = ""

    def encode(self, piece: str) -> bytes:
        """The UTF-8 of a piece, with halves of pairs joined and lone ones replaced."""
        if not self._half:
            try:
                return piece.encode()
            except UnicodeEncodeError:
                pass
        text = self._half + piece
        self._half = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._half, text = text[-1], text[:-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()

    def flush(self) -> bytes:
        """The UTF-8 of what is held back, at the end of the text."""
        half, self._half = self._half, ""
        return "\ufffd".encode() if half else b""


def boundary(text: bytes, at: int) -> int:
    """The last boundary between two characters in UTF-8 text that is at or before offset `at`."""
    if at >= len(text):
        return len(text)
    while at > 0 and text[at] & 0xC0 == 0x80:
        at -= 1
    return at
