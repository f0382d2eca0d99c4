"""URLs of pictures and documents: which ones may stand in a message. Pure."""

import itertools

import pytest

from archer_ws.core.media_types import UnsupportedMediaType
from archer_ws.llm_gateway.media_urls import INLINE_BYTES_MAX, WrongUrl, checked_url, inline_size, split_inline
from tests.fakes.pictures import PDF_URL, PNG, PNG_URL, TABLE_URL, photo


@pytest.mark.parametrize(
    "url", [PNG_URL, PDF_URL, TABLE_URL, "https://example.com/a.png?b=c#d", "https://[::1]:8443/a"]
)
def test_data_with_base64_and_https_may_stand_there(url: str) -> None:
    assert checked_url(url)[0] == url


@pytest.mark.parametrize(
    "head",
    ["DATA:image/png;base64,", "data:image/PNG;BASE64,", "data:image/png;charset=utf-8;base64,", "data:;base64,"],
)
def test_data_is_sent_on_with_its_media_type_alone(head: str) -> None:
    assert checked_url(head + PNG)[0] == PNG_URL


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cat.png",
        "http://example.com/cat.png",
        "HTTP://example.com/cat.png",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "ftp://example.com/a",
        "//example.com/a",
        "https://",
        "https:///a",
        "https://ada@example.com/a",
        "https://ada:pass@example.com/a",
        "https://example.com\\@evil.example/a",
        "https://example.com/a b",
        "https://example.com/a\nb",
        "https://example.com:port/",
        "https://[::1/a",
        " https://example.com/a",
        "https://example.com/" + "a" * 8192,
        "data:",
        "data:image/png," + PNG,
        "data:image/png;base64" + PNG,
        "data:image/png;base32," + PNG,
        f"data:{'a' * 300};base64,{PNG}",
    ],
)
def test_no_other_url_may_stand_there(url: str) -> None:
    with pytest.raises(WrongUrl) as refused:
        checked_url(url)
    assert refused.value.advice


@pytest.mark.parametrize(
    "broken",
    [
        PNG[:-1],
        PNG[:-2],
        PNG + "=",
        PNG[:40] + "\n" + PNG[41:],
        PNG[:40] + "-" + PNG[41:],
        PNG[:40] + "=" + PNG[41:],
        PNG[:40] + "ø" + PNG[41:],
        PNG + " ",
        PNG[:-3] + "h==",
        "====",
    ],
)
def test_base64_that_a_strict_decoder_refuses_is_refused(broken: str) -> None:
    with pytest.raises(WrongUrl, match="base64"):
        checked_url(f"data:image/png;base64,{broken}")


def test_a_wrong_character_is_found_wherever_it_stands_in_megabytes() -> None:
    good = photo(3 * 1024 * 1024)
    for place in (0, 256 * 1024 - 1, 256 * 1024, len(good) - 5):
        with pytest.raises((WrongUrl, UnsupportedMediaType)):
            checked_url(f"data:image/jpeg;base64,{good[:place]}*{good[place + 1 :]}")


def test_data_of_forty_megabytes_is_refused_by_its_length_alone() -> None:
    with pytest.raises(WrongUrl, match=str(INLINE_BYTES_MAX)):
        checked_url("data:image/png;base64," + "*" * (40 * 1024 * 1024 // 3 * 4))


def test_empty_data_and_types_that_lie_are_refused() -> None:
    for url in ("data:image/png;base64,", f"data:image/jpeg;base64,{PNG}", "data:image/svg+xml;base64,PHN2Zy8+"):
        with pytest.raises(UnsupportedMediaType):
            checked_url(url)


def test_the_size_is_that_of_the_bytes_behind_the_base64() -> None:
    for size in itertools.chain(range(5, 12), [1024, 100_000]):
        url = f"data:image/jpeg;base64,{photo(size)}"
        assert inline_size(url, split_inline(url)[1]) == size


def test_equal_data_has_an_equal_hash_and_other_data_another() -> None:
    assert checked_url(PNG_URL)[1] == checked_url(PNG_URL)[1]
    assert checked_url(PNG_URL)[1] != checked_url(PDF_URL)[1]
    assert checked_url("https://example.com/a")[1] is None
