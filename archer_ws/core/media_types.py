"""What pictures and documents are: their media types, and the bytes that they begin with. Pure.

What is taken: the four kinds of pictures that models see, PDF, and text. A type that is told is not believed: where the
bytes are something else, providers refuse the whole request, and some decode whatever they are given.
Signatures: https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern and section 7.1 there for PDF.
"""

import re

from archer_ws.core.exceptions import FieldError, Unsupported

#: So many of the first bytes tell the type of anything that is taken.
HEAD_BYTES = 1024

PDF = "application/pdf"
PLAIN_TEXT = "text/plain"
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

#: How pictures and PDF begin; WebP has its length between two words.
_SIGNATURES: dict[bytes, str] = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"%PDF-": PDF,
}
_OTHER_NAMES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "application/x-pdf": PDF,
}
#: What programs say where they know no better: the bytes tell.
_SAYS_NOTHING = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"})
#: Types of text that are not named so.
_TEXTUAL = frozenset(
    {
        "application/csv",
        "application/javascript",
        "application/json",
        "application/ld+json",
        "application/markdown",
        "application/ndjson",
        "application/sql",
        "application/toml",
        "application/typescript",
        "application/x-javascript",
        "application/x-ndjson",
        "application/x-python",
        "application/x-sh",
        "application/x-tex",
        "application/x-yaml",
        "application/xml",
        "application/yaml",
    }
)
#: What systems say of text by its name's end: `.csv` where Excel is installed, TypeScript's `.ts`; and types that are
#: registered nowhere, or written in JSON or XML (RFC 6839): scripts, notebooks, pages. The bytes must be text.
_SAID_OF_TEXT = re.compile(
    r"application/(?:vnd\.ms-excel|x-[a-z0-9.+-]+|[a-z0-9.-]+\+(?:json|xml|yaml))|video/(?:mp2t|vnd\.dlna\.mpeg-tts)"
)
_NAME = re.compile(r"[a-z]{1,12}/[a-z0-9.+-]{1,80}")
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
#: Control characters that no text has (section 3 there).
_NOT_IN_TEXT = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))

_TAKEN = "Send a PNG, JPEG, GIF or WebP picture, a PDF, or text in UTF-8."


class UnsupportedMediaType(ValueError):
    """These bytes are not taken, or are not what they are said to be.

    Attributes:
        advice: what to do instead.
    """

    def __init__(self, what: str, advice: str = _TAKEN) -> None:
        super().__init__(what)
        self.advice = advice

    def as_refusal(self, path: str) -> Unsupported:
        """The same as the answer to a request, whose field at `path` it is about."""
        return Unsupported(f"{path}: {self}", hint=self.advice, errors=[FieldError(path=path, message=str(self))])


def is_text(media_type: str) -> bool:
    """Whether a media type (in small letters, without parameters) is one of text."""
    return media_type.startswith("text/") or media_type in _TEXTUAL


def media_type_of(declared: str, head: bytes) -> str:
    """The media type of bytes that are said to be of one, in small letters and without parameters.

    Args:
        declared: what the sender says, as in a Content-Type; where it says nothing, the bytes decide.
        head: the first HEAD_BYTES of them, or all where there are fewer.

    Raises:
        UnsupportedMediaType: they are of another type, or of one that is not taken.
    """
    told, _, parameters = declared.partition(";")
    told = told.strip().lower()
    told = _OTHER_NAMES.get(told, told)
    if not head:
        raise UnsupportedMediaType("is empty")
    found = _found(head)
    if told in _SAYS_NOTHING:
        if found is None:
            raise UnsupportedMediaType("is of no type that is taken")
        return found
    if found == PLAIN_TEXT and not is_text(told) and _SAID_OF_TEXT.fullmatch(told):
        _check_charset(parameters)
        return found
    if told not in IMAGES and told != PDF and not is_text(told):
        # Named only where it is a name: it may be anything.
        named = told if _NAME.fullmatch(told) else "this"
        raise UnsupportedMediaType(f"{named} is not a media type that is taken")
    if is_text(told) and found == PLAIN_TEXT:
        _check_charset(parameters)
        return told
    if found != told:
        # Never the bytes: they may be anything.
        seen = f"has the first bytes of {found}" if found else f"does not begin as {told} does"
        raise UnsupportedMediaType(
            f"is said to be {told}, and {seen}", f"Send it as {found}." if found in IMAGES or found == PDF else _TAKEN
        )
    return told


def _found(head: bytes) -> str | None:
    for signature, media_type in _SIGNATURES.items():
        if head.startswith(signature):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return PLAIN_TEXT if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    if head.translate(None, _NOT_IN_TEXT) != head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut.
        return len(head) >= HEAD_BYTES and error.reason == "unexpected end of data"
    return True


def _check_charset(parameters: str) -> None:
    for parameter in parameters.lower().split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in _CHARSETS:
            raise UnsupportedMediaType("is text in another charset than UTF-8", "Send it in UTF-8.")
