"""Approvals, claims and results of the calls that a stream waits for, and messages steered into a stream, over HTTP
(protocol section 23).
"""

from typing import Annotated

from fastapi import APIRouter, Body, Path
from fastapi.openapi.models import Example

from archer_ws.api.dependencies import Principal, ServicesDep
from archer_ws.api.http.request_body import JsonRoute
from archer_ws.api.openapi.error_responses import BODY, GUARDED, error_responses
from archer_ws.api.openapi.success_responses import success_response
from archer_ws.core.exceptions import (
    ContentTooLarge,
    Draining,
    FileNotFound,
    Overloaded,
    StorageFull,
    StorageUnavailable,
    Unsupported,
)
from archer_ws.core.ids import ID_PATTERN
from archer_ws.examples.events import STEERED
from archer_ws.examples.story import CALL_ID, OSLO_STREAM_ID
from archer_ws.examples.tool_calls import AGREED, DENIED, ERROR_RESULT, LONG_CLAIM, OK_RESULT
from archer_ws.llm_gateway.tools import CallId
from archer_ws.sessions.tool_models import Approval, Claim, Steer, ToolOutcome, ToolResult

router = APIRouter(prefix="/api/v1/streams/{stream_id}", route_class=JsonRoute, tags=["streams"])

StreamId = Annotated[str, Path(pattern=ID_PATTERN, description="The stream's id", examples=[OSLO_STREAM_ID])]
OfCall = Annotated[CallId, Path(description="The call's id", examples=[CALL_ID])]

APPROVAL_EXAMPLES: dict[str, Example] = {
    "agreed": {"summary": "It may run", "value": AGREED},
    "denied": {"summary": "It may not", "value": DENIED},
}
CLAIM_EXAMPLES: dict[str, Example] = {
    "claim": {"summary": "For a job of five minutes", "value": LONG_CLAIM},
}
RESULT_EXAMPLES: dict[str, Example] = {
    "ok": {"summary": "A result", "value": OK_RESULT},
    "error": {
        "summary": "A failure, under a claim",
        "value": ERROR_RESULT,
    },
}
STEER_EXAMPLES: dict[str, Example] = {
    "text": {"summary": "A wish", "value": STEERED},
}
ApprovalBody = Annotated[Approval, Body(openapi_examples=APPROVAL_EXAMPLES)]
ClaimBody = Annotated[Claim, Body(openapi_examples=CLAIM_EXAMPLES)]
ResultBody = Annotated[ToolResult, Body(openapi_examples=RESULT_EXAMPLES)]
SteerBody = Annotated[Steer, Body(openapi_examples=STEER_EXAMPLES)]

#: Of what is stored; and of a stream that is parked for the next process.
_STORING = (StorageFull, StorageUnavailable, Draining)
_SAYING = (ContentTooLarge, FileNotFound, Unsupported)


@router.post(
    "/tool_calls/{call_id}/approval",
    operation_id="approveToolCall",
    summary="Decide whether a call may run",
    responses={
        200: success_response("The outcome", example={"outcome": "accepted"}),
        **error_responses(*GUARDED, *BODY, *_STORING),
    },
)
async def approve_call(
    body: ApprovalBody, services: ServicesDep, principal: Principal, stream_id: StreamId, call_id: OfCall
) -> ToolOutcome:
    """Decide whether a call that needs approval may run: until then nobody can claim it or send its result. The first
    decision counts; the model is told of a denial, with its reason."""
    return await services.manager.calls.approve(principal, stream_id, call_id, body)


@router.post(
    "/tool_calls/{call_id}/claim",
    operation_id="claimToolCall",
    summary="Claim a call before you run it",
    responses={
        200: success_response("The outcome", example={"outcome": "claimed"}),
        **error_responses(*GUARDED, *BODY, *_STORING),
    },
)
async def claim_call(
    body: ClaimBody, services: ServicesDep, principal: Principal, stream_id: StreamId, call_id: OfCall
) -> ToolOutcome:
    """Claim a call right before you run it, so that nobody else does. You mint the claim; repeating it renews it."""
    return await services.manager.calls.claim(principal, stream_id, call_id, body.claim, holder=None, ttl_s=body.ttl_s)


@router.post(
    "/tool_calls/{call_id}/result",
    operation_id="answerToolCall",
    summary="Send the result of a call that a stream waits for",
    responses={
        200: success_response("The outcome", example={"outcome": "accepted"}),
        **error_responses(*GUARDED, *BODY, *_SAYING, *_STORING),
    },
)
async def add_result(
    body: ResultBody, services: ServicesDep, principal: Principal, stream_id: StreamId, call_id: OfCall
) -> ToolOutcome:
    """Send a call's result; the first one counts. When the last call of the step has one, the stream goes on."""
    return await services.manager.calls.add_result(principal, stream_id, call_id, body)


@router.post(
    "/steer",
    operation_id="steerStream",
    summary="Put a user's message into a running stream",
    responses={
        200: success_response("The outcome", example={"outcome": "accepted"}),
        **error_responses(*GUARDED, *BODY, *_SAYING, *_STORING, Overloaded),
    },
)
async def steer_stream(
    body: SteerBody, services: ServicesDep, principal: Principal, stream_id: StreamId
) -> ToolOutcome:
    """Put a user's message into a running stream: a further step follows, in which the model sees it."""
    return await services.manager.calls.steer(principal, stream_id, body)
