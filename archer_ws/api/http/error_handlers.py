"""From exceptions to HTTP responses: every failure becomes one of our error kinds (protocol sections 1 and 11).

error_forms.py decides the form of the response.

Each failure is logged once: code that swallows an exception logs it, and the server logs what is raised further.
"""

import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archer_ws.api.http.allowed_methods import allowed_methods
from archer_ws.api.http.error_forms import ErrorForm, form_of, formed_response
from archer_ws.api.http.head_requests import asked_method
from archer_ws.api.http.scope import header_values, is_json
from archer_ws.api.security.seats import seat_of
from archer_ws.core.exceptions import (
    ArcherError,
    ContentTooLarge,
    FieldError,
    Forbidden,
    InternalError,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    Overloaded,
    ParseError,
    Unauthenticated,
)
from archer_ws.core.wire_model import request_error

log = structlog.get_logger(__name__)

#: How much of a URL's path is repeated in a response, in characters.
_MAX_PATH_CHARS = 200
#: How much of a Content-Encoding, likewise.
_MAX_CODING_CHARS = 60
#: The codings of compressed bodies (RFC 9110, section 8.4.1, and later ones); some clients put a charset there.
_COMPRESSED = re.compile(r"\b(?:gzip|deflate|compress|br|zstd)\b", re.IGNORECASE)
#: nginx's "client closed request": nobody reads this response, but the request log needs a status.
_CLIENT_CLOSED_REQUEST = 499
_JSON_HINT = "Send valid JSON in UTF-8."
_INTERNAL_MESSAGE = "something went wrong inside the server"
_INTERNAL_HINT = "The server's log has the details under this request_id."

#: Makes the error for a request that no route matches; it may read the request's body.
LostRequest = Callable[[Request], Awaitable[ArcherError]]

#: The closest of our kinds for statuses that FastAPI or Starlette raise; FastAPI's 400 is a body that it could not
#: read.
_KIND_OF_STATUS: Mapping[int, type[ArcherError]] = {
    400: ParseError,
    401: Unauthenticated,
    403: Forbidden,
    404: MethodNotFound,
    405: MethodNotFound,
    413: ContentTooLarge,
    415: InvalidParams,
    422: InvalidParams,
    429: Overloaded,
    503: Overloaded,
}


