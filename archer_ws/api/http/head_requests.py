"""HEAD wherever GET is (RFC 9110, section 9.1): the same status and header fields, and no body.

The routes are written for GET alone; this runs them for HEAD too. A route whose answer takes time or holds something
asks `asked_method`, and gives the head without it.
"""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ASKED = "archer.asked_method"


def asked_method(scope: Scope) -> str:
    """The method as the client has it."""
    method: str = scope.get(_ASKED, scope["method"])
    return method


class HeadAsGet:
    """Has the application answer HEAD as GET; what is outside it sees the request as it came."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; of its answer to HEAD the body is left out."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        def send_head(message: Message) -> Awaitable[None]:
            return send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET", _ASKED: "HEAD"}, receive, send_head)
