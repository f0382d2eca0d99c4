"""The routes that begin generations, reached behind one pass of the guards.

Each layer of middleware costs every request a call, a coroutine and a wrapped `send`, and FastAPI's router tries its
routes one by one; together they took as long as beginning the generation. A request that no guard has anything against
goes from here to its route. All others go through the layers, which respond to them: so what is refused, and in which
words, is decided in one place.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRouter
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from archer_ws.api.http.cors import LeanCORS, varying
from archer_ws.api.http.error_handlers import ErrorBoundary
from archer_ws.api.http.generation_route import GenerationRoute
from archer_ws.api.http.head_requests import HeadAsGet

#: Layers without an effect on the requests that are served here: these have no Origin and are POSTs, and their routes
#: need no stack of contexts.
_WITHOUT_EFFECT = (LeanCORS, HeadAsGet, ErrorBoundary, ExceptionMiddleware, AsyncExitStackMiddleware)


@runtime_checkable
class Guard(Protocol):
    """A layer that refuses some requests, and passes all others on unchanged."""

    def passes(self, scope: Scope) -> bool:
        """Whether it has nothing against this http request; then everything that it sets is set."""


class HotRoutes:
    """Serves the generation routes itself, and everything else by the application inside of it.

    Args:
        app: the next layer; the layers below are found from it.
        handlers: the application's exception handlers.

    Raises:
        TypeError: a layer between here and the routes is neither a guard nor known to have no effect: it would be
            skipped.
    """

    def __init__(self, app: ASGIApp, handlers: Mapping[Any, ExceptionHandler]) -> None:
        self._app = app
        *layers, router = _layers(app)
        assert isinstance(router, APIRouter)
        self._passes: list[Callable[[Scope], bool]] = []
        for layer in layers:
            if isinstance(layer, Guard):
                self._passes.append(layer.passes)
            elif not isinstance(layer, _WITHOUT_EFFECT):
                raise TypeError(f"{type(layer).__name__} would be skipped before the generation routes")
        self._routes = {route.path: route for route in router.routes if isinstance(route, GenerationRoute)}
        handled = {kind: handler for kind, handler in handlers.items() if kind is not Exception}
        self._failing = ErrorBoundary(ExceptionMiddleware(_raise_again, handled))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, here or inside."""
        route = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or not self._is_plain(scope) or not all(passes(scope) for passes in self._passes):
            await self._app(scope, receive, send)
            return
        # As the router has it: who observes requests reads it there.
        scope["route"] = route
        is_started = False

        # Not a coroutine: so a chunk costs only a function call.
        def send_varying(message: Message) -> Awaitable[None]:
            nonlocal is_started
            if not is_started:
                is_started = True
                message = varying(message)
            return send(message)

        try:
            await route.app(scope, receive, send_varying)
        except Exception as error:
            if is_started:
                raise
            scope["archer.failure"] = error
            await self._failing(scope, receive, send_varying)

    def _is_plain(self, scope: Scope) -> bool:
        return (
            scope["method"] == "POST"
            and not scope.get("root_path")
            and not any(name == b"origin" for name, _ in scope["headers"])
        )


def _layers(app: ASGIApp) -> Iterator[Any]:
    """The layers from this one on, and the router as the last."""
    each: Any = app
    while each is not None:
        yield each
        if isinstance(each, APIRouter):
            return
        each = getattr(each, "app", None) or getattr(each, "_app", None)
    raise TypeError("there is no router below these layers")


async def _raise_again(scope: Scope, _receive: Receive, _send: Send) -> None:
    """Raise what the route raised, for the application's handlers."""
    failure: Exception = scope.pop("archer.failure")
    raise failure
