"""A provider's address, separated from the user and password in it; and as an origin.

Pure. The password is removed once, here; all other code gets an address that may be shown and logged.
"""

import re
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ProviderUrl:
    """A base URL.

    Attributes:
        url: without user and password.
        authorization: the Authorization header field for the user and password (RFC 7617), or None.
    """

    url: str
    authorization: str | None = None

    @classmethod
    def of(cls, text: str) -> "ProviderUrl":
        """The parsed URL of the configuration."""
        try:
            parts = urlsplit(text)
            given, at, place = parts.netloc.rpartition("@")
        except ValueError:
            # Not an address: the first request fails with that error.
            return cls(re.sub(r"//.*@", "//", text, flags=re.DOTALL))
        if not at:
            return cls(text)
        user, _, password = given.partition(":")
        pair = f"{unquote(user)}:{unquote(password)}"
        return cls(parts._replace(netloc=place).geturl(), f"Basic {b64encode(pair.encode()).decode()}")

    @property
    def headers(self) -> dict[str, str]:
        """The header fields for the user and password."""
        return {} if self.authorization is None else {"Authorization": self.authorization}


def origin_of(url: str) -> str | None:
    """`scheme://host:port` of a URL and nothing else; the port only if it is not the scheme's default. None if it is
    not an http or https URL.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if parts.scheme not in _DEFAULT_PORTS or not host or not re.fullmatch(r"[\w.:%-]{1,253}", host):
        return None
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if _has_own_port(parts, port) else "")


def _has_own_port(parts: SplitResult, port: int | None) -> bool:
    return port is not None and port != _DEFAULT_PORTS[parts.scheme]
