"""Conversations: create, list, search, read, change, copy, delete.

Whole conversations in and out are session_transfer.py's; a session's version as an entity tag is entity_tags.py's.
"""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Response
from fastapi.openapi.models import Example

from archer_ws.api.dependencies import Principal, ServicesDep
from archer_ws.api.http.entity_tags import IfMatch, set_tag, version_for
from archer_ws.api.http.request_body import JsonRoute
from archer_ws.api.openapi.error_responses import BODY, GUARDED, error_responses
from archer_ws.api.openapi.success_responses import success_response
from archer_ws.core.exceptions import (
    Conflict,
    FieldError,
    InvalidParams,
    Overloaded,
    SessionNotFound,
    StorageFull,
    StorageUnavailable,
)
from archer_ws.core.ids import ID_PATTERN
from archer_ws.sessions.models import (
    DeletedSessions,
    ListOrder,
    SearchPage,
    Session,
    SessionCreate,
    SessionDetail,
    SessionFork,
    SessionPage,
    SessionUpdate,
)
from archer_ws.sessions.models import (
    Query as SearchQuery,
)
from archer_ws.sessions.storage.memory import PAGE_MAX
from archer_ws.sessions.storage.refusals import renamed

router = APIRouter(prefix="/api/v1/sessions", route_class=JsonRoute, tags=["sessions"])

SessionId = Annotated[str, Path(pattern=ID_PATTERN, description="The session's id", examples=["sky"])]

_SESSION = {
    "session_id": "sky",
    "title": "Sky questions",
    "metadata": {"pinned": True},
    "created_at": "2026-11-01T12:00:00Z",
    "updated_at": "2026-11-01T12:00:09Z",
    "message_count": 1,
    "version": 3,
    "preview": "Why is the sky blue?",
    "active": [{"stream_id": "sky-1", "status": "running"}],
}
_FOUND = {
    "session_id": "sky",
    "message_id": "msg_3fQb1xWc9LzR0aKpVtEy",
    "role": "user",
    "snippet": "Why is the sky blue?",
    "created_at": "2026-11-01T12:00:09Z",
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
    "archived": {"summary": "Put it aside, if nobody has changed it", "value": {"archived": True, "version": 3}},
}
FORK_EXAMPLES: dict[str, Example] = {
    "whole": {"summary": "All of its messages", "value": {}},
    "before": {
        "summary": "Those before one",
        "value": {"before": "msg_9mK3vQx0bTzLw2RfY7cN", "new_session_id": "sky-otherwise"},
    },
}


@router.post(
    "",
    status_code=201,
    operation_id="createSession",
    summary="Begin a conversation",
    responses={
        201: success_response("The new conversation", example={**_SESSION, "message_count": 0}, tag=True),
        200: {"model": Session, **success_response("It existed already, and is as it was", example=_SESSION, tag=True)},
        **error_responses(*GUARDED, *BODY, Overloaded, StorageFull, StorageUnavailable),
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
    return set_tag(response, session)


@router.get(
    "",
    operation_id="listSessions",
    summary="Your conversations",
    responses={
        200: success_response("Some of them, and where the others begin", example={"items": [_SESSION]}),
        **error_responses(*GUARDED, InvalidParams, StorageUnavailable),
    },
)
async def list_sessions(
    services: ServicesDep,
    principal: Principal,
    *,
    order: Annotated[
        ListOrder | None, Query(description="Newest first by what; none: as the cursor's list, or `updated`")
    ] = None,
    archived: Annotated[bool | None, Query(description="Those alone that were put aside, or were not")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="The most to give")] = 50,
    cursor: Annotated[str | None, Query(max_length=64, description="The page before's `next_cursor`")] = None,
) -> SessionPage:
    """Your conversations, the last changed first."""
    return await services.conversations.page(principal, limit, cursor, order=order, archived=archived)


@router.delete(
    "",
    operation_id="deleteAllSessions",
    summary="Forget all conversations",
    responses={
        200: success_response("How many there were", example={"deleted": 12}),
        **error_responses(*GUARDED, InvalidParams, StorageFull, StorageUnavailable),
    },
)
async def delete_all_sessions(
    services: ServicesDep,
    principal: Principal,
    *,
    everything: Annotated[bool, Query(alias="all", description="True, so that it does not happen by mistake")] = False,
) -> DeletedSessions:
    """End the streams of all your conversations and forget these, for good."""
    if not everything:
        raise InvalidParams(
            "query.all: must be true",
            hint="DELETE /api/v1/sessions?all=true forgets all of your conversations for good; "
            "DELETE /api/v1/sessions/{session_id} forgets one.",
            errors=[FieldError(path="query.all", message="must be true")],
        )
    return DeletedSessions(deleted=await services.conversations.delete_all(principal))


# Before the routes of one session: `search` is no session's id.
@router.get(
    "/search",
    operation_id="searchSessions",
    summary="Search your conversations",
    responses={
        200: success_response("Some of the messages, and where the others begin", example={"items": [_FOUND]}),
        **error_responses(*GUARDED, InvalidParams, StorageUnavailable),
    },
)
async def search_sessions(
    services: ServicesDep,
    principal: Principal,
    *,
    q: Annotated[SearchQuery, Query(description="Words that the messages must have, up to 16")],
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="The most to give")] = 50,
    cursor: Annotated[str | None, Query(max_length=64, description="The page before's `next_cursor`")] = None,
) -> SearchPage:
    """The messages that have all words of `q`, the last stored first."""
    try:
        return await services.conversations.search(principal, q, limit, cursor)
    except InvalidParams as error:
        raise renamed(error, "query", "query.q") from None


