"""The routes that begin generations, reached before all layers and behind one pass of the guards.

Each layer of middleware costs every request a call, a coroutine and a wrapped `send`, and FastAPI's router tries its
routes one by one; together they took as long as beginning the generation. A request that no guard has anything against
goes from here to its route. All others go through the layers, which respond to them: so what is refused, and in which
words, is decided in one place.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import dropwhile
from typing import Any, Protocol, TypeAlias, runtime_checkable

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRouter
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from archer_ws.api.http.access_log import RequestLog
from archer_ws.api.http.cors import LeanCORS
from archer_ws.api.http.error_handlers import ErrorBoundary
from archer_ws.api.http.generation_route import GenerationRoute
from archer_ws.api.http.head_requests import HeadAsGet
from archer_ws.api.http.hot_request import HotRequest
from archer_ws.api.http.scope import FIELDS
from archer_ws.api.http.trailing_slashes import TrailingSlashes

#: FastAPI's own outermost layers, which act only on failures, or by a limit that is not set here. By name: some are not
#: public, and may be missing.
_OUTERMOST = frozenset({"ServerErrorMiddleware", "ExceptionTelemetryMiddleware", "AppBodyLimitMiddleware"})
#: The layers that are skipped, and are no guards.
_SKIPPED = (
    TrailingSlashes,  # the paths here have none
    RequestLog,  # done by HotRequest
    LeanCORS,  # there is no Origin; HotRequest adds `Vary`
    HeadAsGet,  # only POST comes here
    ErrorBoundary,  # done by HotRoutes, for what fails
    ExceptionMiddleware,  # likewise
    AsyncExitStackMiddleware,  # the routes need no stack of contexts
)
#: Where the scope of a request whose route has failed has the exception.
_FAILURE = "archer.failure"

#: The header fields of a request that has none twice.
Fields: TypeAlias = Mapping[bytes, bytes]


@runtime_checkable
class Guard(Protocol):
    """A layer that refuses some requests, and passes all others on unchanged."""

    def passes(self, scope: Scope, fields: Fields) -> bool:
        """Whether it would pass on this POST without an Origin; then everything that it sets is set.

        It says nothing about a request that it does not pass: the layer itself will judge that one.
        """


class HotRoutes:
    """The generation routes of an application, and what its layers would do for their requests.

    If somebody else has put a layer around ours, there are none: that layer sees every request.

    Args:
        stack: the application's layers, down to its router.
        handlers: the application's exception handlers.

    Raises:
        TypeError: one of our layers is neither a guard nor known to have no effect: it would be skipped.
    """

    def __init__(self, stack: ASGIApp, handlers: Mapping[Any, ExceptionHandler]) -> None:
        *layers, router = _layers(stack)
        assert isinstance(router, APIRouter)
        layers = list(dropwhile(lambda layer: type(layer).__name__ in _OUTERMOST, layers))
        self._passes: list[Callable[[Scope, Fields], bool]] = []
        self._routes: dict[str, GenerationRoute] = {}
        if not layers or not isinstance(layers[0], TrailingSlashes):
            return
        for layer in layers:
            if isinstance(layer, Guard):
                self._passes.append(layer.passes)
            elif not isinstance(layer, _SKIPPED):
                raise TypeError(f"{type(layer).__name__} would be skipped before the generation routes")
        self._routes = {route.path: route for route in router.routes if isinstance(route, GenerationRoute)}
        handled = {kind: handler for kind, handler in handlers.items() if kind is not Exception}
        self._failing = ServerErrorMiddleware(
            ErrorBoundary(ExceptionMiddleware(_raise_again, handled)), handlers.get(Exception)
        )

    @property
    def paths(self) -> set[str]:
        """The paths of the routes."""
        return set(self._routes)

    def route_for(self, scope: Scope) -> GenerationRoute | None:
        """The route that an http request can go to; None if it must go through the layers.

        With a route, the scope has the header fields (FIELDS), and what the guards set in it.
        """
        route = self._routes.get(scope["path"])
        if route is None or scope["method"] != "POST" or scope.get("root_path"):
            return None
        headers = scope["headers"]
        fields = dict(headers)
        if len(fields) != len(headers) or b"origin" in fields:
            return None
        for passes in self._passes:
            if not passes(scope, fields):
                return None
        scope[FIELDS] = fields
        return route

    async def serve(self, route: GenerationRoute, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request by its route. If that fails after the response has begun, raise the exception further."""
        # As the router has it: who observes requests reads it there.
        scope["route"] = route
        request = HotRequest(scope, receive, send)
        try:
            try:
                await route.app(scope, request.receive, request.send)
            except Exception as error:
                if request.has_begun:
                    raise
                scope[_FAILURE] = error
                await self._failing(scope, receive, request.send)
        except Exception:
            request.failed()
            raise
        finally:
            request.finish()


class HotApplication(FastAPI):
    """FastAPI, whose generation routes are hot: with the same responses as through all of its layers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the lifespan.

        Raises:
            TypeError: see HotRoutes.
        """
        hot = self._hot
        route = None if scope["type"] != "http" or self._is_traced else hot.route_for(scope)
        if route is None:
            await super().__call__(scope, receive, send)
        else:
            scope["app"] = self
            await hot.serve(route, scope, receive, send)

    @cached_property
    def _hot(self) -> HotRoutes:
        if self.middleware_stack is None:
            # As Starlette builds it with the first call.
            self.middleware_stack = self.build_middleware_stack()
        return HotRoutes(self.middleware_stack, self.exception_handlers)

    @cached_property
    def _is_traced(self) -> bool:
        """Whether FastAPI's own telemetry, which is configured when the server starts, must see every request."""
        telemetry = getattr(self, "_native_telemetry", None)
        return telemetry is not None and bool(telemetry.enabled())


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
    failure: Exception = scope.pop(_FAILURE)
    raise failure