async def refuse(
    error: ArcherError,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Respond with an error in place of the application: over HTTP, or to a WebSocket handshake before the upgrade.
    `status` overrides the error's own."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        # Such a server offers nothing else: closed before it is accepted, the handshake is answered with a bare 403
        # (ASGI specification).
        await send({"type": "websocket.close", "code": 1008})
        return
    response = formed_response(error, scope, status=status, headers=headers)
    seat = seat_of(scope)
    if seat is not None and seat.is_guest and isinstance(error, Unauthenticated | Forbidden):
        # A connection that has been authenticated before may try again; one that was only ever refused is closed.
        response.headers["Connection"] = "close"
    await response(scope, receive, send)


def install_error_handlers(app: FastAPI, *, forms: Sequence[ErrorForm] = (), lost: LostRequest | None = None) -> None:
    """Register handlers for every failure of `app`.

    Call it before other middleware is added: the boundary for unexpected errors must be the innermost, so that its
    responses get CORS headers and a page can read them.

    Args:
        app: the application.
        forms: the forms that errors may have beside our own; the first that claims a request is used.
        lost: makes the error for a request that no route matches; by default a plain one.
    """
    app.state.error_forms = tuple(forms)
    app.add_middleware(ErrorBoundary)
    app.add_exception_handler(ArcherError, _archer_error_response)
    app.add_exception_handler(RequestValidationError, _validation_error_response)
    app.add_exception_handler(HTTPException, _http_exceptions(lost or _no_such_path))
    app.add_exception_handler(ClientDisconnect, _disconnected_response)
    # Starlette raises the exception again after this response, so the server logs it; failures of middleware end here.
    app.add_exception_handler(Exception, _defect_response)


class ErrorBoundary:
    """Responds with 500 to an exception that no handler accepted, and logs it.

    If the response has begun, an error cannot be sent any more: the exception is raised further, and the server logs it
    and aborts the connection, which shows the client that the response is incomplete.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        # Not a coroutine: so a chunk costs only a function call.
        def noting_start(message: Message) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)

        try:
            await self._app(scope, receive, noting_start)
        except Exception as error:
            if started:
                raise
            log.exception("request_failed", error=type(error).__name__)
            await _defect(scope)(scope, receive, send)


def _defect(scope: Scope) -> JSONResponse:
    return formed_response(InternalError(_INTERNAL_MESSAGE, hint=_INTERNAL_HINT), scope)


def _defect_response(request: Request, _error: Exception) -> Response:
    return _defect(request.scope)


def _disconnected_response(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


def _archer_error_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, ArcherError)
    return formed_response(_told_of_coding(error, request.scope), request.scope)


def _http_exceptions(lost: LostRequest) -> Callable[[Request, Exception], Coroutine[Any, Any, Response]]:
    """The handler for exceptions of FastAPI and Starlette."""

    async def respond(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        scope = request.scope
        if error.status_code == 404:
            return formed_response(await lost(request), scope, headers=error.headers)
        if isinstance(error.__cause__, ClientDisconnect):
            return _disconnected_response(request, error)
        if isinstance(error.__cause__, ArcherError):
            # FastAPI wraps an exception from reading the body in its own 400; our own error says more.
            return formed_response(_told_of_coding(error.__cause__, scope), scope)
        headers = error.headers
        if error.status_code == 405:
            headers = {**(headers or {}), "Allow": allowed_methods(scope)}
        return formed_response(_from_http_exception(error, scope), scope, status=error.status_code, headers=headers)

    return respond


def _told_of_coding(error: ArcherError, scope: Scope) -> ArcherError:
    """The error; if the body is no JSON because it is compressed, that is the error."""
    codings = b", ".join(header_values(scope, b"content-encoding")).decode("ascii", "replace")
    if not isinstance(error, ParseError) or not _COMPRESSED.search(codings):
        return error
    return ParseError(
        f"the body was not read, because its Content-Encoding is {codings[:_MAX_CODING_CHARS]}",
        hint="Send it uncompressed, without that header.",
    )


async def _no_such_path(request: Request) -> ArcherError:
    path = _shortened(quote(request.scope["path"], errors="replace"))
    return MethodNotFound(f"there is no {path} here", hint="See /docs for the routes.")


def _from_http_exception(error: HTTPException, scope: Scope) -> ArcherError:
    match error.status_code:
        case 405:
            path = _shortened(quote(scope["path"], errors="replace"))
            return MethodNotFound(f"{path} does not take {asked_method(scope)}", hint="See /docs for its methods.")
        case status if status >= 500 and status not in _KIND_OF_STATUS:
            return InternalError(_INTERNAL_MESSAGE, hint=_INTERNAL_HINT)
        case status:
            kind = _KIND_OF_STATUS.get(status, InvalidRequest)
            return kind(str(error.detail), hint=_JSON_HINT if kind is ParseError else None)


def _validation_error_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return formed_response(_from_validation_error(error, request), request.scope)


def _from_validation_error(error: RequestValidationError, request: Request) -> ArcherError:
    found = error.errors()
    if found and found[0]["type"] == "json_invalid":
        reason = found[0].get("ctx", {}).get("error", "")
        return ParseError(f"the body is not valid JSON: {reason}".rstrip(": "), hint=_JSON_HINT)
    for each in found:
        if tuple(each["loc"]) == ("body",) and (unreadable := _whole_body_error(each["type"], request)):
            return unreadable
    where = form_of(request.scope).places
    return request_error(
        [{**each, "loc": _within_body(each["loc"])} for each in found],
        whole="body",
        hint=f"Correct what `{where}` names; see /docs.",
    )


def _whole_body_error(what: str, request: Request) -> ArcherError | None:
    """The message when the whole body is wrong: pydantic's own messages for these cases help nobody."""
    if what == "missing":
        message, hint = "the request has no body", "Send a JSON object with Content-Type: application/json."
    elif not is_json(request.headers.get("content-type", "")):
        message = "the body was not read, because its Content-Type is not JSON"
        hint = "Send it with the header Content-Type: application/json."
    elif what in {"model_attributes_type", "model_type", "dict_type"}:
        message, hint = "the body must be a JSON object", "See /docs for its fields."
    else:
        return None
    return InvalidParams(message, hint=hint, errors=[FieldError(path="body", message=message)])


def _within_body(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return location[1:] if location and location[0] == "body" else location


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_PATH_CHARS else text[: _MAX_PATH_CHARS - 1] + "…"
