"""Running and ended streams: list, inspect, cancel, resume."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response

from archer_ws.api.dependencies import Principal, ServicesDep
from archer_ws.api.http.head_requests import asked_method
from archer_ws.api.openapi.error_responses import GUARDED, error_responses
from archer_ws.api.openapi.success_responses import success_response
from archer_ws.api.streaming.responses import EventStreamResponse, event_stream_head
from archer_ws.core.exceptions import Draining, FieldError, InvalidParams, StreamNotFound
from archer_ws.core.ids import ID_PATTERN
from archer_ws.core.limits import PAGE_ITEMS_MAX
from archer_ws.core.wire_model import Identifier
from archer_ws.examples.sessions import RUNNING
from archer_ws.examples.story import SKY_STREAM_ID
from archer_ws.sessions.manager import HeldStream
from archer_ws.sessions.models import CancelResult, StreamInfo, StreamPage
from archer_ws.sessions.turn import NOT_ADMITTED
from archer_ws.sessions.views import stream_info, stream_messages

router = APIRouter(prefix="/api/v1/streams", tags=["streams"])

StreamId = Annotated[str, Path(pattern=ID_PATTERN, description="The stream's id", examples=[SKY_STREAM_ID])]


@router.get(
    "",
    operation_id="listStreams",
    summary="Your streams",
    responses={
        200: success_response("A page of them, and the cursor of the next", example={"items": [RUNNING]}),
        **error_responses(*GUARDED, InvalidParams),
    },
)
async def list_streams(
    services: ServicesDep,
    principal: Principal,
    *,
    session_id: Annotated[Identifier | None, Query(description="Only of this session")] = None,
    active: Annotated[bool, Query(description="Those running only")] = False,
    limit: Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX, description="How many at most")] = 50,
    cursor: Annotated[str | None, Query(max_length=64, description="The `next_cursor` of the previous page")] = None,
) -> StreamPage:
    """Your streams, running or still retained, newest first."""
    return services.manager.list_streams(principal, session_id=session_id, active=active, limit=limit, cursor=cursor)


@router.get(
    "/{stream_id}",
    operation_id="getStream",
    summary="One stream's state",
    responses={
        200: success_response("Its state, not its text", example=RUNNING),
        # Those of NOT_ADMITTED if messages are requested of a stream that waits for acceptance.
        **error_responses(*GUARDED, StreamNotFound, Draining, *NOT_ADMITTED),
    },
)
async def get_stream(
    services: ServicesDep,
    principal: Principal,
    stream_id: StreamId,
    *,
    messages: Annotated[bool, Query(description="Include the messages that it has produced so far")] = False,
    cursor: Annotated[str | None, Query(max_length=64, description="The `next_cursor` of the previous page")] = None,
) -> StreamInfo:
    """One stream's state; with `messages` also what it has produced so far, with its calls and results."""
    stream = await services.manager.locate(principal, stream_id)
    return await stream_messages(stream, cursor) if messages else stream_info(stream)


@router.delete(
    "/{stream_id}",
    operation_id="cancelStream",
    summary="Cancel a stream",
    responses={
        200: success_response("The outcome of the cancel", example={"outcome": "cancelling", "status": "cancelling"}),
        # A stream that is parked for the next process can't be cancelled until that has started.
        **error_responses(*GUARDED, InvalidParams, Draining),
    },
)
async def cancel_stream(services: ServicesDep, principal: Principal, stream_id: StreamId) -> CancelResult:
    """Cancel a stream, from any connection; harmless to repeat, and harmless for an unknown id."""
    return services.manager.cancel(principal, stream_id)


@router.get(
    "/{stream_id}/events",
    status_code=200,
    response_class=EventStreamResponse,
    operation_id="followStream",
    summary="Resume or watch a stream",
    responses={
        200: success_response("The stream's events.", stream_id=True, events=True),
        204: {"description": "You have received its end already"},
        # It may still be waiting for acceptance, and then be refused.
        **error_responses(*GUARDED, StreamNotFound, Draining, *NOT_ADMITTED),
    },
)
async def follow_stream(
    request: Request,
    services: ServicesDep,
    principal: Principal,
    stream_id: StreamId,
    *,
    after: Annotated[int | None, Query(ge=0, description="The last seq that you have seen")] = None,
    last_event_id: Annotated[str | None, Header(description="Sent by browsers; overrides `after`")] = None,
) -> Response:
    """The stream's events after the last one that you have seen: for resuming after a broken connection, or for reading
    from the start."""
    stream = await services.manager.locate(principal, stream_id)
    is_head = asked_method(request.scope) == "HEAD"
    if not is_head:
        await stream.wait_admitted()
    cursor = _seq(last_event_id) if last_event_id else after or 0
    ended = stream.log.ended
    if ended is not None and cursor >= ended.seq:
        return Response(status_code=204)
    if cursor > stream.log.head_seq:
        given = "Last-Event-ID" if last_event_id else "after"
        message = f"the stream has only {stream.log.head_seq} events so far"
        raise InvalidParams(
            f"{given} is past the newest event",
            hint="Pass the last seq that you have seen.",
            errors=[FieldError(path=given, message=message)],
        )
    if is_head:
        return event_stream_head(stream)
    held = HeldStream(stream, stream.hold(), duplicate=True)
    return EventStreamResponse(held, after=cursor, keep_alive_s=services.limits.events_keep_alive_s)


def _seq(last_event_id: str) -> int:
    if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 16:
        return int(last_event_id)
    raise InvalidParams(
        "Last-Event-ID is not an id of this server",
        hint="Send the last event's id, a number.",
        errors=[FieldError(path="Last-Event-ID", message="must be a number")],
    )
