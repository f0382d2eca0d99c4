"""Bodies that are compressed though nobody asked: whole, in whatever pieces they come, and never much at once."""

import gzip
import zlib

import pytest

from archer_ws.llm_gateway.transport.content_coding import ContentDecoder, DecodingError, coding_of

TEXT = b"data: some text that is long enough to be worth it\n\n" * 20


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def unpacked(coding: str, packed: bytes, size: int, limit: int = 64) -> bytes:
    decoder, found = ContentDecoder(coding), b""
    for start in range(0, len(packed), size):
        decoder.put(packed[start : start + size])
        while decoder.has_more:
            piece = decoder.take(limit)
            assert len(piece) <= limit
            found += piece
    return found + decoder.finish()


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        pytest.param("gzip", gzip.compress(TEXT), id="gzip"),
        pytest.param("gzip", gzip.compress(TEXT[:99]) + gzip.compress(TEXT[99:]), id="two members"),
        pytest.param("gzip", b"".join(gzip.compress(bytes([byte])) for byte in TEXT), id="a member a byte"),
        pytest.param("gzip", gzip.compress(b"") * 500 + gzip.compress(TEXT), id="empty members"),
        pytest.param("gzip", gzip.compress(TEXT) + bytes(512), id="padding"),
        pytest.param("gzip", TEXT, id="a label that belies the body"),
        pytest.param("deflate", zlib.compress(TEXT), id="zlib"),
        pytest.param("deflate", raw_deflate(TEXT), id="raw"),
        pytest.param("deflate", gzip.compress(TEXT), id="gzip called deflate"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_a_body_is_unpacked_in_whatever_pieces_it_comes(coding: str, packed: bytes, size: int) -> None:
    assert unpacked(coding, packed, size) == TEXT


@pytest.mark.parametrize("text", [b"", b"{", b"{}"])
def test_a_body_too_short_to_be_compressed_is_as_it_is(text: bytes) -> None:
    assert unpacked("gzip", text, 1) == text


def test_a_small_body_that_unpacks_to_a_large_one_is_unpacked_as_it_is_asked_for() -> None:
    decoder = ContentDecoder("gzip")
    decoder.put(gzip.compress(b"\n" * 10_000_000))

    assert decoder.take(1000) == b"\n" * 1000
    assert decoder.has_more


@pytest.mark.parametrize("packed", [b"not gzip", gzip.compress(TEXT)[:10] + b"\xff" * 20], ids=["no head", "no body"])
def test_what_is_not_compressed_as_it_says_is_told(packed: bytes) -> None:
    with pytest.raises(DecodingError):
        unpacked("gzip", packed, 100)


@pytest.mark.parametrize(
    ("field", "coding"),
    [
        ("", None),
        ("none", None),
        ("utf-8", None),
        ("UTF-8", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("GZIP , identity", "gzip"),
        ("identity,x-gzip", "gzip"),
        ("deflate", "deflate"),
    ],
)
def test_encodings_that_are_none_are_taken_as_none(field: str, coding: str | None) -> None:
    assert coding_of(field, 200) == coding


@pytest.mark.parametrize("field", ["br", "zstd", "gzip, gzip", "of-the-future"])
def test_a_compression_that_was_not_asked_for_is_named_unless_the_status_says_enough(field: str) -> None:
    with pytest.raises(DecodingError, match=field):
        coding_of(field, 200)
    assert coding_of(field, 401) is None
