"""Turns a provider's text pieces into UTF-8 of whole Unicode scalars (protocol section 1).

JSON can carry half a surrogate pair in one chunk and the other half in the next: they are joined. A half that stays
alone becomes U+FFFD.
"""


class ScalarEncoder:
    """Encodes pieces in order; holds back a trailing first half until it knows what follows."""

    def __init__(self) -> None:
        self._half = ""

    def encode(self, piece: str) -> bytes:
        """The piece's UTF-8, with halves joined and lone ones replaced."""
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
        """What is still held back, at the end."""
        half, self._half = self._half, ""
        return "\ufffd".encode() if half else b""


def boundary(text: bytes, at: int) -> int:
    """The last place in UTF-8 between two characters, or at the end, that is not behind `at`."""
    if at >= len(text):
        return len(text)
    while at > 0 and text[at] & 0xC0 == 0x80:
        at -= 1
    return at
