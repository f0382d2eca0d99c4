"""The form of an error response: our own, or that of the API that the client uses.

Our own form is here (protocol section 11). The others belong to the application (`app.state.error_forms`, set by
main.py): each dialect brings its form, and this room does not know which there are.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse
from starlette.types import Scope

from archer_ws.api.http.scope import request_id
from archer_ws.core.exceptions import ArcherError, ErrorInfo
from archer_ws.examples.story import UNAVAILABLE


class ErrorForm(Protocol):
    """How the clients of one API receive errors.

    `places` is the field of the response that lists what is wrong with a request, for use in hints.
    """

    places: str

    def claims(self, scope: Scope) -> bool:
        """Whether an error response to this request must have this form."""

    def response(
        self, error: ArcherError, request_id: str, *, status: int | None, headers: Mapping[str, str]
    ) -> JSONResponse:
        """The response; `status` overrides the form's status for the error's kind."""


class ErrorBody(BaseModel):
    """The body of every response that is not a success."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"error": UNAVAILABLE}]})

    error: ErrorInfo = Field(description="What went wrong.")


class ErrorResponse(JSONResponse):
    """JSON that can always be sent: lone surrogates become question marks instead of another error."""

    def render(self, content: Any) -> bytes:
        """The body's bytes."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


class OwnErrors:
    """Our own form, used when no other form claims the request."""

    places = "errors"

    def claims(self, _scope: Scope) -> bool:
        """Always."""
        return True

    def response(
        self, error: ArcherError, request_id: str, *, status: int | None, headers: Mapping[str, str]
    ) -> JSONResponse:
        """An ErrorBody."""
        return error_response(error, request_id, status=status, headers=headers)


_OWN = OwnErrors()


def form_of(scope: Scope) -> ErrorForm:
    """The form of errors for this request: the first of the application's forms that claims it, else our own."""
    app = scope.get("app")
    forms: Sequence[ErrorForm] = getattr(app.state, "error_forms", ()) if app is not None else ()
    return next((form for form in forms if form.claims(scope)), _OWN)


def formed_response(
    error: ArcherError, scope: Scope, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response for an error, in the form of the API that the request is made for."""
    return form_of(scope).response(error, request_id(scope), status=status, headers=headers or {})


def error_response(
    error: ArcherError, request_id: str, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response in our own form; `status` overrides the kind's status if it can have several."""
    info = error.info(request_id)
    return error_json(ErrorBody(error=info).model_dump(), info, status or error.http_status, headers or {})


def error_json(body: Mapping[str, Any], info: ErrorInfo, status: int, headers: Mapping[str, str]) -> JSONResponse:
    """A response with a body of any form, and the header fields that errors have in every form."""
    response = ErrorResponse(body, status_code=status, headers=dict(headers))
    response.headers["X-Request-ID"] = info.request_id
    if info.retry_after_ms is not None:
        # Whole seconds (RFC 9110, section 10.2.3), rounded up: a client must not come back too early.
        response.headers["Retry-After"] = str(math.ceil(info.retry_after_ms / 1000))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
