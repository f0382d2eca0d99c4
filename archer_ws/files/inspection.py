"""Checks whole files: a file must not unpack to more than it seems, or be two kinds of file at once. Pure.

The picture's own header limits what a provider's decoder unpacks. A file of two kinds passes for one kind where it is
checked, and for the other where it is used.
"""

import re

from archer_ws.core.exceptions import InvalidParams
from archer_ws.core.media_types import PDF, is_text
from archer_ws.files.pictures import Content, find, look_at

#: The limit of a picture's pixels: phone cameras have 50 million; providers scale pictures down much further.
PIXELS_MAX = 64_000_000
#: The limits of frames, and of the pixels of all frames together: a minute of animation in full HD has less.
FRAMES_MAX, FRAME_PIXELS_MAX = 1000, 1_000_000_000

#: The part of a picture's beginning where a page or a script could be hidden, in a comment.
_HEAD_BYTES = 4096
#: Programs search for a PDF's header in this many first bytes.
_PDF_HEAD_BYTES = 1024
#: Its end is searched for in this many last bytes; programs use 1,024.
_PDF_END_BYTES = 256 * 1024
#: The end record of an archive, with the longest comment (ZIP's APPNOTE, section 4.3.16).
_ZIP_END, _ZIP_END_BYTES = b"PK\x05\x06", 22 + 0xFFFF
_SLICE_BYTES = 256 * 1024
#: Markup that does not occur in a picture by chance.
_MARKUP = re.compile(rb"<(?:(?:script|html|\?php)[\s>/]|!doctype\s)", re.IGNORECASE)
_MARKUP_BYTES = 16
#: The first bytes of other kinds of files, searched for after a file's end. Phones put a film, a second picture or
#: zeros there.
_OTHERS = (b"PK\x03\x04", b"%PDF-", b"MZ", b"\x7fELF", b"#!", b"Rar!", b"7z\xbc\xaf", b"<")


def inspect(media_type: str, content: Content) -> None:
    """Refuse a file that is not only of its type.

    Raises:
        InvalidParams: it is too large in pixels or frames, or also of another type.
    """
    if is_text(media_type):
        return  # A text is nothing else: it has no zero byte, and no header of another type.
    if media_type == PDF:
        end = _end_of_pdf(content)
    else:
        picture = look_at(media_type, content)
        _check_size(picture.width, picture.height, picture.frames)
        end = picture.end
        if find(content[:_PDF_HEAD_BYTES], b"%PDF-", 0) >= 0:
            raise _two_kinds(media_type, "it contains a PDF's header")
    if _MARKUP.search(content[:_HEAD_BYTES]):
        raise _two_kinds(media_type, "its header contains markup")
    _check_behind(media_type, content, end)


def _check_size(width: int, height: int, frames: int) -> None:
    if width * height > PIXELS_MAX:
        raise InvalidParams(
            f"the picture has {width} x {height} pixels, the limit is {PIXELS_MAX // 1_000_000} million",
            hint="Make it smaller: models see no more than a few million pixels.",
        )
    if frames > FRAMES_MAX or width * height * frames > FRAME_PIXELS_MAX:
        raise InvalidParams(
            f"the picture has {frames} frames of {width} x {height} pixels, more than allowed",
            hint="Send one frame of it, or fewer and smaller ones: most models see only the first.",
        )


def _end_of_pdf(content: Content) -> int | None:
    place = content.rfind(b"%%EOF", max(0, len(content) - _PDF_END_BYTES))
    return place + 5 if place >= 0 else None


def _check_behind(media_type: str, content: Content, end: int | None) -> None:
    """Check the bytes after the file's own end."""
    size = len(content)
    archive = content.rfind(_ZIP_END, max(0, size - _ZIP_END_BYTES))
    if (
        0 <= archive <= size - 22
        and archive + 22 + int.from_bytes(content[archive + 20 : archive + 22], "little") == size
    ):
        raise _two_kinds(media_type, "it ends like an archive")
    if end is None:
        end = max(0, size - _HEAD_BYTES)
    elif content[end : end + _HEAD_BYTES].lstrip(b"\0\r\n\t ").startswith(_OTHERS):
        raise _two_kinds(media_type, "another file follows its end")
    for start in range(end, size, _SLICE_BYTES):
        if _MARKUP.search(content[start : start + _SLICE_BYTES + _MARKUP_BYTES]):
            raise _two_kinds(media_type, "markup follows its end")


def _two_kinds(media_type: str, why: str) -> InvalidParams:
    return InvalidParams(
        f"the file is {media_type} and something else: {why}",
        hint="Save it again with a program for such files, which leaves the rest out.",
    )
