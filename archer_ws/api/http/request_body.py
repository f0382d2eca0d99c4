"""What a request's body may be: how large, and which JSON.

`BodyLimit` is middleware; `JsonRoute` is the route class of every router whose routes take a body:
`APIRouter(route_class=JsonRoute)`; but for those that begin generations (generation_route.py).
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archer_ws.api.http.error_handlers import refuse
from archer_ws.api.http.scope import header_values, path_of
from archer_ws.core.exceptions import ContentTooLarge
from archer_ws.core.strict_json import decode_json


class BodyLimit:
    """Refuses bodies above `max_bytes` with 413; `larger` has the paths whose bodies may be longer.

    A declared length is judged before anything is read, and the server holds the client to it. A chunked body is
    counted while the application reads it, which then fails with `ContentTooLarge`. Sending is never touched, and
    disconnects pass as they come.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, larger: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._larger = larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge an http request; other scopes pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = declared_length(scope)
        most = self._larger.get(path_of(scope).rstrip("/"), self._max_bytes) if self._larger else self._max_bytes
        if declared is None:
            await self._app(scope, _counting(receive, most), send)
        elif declared > most:
            await refuse(body_too_large(most), scope, receive, send)
        else:
            await self._app(scope, receive, send)


def body_too_large(most: int) -> ContentTooLarge:
    """What is said of a longer body."""
    return ContentTooLarge(
        f"the body is larger than {most} bytes",
        hint="Send less text, or raise MAX_CONTENT_BYTES on the server. Pictures and documents go to "
        "POST /api/v1/files before, and messages name their file_id.",
    )


def _counting(receive: Receive, most: int) -> Receive:
    """`receive`, which fails where more comes."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise body_too_large(most)
        return message

    return counted


def declared_length(scope: Scope) -> int | None:
    """The body's length, as its head says it; None where it is not told, or not well."""
    values = header_values(scope, b"content-length")
    # Anything else is the server's to refuse; uncounted it does not pass here.
    return int(values[0]) if len(values) == 1 and values[0].isdigit() and len(values[0]) < 20 else None


class JsonRoute(APIRoute):
    """A route that reads its JSON strictly.

    `json.loads`, which FastAPI uses, takes lone surrogates, NaN, UTF-16 and thousands of nested lists; each of them
    breaks later, where it can only be a 500.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, given a request that decodes JSON our way."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        return decode_json(await self.body())
