"""uvicorn's HTTP/1.1, but a client of HTTP/1.0 gets no chunks: the body ends with the connection (RFC 9112, 6.1, 6.3).

It may not know the coding, and would show the chunks' sizes as part of the text.
"""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class UnchunkedForOldClients(HttpToolsProtocol):
    """One connection."""

    def on_headers_complete(self) -> None:
        """The request begins; what HTTP/1.0 does not know is not expected of it (RFC 9110, section 10.1.1)."""
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        if cycle.scope["http_version"] == "1.0":
            app = _Unchunked(app, cycle)
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]  # uvicorn's own names for ASGI's types


class _Unchunked:
    """The application, for one request: a body without a length is written as it is. uvicorn closes behind it."""

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle
        self._has_length = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; one that breaks off in mid-body resets the connection, whose end would else look like
        the body's."""

        def send_plain(message: Message) -> Awaitable[None]:
            self._prepare(message)
            return send(message)

        try:
            await self._app(scope, receive, send_plain)
        except BaseException:
            if self._cycle.response_started and not self._has_length:
                self._cycle.transport.abort()
            raise

    def _prepare(self, message: Message) -> None:
        """Have uvicorn write a body to the connection's end: as the rest of a length, piece by piece."""
        if message["type"] == "http.response.start":
            self._has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not self._has_length:
                self._cycle.chunked_encoding = False
        elif not self._has_length:
            self._cycle.expected_content_length = len(message.get("body", b""))