@router.get(
    "/{session_id}",
    operation_id="getSession",
    summary="One conversation",
    responses={
        200: success_response(
            "With its newest messages, or older ones, and its running streams", example=_DETAIL, tag=True
        ),
        **error_responses(*GUARDED, InvalidParams, SessionNotFound, StorageUnavailable),
    },
)
async def get_session(
    services: ServicesDep,
    principal: Principal,
    response: Response,
    session_id: SessionId,
    *,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="The most messages to give")] = PAGE_MAX,
    cursor: Annotated[
        str | None, Query(max_length=64, description="A page's `next_cursor`, for older messages; none: the newest")
    ] = None,
) -> SessionDetail:
    """One conversation with its running streams and a page of its messages, oldest first: the newest ones, or with
    `cursor` older ones."""
    return set_tag(response, await services.conversations.get(principal, session_id, limit=limit, cursor=cursor))


@router.patch(
    "/{session_id}",
    operation_id="updateSession",
    summary="Change a conversation",
    responses={
        200: success_response("As it is now", example={**_SESSION, "title": "Blue skies"}, tag=True),
        **error_responses(*GUARDED, *BODY, Conflict, SessionNotFound, Overloaded, StorageFull, StorageUnavailable),
    },
)
async def update_session(
    services: ServicesDep,
    principal: Principal,
    response: Response,
    session_id: SessionId,
    *,
    change: Annotated[SessionUpdate, Body(openapi_examples=UPDATE_EXAMPLES)],
    if_match: IfMatch = None,
) -> Session:
    """Change the title or the metadata, or put it aside; what is left out stays.

    With `version`, or the ETag of an answer in `If-Match`, it changes that state of it or nothing.
    """
    conversations = services.conversations
    version = await version_for(if_match, change.version, partial(conversations.version_of, principal, session_id))
    change = change.model_copy(update={"version": version})
    return set_tag(response, await conversations.update(principal, session_id, change))


@router.post(
    "/{session_id}/fork",
    status_code=201,
    operation_id="forkSession",
    summary="Copy a conversation",
    responses={
        201: success_response("The new conversation", example={**_SESSION, "session_id": "sky-otherwise"}, tag=True),
        **error_responses(*GUARDED, *BODY, Conflict, SessionNotFound, Overloaded, StorageFull, StorageUnavailable),
    },
)
async def fork_session(
    services: ServicesDep,
    principal: Principal,
    response: Response,
    session_id: SessionId,
    wanted: Annotated[SessionFork | None, Body(openapi_examples=FORK_EXAMPLES)] = None,
) -> Session:
    """A new conversation with the messages of this one: all of them, or those before one."""
    return set_tag(response, await services.conversations.fork(principal, session_id, wanted or SessionFork()))


@router.delete(
    "/{session_id}",
    status_code=204,
    operation_id="deleteSession",
    summary="Forget a conversation",
    response_description="It is forgotten",
    responses=error_responses(*GUARDED, InvalidParams, Conflict, SessionNotFound, StorageFull, StorageUnavailable),
)
async def delete_session(
    services: ServicesDep, principal: Principal, session_id: SessionId, if_match: IfMatch = None
) -> None:
    """End its streams and forget it; with the ETag of an answer in `If-Match`, if it is still as that answer told."""
    conversations = services.conversations
    version = await version_for(if_match, None, partial(conversations.version_of, principal, session_id))
    await conversations.delete(principal, session_id, version=version)
