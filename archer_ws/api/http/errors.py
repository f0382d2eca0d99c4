"""From exceptions to HTTP answers: whatever goes wrong, the client gets an ErrorInfo (protocol sections 1 and 11).

Below `/v1`, where OpenAI's API is, it gets OpenAI's error object instead, and a client of yet another API that came to
a wrong address its own: `_answer` alone knows the difference.

One failure makes one log entry: who swallows an exception logs it, and what is raised on is logged by the server.
"""

import json
import math
from collections.abc import Awaitable, Mapping
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archer_ws.api.http.allowed_methods import allowed_methods
from archer_ws.api.http.head_requests import asked_method
from archer_ws.api.http.scope import is_json, path_of, request_id
from archer_ws.api.openai.errors import UnsupportedParameter, openai_error, openai_status, retry_headers
from archer_ws.api.security.seats import seat_of
from archer_ws.api.signposts.answers import no_such_path
from archer_ws.api.signposts.dialects import Dialect, dialect_of, is_familiar, note_dialect
from archer_ws.api.signposts.foreign_chats import is_foreign_request
from archer_ws.api.signposts.foreign_errors import anthropic_error, ollama_error
from archer_ws.core.exceptions import (
    ArcherError,
    ContentTooLarge,
    ErrorInfo,
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
from archer_ws.llm_gateway.examples import UNAVAILABLE

log = structlog.get_logger(__name__)

#: The most field errors one answer lists: ten thousand bad messages must not make ten thousand lines.
MAX_FIELD_ERRORS = 20
#: The most characters of a path that an answer repeats: field paths may hold a client's own keys.
_MAX_PATH_CHARS = 200
#: nginx's "client closed request": nobody reads this answer, but the request log has a status to show.
_CLIENT_CLOSED_REQUEST = 499
_JSON_HINT = "Send valid JSON in UTF-8."
_INTERNAL_MESSAGE = "something went wrong inside the server"
_INTERNAL_HINT = "The server's log has the details under this request_id."

#: The nearest of our kinds for statuses that FastAPI or Starlette raise; FastAPI's 400 is a body it could not read.
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


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"error": UNAVAILABLE}]})

    error: ErrorInfo = Field(description="What went wrong.")


class ErrorResponse(JSONResponse):
    """JSON that can always be sent: what UTF-8 cannot carry becomes a question mark instead of another error."""

    def render(self, content: Any) -> bytes:
        """The body's bytes."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def error_response(
    error: ArcherError, request_id: str, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The HTTP answer for an error; `status` overrides the kind's own where a kind has several."""
    body = ErrorBody(error=error.info(request_id)).model_dump()
    return _response(body, status or error.http_status, error.retry_after_ms, request_id, headers or {})


