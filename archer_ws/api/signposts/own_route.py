"""The route of our own chats, whose path clients of OpenAI's API request when they have a wrong base URL."""

from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.types import Scope

from archer_ws.api.http.generation_route import GenerationRoute
from archer_ws.api.http.spooled_body import with_files
from archer_ws.api.signposts.dialects import Dialect, note_dialect
from archer_ws.api.signposts.foreign_chats import has_foreign_messages, is_foreign_chat
from archer_ws.api.signposts.no_such_path import no_such_path
from archer_ws.llm_gateway.types import ChatRequest


class OwnGenerationRoute(GenerationRoute):
    """A route that tells such clients the right base URL: it would ignore the fields that only they send, and they
    would misread the response."""

    def parsed(self, value: Any, scope: Scope) -> BaseModel:
        """The body as a chat request, with the files that were taken out of it.

        Raises:
            RequestValidationError: it does not fit the model.
            MethodNotFound: it is a chat in OpenAI's form.
        """
        if is_foreign_chat(value):
            note_dialect(scope, Dialect.OPENAI)
            raise no_such_path(scope)
        try:
            model = super().parsed(value, scope)
        except RequestValidationError:
            if has_foreign_messages(value):
                note_dialect(scope, Dialect.OPENAI)
                raise no_such_path(scope) from None
            raise
        assert isinstance(model, ChatRequest)
        return with_files(scope, model)
