"""What a request's body may be: how large, and which JSON.

`BodyLimit` is middleware; `JsonRoute` is the route class of every router whose routes take a body:
`APIRouter(route_class=JsonRoute)`.
"""

import codecs
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archer_ws.api.errors import refuse
from archer_ws.api.scope import header_values
from archer_ws.core.exceptions import ContentTooLarge, FieldError, InvalidParams, ParseError

_HINT = "Send valid JSON in UTF-8 (RFC 8259), without NaN or Infinity."


class BodyLimit:
    """Refuses bodies above `max_bytes` with 413.

    A declared length is judged before anything is read, and the server holds the client to it. A chunked body is
    counted while the application reads it, which then fails with `ContentTooLarge`. Sending is never touched, and
    disconnects pass as they come.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge an http request; other scopes pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = _declared_length(scope)
        if declared is None:
            await self._app(scope, self._counting(receive), send)
        elif declared > self._max_bytes:
            await refuse(self._too_large(), scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _too_large(self) -> ContentTooLarge:
        return ContentTooLarge(
            f"the body is larger than {self._max_bytes} bytes",
            hint="Send less, or raise MAX_CONTENT_BYTES on the server.",
        )

    def _counting(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise self._too_large()
            return message

        return counted


def _declared_length(scope: Scope) -> int | None:
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


def decode_json(body: bytes) -> Any:
    """A request's JSON as Python values, whose text is whole Unicode scalars (protocol section 1).

    Raises:
        ParseError: it is not JSON in UTF-8; or it is nested more than 200 deep, has NaN, or a number of more than
            4,300 digits.
        InvalidParams: it is, but some text has a lone surrogate; `errors` says where.
    """
    # RFC 8259 lets a parser ignore a byte order mark; some Windows tools put one.
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        path = _path_of_lone_surrogate(body)
        if path is None:
            raise ParseError(f"the body is not valid JSON: {error}", hint=_HINT) from None
    message = "a lone surrogate; send whole Unicode characters (a surrogate pair together)"
    raise InvalidParams(
        f"{path}: {message}",
        hint="Correct what `errors` names.",
        errors=[FieldError(path=path, message=message)],
    )


def _path_of_lone_surrogate(body: bytes) -> str | None:
    """Where the first text is that UTF-8 cannot carry; None where it is not this that ails the body."""
    try:
        value = json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, value = waiting.pop()
        match value:
            case str() if not _is_whole(value):
                return path or "body"
            case list():
                waiting += [(f"{path}.{index}".lstrip("."), inner) for index, inner in enumerate(value)][::-1]
            case dict():
                if not all(map(_is_whole, value)):
                    return path or "body"
                waiting += [(f"{path}.{key}".lstrip("."), inner) for key, inner in value.items()][::-1]
    return None


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
