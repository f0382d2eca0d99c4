"""The routes that begin a generation, served without FastAPI's own handler.

FastAPI documents them as any others. Its handler resolves dependencies, parses headers as e-mail's, and keeps stacks
of contexts, which together take as long as everything else that the sidecar does before it asks the provider.
"""

from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from archer_ws.api.http.scope import is_json, state
from archer_ws.core.strict_json import decode_json


class GenerationRoute(APIRoute):
    """A route whose endpoint takes `body` (a model), `request`, `services`, `principal` and `request_id`, and gives a
    response. Bodies are held to what `JsonRoute` holds them to, and their errors are the same."""

    def __init__(self, path: str, endpoint: Callable[..., Coroutine[Any, Any, Response]], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._answer = endpoint
        self._form: type[BaseModel] = get_type_hints(endpoint)["body"]
        # In place of FastAPI's; what goes wrong in it is the application's handlers' all the same.
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        body = self._validated(await request.body(), request)
        about = state(scope)
        response = await self._answer(
            body=body,
            request=request,
            services=scope["app"].state.services,
            principal=about["principal"],
            request_id=about["request_id"],
        )
        await response(scope, receive, send)

    def _validated(self, body: bytes, request: Request) -> BaseModel:
        """The body as the route's form has it.

        Raises:
            RequestValidationError: there is none, or it is not so.
            ArcherError: it is not JSON.
        """
        if not body:
            raise RequestValidationError(
                [{"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}]
            )
        # Bytes are no model: what is not said to be JSON is refused as that.
        value = decode_json(body) if is_json(request.headers.get("content-type", "")) else body
        return self.parsed(value, request.scope)

    def parsed(self, value: Any, _scope: Scope) -> BaseModel:
        """The decoded body as the route's form has it; a route may refuse it for other reasons too.

        Raises:
            RequestValidationError: it is not so.
        """
        try:
            return self._form.model_validate(value)
        except ValidationError as error:
            found = error.errors(include_url=False)
            raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from None
