"""OpenAI's API for chat: the official SDKs, and programs built on them, work after changing the base URL.

The streams are the same as everywhere else: `/api/v1/streams` accepts `X-Stream-ID` (and the completion's `id`). If no
token is configured, any API key is accepted; otherwise the key is the token. openai/error_object.py gives errors
OpenAI's form.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from archer_ws.api.dependencies import Principal, RequestId, Services, ServicesDep
from archer_ws.api.http.generation_route import GenerationRoute
from archer_ws.api.http.spooled_body import with_files
from archer_ws.api.openai.chunks import ChatCompletion, completion
from archer_ws.api.openai.error_object import error_of_end, openai_error_response
from archer_ws.api.openai.ignored import ignored_header
from archer_ws.api.openai.requests import CompletionRequest, chat_request
from archer_ws.api.openai.scored_chunks import encoder_of
from archer_ws.api.openapi.error_responses import BODY, GENERATION, GUARDED, PROVIDER
from archer_ws.api.openapi.openai_compat_responses import COMPLETION_RESPONSE, openai_error_responses
from archer_ws.api.signposts.dialects import PREFIX
from archer_ws.api.streaming.responses import EventStreamResponse, WholeCompletionResponse, until_text
from archer_ws.core.exceptions import (
    Draining,
    InvalidParams,
    ModelNotFound,
    Overloaded,
    StorageFull,
    StorageUnavailable,
)
from archer_ws.examples.openai import MODEL_ID, MODEL_OBJECT, PLAIN, STREAMED, WITH_RESULT, WITH_TOOL
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, MessageRole, ModelInfo
from archer_ws.sessions.manager import HeldStream
from archer_ws.sessions.streams.events import ControlEvent, StreamProgress
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.views import chat_response

router = APIRouter(prefix=PREFIX, tags=["openai"])
completions_router = APIRouter(prefix=PREFIX, route_class=GenerationRoute, tags=["openai"])


EXAMPLES: dict[str, Any] = {
    "plain": {"summary": "A question", "value": PLAIN},
    "stream": {"summary": "A stream that ends with its token counts", "value": STREAMED},
    "tool": {"summary": "A tool that the model may call", "value": WITH_TOOL},
    "result": {"summary": "The tool's result", "value": WITH_RESULT},
}
#: The errors of a request that is not accepted.
_NOT_ACCEPTED = (*GUARDED, *BODY, Overloaded, Draining, StorageFull, StorageUnavailable)


class Model(BaseModel):
    """A model; a request can name its id."""

    model_config = ConfigDict(json_schema_extra={"examples": [MODEL_OBJECT]})

    id: str = Field(description="provider/name")
    object: Literal["model"] = "model"
    created: int = Field(default=0, description="Always 0: providers do not report it.")
    owned_by: str = Field(description="The provider.")


class ModelList(BaseModel):
    """Every model that is available now."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"object": "list", "data": [MODEL_OBJECT]}]})

    object: Literal["list"] = "list"
    data: list[Model]


@completions_router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    operation_id="createOpenAIChatCompletion",
    summary="Generate a completion, in OpenAI's form",
    responses={200: COMPLETION_RESPONSE, **openai_error_responses(*_NOT_ACCEPTED, *GENERATION, cancellable=True)},
)
async def create_completion(
    body: Annotated[CompletionRequest, Body(openapi_examples=EXAMPLES)],
    request: Request,
    services: ServicesDep,
    principal: Principal,
    request_id: RequestId,
) -> Response:
    """Generate a completion, whole or with `stream: true` in chunks.

    The generation ends when the client disconnects. A completion that failed or was cancelled is an error, even if some
    text was generated. Nothing is added to the request: without `temperature` or a token limit, the model's own apply.
    """
    asked = with_files(request.scope, _chat_request(body))
    held = await services.manager.start(
        principal, asked, request_id=request_id, on_disconnect="cancel", with_defaults=False
    )
    headers = ignored_header(body, services.router.left_out(asked))
    if body.stream:
        silence_s = services.limits.events_keep_alive_s
        return await _chunks(held, request, headers, include_usage=body.include_usage, silence_s=silence_s)
    return WholeCompletionResponse(held, partial(_whole, headers))


