"""uvicorn's HTTP/1.1, except that an upgrade which is offered but not accepted is ignored (RFC 9110, section 7.8).

Every Java HttpClient offers HTTP/2 with its requests to http:// URLs, and so does `curl --http2`. llhttp treats
everything after the head of such a request as the other protocol: the body would be lost, and the connection with it.
So the head is parsed a second time without the offer, by a second parser, and the request begins only then. A request
without an offer costs one extra check.

What this server cannot speak at all, CONNECT and HTTP/2 with prior knowledge, is refused with an explanation.
"""

from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

#: How long a refused client may go on sending, so that it reads the reason before a reset. In seconds.
LINGER_S = 1.0

_INVALID = "Invalid HTTP request received."
_NO_PROXY = "This server is no proxy: CONNECT is not served here."
_NO_HTTP_2 = "HTTP/2 is not served here without TLS: speak HTTP/1.1 (of curl, --http1.1)."
#: llhttp accepts both names for the header field.
_CONNECTION = frozenset({b"connection", b"proxy-connection"})


class UpgradeOffers(HttpToolsProtocol):
    """One connection. The only offer that is accepted is a WebSocket's, by GET, at a path that has a socket, and not
    while a response is being sent."""

    #: The paths that have a socket; None if only the application knows.
    socket_paths: frozenset[str] | None = None

    _is_over = False

    def data_received(self, data: bytes) -> None:
        """Parse as uvicorn does, and go on after heads that offer an upgrade."""
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        try:
            # A loop, not recursion: thousands of such requests may come in one read.
            while rest and not self._is_over:
                try:
                    self.parser.feed_data(rest)
                except httptools.HttpParserUpgrade as stopped:
                    rest = self._after_offer(memoryview(rest)[stopped.args[0] :])
                else:
                    break
        except httptools.HttpParserError:
            if self.parser.get_method() == b"PRI":
                self._refuse(400, _NO_HTTP_2)
            else:
                self.logger.warning(_INVALID)
                self.send_400_response(_INVALID)

    def _after_offer(self, rest: memoryview) -> memoryview:
        """A head that offers an upgrade was parsed; `rest` came after it. Return what of it is still to be parsed.

        Raises:
            httptools.HttpParserError: the head is not HTTP/1.
        """
        if self._should_upgrade():
            if not self.url.startswith(b"/"):
                self.url = _origin_form(self.url)
            self.handle_websocket_upgrade()
            return rest[:0]
        if self.parser.get_method() == b"CONNECT":
            self._refuse(405, _NO_PROXY)
        else:
            self._read_head_again()
        return rest

    def _read_head_again(self) -> None:
        head = self._head_without_offer()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self.parser.feed_data(head)

    def _head_without_offer(self) -> bytes:
        """The request's head without `upgrade` in Connection. Without that word llhttp ignores the Upgrade field, which
        the application may still read."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name not in _CONNECTION:
                lines.append(b"%b: %b" % (name, value))
            elif b"close" in (token.strip().lower() for token in value.split(b",")):
                lines.append(b"%b: close" % name)
        return b"\r\n".join([*lines, b"", b""])

    def offer_is_untaken(self) -> bool:
        """Whether the complete head has an offer that is ignored: no request begins, and the head is parsed again."""
        return self.parser.should_upgrade() and not self._should_upgrade()

    def _should_upgrade(self) -> bool:
        offered = [value.strip().lower() for name, value in self.headers if name == b"upgrade"]
        return (
            offered == [b"websocket"]
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and self._should_upgrade_to_ws()
            and self._has_socket()
            # The other protocol would begin within the response before it.
            and (self.cycle is None or self.cycle.response_complete)
        )

    def _has_socket(self) -> bool:
        if self.socket_paths is None:
            return True
        path = unquote((httptools.parse_url(self.url).path or b"").decode("latin-1"))
        return (path.rstrip("/") or "/") in self.socket_paths

    def end_behind_responses(self) -> bool:
        """Read no further, and close after the responses to earlier requests; False, and nothing, if all are sent."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        self._is_over = True
        self.cycle.keep_alive = False
        return True

    def _refuse(self, status: int, reason: str) -> None:
        """Send the reason and close; if a response is being sent, close after it."""
        self.logger.warning(reason)
        if self.end_behind_responses():
            return
        self._is_over = True
        fields = f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(reason)}\r\nconnection: close\r\n"
        allow = "allow: GET, HEAD, POST, PATCH, DELETE\r\n" if status == 405 else ""
        self.transport.write(STATUS_LINE[status] + f"{fields}{allow}\r\n{reason}".encode())
        # If the connection closed with input unread, TCP would reset it, and the client might never see the reason.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def _origin_form(url: bytes) -> bytes:
    """The path and the query of a URL in absolute form, which servers must accept (RFC 9112, section 3.2.2)."""
    parts = httptools.parse_url(url)
    path: bytes = parts.path or b"/"
    return path if parts.query is None else b"%b?%b" % (path, parts.query)
