"""What a whole file may not be: larger than it looks, or of two kinds at once. Pure.

What a provider's decoder unpacks is bounded by what a picture says of itself. A file of two kinds passes for one where
it is checked, and for the other where it is used.
"""

import re

from archer_ws.core.exceptions import InvalidParams
from archer_ws.core.media_types import PDF, is_text
from archer_ws.files.pictures import Content, find, look_at

#: The most pixels of a picture: cameras of phones have 50 million; providers make far smaller ones of them.
PIXELS_MAX = 64_000_000
#: The most frames, and the pixels of all frames together: a minute of animation in full HD has less.
FRAMES_MAX, FRAME_PIXELS_MAX = 1000, 1_000_000_000

#: Where a page, or a script, would be found that stands at a picture's beginning: in a comment.
_HEAD_BYTES = 4096
#: Within the first so many bytes programs look for a PDF's head.
_PDF_HEAD_BYTES = 1024
#: Within the last so many its end is looked for: programs are content with 1,024.
_PDF_END_BYTES = 256 * 1024
#: The end of an archive, with the longest comment (ZIP's APPNOTE, section 4.3.16).
_ZIP_END, _ZIP_END_BYTES = b"PK\x05\x06", 22 + 0xFFFF
_SLICE_BYTES = 256 * 1024
#: Markup that is not within a picture by chance.
_MARKUP = re.compile(rb"<(?:(?:script|html|\?php)[\s>/]|!doctype\s)", re.IGNORECASE)
_MARKUP_BYTES = 16
#: What begins behind a file's end and is a file of another kind. Phones put a film, a second picture or zeros there.
_OTHERS = (b"PK\x03\x04", b"%PDF-", b"MZ", b"\x7fELF", b"#!", b"Rar!", b"7z\xbc\xaf", b"<")


def inspect(media_type: str, content: Content) -> None:
    """Refuse a file that is more than it says.

    Raises:
        InvalidParams: it is.
    """
    if is_text(media_type):
        return  # Read as text, it is nothing else: it has no zero byte, and no head of another type.
    if media_type == PDF:
        end = _end_of_pdf(content)
    else:
        picture = look_at(media_type, content)
        _check_size(picture.width, picture.height, picture.frames)
        end = picture.end
        if find(content[:_PDF_HEAD_BYTES], b"%PDF-", 0) >= 0:
            raise _two_kinds(media_type, "a PDF's head stands in it")
    if _MARKUP.search(content[:_HEAD_BYTES]):
        raise _two_kinds(media_type, "markup stands in its head")
    _check_behind(media_type, content, end)


def _check_size(width: int, height: int, frames: int) -> None:
    if width * height > PIXELS_MAX:
        raise InvalidParams(
            f"the picture has {width} x {height} pixels, the most is {PIXELS_MAX // 1_000_000} million",
            hint="Make it smaller: models see no more than some million pixels.",
        )
    if frames > FRAMES_MAX or width * height * frames > FRAME_PIXELS_MAX:
        raise InvalidParams(
            f"the picture has {frames} frames of {width} x {height} pixels, more than is taken",
            hint="Send one frame of it, or fewer and smaller ones: most models look at the first alone.",
        )


def _end_of_pdf(content: Content) -> int | None:
    place = content.rfind(b"%%EOF", max(0, len(content) - _PDF_END_BYTES))
    return place + 5 if place >= 0 else None


def _check_behind(media_type: str, content: Content, end: int | None) -> None:
    """Look at what stands behind the file's own end."""
    size = len(content)
    archive = content.rfind(_ZIP_END, max(0, size - _ZIP_END_BYTES))
    if (
        0 <= archive <= size - 22
        and archive + 22 + int.from_bytes(content[archive + 20 : archive + 22], "little") == size
    ):
        raise _two_kinds(media_type, "it ends as an archive does")
    if end is None:
        end = max(0, size - _HEAD_BYTES)
    elif content[end : end + _HEAD_BYTES].lstrip(b"\0\r\n\t ").startswith(_OTHERS):
        raise _two_kinds(media_type, "another file stands behind its end")
    for start in range(end, size, _SLICE_BYTES):
        if _MARKUP.search(content[start : start + _SLICE_BYTES + _MARKUP_BYTES]):
            raise _two_kinds(media_type, "markup stands behind its end")


def _two_kinds(media_type: str, why: str) -> InvalidParams:
    return InvalidParams(
        f"the file is {media_type} and something else: {why}",
        hint="Save it anew with a program for such files, which leaves the rest out.",
    )
