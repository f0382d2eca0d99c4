"""The routes that begin a generation, served without FastAPI's own handler.

FastAPI documents them like any other route. Its handler resolves dependencies, parses headers with the e-mail package
and keeps stacks of contexts; together that takes as long as everything else before the provider is asked.

Options that only FastAPI's handler would obey raise an error when the route is created. Ignoring them would be
dangerous: a dependency that never runs may be the one that guards the route.
"""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, get_args, get_type_hints

from fastapi import Request
from fastapi.datastructures import DefaultPlaceholder
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from archer_ws.api.dependencies import Principal, RequestId, Services, ServicesDep
from archer_ws.api.http.hot_request import hot_request
from archer_ws.api.http.scope import header_values, is_json, state
from archer_ws.api.http.spooled_body import LONG_BYTES, InlineFiles, is_long, parsed_in_thread, read_body
from archer_ws.core.strict_json import decode_json

#: The arguments of an endpoint beside its `body`.
_GIVEN: Mapping[str, Any] = {
    "request": Request,
    "services": ServicesDep,
    "principal": Principal,
    "request_id": RequestId,
}
#: The route options about its path and its documentation, which work here; all others need FastAPI's handler.
_OBEYED = frozenset({
    "response_model", "status_code", "tags", "summary", "description", "response_description", "responses",
    "deprecated", "name", "methods", "operation_id", "include_in_schema", "response_class", "callbacks",
    "openapi_extra", "generate_unique_id_function",
})  # fmt: skip
_DEFAULTS = {name: option.default for name, option in inspect.signature(APIRoute.__init__).parameters.items()}


class GenerationRoute(APIRoute):
    """A route whose endpoint accepts `body` (a model), `services`, `principal` and `request_id`, also `request` if it
    needs that, and returns a response. Bodies are checked as `JsonRoute` checks them, with the same errors.

    The routes of its router must be added to the application directly (`app.router.routes.extend(router.routes)`): an
    included router serves with FastAPI's handler.

    Raises:
        TypeError: an option or a parameter would be ignored.
    """

    def __init__(self, path: str, endpoint: Callable[..., Coroutine[Any, Any, Response]], **options: Any) -> None:
        _refuse_ignored(path, endpoint, options)
        super().__init__(path, endpoint, **options)
        self._endpoint = endpoint
        form: type[BaseModel] = get_type_hints(endpoint)["body"]
        self._validate: Callable[[Any], BaseModel] = TypeAdapter(form).validator.validate_python
        self._takes_request = "request" in inspect.signature(endpoint).parameters
        # Replaces FastAPI's handler; the application's exception handlers apply as usual.
        self.app = self._serve

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's hook, which is never called unless the router was included.

        Raises:
            TypeError: the router was included.
        """
        if hasattr(self, "_endpoint"):
            raise TypeError(
                f"the route {self.path} is served without FastAPI's handler: its router can't be included, "
                "extend app.router.routes with its routes"
            )
        return super().get_route_handler()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        about = state(scope)
        services: Services = scope["app"].state.services
        principal = about["principal"]
        hot = hot_request(scope)
        body = None if hot is None else hot.take_body(LONG_BYTES)
        taken: InlineFiles | None = None
        if body is None:
            request = Request(scope, receive)
            body, taken = await read_body(request, services.files, principal, services.rpc.max_content_bytes)
            about["inline_files"] = taken
        try:
            if taken is not None and is_long(body, taken) and _is_said_to_be_json(scope):
                model = await parsed_in_thread(body, taken, services.files, lambda value: self.parsed(value, scope))
            else:
                model = self._validated(body, scope)
            given: dict[str, Any] = {"request": Request(scope, receive)} if self._takes_request else {}
            response = await self._endpoint(
                body=model, services=services, principal=principal, request_id=about["request_id"], **given
            )
        finally:
            if taken is not None:
                taken.release()
        await response(scope, receive, send)

    def _validated(self, body: bytes, scope: Scope) -> BaseModel:
        """The body as the route's model.

        Raises:
            RequestValidationError: there is no body, or it does not fit the model.
            ArcherError: it is not JSON.
        """
        if not body:
            raise RequestValidationError(
                [{"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}]
            )
        # Bytes never fit the model, so a body that is not declared as JSON is refused.
        return self.parsed(decode_json(body) if _is_said_to_be_json(scope) else body, scope)

    def parsed(self, value: Any, _scope: Scope) -> BaseModel:
        """The decoded body as the route's model; a subclass may refuse it for other reasons too.

        Raises:
            RequestValidationError: it does not fit the model.
        """
        try:
            return self._validate(value)
        except ValidationError as error:
            found = error.errors(include_url=False)
            raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from None


def _is_said_to_be_json(scope: Scope) -> bool:
    declared = header_values(scope, b"content-type")
    return bool(declared) and is_json(declared[0].decode("latin-1"))


def _refuse_ignored(path: str, endpoint: Callable[..., Any], options: Mapping[str, Any]) -> None:
    ignored = sorted(name for name, value in options.items() if name not in _OBEYED and _is_set(name, value))
    if ignored:
        raise TypeError(f"the route {path} is served without FastAPI's handler, which alone obeys {', '.join(ignored)}")
    if not inspect.iscoroutinefunction(endpoint):
        raise TypeError(f"the endpoint of {path} must be a coroutine function")
    hints = get_type_hints(endpoint, include_extras=True)
    taken = {name: hints.get(name) for name in inspect.signature(endpoint).parameters}
    body = taken.pop("body", None)
    taken.setdefault("request", Request)
    if taken != _GIVEN:
        strange = sorted(name for name in taken.keys() | _GIVEN.keys() if taken.get(name) != _GIVEN.get(name))
        raise TypeError(f"the endpoint of {path} gets body and {', '.join(_GIVEN)}; not as it has {', '.join(strange)}")
    model, *about = get_args(body) or (body,)
    if not (inspect.isclass(model) and issubclass(model, BaseModel)):
        raise TypeError(f"the endpoint of {path} must take its body as a model")
    if any(getattr(each, "embed", None) for each in about):
        raise TypeError(f"the body of {path} is the whole body: embed would be ignored")
    returned = hints.get("return")
    if not (inspect.isclass(returned) and issubclass(returned, Response)):
        raise TypeError(f"the endpoint of {path} must return a Response: nothing else would be encoded")


def _is_set(name: str, value: Any) -> bool:
    """Whether an option is set: routers pass all options, most with their defaults."""
    return not (value == _DEFAULTS.get(name) or value == [] or isinstance(value, DefaultPlaceholder))
