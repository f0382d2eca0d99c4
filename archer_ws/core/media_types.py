"""The media types of pictures and documents, and the bytes that such files begin with. Pure.

Accepted are the four kinds of pictures that models see, PDF, and text. A declared type is checked against the bytes: if
the bytes are something else, providers refuse the whole request, and some decode whatever they get. Signatures:
https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern and section 7.1 there for PDF.
"""

import re

#: The number of first bytes that are enough to recognise each accepted type.
HEAD_BYTES = 1024

PDF = "application/pdf"
PLAIN_TEXT = "text/plain"
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

#: The first bytes of pictures and PDF; WebP has its length between two words.
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
#: Types that programs declare if they do not know the type: then the bytes decide.
_SAYS_NOTHING = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"})
#: Types of text whose names do not begin with `text/`.
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
#: Types that systems declare for text by the file name's extension (`.csv` with Excel installed, TypeScript's `.ts`),
#: types that are not registered, and types written in JSON or XML (RFC 6839): scripts, notebooks, pages. The bytes must
#: be text.
_SAID_OF_TEXT = re.compile(
    r"application/(?:vnd\.ms-excel|x-[a-z0-9.+-]+|[a-z0-9.-]+\+(?:json|xml|yaml))|video/(?:mp2t|vnd\.dlna\.mpeg-tts)"
)
_NAME = re.compile(r"[a-z]{1,12}/[a-z0-9.+-]{1,80}")
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
#: Control characters that text does not contain (section 3 there).
_NOT_IN_TEXT = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))

_TAKEN = "Send a PNG, JPEG, GIF or WebP picture, a PDF, or text in UTF-8."


class UnsupportedMediaType(ValueError):
    """The bytes are of a type that is not accepted, or not of the declared type.

    Attributes:
        advice: what to do instead.
    """

    def __init__(self, what: str, advice: str = _TAKEN) -> None:
        super().__init__(what)
        self.advice = advice


def is_text(media_type: str) -> bool:
    """Whether a media type (in lower case, without parameters) is one of text."""
    return media_type.startswith("text/") or media_type in _TEXTUAL


def media_type_of(declared: str, head: bytes) -> str:
    """The media type of a file's bytes, in lower case and without parameters.

    Args:
        declared: the sender's declaration, as in a Content-Type; if it is empty, the bytes decide.
        head: the first HEAD_BYTES of the file, or all if it is shorter.

    Raises:
        UnsupportedMediaType: they are of another type, or of one that is not accepted.
    """
    told, _, parameters = declared.partition(";")
    told = told.strip().lower()
    told = _OTHER_NAMES.get(told, told)
    if not head:
        raise UnsupportedMediaType("is empty")
    found = _found(head)
    if told in _SAYS_NOTHING:
        if found is None:
            raise UnsupportedMediaType("is not of an accepted type")
        return found
    if found == PLAIN_TEXT and not is_text(told) and _SAID_OF_TEXT.fullmatch(told):
        _check_charset(parameters)
        return found
    if told not in IMAGES and told != PDF and not is_text(told):
        # Repeated only if it has the form of a name: it may be anything.
        named = told if _NAME.fullmatch(told) else "this"
        raise UnsupportedMediaType(f"{named} is not an accepted media type")
    if is_text(told) and found == PLAIN_TEXT:
        _check_charset(parameters)
        return told
    if found != told:
        # Never repeats the bytes: they may be anything.
        seen = f"has the first bytes of {found}" if found else f"does not begin like {told}"
        raise UnsupportedMediaType(
            f"is declared as {told}, but {seen}", f"Send it as {found}." if found in IMAGES or found == PDF else _TAKEN
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
        # The last character may be incomplete.
        return len(head) >= HEAD_BYTES and error.reason == "unexpected end of data"
    return True


def _check_charset(parameters: str) -> None:
    for parameter in parameters.lower().split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in _CHARSETS:
            raise UnsupportedMediaType("is text in a charset other than UTF-8", "Send it in UTF-8.")
