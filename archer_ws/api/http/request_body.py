"""Limits on a request's body: its size, and which JSON it may be.

`BodyLimit` is middleware. `JsonRoute` is the route class of every router whose routes have a body
(`APIRouter(route_class=JsonRoute)`), except those that begin generations (generation_route.py).
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

    A declared length is checked before anything is read, and the server enforces it. A chunked body is counted while
    the application reads it; reading then raises `ContentTooLarge`. Responses and disconnects pass unchanged.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, larger: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._larger = larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check an http request; other scopes pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared, most = declared_length(scope), self._most(path_of(scope))
        if declared is None:
            await self._app(scope, _counting(receive, most), send)
        elif declared > most:
            await refuse(body_too_large(most), scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def passes(self, scope: Scope, fields: Mapping[bytes, bytes]) -> bool:
        """Whether the body's length is declared and within the limit."""
        declared = _length_in(fields.get(b"content-length", b""))
        return declared is not None and declared <= self._most(scope["path"])

    def _most(self, path: str) -> int:
        return self._larger.get(path.rstrip("/"), self._max_bytes)


def body_too_large(most: int) -> ContentTooLarge:
    """The error for a body above the limit."""
    return ContentTooLarge(
        f"the body is larger than {most} bytes",
        hint="Send less text, or raise MAX_CONTENT_BYTES on the server. Pictures and documents go to "
        "POST /api/v1/files before, and messages name their file_id.",
    )


def _counting(receive: Receive, most: int) -> Receive:
    """`receive`, which raises when more than the limit arrives."""
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
    """The body's Content-Length; None if it is missing or not a number."""
    values = header_values(scope, b"content-length")
    return _length_in(values[0]) if len(values) == 1 else None


def _length_in(field: bytes) -> int | None:
    # The server refuses other values; here the body counts as one without a length.
    return int(field) if field.isdigit() and len(field) < 20 else None


class JsonRoute(APIRoute):
    """A route that parses JSON strictly.

    `json.loads`, which FastAPI uses, accepts lone surrogates, NaN, UTF-16 and thousands of nested lists; each of them
    fails later, where only a 500 is left.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, which gets a request that decodes JSON strictly."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        return decode_json(await self.body())
