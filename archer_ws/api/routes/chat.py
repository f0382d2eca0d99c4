"""Chat completions: the whole answer as JSON, or as server-sent events."""

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from archer_ws.api.dependencies import Principal, RequestId, ServicesDep
from archer_ws.api.following import EventStreamResponse, whole_answer
from archer_ws.api.request_body import JsonRoute
from archer_ws.llm_gateway.types import ChatRequest, ChatResponse
from archer_ws.sessions.manager import Attachment

router = APIRouter(prefix="/api/v1/chat", route_class=JsonRoute, tags=["chat"])

EXAMPLES = {
    "plain": {
        "summary": "A question",
        "value": {"messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 100},
    },
    "session": {
        "summary": "The next turn of a stored conversation",
        "value": {"session_id": "sky", "messages": [{"role": "user", "content": "And at sunset?"}]},
    },
    "cancellable": {
        "summary": "A stream with an id of your own: cancel it by DELETE /api/v1/streams/{stream_id}",
        "value": {"stream_id": "sky-1", "stream": True, "messages": [{"role": "user", "content": "Tell me more."}]},
    },
}
STREAM_RESPONSE = {
    "description": "The answer (`ChatResponse`), or with `stream: true` its events: each `data:` is a StreamChunk.",
    "content": {
        "text/event-stream": {
            "example": 'id: 2\ndata: {"content":"Because","finish_reason":null}\n\n'
            'event: ended\nid: 3\ndata: {"content":"","finish_reason":"stop","status":"completed"}\n\ndata: [DONE]\n\n'
        }
    },
}
ChatBody = Annotated[ChatRequest, Body(openapi_examples=EXAMPLES)]


@router.post("/completions", response_model=ChatResponse, responses={200: STREAM_RESPONSE})
async def complete(
    body: ChatBody, request: Request, services: ServicesDep, principal: Principal, request_id: RequestId
) -> Response:
    """Answer the messages: whole, or as events with `stream: true`.

    The generation ends when the client goes away, unless the request says `on_disconnect: "continue"`.
    """
    attachment = await services.manager.start(principal, body, request_id=request_id, on_disconnect="cancel")
    return await _answer(attachment, request, stream=body.stream)


@router.post(
    "/completions/stream",
    status_code=200,
    response_class=EventStreamResponse,
    responses={200: STREAM_RESPONSE},
)
async def complete_streaming(
    body: ChatBody, request: Request, services: ServicesDep, principal: Principal, request_id: RequestId
) -> Response:
    """Answer the messages as events, whatever `stream` says."""
    attachment = await services.manager.start(principal, body, request_id=request_id, on_disconnect="cancel")
    return await _answer(attachment, request, stream=True)


async def _answer(attachment: Attachment, request: Request, *, stream: bool) -> Response:
    if stream:
        return EventStreamResponse(attachment)
    return await whole_answer(attachment, request.receive)
