"""Parses the texts of settings: lists, pairs, origins, host names, addresses, tokens.

Pure functions: each returns the normalised value, or raises a ValueError that says what is wrong. They do not know the
settings' names, and their messages never contain a token. Only `config` uses them.
"""

import contextlib
import ipaddress
import json
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

#: The user and password in a URL: up to the last @ before the path. If the text after the colon is not a port, up to
#: the very last @: a password may contain a slash that should have been written as %2F.
_USER = re.compile(r"//(?:[^/\s]*|[^/@\s:\[]*:(?!\d*(?:/|$)).*)@", re.DOTALL)


def parse_list(value: object) -> object:
    """A JSON array, or items separated by commas; a value that is not text is returned as it is."""
    if not isinstance(value, str):
        return value
    if value.startswith("["):  # an IPv6 address starts with a bracket, too
        with contextlib.suppress(ValueError):
            return check_text(json.loads(value))
    return [item.strip() for item in value.split(",") if item.strip()]


def parse_pairs(value: object) -> object:
    """A JSON object, or `name=text,name2=text2`; a value that is not text is returned as it is."""
    if not isinstance(value, str):
        return value
    if value.startswith("{"):
        try:
            return check_text(json.loads(value, object_pairs_hook=_named_once))
        except json.JSONDecodeError:
            raise ValueError("it is not valid JSON") from None  # the cause contains the value, which may be a secret
    pairs = [item.partition("=") for item in value.split(",") if item.strip()]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("an entry has no '='")
    return _named_once([(name.strip(), text.strip()) for name, _, text in pairs])


def _named_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a name is given twice")
    return mapping


def unique(values: Iterable[str]) -> list[str]:
    """The values in their order, without repetitions."""
    return list(dict.fromkeys(values))


def check_text(value: object) -> object:
    """The value, unless there is a text in it that nothing can carry: the environment may have bytes that are no text.

    Raises:
        ValueError: it has such bytes, which Python decodes as lone surrogates, or JSON's escapes of such.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if re.search("[\ud800-\udfff]", text):
        raise ValueError("it is not valid UTF-8")
    return value


def check_home(path: str) -> str:
    """The path, unless it begins with `~` and nobody knows which folder that is.

    Raises:
        ValueError: the user has no home folder, or there is no user of the name behind the `~`.
    """
    try:
        Path(path).expanduser()
    except RuntimeError:
        raise ValueError("there is no home folder that its ~ stands for") from None
    return path


def check_token(token: str) -> None:
    """Refuse a token that an Authorization header can't carry unchanged.

    Raises:
        ValueError: it is empty, or has other characters than visible ASCII.
    """
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("a token is empty, or has spaces or characters outside ASCII")


def check_principal(name: str) -> None:
    """Refuse a name that can't stand for a principal in logs and limits.

    Raises:
        ValueError: it is too long, or has other characters than letters, digits, dots, dashes and underscores.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise ValueError("a name is not 1 to 64 letters, digits, dots, dashes or underscores")


def parse_origin(value: str) -> str:
    """A web origin as browsers spell it: lower case, no default port, nothing after the host.

    Raises:
        ValueError: it is a pattern, or more or less than `scheme://host[:port]`.
    """
    if "*" in value:
        raise ValueError("origins are a security boundary: write out each one, without *")
    parts = _split(value)
    netloc = parts.netloc.lower()
    if value.lower() != f"{parts.scheme}://{netloc}":
        raise ValueError(
            f"{without_password(value)} has more than scheme://host:port (no path, not even a trailing slash)"
        )
    if "@" in netloc or not value.isascii():
        raise ValueError(f"{without_password(value)} has a user name, or characters outside ASCII")
    default_port = {"http": ":80", "https": ":443"}.get(parts.scheme, ":")
    return f"{parts.scheme}://{netloc.removesuffix(default_port).removesuffix(':')}"


def parse_host(value: str) -> str:
    """A host as in a Host header, without the port: lower case, IPv6 in brackets."""
    host = value.lower()
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        return f"[{address}]" if address.version == 6 else str(address)
    if not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", host):
        raise ValueError(f"{without_password(value)} is not a plain host name (no scheme, no port, no *)")
    return host


def parse_http_url(value: str) -> str:
    """An http or https URL without a trailing slash."""
    return _http_parts(value).geturl().rstrip("/")


def parse_ollama_host(value: str) -> str:
    """The address as Ollama's own client reads OLLAMA_HOST: http and port 11434 unless a scheme or a port is given.

    An address that a server listens on (`0.0.0.0`, `[::]`) becomes one that a client can connect to.
    """
    text = value.strip("\"' ")
    bare = "://" not in text
    if bare:
        with contextlib.suppress(ValueError):
            text = f"[{ipaddress.IPv6Address(text)}]"
        text = f"http://127.0.0.1{text}" if text.startswith(":") else f"http://{text}"
    parts = _http_parts(text)
    user, at, address = parts.netloc.rpartition("@")
    if bare and parts.port is None:
        address = f"{address.removesuffix(':')}:11434"
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(parts.hostname or "")
    if reachable:
        port = parts.port or (11434 if bare else None)
        address = f"{reachable}:{port}" if port else reachable
    return parts._replace(netloc=f"{user}{at}{address}").geturl().rstrip("/")


def without_password(value: object) -> object:
    """A URL without the user and password it may contain: neither a log nor an error may show them."""
    return _USER.sub("//***@", value) if isinstance(value, str) else value


def _http_parts(value: str) -> SplitResult:
    parts = _split(value)
    if parts.scheme not in {"http", "https"}:
        raise ValueError("it does not start with http:// or https://")
    if parts.query or parts.fragment:
        raise ValueError("it has a query (?) or a fragment (#)")
    return parts


def _split(value: str) -> SplitResult:
    """The parts of a URL whose host and port are valid."""
    try:
        parts = urlsplit(value)
        usable = bool(parts.hostname) and not re.search(r"\s", value) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"the host or port of {without_password(value)} is not valid")
    return parts
