"""The OpenAPI document: what FastAPI generates from the routes, completed by what it cannot know.

That is: the credential, the headers of every response, the events of a stream, the socket, the descriptions of tags.
The routes describe themselves (routes/), and error_responses.py describes their errors. The document does not depend on
the machine; only the application's title and version may be changed.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from copy import deepcopy
from typing import Any, get_args

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import Route

from archer_ws import __version__
from archer_ws.api.http.error_forms import ErrorBody
from archer_ws.api.openapi.events import EVENT_MODELS
from archer_ws.core.ids import ID_PATTERN
from archer_ws.core.json_schema import Wire, references, schemas_of, with_references
from archer_ws.examples.story import REQUEST_ID

TITLE = "Archer AI Engine"
DESCRIPTION = """Many concurrent chat streams between an application and language models, each cancellable in
mid-stream and resumable after a dropped connection. Every endpoint shares one session manager over one router.

Beside these routes there is a WebSocket at `/api/v1/ws` (subprotocol `archer.v1`, JSON-RPC 2.0), which carries many
streams over one connection. OpenAPI can't describe it: `rpc.discover` returns its OpenRPC document.

Errors are one object everywhere, `ErrorInfo`: switch on `kind`. Enumerations may grow, and objects may get fields:
ignore what you do not know.
"""
_TAGS = [
    {"name": "chat", "description": "Chat completions, whole or as events."},
    {"name": "streams", "description": "Running and ended streams: inspect, cancel, resume."},
    {"name": "sessions", "description": "Conversations that the server stores."},
    {"name": "files", "description": "Pictures and documents that messages refer to."},
    {"name": "models", "description": "The models that a request can name."},
    {"name": "openai", "description": "OpenAI's API, for its SDKs and programs built on them: base URL `…/v1`."},
    {"name": "socket", "description": "Tickets for browsers, for the WebSocket at `/api/v1/ws`."},
    {"name": "health", "description": "Liveness and readiness; needs no credential."},
]
_REF = "#/components/schemas/"
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})

_REQUEST_ID_HEADER = {
    "description": "The request's id: your `X-Request-ID` if it has the form of an id, else a new one.",
    "required": True,
    "schema": {"type": "string", "pattern": ID_PATTERN},
    "example": REQUEST_ID,
}


def install_openapi(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Make `app.openapi()`, and so `/openapi.json` and `/docs`, return the document; `routers` are the routers of
    `app`. Any thread may call it."""

    making = threading.Lock()

    def openapi() -> dict[str, Any]:
        with making:
            if app.openapi_schema is None:
                app.openapi_schema = _document(app, routers)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
    routes = app.router.routes
    for place, route in enumerate(routes):
        if isinstance(route, Route) and route.path == app.openapi_url:
            endpoint = _made_in_thread(app, route.endpoint)
            routes[place] = Route(route.path, endpoint, name=route.name, include_in_schema=False)


def _made_in_thread(app: FastAPI, serve: Callable[[Request], Awaitable[Response]]) -> Callable[..., Any]:
    """FastAPI's own endpoint, behind the making of the document: that takes seconds, in which no stream would go on."""

    async def openapi(request: Request) -> Response:
        if app.openapi_schema is None:
            await asyncio.to_thread(app.openapi)
        return await serve(request)

    return openapi


def _document(app: FastAPI, routers: Sequence[APIRouter]) -> dict[str, Any]:
    document = get_openapi(
        title=app.title or TITLE,
        version=app.version or __version__,
        openapi_version="3.1.0",
        summary="A gateway for many concurrent, cancellable, resumable chat streams.",
        description=DESCRIPTION,
        routes=app.routes,
        tags=_TAGS,
        separate_input_output_schemas=app.separate_input_output_schemas,
    )
    described = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    components = document.setdefault("components", {})
    components["schemas"] = _schemas(document, described)
    _restore_what_routes_say(document["paths"], described)
    components["headers"] = {"X-Request-ID": _REQUEST_ID_HEADER}
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "Needed if the server's setting AUTH_TOKEN or AUTH_TOKENS is set.",
        }
    }
    # Either is possible: the server's settings decide which.
    document["security"] = [{"bearer": []}, {}]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                _complete(operation, is_open=path == "/health" or path.startswith("/health/"))
    _drop_fastapis_errors(components["schemas"])
    return document


def _schemas(document: dict[str, Any], routes: Sequence[APIRoute]) -> dict[str, Any]:
    """FastAPI's schemas of what clients send, and the protocol's schemas of what we send, which mark the fields that
    are always present."""
    fastapis: dict[str, Any] = document["components"]["schemas"]
    sent: list[type[BaseModel]] = [ErrorBody, *EVENT_MODELS.values()]
    for route in routes:
        sent += _models_in(route.response_model)
    ours = {name: with_references(schema, _REF, {}) for name, schema in schemas_of(sent, Wire.REST).items()}
    requests = [operation.get("requestBody") for item in document["paths"].values() for operation in item.values()]
    schemas = {**fastapis, **ours}
    for name in _names_below(requests, fastapis):
        schemas[name] = fastapis[name]
    return dict(sorted(schemas.items()))


def _restore_what_routes_say(paths: dict[str, Any], routes: Sequence[APIRoute]) -> None:
    """Restore what FastAPI loses: nulls in examples, where they have a meaning, and the schemas of events, which it
    replaces with one string."""
    for route in routes:
        for method in (route.methods or ()) if route.include_in_schema else ():
            responses = paths[route.path_format][method.lower()]["responses"]
            for status, response in route.responses.items():
                for media_type, content in response.get("content", {}).items():
                    responses[str(status)]["content"][media_type] |= deepcopy(content)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models of a response's type, which may be a list or a dict of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


def _names_below(holder: Any, schemas: dict[str, Any]) -> set[str]:
    """The names of all schemas that are referred to, directly or indirectly."""
    found: set[str] = set()
    waiting = list(references(holder))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += references(schemas[name])
    return found


def _complete(operation: dict[str, Any], *, is_open: bool) -> None:
    if is_open:
        operation["security"] = []
    for status, response in list(operation["responses"].items()):
        content = response.get("content", {})
        if content.get("application/json", {}).get("schema", {}).get("$ref", "").endswith("/HTTPValidationError"):
            # Each route describes our own errors; this one is never sent.
            del operation["responses"][status]
            continue
        response.setdefault("headers", {})["X-Request-ID"] = {"$ref": "#/components/headers/X-Request-ID"}
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _drop_fastapis_errors(schemas: dict[str, Any]) -> None:
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
