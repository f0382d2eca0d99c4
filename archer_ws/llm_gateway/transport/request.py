"""A request as it is sent, without its body.

Pure. Requests that can't be sent are refused here, before any transport is involved, so that all transports refuse the
same.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from archer_ws.llm_gateway.transport.connection import ConnectError

_DEFAULT_PORTS = {"http": 80, "https": 443}


class NotSendable(ConnectError):
    """No request can be built from the arguments."""


class Destination(NamedTuple):
    """The destination of a request."""

    host: str
    port: int
    is_tls: bool


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """A request that may be sent many times, each time with another body.

    Attributes:
        url: the original URL, which may contain a user and a password: not to be shown.
        fields: the header fields, except Host and Content-Length.
        is_last: whether the server is asked to close the connection after its response.
    """

    method: str
    url: str
    place: Destination
    fields: tuple[tuple[str, str], ...]
    is_last: bool
    _before_length: bytes
    _after_length: bytes

    @classmethod
    def of(cls, method: str, url: str, headers: Mapping[str, str]) -> "RequestTemplate":
        """The template. A user and password in the URL become an Authorization, unless `headers` have one (RFC 7617).

        Raises:
            NotSendable: it is not an HTTP address, or contains a control character.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
            name = host if host.isascii() else host.encode("idna").decode()
        except (ValueError, KeyError) as error:
            raise NotSendable("a request that can't be sent: its address is not an HTTP address") from error
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
            Destination(host, port, parts.scheme == "https"),
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
