"""Which types of files are taken, and what the sender of another one is told. Pure; what files begin with is
core/media_types.py's."""

import re

from archer_ws.core.exceptions import InvalidParams, Unsupported
from archer_ws.core.media_types import UnsupportedMediaType, media_type_of

#: Types of text are anything by anyone; these are fit for a file's name everywhere, too.
_NAMEABLE = re.compile(r"[a-z]+/[a-z0-9](?:[a-z0-9.+_-]{0,98}[a-z0-9+])?")
_ADVICE = {
    "image/svg+xml": "Send the drawing as PNG; or its source as text/plain, for a model that reads it.",
    "image/heic": "Send the photo as JPEG.",
    "image/heif": "Send the photo as JPEG.",
    "image/avif": "Send the picture as JPEG or PNG.",
    "multipart/form-data": "Send the file itself as the body, with its type as Content-Type: no form around it.",
}
_EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "application/pdf": "pdf",
}


def file_type(declared: str, head: bytes) -> str:
    """The media type that a file is kept under, in small letters and without parameters.

    Args:
        declared: what its sender says; where that says nothing, the bytes decide.
        head: its first bytes (see core.media_types.HEAD_BYTES).

    Raises:
        Unsupported: files of that type are not taken, or it is of another one.
        InvalidParams: it is empty.
    """
    if not head:
        raise InvalidParams("the file is empty", hint="Send the file's bytes as the request's body.")
    told = declared.partition(";")[0].strip().lower()
    try:
        found = media_type_of(declared, head)
    except UnsupportedMediaType as error:
        raise Unsupported(f"the file {error}", hint=_ADVICE.get(told, error.advice)) from None
    if not _NAMEABLE.fullmatch(found):
        raise Unsupported(f"{found[:100]!r} is not a media type that is taken", hint="Send text as text/plain.")
    return found


def extension_of(media_type: str) -> str:
    """What a file of that type ends with in a folder."""
    return _EXTENSIONS.get(media_type, "txt")
