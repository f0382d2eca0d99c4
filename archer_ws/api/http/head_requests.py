"""HEAD wherever there is GET (RFC 9110, section 9.1): the same status and header fields, and no body.

Routes are written for GET only; this runs them for HEAD too. A route whose response takes time or holds a resource
checks `asked_method`, and returns the head alone.
"""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ASKED = "archer.asked_method"


def asked_method(scope: Scope) -> str:
    """The method that the client sent."""
    method: str = scope.get(_ASKED, scope["method"])
    return method


class HeadAsGet:
    """Makes the application serve HEAD as GET; middleware outside of it sees the original method."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; drop the body of its response to HEAD."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        def send_head(message: Message) -> Awaitable[None]:
            return send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET", _ASKED: "HEAD"}, receive, send_head)
