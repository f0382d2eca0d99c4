"""What pictures and documents are, by what is said and by their first bytes. Pure."""

import pytest

from archer_ws.core.media_types import HEAD_BYTES, UnsupportedMediaType, media_type_of

PNG = b"\x89PNG\r\n\x1a\n\0\0"
JPEG = b"\xff\xd8\xff\xe0\0"
GIF = b"GIF89a\1\0"
WEBP = b"RIFF\x24\0\0\0WEBPVP8 "
PDF = b"%PDF-1.7\n"


@pytest.mark.parametrize(
    ("declared", "head", "expected"),
    [
        ("image/png", PNG, "image/png"),
        ("IMAGE/PNG", PNG, "image/png"),
        ("image/x-png", PNG, "image/png"),
        ("image/jpg", JPEG, "image/jpeg"),
        ("image/jpeg", JPEG, "image/jpeg"),
        ("image/gif", GIF, "image/gif"),
        ("image/webp", WEBP, "image/webp"),
        ("application/pdf", PDF, "application/pdf"),
        ("application/pdf; name=a.pdf", PDF, "application/pdf"),
        ("text/markdown; charset=UTF-8", "# Blåbær".encode(), "text/markdown"),
        ("text/x-python", b"print(1)\n", "text/x-python"),
        ("application/json", b'{"a": 1}', "application/json"),
        ("", PNG, "image/png"),
        ("application/octet-stream", PDF, "application/pdf"),
        ("application/octet-stream", b"a,b\n", "text/plain"),
        ("application/vnd.ms-excel", b"a,b\n", "text/plain"),
        ("video/mp2t", b"const a: string = 'b';\n", "text/plain"),
        ("application/x-httpd-php", b"<?php echo 1;", "text/plain"),
        ("application/x-ipynb+json", b"{}", "text/plain"),
        ("application/xhtml+xml", b"<html/>", "text/plain"),
    ],
)
def test_what_is_as_it_is_said_to_be_is_taken_by_its_common_name(declared: str, head: bytes, expected: str) -> None:
    assert media_type_of(declared, head) == expected


@pytest.mark.parametrize(
    ("declared", "head"),
    [
        ("image/png", JPEG),
        ("image/png", b"<html>"),
        ("image/webp", b"RIFF\x24\0\0\0AVI LIST"),
        ("image/png", b""),
        ("text/plain", PNG),
        ("text/plain", b"a\0b"),
        ("text/plain", "naïve".encode("latin-1")),
        ("text/plain", "hei".encode("utf-16")),
        ("text/plain; charset=latin-1", b"abc"),
        ("application/pdf", b"not a document"),
        ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("image/heic", b"\0\0\0\x18ftypheic"),
        ("audio/wav", b"RIFF\x24\0\0\0WAVE"),
        ("application/zip", b"PK\3\4"),
        ("application/zip", b"text"),
        ("application/vnd.ms-excel", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
        ("application/x-httpd-php; charset=latin-1", b"<?php"),
        ("video/mp2t", b"G@\0\x10\0\0"),
        ("video/mp4", b"text"),
        ("application/octet-stream", b"\x7fELF\0"),
        ("", b"\0\1\2"),
        ("image/png\r\nX: y", PNG),
    ],
)
def test_what_lies_about_its_type_or_is_of_one_that_nobody_takes_is_refused(declared: str, head: bytes) -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        media_type_of(declared, head)
    assert refused.value.advice


def test_a_character_that_is_cut_at_the_end_of_the_first_bytes_is_no_fault() -> None:
    cut = (b"a" + "ø".encode() * HEAD_BYTES)[:HEAD_BYTES]
    assert media_type_of("text/plain", cut) == "text/plain"
    with pytest.raises(UnsupportedMediaType):
        media_type_of("text/plain", b"a\xc3")


def test_a_refusal_does_not_show_what_it_refuses() -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        media_type_of("image/png", b"secret-key")
    assert "secret" not in str(refused.value)
    with pytest.raises(UnsupportedMediaType) as refused:
        media_type_of("secret key", PNG)
    assert "secret" not in str(refused.value)
    with pytest.raises(UnsupportedMediaType, match="image/heic"):
        media_type_of("image/heic", PNG)
