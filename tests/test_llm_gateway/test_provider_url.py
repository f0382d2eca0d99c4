"""A base URL without its password, and addresses as origins."""

import base64

import pytest

from archer_ws.llm_gateway.transport.provider_url import ProviderUrl, origin_of


@pytest.mark.parametrize(
    ("text", "url", "pair"),
    [
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1", None),
        ("http://bob:hunter2@127.0.0.1:9/v1", "http://127.0.0.1:9/v1", "bob:hunter2"),
        ("https://bob@host", "https://host", "bob:"),
        ("https://:hunter2@host", "https://host", ":hunter2"),
        ("http://m%20e:p%40ss%20%C3%A9@[::1]:9/x", "http://[::1]:9/x", "m e:p@ss é"),
        ("http://bob:hunt@er2@host/v1", "http://host/v1", "bob:hunt@er2"),
        ("http://host/a@b", "http://host/a@b", None),
    ],
)
def test_user_and_password_are_taken_out_of_a_url_and_told_as_basic(text: str, url: str, pair: str | None) -> None:
    found = ProviderUrl.of(text)
    assert found.url == url
    expected = {} if pair is None else {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    assert found.headers == expected


def test_what_is_no_address_loses_its_password_all_the_same() -> None:
    assert ProviderUrl.of("http://bob:hunter2@[::1/v1") == ProviderUrl("http://[::1/v1")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://host/path?key=secret#x", "https://host"),
        ("https://bob:hunter2@Host:443/", "https://host"),
        ("http://host:8080", "http://host:8080"),
        ("http://[::1]:9/x", "http://[::1]:9"),
        (" https://host ", "https://host"),
        ("ftp://host/", None),
        ("javascript:alert(1)", None),
        ("http://", None),
        ("http://[::1", None),
        ("http://host:port/", None),
        ("http://ho st/", None),
        ("/path", None),
    ],
)
def test_an_origin_is_scheme_host_and_port_and_nothing_more(url: str, origin: str | None) -> None:
    assert origin_of(url) == origin
