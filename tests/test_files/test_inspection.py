"""What files are taken for, and which are refused for what they hide. None is decoded."""

import pytest

from archer_ws.core.exceptions import InvalidParams
from archer_ws.files.inspection import inspect
from archer_ws.files.pictures import look_at
from tests.fakes.file_heads import PDF, ZIP, gif, jpeg, lossless_webp, lossy_webp, png, webp

PICTURES = {
    "image/png": png(640, 480),
    "image/jpeg": jpeg(640, 480),
    "image/gif": gif(640, 480),
    "image/webp": webp(640, 480),
}
#: A film as phones put it behind a photo.
FILM = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 64


@pytest.mark.parametrize("media_type", PICTURES)
def test_a_pictures_size_and_end_are_read_from_its_head(media_type: str) -> None:
    picture = look_at(media_type, PICTURES[media_type])
    assert (picture.width, picture.height, picture.end) == (640, 480, len(PICTURES[media_type]))


@pytest.mark.parametrize("content", [lossless_webp(640, 480), lossy_webp(640, 480)])
def test_all_kinds_of_webp_tell_their_size(content: bytes) -> None:
    picture = look_at("image/webp", content)
    assert (picture.width, picture.height, picture.end) == (640, 480, len(content))


@pytest.mark.parametrize("media_type", PICTURES)
def test_a_head_that_is_cut_anywhere_is_no_reason_to_refuse_nor_to_fail(media_type: str) -> None:
    for size in range(12, len(PICTURES[media_type])):
        inspect(media_type, PICTURES[media_type][:size])


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        *PICTURES.items(),
        ("application/pdf", PDF),
        ("text/html", b"<html><script>1</script></html>"),
        pytest.param("image/jpeg", jpeg(4000, 3000) + FILM, id="a photo with a film behind it"),
        pytest.param("image/jpeg", jpeg(4000, 3000) + jpeg(400, 300), id="a photo with a second one behind it"),
        pytest.param("image/jpeg", jpeg() + b"\0" * 4096, id="zeros behind it"),
        pytest.param("image/jpeg", jpeg(8064, 6048), id="48 megapixels"),
        pytest.param("image/png", png()[:12], id="no head at all"),
        pytest.param("image/gif", gif(480, 270, frames=300), id="an animation"),
        pytest.param("application/pdf", b"%PDF-1.4 whatever", id="a document without its end"),
    ],
)
def test_files_that_people_have_are_taken(media_type: str, content: bytes) -> None:
    inspect(media_type, content)


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        pytest.param("image/png", png(65_000, 65_000), id="png"),
        pytest.param("image/jpeg", jpeg(65_000, 65_000), id="jpeg"),
        pytest.param("image/jpeg", jpeg(65_000, 0), id="jpeg whose height stands behind its picture"),
        pytest.param("image/gif", gif(65_000, 65_000), id="gif"),
        pytest.param("image/gif", gif(1, 1, frame_size=(65_000, 65_000)), id="gif with a small screen"),
        pytest.param("image/webp", webp(16_000, 16_000), id="webp"),
        pytest.param("image/webp", lossless_webp(16_000, 16_000), id="lossless webp"),
        pytest.param("image/webp", lossy_webp(16_000, 16_000), id="lossy webp"),
        pytest.param("image/png", png(frames=100_000), id="animated png"),
        pytest.param("image/gif", gif(frames=1001), id="animated gif"),
        pytest.param("image/webp", webp(frames=1001), id="animated webp"),
        pytest.param("image/gif", gif(8000, 8000, frames=20), id="large frames"),
    ],
)
def test_a_picture_that_unpacks_to_gigabytes_is_refused_by_its_head(media_type: str, content: bytes) -> None:
    with pytest.raises(InvalidParams) as refused:
        inspect(media_type, content)
    assert refused.value.hint


@pytest.mark.parametrize(
    "added",
    [
        pytest.param(b"<script>alert(1)</script>", id="a script"),
        pytest.param(b"\0\0<!DOCTYPE html><p>", id="a page behind zeros"),
        pytest.param(FILM + b"<ScRiPt src=x>" + FILM, id="a script within a film"),
        pytest.param(b"<?php system($_GET[0]);", id="php"),
        pytest.param(b"<svg onload=alert(1)>", id="a drawing that acts"),
        pytest.param(b"PK\x03\x04" + b"\0" * 100 + ZIP, id="an archive"),
        pytest.param(FILM + ZIP, id="an archive behind a film"),
        pytest.param(ZIP[:-2] + b"\x05\x00hello", id="an archive with a comment"),
        pytest.param(b"MZ\x90\0", id="a program"),
        pytest.param(b"#!/bin/sh\n", id="a script of the shell's"),
    ],
)
@pytest.mark.parametrize("media_type", [*PICTURES, "application/pdf"])
def test_a_file_that_is_another_as_well_is_refused(media_type: str, added: bytes) -> None:
    with pytest.raises(InvalidParams, match="something else"):
        inspect(media_type, PICTURES.get(media_type, PDF) + added)


def test_markup_in_a_pictures_comment_is_seen() -> None:
    with pytest.raises(InvalidParams, match="markup"):
        inspect("image/jpeg", jpeg(comment=b"<html ><script>alert(1)</script>"))


def test_a_documents_head_within_a_picture_is_seen() -> None:
    with pytest.raises(InvalidParams, match="PDF"):
        inspect("image/jpeg", jpeg(comment=PDF))


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        ("image/png", png()[:33] + b"\0\0\0\0abcd\0\0\0\0" * 500_000),
        ("image/gif", gif()[:-1] + b"\x21\xf9" + b"\x01\0" * 600_000),
        ("image/jpeg", b"\xff\xd8" + b"\xff\xe1\x00\x02" * 500_000),
        ("image/webp", webp(frames=1)[:-11] + b"abcd\0\0\0\0" * 500_000),
    ],
)
def test_a_picture_of_nothing_but_pieces_is_looked_at_for_a_bounded_time(media_type: str, content: bytes) -> None:
    assert look_at(media_type, content).frames <= 1
