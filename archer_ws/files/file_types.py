"""Which types of files are accepted, and the errors about others. Pure; core/media_types.py recognises files by their
first bytes.
"""

import re

from archer_ws.core.exceptions import InvalidParams, Unsupported
from archer_ws.core.media_types import UnsupportedMediaType, media_type_of

#: Types of text can be any string; these can be used in a file's name on all systems.
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
    """The media type under which a file is stored, in lower case and without parameters.

    Args:
        declared: the sender's declaration; if it is empty, the bytes decide.
        head: the first bytes (see core.media_types.HEAD_BYTES).

    Raises:
        Unsupported: files of this type are not accepted, or the bytes are of another type.
        InvalidParams: the file is empty.
    """
    if not head:
        raise InvalidParams(
            "the file is empty", hint="Send one with content; over HTTP its bytes are the request's body."
        )
    told = declared.partition(";")[0].strip().lower()
    try:
        found = media_type_of(declared, head)
    except UnsupportedMediaType as error:
        raise Unsupported(f"the file {error}", hint=_ADVICE.get(told, error.advice)) from None
    if not _NAMEABLE.fullmatch(found):
        raise Unsupported(f"{found[:100]!r} is not an accepted media type", hint="Send text as text/plain.")
    return found


def extension_of(media_type: str) -> str:
    """The file name extension for that type."""
    return _EXTENSIONS.get(media_type, "txt")
