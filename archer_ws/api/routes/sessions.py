"""Conversations: create, list, read, change, delete."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Response
from fastapi.openapi.models import Example

from archer_ws.api.dependencies import Principal, ServicesDep
from archer_ws.api.http.request_body import JsonRoute
from archer_ws.api.openapi.error_answers import BODY, GUARDED, error_answers
from archer_ws.api.openapi.success_answers import success_answer
from archer_ws.core.exceptions import InvalidParams, Overloaded, SessionNotFound, StorageFull, StorageUnavailable
from archer_ws.core.ids import ID_PATTERN
from archer_ws.sessions.models import Session, SessionCreate, SessionDetail, SessionPage, SessionUpdate
from archer_ws.sessions.storage.memory import PAGE_MAX

router = APIRouter(prefix="/api/v1/sessions", route_class=JsonRoute, tags=["sessions"])

SessionId = Annotated[str, Path(pattern=ID_PATTERN, description="The session's id", examples=["sky"])]

_SESSION = {
    "session_id": "sky",
    "title": "Sky questions",
    "metadata": {"pinned": True},
    "created_at": "2026-11-01T12:00:00Z",
    "updated_at": "2026-11-01T12:00:09Z",
    "message_count": 1,
}
_DETAIL = {
    **_SESSION,
    "messages": [
        {
            "message_id": "msg_3fQb1xWc9LzR0aKpVtEy",
            "role": "user",
            "content": "Why is the sky blue?",
            "stream_id": "sky-1",
            "status": "completed",
            "created_at": "2026-11-01T12:00:09Z",
        }
    ],
    "active_streams": ["sky-1"],
}
CREATE_EXAMPLES: dict[str, Example] = {
    "named": {"summary": "With an id of your own", "value": {"session_id": "sky", "title": "Sky questions"}},
    "empty": {"summary": "The server mints the id", "value": {}},
}
UPDATE_EXAMPLES: dict[str, Example] = {
    "title": {"summary": "Another title", "value": {"title": "Blue skies"}},
    "metadata": {"summary": "Whatever you keep with it", "value": {"metadata": {"pinned": True}}},
}


@router.post(
    "",
    status_code=201,
    operation_id="createSession",
    summary="Begin a conversation",
    responses={
        201: success_answer("The new conversation", example={**_SESSION, "message_count": 0}),
        200: {"model": Session, **success_answer("It existed already, and is as it was", example=_SESSION)},
        **error_answers(*GUARDED, *BODY, Overloaded, StorageFull, StorageUnavailable),
    },
)
async def create_session(
    services: ServicesDep,
    principal: Principal,
    response: Response,
    wanted: Annotated[SessionCreate | None, Body(openapi_examples=CREATE_EXAMPLES)] = None,
) -> Session:
    """A new conversation, or the existing one with that `session_id`."""
    session, is_new = await services.conversations.create(principal, wanted or SessionCreate())
    if not is_new:
        response.status_code = 200
    return session


@router.get(
    "",
    operation_id="listSessions",
    summary="Your conversations",
    responses={
        200: success_answer("Some of them, and where the others begin", example={"items": [_SESSION]}),
        **error_answers(*GUARDED, InvalidParams, StorageUnavailable),
    },
)
async def list_sessions(
    services: ServicesDep,
    principal: Principal,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="The most to give")] = 50,
    cursor: Annotated[str | None, Query(description="The page before's `next_cursor`")] = None,
) -> SessionPage:
    """Your conversations, newest first."""
    return await services.conversations.page(principal, limit, cursor)


@router.get(
    "/{session_id}",
    operation_id="getSession",
    summary="One conversation",
    responses={
        200: success_answer("With its newest messages, or older ones, and its running streams", example=_DETAIL),
        **error_answers(*GUARDED, InvalidParams, SessionNotFound, StorageUnavailable),
    },
)
async def get_session(
    services: ServicesDep,
    principal: Principal,
    session_id: SessionId,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="The most messages to give")] = PAGE_MAX,
    cursor: Annotated[
        str | None, Query(max_length=64, description="A page's `next_cursor`, for older messages; none: the newest")
    ] = None,
) -> SessionDetail:
    """One conversation with its running streams and a page of its messages, oldest first: the newest ones, or with
    `cursor` older ones."""
    return await services.conversations.get(principal, session_id, limit=limit, cursor=cursor)


@router.patch(
    "/{session_id}",
    operation_id="updateSession",
    summary="Change a conversation",
    responses={
        200: success_answer("As it is now", example={**_SESSION, "title": "Blue skies"}),
        **error_answers(*GUARDED, *BODY, SessionNotFound, Overloaded, StorageFull, StorageUnavailable),
    },
)
async def update_session(
    services: ServicesDep,
    principal: Principal,
    session_id: SessionId,
    change: Annotated[SessionUpdate, Body(openapi_examples=UPDATE_EXAMPLES)],
) -> Session:
    """Change the title or the metadata; what is left out stays."""
    return await services.conversations.update(principal, session_id, change)


@router.delete(
    "/{session_id}",
    status_code=204,
    operation_id="deleteSession",
    summary="Forget a conversation",
    response_description="It is forgotten",
    responses=error_answers(*GUARDED, InvalidParams, SessionNotFound, StorageFull, StorageUnavailable),
)
async def delete_session(services: ServicesDep, principal: Principal, session_id: SessionId) -> None:
    """End its streams and forget it."""
    await services.conversations.delete(principal, session_id)
