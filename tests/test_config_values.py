"""Texts of settings: what they are read as, and what is refused."""

import pytest

from archer_ws.config_values import (
    check_principal,
    check_token,
    parse_host,
    parse_http_url,
    parse_list,
    parse_ollama_host,
    parse_origin,
    parse_pairs,
    without_password,
)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("a, b,,", ["a", "b"]),
        ("[::1],localhost", ["[::1]", "localhost"]),
        ("[]", []),
    ],
)
def test_a_list_is_json_or_comma_separated(text: str, items: list[str]) -> None:
    assert parse_list(text) == items


def test_pairs_are_json_or_comma_separated_and_cut_at_the_first_equals_sign() -> None:
    assert parse_pairs('{"a": "b=,c"}') == {"a": "b=,c"}
    assert parse_pairs(" a = b=c , d=e") == {"a": "b=c", "d": "e"}
    for wrong in ("a", "a=1,b", "a=1,a=2", "{a}"):
        with pytest.raises(ValueError, match=r"'='|twice|JSON"):
            parse_pairs(wrong)


@pytest.mark.parametrize(
    ("text", "host"),
    [("Example.COM", "example.com"), ("::1", "[::1]"), ("[0:0::1]", "[::1]"), ("10.0.0.7", "10.0.0.7"), ("a_b", "a_b")],
)
def test_a_host_is_spelled_as_host_headers_spell_it(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize("host", ["*", "a.example:80", "http://a.example", "*.example", "-a", "[]", "a b"])
def test_hosts_that_are_patterns_or_more_than_a_name_are_refused(host: str) -> None:
    with pytest.raises(ValueError, match="not a plain host name"):
        parse_host(host)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://A.example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("HTTP://[::1]:1420", "http://[::1]:1420"),
        ("http://a.example:8080", "http://a.example:8080"),
        ("app://localhost", "app://localhost"),
    ],
)
def test_an_origin_is_spelled_as_browsers_spell_it(text: str, origin: str) -> None:
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        ("*", r"without \*"),
        ("https://*.example", r"without \*"),
        ("http://a.example/", "trailing slash"),
        ("http://a.example/app", "trailing slash"),
        ("http://a.example?x", "more than scheme"),
        ("a.example", "is not valid"),
        ("null", "is not valid"),
        ("file://", "is not valid"),
        ("http://a.example:x", "is not valid"),
        ("http://ä.example", "outside ASCII"),
        ("http://me@a.example", "user name"),
    ],
)
def test_what_is_no_exact_origin_is_refused(origin: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_origin(origin)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("localhost:11434", "http://localhost:11434"),
        ("myhost", "http://myhost:11434"),
        ("myhost:", "http://myhost:11434"),
        (":11435", "http://127.0.0.1:11435"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:99", "http://127.0.0.1:99"),
        ("http://0.0.0.0:99/", "http://127.0.0.1:99"),
        ("http://0.0.0.0", "http://127.0.0.1"),
        ("[::]", "http://[::1]:11434"),
        ("::", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::]:77", "http://[::1]:77"),
        ("'myhost:1'", "http://myhost:1"),
        ("http://myhost", "http://myhost"),
        ("https://ollama.example/", "https://ollama.example"),
        ("https://ollama.example/base/", "https://ollama.example/base"),
        ("https://me:word@ollama.example", "https://me:word@ollama.example"),
        ("me:word@0.0.0.0", "http://me:word@127.0.0.1:11434"),
    ],
)
def test_ollama_host_is_read_as_ollamas_client_reads_it(given: str, url: str) -> None:
    assert parse_ollama_host(given) == url


@pytest.mark.parametrize(
    "given", ["ftp://myhost", "my host", "myhost:70000", "myhost:x", "http://", "http://a?b", ":0"]
)
def test_an_ollama_host_that_cannot_be_reached_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"is not valid|http://|query"):
        parse_ollama_host(given)


def test_an_http_url_loses_its_trailing_slash_and_has_a_host() -> None:
    assert parse_http_url("http://127.0.0.1:1/v1/") == "http://127.0.0.1:1/v1"
    for wrong in ("localhost:99", "/v1", "ws://a", "http://a/#x", "http://a:0"):
        with pytest.raises(ValueError, match=r"is not valid|http://|query"):
            parse_http_url(wrong)


def test_tokens_and_principals_are_what_headers_and_logs_can_carry() -> None:
    check_token("a=b,c/+~")
    check_principal("me.and-you_2")
    for token in ("", "a b", "ä", "a\n"):
        with pytest.raises(ValueError, match="a token is empty"):
            check_token(token)
    for name in ("", "a b", "a/b", "x" * 65):
        with pytest.raises(ValueError, match="a name is not"):
            check_principal(name)


def test_user_and_password_of_a_url_are_hidden() -> None:
    assert without_password("redis://:word@host/0") == "redis://***@host/0"
    assert without_password("http://host/a@b") == "http://host/a@b"
    assert without_password("http://clerk:a/b@host/v1") == "http://***@host/v1"
    assert without_password("http://clerk:a b@c@host") == "http://***@host"
    assert without_password("http://host:80/a@b") == "http://host:80/a@b"
    assert without_password("http://[::1]:80/a@b") == "http://[::1]:80/a@b"


@pytest.mark.parametrize("password", ["hunter2", "a@b", "a/b", "a/b@c", "a b", "é:x"])
def test_a_password_of_any_letters_is_hidden_whole(password: str) -> None:
    assert without_password(f"http://bob:{password}@host/v1") == "http://***@host/v1"
