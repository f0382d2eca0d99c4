"""uvicorn's HTTP/1.1, except that an HTTP/1.0 client gets no chunked body: the end of the connection ends the body (RFC
9112, sections 6.1 and 6.3).

Such a client may not know the chunked coding, and would show the chunk sizes as part of the text.
"""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Unchunked:
    """The application, for one request: a body without a length is written unchanged, and uvicorn closes the connection
    after it."""

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle
        self._has_length = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application. If it fails in mid-body, reset the connection: a normal close would look like the end of
        the body."""

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
        """Make uvicorn write the body up to the end of the connection, by announcing each piece as the rest of a
        length."""
        if message["type"] == "http.response.start":
            self._has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not self._has_length:
                self._cycle.chunked_encoding = False
        elif not self._has_length:
            self._cycle.expected_content_length = len(message.get("body", b""))