@router.get(
    "/models",
    operation_id="listOpenAIModels",
    summary="The models of every provider, in OpenAI's form",
    responses=openai_error_responses(*GUARDED),
)
async def list_models(services: ServicesDep) -> ModelList:
    """The models of every provider that responds, as `provider/name`."""
    return ModelList(data=[_model(info) for info in await services.router.list_all_models()])


@router.get(
    "/models/{model_id:path}",
    operation_id="retrieveOpenAIModel",
    summary="One model, in OpenAI's form",
    responses=openai_error_responses(*GUARDED, InvalidParams, *PROVIDER),
)
async def retrieve_model(
    services: ServicesDep,
    model_id: Annotated[str, Path(min_length=1, max_length=256, examples=[MODEL_ID])],
) -> Model:
    """One model, by an id of the list or by any name that a request may use; slashes in it need no escaping."""
    return _model(await _find(services, model_id))


def _chat_request(body: CompletionRequest) -> ChatRequest:
    try:
        return chat_request(body)
    except ValidationError as error:
        # The error's form knows OpenAI's names for our fields, but not which of two names the request used.
        bound = ("max_tokens",) if body.max_completion_tokens is None else ("max_completion_tokens",)
        raise RequestValidationError(
            [
                {**found, "loc": ("body", *(bound if found["loc"] == ("max_tokens",) else found["loc"]))}
                for found in error.errors()
            ]
        ) from None


async def _chunks(
    held: HeldStream, request: Request, headers: Mapping[str, str], *, include_usage: bool, silence_s: float
) -> Response:
    """The stream; or its error if it failed before the first text, since SDKs and proxies act on the status.

    So the head waits for the first text, but not for long: the connection would look dead.
    """
    await until_text(held, request.scope, request.receive, silence_s)
    stream = held.stream
    if not stream.log.text_bytes and (error := _error_of(stream, headers)):
        held.hold.release()
        return error
    encode = encoder_of(stream, include_usage=include_usage)
    response = EventStreamResponse(held, encode=encode, keep_alive_s=silence_s)
    response.headers.update(headers)
    return response


def _whole(headers: Mapping[str, str], stream: Stream) -> Response:
    if error := _error_of(stream, headers):
        return error
    tokens = stream.logprobs.rest_of_step() if stream.logprobs is not None else []  # Those of the text that it has.
    body = completion(chat_response(stream), tokens).model_dump_json()
    return Response(body, headers={"X-Stream-ID": stream.stream_id, **headers}, media_type="application/json")


def _error_of(stream: Stream, headers: Mapping[str, str]) -> Response | None:
    """The error response for a stream that ended without a whole completion."""
    ended = stream.log.ended
    error = ended and error_of_end(ended, stream_id=stream.stream_id, request_id=stream.identity.request_id)
    if not error:
        return None
    headers = {"X-Stream-ID": stream.stream_id, **headers}
    return openai_error_response(error, was_retried=_was_retried(stream.log), headers=headers)


def _was_retried(stream_log: StreamLog) -> bool:
    """Whether the provider was asked more than once. Retries happen, and are reported, only before the first text."""
    seq = 0
    while isinstance(event := stream_log.read(seq), ControlEvent):
        if isinstance(event, StreamProgress) and event.phase == "retrying":
            return True
        seq = event.seq
    return False


def _model(info: ModelInfo) -> Model:
    return Model(id=f"{info.provider}/{info.id}", owned_by=info.provider)


async def _find(services: Services, model_id: str) -> ModelInfo:
    """The model that a request naming `model_id` would use.

    Raises:
        ModelNotFound: its provider does not list it.
        ProviderFailure: its provider cannot be asked.
    """
    probe = [ChatMessage(role=MessageRole.USER, content="?")]
    route = services.router.resolve(ChatRequest(messages=probe, model=model_id))
    # Ollama lists a model without its tag if that is `latest`.
    names = {route.model, f"{route.model}:latest"} if route.provider == "ollama" else {route.model}
    for info in await services.router.list_models(route.provider):
        if info.id in names:
            return info
    raise ModelNotFound(
        f"{route.provider} has no model {route.model!r}",
        hint="GET /v1/models lists the models.",
        provider=route.provider,
    )
