"""The smallest files of each kind that are taken, and what their heads may say."""

import struct
import zlib


def png(width: int = 2, height: int = 2, *, frames: int | None = None) -> bytes:
    """A PNG of that size, as its head says; with `frames` an animated one."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    if frames is not None:
        chunks.append((b"acTL", struct.pack(">II", frames, 0)))
    chunks += [(b"IDAT", zlib.compress(b"\0" * 14)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg(width: int = 2, height: int = 2, *, comment: bytes = b"") -> bytes:
    """A JPEG of that size, with fill bytes and a comment in its head, and stuffed bytes in its scan."""
    said = b"\xff\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x00\x3f\x00" + b"\x12\xff\x00\x34\xff\xd0\x56"
    return b"\xff\xd8" + said + frame + scan + b"\xff\xd9"


def gif(width: int = 2, height: int = 2, *, frames: int = 1, frame_size: tuple[int, int] | None = None) -> bytes:
    """A GIF with a palette; its frames may be larger than its screen."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0" * 6
    extension = b"\x21\xf9\x04\0\0\0\0\0"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, *(frame_size or (width, height)), 0) + b"\x02\x02\x4c\x01\x00"
    return head + (extension + frame) * frames + b"\x3b"


def webp(width: int = 2, height: int = 2, *, frames: int = 0) -> bytes:
    """A WebP of that size; with `frames` an animated one."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size
    chunks += (b"ANMF" + struct.pack("<I", 3) + b"\0\0\0\0") * frames
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def lossless_webp(width: int, height: int) -> bytes:
    """A WebP of the lossless kind."""
    data = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + b"\0"
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def lossy_webp(width: int, height: int) -> bytes:
    """A WebP of the first kind."""
    data = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    chunk = b"VP8 " + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


PDF = b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
#: An archive without entries.
ZIP = b"PK\x05\x06" + b"\0" * 18
