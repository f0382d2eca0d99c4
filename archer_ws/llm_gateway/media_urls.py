"""The URLs of pictures and documents: `data:` with base64, or `https:` (protocol section 20). Pure.

This server never fetches a URL: the provider reads an https URL, if it can.
"""

import binascii
from hashlib import blake2b
from urllib.parse import urlsplit

from archer_ws.core.media_types import HEAD_BYTES, UnsupportedMediaType, media_type_of

#: The limit of inline data in one part, in decoded bytes: the default limit of a file.
INLINE_BYTES_MAX = 32 * 1024 * 1024
#: Signed URLs of object stores have two thousand characters, and servers accept eight thousand.
URL_CHARS_MAX = 8192
#: The limit of a data URL's head before the data: a media type and perhaps a charset or a name.
_HEADER_CHARS_MAX = 256
#: The size of one step of the check, in characters: it runs in a worker thread, and other threads run between two
#: steps.
_SLICE_CHARS = 256 * 1024
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

_FORMS = "Send data:<media type>;base64,… or https://…, or the file_id of an uploaded file."
_BASE64 = "Send standard base64 (RFC 4648, section 4) with its padding, and no line ends."


class WrongUrl(ValueError):
    """The URL is not allowed in a part.

    Attributes:
        advice: what to do instead.
    """

    def __init__(self, what: str, advice: str = _FORMS) -> None:
        super().__init__(what)
        self.advice = advice


def is_inline(url: str) -> bool:
    """Whether a URL contains its data."""
    return url[:5].lower() == "data:"


def split_inline(url: str) -> tuple[str, int]:
    """For a data URL: the media type with its parameters, and the index at which its base64 begins.

    Raises:
        WrongUrl: it has no media type or no base64.
    """
    comma = url.find(",", 5, _HEADER_CHARS_MAX)
    head = url[5:comma] if comma > 0 else ""
    declared, semicolon, coding = head.rpartition(";")
    if not semicolon or coding.strip().lower() != "base64":
        raise WrongUrl("is a data URL without a media type and base64")
    return declared, comma + 1


def inline_size(url: str, begin: int) -> int:
    """The number of bytes that the base64 of a checked data URL encodes, from its index."""
    return (len(url) - begin) // 4 * 3 - url.endswith("=") - url.endswith("==")


def checked_url(url: str) -> tuple[str, bytes | None]:
    """The URL in the form that is sent on (a data URL keeps only the media type before its data); and the hash of
    inline data.

    Raises:
        WrongUrl: it is of another kind, or its base64 is not valid, or too long.
        UnsupportedMediaType: the data is not of the declared type, or of a type that is not accepted.
    """
    if not is_inline(url):
        return _checked_https(url), None
    declared, begin = split_inline(url)
    size = inline_size(url, begin)
    if size > INLINE_BYTES_MAX:
        raise WrongUrl(
            f"contains more than {INLINE_BYTES_MAX} bytes", "Make the picture smaller, or split the document."
        )
    digest = _checked_base64(url, begin)
    media_type = media_type_of(declared, inline_head(url, begin))
    header = f"data:{media_type};base64,"
    # Usually it has this form already, and megabytes need not be copied.
    return url if url.startswith(header) else header + url[begin:], digest


def inline_head(url: str, begin: int) -> bytes:
    """The first decoded bytes of a checked data URL, from the index of its base64."""
    return binascii.a2b_base64(url[begin : begin + -(-HEAD_BYTES // 3) * 4])


def _checked_base64(url: str, begin: int) -> bytes:
    """The hash of the data, from the index of its base64."""
    length = len(url) - begin
    if length == 0:
        raise UnsupportedMediaType("is empty")
    end = len(url) - url.endswith("=") - url.endswith("==")
    is_right = length % 4 == 0 and url.isascii()
    digest = blake2b(digest_size=16)
    for place in range(begin, end, _SLICE_CHARS) if is_right else ():
        piece = url[place : min(place + _SLICE_CHARS, end)].encode()
        digest.update(piece)
        if piece.translate(None, _ALPHABET):
            is_right = False
            break
    if not is_right:
        raise WrongUrl("is not base64", _BASE64)
    last = url[-4:].encode()
    # Bits after the last byte must be 0: strict decoders refuse others.
    if binascii.b2a_base64(binascii.a2b_base64(last), newline=False) != last:
        raise WrongUrl("is not base64", _BASE64)
    return digest.digest()


def _checked_https(url: str) -> str:
    if len(url) > URL_CHARS_MAX:
        raise WrongUrl(f"has more than {URL_CHARS_MAX} characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise WrongUrl("is not a URL") from None
    if parts.scheme != "https":
        raise WrongUrl("is neither a data URL nor an https URL")
    if not host or not url.isprintable() or {" ", "\\"} & set(url):
        raise WrongUrl("is not a URL")
    if "@" in parts.netloc:
        raise WrongUrl("has a user or a password in it", "Send a URL that needs none, or upload the file.")
    return url
