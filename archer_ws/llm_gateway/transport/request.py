"""A request as it stands on the wire, but for its body.

Pure. What can't be sent is refused here, before any transport is asked: whichever carries it, the same is refused.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from archer_ws.llm_gateway.transport.connection import ConnectError

_DEFAULT_PORTS = {"http": 80, "https": 443}


class NotSendable(ConnectError):
    """No request can be made of what was given."""


class Place(NamedTuple):
    """Where a request goes to."""

    host: str
    port: int
    is_tls: bool


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """A request that may be sent many times, with a body of its own each time.

    Attributes:
        url: as it was given, which may hold a user and a password: not to be shown.
        fields: the header fields, but for Host and Content-Length.
        is_last: whether the server is asked to close the connection behind its answer.
    """

    method: str
    url: str
    place: Place
    fields: tuple[tuple[str, str], ...]
    is_last: bool
    _before_length: bytes
    _after_length: bytes

    @classmethod
    def of(cls, method: str, url: str, headers: Mapping[str, str]) -> "RequestTemplate":
        """The template; a user and password in the URL are an Authorization, unless `headers` have one (RFC 7617).

        Raises:
            NotSendable: it is no HTTP address, or there is a control character.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
            name = host if host.isascii() else host.encode("idna").decode()
        except (ValueError, KeyError) as error:
            raise NotSendable("a request that can't be sent: its address is no HTTP address") from error
        at = (f"[{name}]" if ":" in name else name) + (f":{parts.port}" if parts.port else "")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = list(headers.items())
        if parts.username is not None and "authorization" not in map(str.lower, headers):
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            fields.insert(0, ("Authorization", f"Basic {b64encode(pair.encode()).decode()}"))
        before = [f"{method} {target} HTTP/1.1", f"Host: {at}"]
        after = [f"{field}: {value}" for field, value in fields]
        if not all(line.isprintable() for line in (*before, *after)):
            raise NotSendable("a request that can't be sent: its address or a header field has a control character")
        return cls(
            method,
            url,
            Place(host, port, parts.scheme == "https"),
            tuple(fields),
            any(name.lower() == "connection" and value.lower() == "close" for name, value in fields),
            "\r\n".join(before).encode(),
            "\r\n".join(["", *after, "", ""]).encode(),
        )

    def head(self, size: int) -> bytes:
        """The request's head, for a body of so many bytes."""
        if self.method == "GET":
            return self._before_length + self._after_length
        return b"%b\r\nContent-Length: %d%b" % (self._before_length, size, self._after_length)
