"""Chat completions: the whole completion as JSON, or server-sent events."""

from typing import Annotated

from fastapi import APIRouter, Body, Response

from archer_ws.api.dependencies import Principal, RequestId, Services, ServicesDep
from archer_ws.api.openapi.error_responses import BODY, GENERATION, GUARDED, error_responses
from archer_ws.api.openapi.success_responses import success_response
from archer_ws.api.signposts.own_route import OwnGenerationRoute
from archer_ws.api.streaming.responses import EventStreamResponse, WholeCompletionResponse, whole_completion
from archer_ws.core.exceptions import (
    Conflict,
    Draining,
    FieldError,
    FileNotFound,
    InvalidParams,
    MethodNotFound,
    Overloaded,
    SessionBusy,
    SessionNotFound,
    StorageFull,
    StorageUnavailable,
    StreamIdConflict,
)
from archer_ws.examples.chat import COMPLETED_RESPONSE, PLAIN_REQUEST, SUNSET_REQUEST
from archer_ws.examples.story import SKY_STREAM_ID
from archer_ws.llm_gateway.types import ChatRequest, ChatResponse
from archer_ws.sessions.manager import HeldStream

router = APIRouter(prefix="/api/v1/chat", route_class=OwnGenerationRoute, tags=["chat"])

EXAMPLES = {
    "plain": {"summary": "A question", "value": {**PLAIN_REQUEST, "max_tokens": 100}},
    "session": {"summary": "The next turn of a stored conversation", "value": SUNSET_REQUEST},
    "cancellable": {
        "summary": "A stream with your own id: cancel it by DELETE /api/v1/streams/{stream_id}",
        "value": {**PLAIN_REQUEST, "stream_id": SKY_STREAM_ID, "stream": True},
    },
}

#: The errors of a request that is not accepted.
NOT_ACCEPTED = (
    *GUARDED,
    *BODY,
    MethodNotFound,
    SessionNotFound,
    FileNotFound,
    SessionBusy,
    StreamIdConflict,
    Conflict,
    StorageFull,
    Overloaded,
    StorageUnavailable,
    Draining,
)
ChatBody = Annotated[ChatRequest, Body(openapi_examples=EXAMPLES)]


@router.post(
    "/completions",
    response_model=ChatResponse,
    operation_id="createChatCompletion",
    summary="Answer the messages",
    responses={
        200: success_response(
            "The completion (`ChatResponse`), or with `stream: true` its events. A cancelled one is a success too.",
            example=COMPLETED_RESPONSE,
            stream_id=True,
            events=True,
        ),
        **error_responses(*NOT_ACCEPTED, *GENERATION, generated=ChatResponse),
    },
)
async def complete(body: ChatBody, services: ServicesDep, principal: Principal, request_id: RequestId) -> Response:
    """Generate a completion: whole, or as events with `stream: true`.

    The generation ends when the client disconnects, unless the request has `on_disconnect: "continue"`. If it failed or
    is incomplete, the response has its error's status and, beside `error`, the text that was generated.
    """
    if not body.stream:
        _check_needs_no_events(body)
    held = await services.manager.start(principal, body, request_id=request_id, on_disconnect="cancel")
    return _events(held, services) if body.stream else WholeCompletionResponse(held, whole_completion)


@router.post(
    "/completions/stream",
    status_code=200,
    response_class=EventStreamResponse,
    operation_id="streamChatCompletion",
    summary="Generate a completion, as events",
    responses={
        200: success_response("The stream's events.", stream_id=True, events=True),
        **error_responses(*NOT_ACCEPTED),
    },
)
async def complete_streaming(
    body: ChatBody, services: ServicesDep, principal: Principal, request_id: RequestId
) -> Response:
    """Generate a completion as events, whatever `stream` says. The last event reports a failure after acceptance."""
    held = await services.manager.start(principal, body, request_id=request_id, on_disconnect="cancel")
    return _events(held, services)


def _events(held: HeldStream, services: Services) -> Response:
    return EventStreamResponse(held, keep_alive_s=services.limits.events_keep_alive_s)


def _check_needs_no_events(body: ChatRequest) -> None:
    """Refuse a request that waits for tool results without events that report the calls."""
    if body.waits_for_results:
        what = 'a whole completion has no events that report the calls: "wait" needs a stream'
        raise InvalidParams(
            f"on_tool_call: {what}",
            hint="Send stream: true (or use the socket), and results to POST …/tool_calls/{call_id}/result; or send "
            'on_tool_call: "end".',
            errors=[FieldError(path="on_tool_call", message=what)],
        )