def openai_error_response(
    info: ErrorInfo, *, status: int | None = None, code: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The HTTP answer for an error as OpenAI's API has it; `status` and `code` override what its kind says."""
    status = status or openai_status(info.kind)
    body = openai_error(info, code=code, status=status)
    named = {**retry_headers(info, status), **(headers or {})}
    return _response(body, status, info.retry_after_ms, info.request_id, named)


def _response(
    body: Mapping[str, Any], status: int, retry_after_ms: int | None, request_id: str, headers: Mapping[str, str]
) -> JSONResponse:
    answer = ErrorResponse(body, status_code=status, headers=dict(headers))
    answer.headers["X-Request-ID"] = request_id
    if retry_after_ms is not None:
        # Whole seconds (RFC 9110, section 10.2.3), rounded up: a client must not come back too early.
        answer.headers["Retry-After"] = str(math.ceil(retry_after_ms / 1000))
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _answer(
    error: ArcherError, scope: Scope, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer in the form of the API that the request is made for."""
    info = error.info(request_id(scope))
    body: Mapping[str, Any]
    match dialect_of(scope):
        case Dialect.OPENAI:
            code = "unsupported_parameter" if isinstance(error, UnsupportedParameter) else None
            return openai_error_response(info, status=status, code=code, headers=headers)
        case Dialect.ANTHROPIC:
            body = anthropic_error(info, status or error.http_status)
        case Dialect.OLLAMA:
            body = ollama_error(info)
        case Dialect.ARCHER:
            return error_response(error, info.request_id, status=status, headers=headers)
    return _response(body, status or error.http_status, info.retry_after_ms, info.request_id, headers or {})


async def refuse(
    error: ArcherError,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer for the application with an error: over HTTP, or to a WebSocket handshake before the upgrade. `status`
    overrides the error's own."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        # All such a server offers: closed before acceptance, the client sees a bare 403 (ASGI specification).
        await send({"type": "websocket.close", "code": 1008})
        return
    answer = _answer(error, scope, status=status, headers=headers)
    seat = seat_of(scope)
    if seat is not None and seat.is_guest and isinstance(error, Unauthenticated | Forbidden):
        # Who was let in before may try again; a connection that was only ever refused is not kept.
        answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of `app` an ErrorInfo.

    Call it before other middleware is added: the boundary for unexpected errors must be the innermost, so that CORS
    headers reach its answers and a page can read them.
    """
    app.add_middleware(ErrorBoundary)
    app.add_exception_handler(ArcherError, _answer_archer_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    # Starlette raises the exception on after this answer, so the server logs it: what fails in middleware ends here.
    app.add_exception_handler(Exception, _answer_defect)


class ErrorBoundary:
    """Answers 500 for what no handler took, and logs it.

    Once a response has begun there is nothing left to answer: the exception goes on, and the server logs it and cuts
    the connection, which tells the client that the response is not whole.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        # Not a coroutine of its own: a chunk passes at the price of a function call.
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
    return _answer(InternalError(_INTERNAL_MESSAGE, hint=_INTERNAL_HINT), scope)


def _answer_defect(request: Request, _error: Exception) -> Response:
    return _defect(request.scope)


def _answer_nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


def _answer_archer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ArcherError)
    return _answer(error, request.scope)


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    scope = request.scope
    if error.status_code == 404 and is_familiar(path_of(scope)) and await is_foreign_request(request):
        note_dialect(scope, Dialect.OPENAI)
    if isinstance(error.__cause__, ClientDisconnect):
        return _answer_nobody(request, error)
    if isinstance(error.__cause__, ArcherError):
        # FastAPI wraps what reading a body raised in a 400 of its own: our reason says more.
        return _answer(error.__cause__, scope)
    headers = {**(error.headers or {}), "Allow": allowed_methods(scope)} if error.status_code == 405 else error.headers
    return _answer(_from_http_exception(error, scope), scope, status=error.status_code, headers=headers)


def _from_http_exception(error: HTTPException, scope: Scope) -> ArcherError:
    match error.status_code:
        case 404:
            return no_such_path(scope)
        case 405:
            path = _shortened(quote(scope["path"], errors="replace"))
            return MethodNotFound(f"{path} does not take {asked_method(scope)}", hint="See /docs for its methods.")
        case status if status >= 500 and status not in _KIND_OF_STATUS:
            return InternalError(_INTERNAL_MESSAGE, hint=_INTERNAL_HINT)
        case status:
            kind = _KIND_OF_STATUS.get(status, InvalidRequest)
            return kind(str(error.detail), hint=_JSON_HINT if kind is ParseError else None)


def _answer_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer(_from_validation_error(error, request), request.scope)


def _from_validation_error(error: RequestValidationError, request: Request) -> ArcherError:
    found = error.errors()
    if found and found[0]["type"] == "json_invalid":
        reason = found[0].get("ctx", {}).get("error", "")
        return ParseError(f"the body is not valid JSON: {reason}".rstrip(": "), hint=_JSON_HINT)
    for each in found:
        if tuple(each["loc"]) == ("body",) and (unreadable := _whole_body_error(each["type"], request)):
            return unreadable
    errors = [FieldError(path=_path(each["loc"]), message=_message(each)) for each in found[:MAX_FIELD_ERRORS]]
    first = errors[0]
    rest = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = "param" if dialect_of(request.scope) is Dialect.OPENAI else "errors"
    return InvalidParams(
        f"{first.path}: {first.message}{rest}", hint=f"Correct what `{where}` names; see /docs.", errors=errors
    )


def _whole_body_error(what: str, request: Request) -> ArcherError | None:
    """What to say where the body as a whole is the trouble: pydantic's words for these help nobody."""
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


def _path(location: tuple[int | str, ...]) -> str:
    parts = location[1:] if location and location[0] == "body" else location
    return _shortened(".".join(str(part) for part in parts)) or "body"


def _message(found: Mapping[str, Any]) -> str:
    """What is wrong with a field; never the value itself, which may be a prompt or a key."""
    if found["type"] == "union_tag_invalid":
        # The one message of pydantic's that quotes the input.
        return f"should be one of {found['ctx']['expected_tags']}"
    return str(found["msg"]).removeprefix("Value error, ")


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_PATH_CHARS else text[: _MAX_PATH_CHARS - 1] + "…"
