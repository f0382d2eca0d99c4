"""Reads a picture's header: its size, the number of frames, and where it ends. Pure; nothing is decoded.

A header that can't be read yields nothing, and is no reason to refuse: no program unpacks an incomplete picture.

Formats: PNG (https://www.w3.org/TR/png-3/), JPEG (ITU-T T.81, annex B), GIF
(https://www.w3.org/Graphics/GIF/spec-gif89a.txt), WebP (RFC 9649).
"""

import mmap
import struct
from dataclasses import dataclass
from struct import unpack_from
from typing import TypeAlias

#: A whole file, without a copy of it.
Content: TypeAlias = bytes | bytearray | mmap.mmap

#: The limit of chunks, segments and blocks that are read; files of 32 MiB have a few thousand, GIFs 130,000.
_STEPS_MAX = 400_000
#: The size of one search: the interpreter does nothing else meanwhile.
_SLICE_BYTES = 256 * 1024
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(slots=True)
class PictureHeader:
    """What the header says; 0 for unknown values. `end` is the offset after the picture, None if it was not found."""

    width: int = 0
    height: int = 0
    frames: int = 1
    end: int | None = None

    def grow(self, width: int, height: int) -> None:
        """Count a frame of that size."""
        self.width, self.height = max(self.width, width), max(self.height, height)


def look_at(media_type: str, content: Content) -> PictureHeader:
    """Read the header of a picture of that type."""
    picture = PictureHeader()
    look = _LOOKS[media_type]
    try:
        look(content, picture)
    except (struct.error, IndexError):
        picture.end = None
    if picture.end is not None and picture.end > len(content):
        picture.end = None
    return picture


def find(content: Content, wanted: bytes, start: int) -> int:
    """The offset of `wanted` from `start` on; -1 if it is not found."""
    while start < len(content):
        end = start + _SLICE_BYTES
        place = content.find(wanted, start, end + len(wanted) - 1)
        if place >= 0:
            return place
        start = end
    return -1


def _png(content: Content, picture: PictureHeader) -> None:
    if content[12:16] != b"IHDR":
        return
    picture.grow(*unpack_from(">II", content, 16))
    place = 8
    for _ in range(_STEPS_MAX):
        length, kind = unpack_from(">I4s", content, place)
        if kind == b"acTL":
            picture.frames = unpack_from(">I", content, place + 8)[0]
        place += 12 + length
        if kind == b"IEND":
            picture.end = place
            return


def _jpeg(content: Content, picture: PictureHeader) -> None:
    place = 2
    for _ in range(_STEPS_MAX):
        if content[place] != 0xFF:
            return
        kind = content[place + 1]
        if kind == 0xFF:  # Fill bytes.
            place += 1
        elif kind in _WITHOUT_LENGTH:
            place += 2
        elif kind == 0xD9:
            picture.end = place + 2
            return
        elif kind == 0xDA:
            end = find(content, b"\xff\xd9", place)
            picture.end = end + 2 if end >= 0 else None
            return
        else:
            if kind in _FRAME_HEADERS:
                height, width = unpack_from(">HH", content, place + 5)
                picture.grow(width, height or 0xFFFF)  # Zero: given after the picture.
            place += 2 + unpack_from(">H", content, place + 2)[0]


def _gif(content: Content, picture: PictureHeader) -> None:
    picture.grow(*unpack_from("<HH", content, 6))
    picture.frames = 0
    place = 13 + _colours(content[10])
    steps = 0
    while steps < _STEPS_MAX:
        steps += 1
        kind = content[place]
        if kind == 0x3B:
            picture.end = place + 1
            return
        if kind == 0x2C:
            picture.frames += 1
            left, top, width, height = unpack_from("<HHHH", content, place + 1)
            picture.grow(left + width, top + height)
            place += 11 + _colours(content[place + 9])
        elif kind == 0x21:
            place += 2
        else:
            return
        while steps < _STEPS_MAX and (length := content[place]):
            place += 1 + length
            steps += 1
        place += 1


def _colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(content: Content, picture: PictureHeader) -> None:
    size = unpack_from("<I", content, 4)[0]
    kind = content[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(content[place : place + 3], "little") + 1 for place in (24, 27))
        picture.grow(width, height)
    elif kind == b"VP8L":
        bits = unpack_from("<I", content, 21)[0]
        picture.grow((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    elif kind == b"VP8 ":
        width, height = unpack_from("<HH", content, 26)
        picture.grow(width & 0x3FFF, height & 0x3FFF)
    picture.end = 8 + size + size % 2
    place, frames = 12, 0
    for _ in range(_STEPS_MAX):
        if place + 8 > min(picture.end, len(content)):
            break
        inner, length = unpack_from("<4sI", content, place)
        frames += inner == b"ANMF"
        place += 8 + length + length % 2
    picture.frames = max(1, frames)


_LOOKS = {"image/png": _png, "image/jpeg": _jpeg, "image/gif": _gif, "image/webp": _webp}
