"""Which of the environment's variables hold for a provider's address, and what is told of one that can't be used."""

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import certifi
import pytest

from archer_ws.llm_gateway.transport.environment import (
    Proxy,
    UnusableVariable,
    Way,
    fault_on_the_way,
    is_excepted,
    proxy_for,
    tls_context,
    way_to,
    without_unusable_key_log,
)

HTTPS = "https://api.example.com/v1"


def context() -> ssl.SSLContext:
    """What httpx2 makes of the environment."""
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


@pytest.mark.parametrize(
    ("url", "proxies", "expected"),
    [
        (HTTPS, {"https": "http://proxy:3128"}, "http://proxy:3128"),
        (HTTPS, {"https": "proxy:3128"}, "http://proxy:3128"),
        (HTTPS, {"https": "http://u:p%40ss@proxy:3128"}, "http://u:p%40ss@proxy:3128"),
        (HTTPS, {"https": "http://[::1]:3128"}, "http://[::1]:3128"),
        (HTTPS, {"all": "http://proxy"}, "http://proxy"),
        (HTTPS, {"https": "http://one", "all": "socks5://other"}, "http://one"),
        (HTTPS, {"http": "http://proxy"}, None),
        (HTTPS, {"https": ""}, None),
        ("http://gpu:1234/v1", {"http": "http://proxy"}, "http://proxy"),
        (HTTPS, {"https": "http://proxy", "no": "example.com"}, None),
        (HTTPS, {"https": "http://proxy", "no": "*"}, None),
        (HTTPS, {"https": "gopher://proxy", "no": "*"}, None),
    ],
)
def test_the_proxy_of_an_address(url: str, proxies: dict[str, str], expected: str | None) -> None:
    found = proxy_for(url, proxies)
    assert (found and found.url) == expected


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_is_known_by_the_variable_that_names_it(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert proxy_for(HTTPS) == Proxy("http://127.0.0.1:9", variable)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("socks5://u:hunter2@127.0.0.1:1080", "speaks socks5:"),
        ("SOCKS5H://127.0.0.1:1080", "speaks socks5h:"),
        ("ftp://hunter2", "speaks ftp:"),
        ("://", "speaks something else"),
        ("http://u:hunter2@host:port", "can't be read"),
        ("http://host:99999", "can't be read"),
        ("http://host:0", "can't be read"),
        ("http://[::1", "can't be read"),
        ("http://", "can't be read"),
        ("http://ho st", "can't be read"),
        ("http://a..b", "can't be one"),
        ("hunter2!", "can't be read"),
    ],
)
def test_a_proxy_that_can_not_be_used_is_told_by_its_variable_and_never_by_its_value(
    monkeypatch: pytest.MonkeyPatch, value: str, what: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(UnusableVariable, match=what) as caught:
        proxy_for(HTTPS)
    assert caught.value.variable == "HTTPS_PROXY"
    assert caught.value.is_of_proxy
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "expected"),
    [
        ("api.example.com", None, "example.com", True),
        ("api.example.com", None, ".example.com", True),
        ("api.example.com", None, "*.example.com", True),
        ("API.example.com.", None, "api.EXAMPLE.com", True),
        ("badexample.com", None, "example.com", False),
        ("example.com", 8443, "example.com:8443", True),
        ("example.com", 8443, "example.com:443", False),
        ("10.1.2.3", None, "10.0.0.0/8", True),
        ("11.1.2.3", None, "10.0.0.0/8", False),
        ("10.1.2.3", None, "10.1.2.3", True),
        ("fe80::1", None, "fe80::/10", True),
        ("::1", 9, "[::1]:9", True),
        ("::1", 9, "[::1]", True),
        ("::1", 9, "::1", True),
        ("::1", 9, "[::1", True),
        ("gpu", None, "one, gpu other", True),
        ("gpu", None, "*", True),
        ("gpu", None, "[::1, fe80::/10, a b,,::/::, /, :, .", False),
        ("gpu", None, "", False),
    ],
)
def test_no_proxy_excepts_what_it_names_and_bears_anything(
    host: str, port: int | None, no_proxy: str, expected: bool
) -> None:
    assert is_excepted(host, port, no_proxy) is expected


def missing(folder: Path) -> str:
    return str(folder / "missing")


def garbage(folder: Path) -> str:
    (folder / "garbage.pem").write_text("no certificate")
    return str(folder / "garbage.pem")


def directory(folder: Path) -> str:
    return str(folder)


@pytest.mark.parametrize(
    ("variable", "value", "what"),
    [
        ("SSL_CERT_FILE", missing, "can't be read (No such file or directory)"),
        ("SSL_CERT_FILE", garbage, "contains no certificates"),
        ("SSL_CERT_FILE", directory, "can't be read (Is a directory)"),
        ("SSL_CERT_DIR", missing, "not a readable directory"),
        ("SSL_CERT_DIR", garbage, "not a readable directory"),
        ("SSLKEYLOGFILE", lambda folder: f"{folder}/missing/log", "can't be written (No such file or directory)"),
        ("SSLKEYLOGFILE", directory, "can't be written (Is a directory)"),
    ],
)
def test_a_variable_that_spoils_tls_is_named_and_plain_http_needs_it_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: Callable[[Path], str], what: str
) -> None:
    monkeypatch.setenv(variable, value(tmp_path))
    with pytest.raises(UnusableVariable) as caught:
        tls_context(context)
    assert caught.value.variable == variable
    assert what in caught.value.what
    found = fault_on_the_way(HTTPS)
    assert found is not None
    assert found.variable == variable
    assert fault_on_the_way("http://127.0.0.1:1") is None
    assert way_to("http://127.0.0.1:1", is_near=True, make_tls=context) == Way()


def test_one_directory_of_several_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", f"/nonexistent{os.pathsep}{tmp_path}")
    assert isinstance(tls_context(context), ssl.SSLContext)


def test_a_defect_that_no_variable_explains_stays_what_it_is() -> None:
    def broken() -> ssl.SSLContext:
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        tls_context(broken)


def test_nearby_no_proxy_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://x")
    assert way_to("http://127.0.0.1:1", is_near=True, make_tls=context) == Way()


def test_a_key_log_that_can_not_be_written_is_hidden_from_imports_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path))
    with without_unusable_key_log():
        assert "SSLKEYLOGFILE" not in os.environ
    assert os.environ["SSLKEYLOGFILE"] == str(tmp_path)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "log"))
    with without_unusable_key_log():
        assert os.environ["SSLKEYLOGFILE"] == str(tmp_path / "log")
