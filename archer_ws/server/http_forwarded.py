"""uvicorn's middleware for X-Forwarded-For and X-Forwarded-Proto, past which all requests without such fields go."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_BEGINNING = b"x-forwarded-"


class ForwardedHeaders:
    """The application; `trusted_hosts` are the proxies that are believed."""

    def __init__(self, app: ASGIApp, trusted_hosts: list[str] | str) -> None:
        self._app = app
        self._believing = ProxyHeadersMiddleware(app, trusted_hosts)  # type: ignore[arg-type]  # uvicorn's own names

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Run the application. Not a coroutine: so it costs only a function call."""
        for name, _ in scope.get("headers", ()):
            if name.startswith(_BEGINNING):
                return self._believing(scope, receive, send)  # type: ignore[arg-type]  # as above
        return self._app(scope, receive, send)
