"""Conversations: create, list, search, read, change, copy, delete.

session_transfer.py exports and imports whole conversations; entity_tags.py turns a session's version into an entity
tag.
"""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Response
from fastapi.openapi.models import Example

from archer_ws.api.dependencies import Principal, ServicesDep
from archer_ws.api.http.entity_tags import IfMatch, set_tag, told_as_given, version_for
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
from archer_ws.examples.sessions import (
    ARCHIVING,
    EMPTY_SESSION,
    FORK,
    FORKED,
    FOUND,
    NAMED_SESSION,
    RENAMED,
    SESSION,
    SESSION_DETAILS,
    UNPINNED,
)
from archer_ws.examples.story import SESSION_ID
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

SessionId = Annotated[str, Path(pattern=ID_PATTERN, description="The session's id", examples=[SESSION_ID])]


CREATE_EXAMPLES: dict[str, Example] = {
    "named": {"summary": "With your own id", "value": NAMED_SESSION},
    "empty": {"summary": "With an id from the server", "value": {}},
}
UPDATE_EXAMPLES: dict[str, Example] = {
    "title": {"summary": "Another title", "value": RENAMED},
    "metadata": {"summary": "With your own metadata", "value": UNPINNED},
    "archived": {"summary": "Archive it, unless somebody has changed it", "value": ARCHIVING},
}
FORK_EXAMPLES: dict[str, Example] = {
    "whole": {"summary": "All of its messages", "value": {}},
    "before": {
        "summary": "Those before one",
        "value": FORK,
    },
}


@router.post(
    "",
    status_code=201,
    operation_id="createSession",
    summary="Begin a conversation",
    responses={
        201: success_response("The new conversation", example=EMPTY_SESSION, tag=True),
        200: {"model": Session, **success_response("It existed already, and is unchanged", example=SESSION, tag=True)},
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
        200: success_response("A page of them, and the cursor of the next", example={"items": [SESSION]}),
        **error_responses(*GUARDED, InvalidParams, StorageUnavailable),
    },
)
async def list_sessions(
    services: ServicesDep,
    principal: Principal,
    *,
    order: Annotated[
        ListOrder | None,
        Query(
            description="The time to sort by, newest first; without it, the order of the cursor's list, or `updated`"
        ),
    ] = None,
    archived: Annotated[
        bool | None, Query(description="True: only archived ones; false: only those that are not")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many at most")] = 50,
    cursor: Annotated[str | None, Query(max_length=64, description="The `next_cursor` of the previous page")] = None,
) -> SessionPage:
    """Your conversations, the most recently changed first."""
    return await services.conversations.page(principal, limit, cursor, order=order, archived=archived)


@router.delete(
    "",
    operation_id="deleteAllSessions",
    summary="Forget all conversations",
    responses={
        200: success_response("How many were deleted", example={"deleted": 12}),
        **error_responses(*GUARDED, InvalidParams, StorageFull, StorageUnavailable),
    },
)
async def delete_all_sessions(
    services: ServicesDep,
    principal: Principal,
    *,
    everything: Annotated[
        bool, Query(alias="all", description="Must be true, so that it does not happen by mistake")
    ] = False,
) -> DeletedSessions:
    """End the streams of all your conversations and delete them permanently."""
    if not everything:
        raise InvalidParams(
            "query.all: must be true",
            hint="DELETE /api/v1/sessions?all=true deletes all of your conversations permanently; "
            "DELETE /api/v1/sessions/{session_id} deletes one.",
            errors=[FieldError(path="query.all", message="must be true")],
        )
    return DeletedSessions(deleted=await services.conversations.delete_all(principal))


# Declared before the routes of one session: `search` is not a session's id.
@router.get(
    "/search",
    operation_id="searchSessions",
    summary="Search your conversations",
    responses={
        200: success_response("A page of the messages, and the cursor of the next", example={"items": [FOUND]}),
        **error_responses(*GUARDED, InvalidParams, StorageUnavailable),
    },
)
async def search_sessions(
    services: ServicesDep,
    principal: Principal,
    *,
    q: Annotated[SearchQuery, Query(description="Words that the messages must contain, up to 16")],
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many at most")] = 50,
    cursor: Annotated[str | None, Query(max_length=64, description="The `next_cursor` of the previous page")] = None,
) -> SearchPage:
    """The messages that contain all words of `q`, the last stored first."""
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
            "With a page of its messages and its running streams", example=SESSION_DETAILS[0], tag=True
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
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many messages at most")] = PAGE_MAX,
    cursor: Annotated[
        str | None,
        Query(
            max_length=64,
            description="The `next_cursor` of a page that you have, for older messages; without it, the newest",
        ),
    ] = None,
) -> SessionDetail:
    """One conversation with its running streams and a page of its messages, oldest first: the newest messages, or with
    `cursor` older ones."""
    return set_tag(response, await services.conversations.get(principal, session_id, limit=limit, cursor=cursor))


@router.patch(
    "/{session_id}",
    operation_id="updateSession",
    summary="Change a conversation",
    responses={
        200: success_response("Its new state", example={**SESSION, **RENAMED}, tag=True),
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
    """Change the title or the metadata, or archive it; missing fields keep their values.

    With `version`, or the ETag of a response in `If-Match`, the change is made only if that is still its state.
    """
    conversations = services.conversations
    version = await version_for(if_match, change.version, partial(conversations.version_of, principal, session_id))
    with told_as_given(change.version):
        changed = await conversations.update(principal, session_id, change.model_copy(update={"version": version}))
    return set_tag(response, changed)


@router.post(
    "/{session_id}/fork",
    status_code=201,
    operation_id="forkSession",
    summary="Copy a conversation",
    responses={
        201: success_response(
            "The new conversation",
            example=FORKED,
            tag=True,
        ),
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
    """A new conversation with the messages of this one: all of them, or those before a certain one."""
    return set_tag(response, await services.conversations.fork(principal, session_id, wanted or SessionFork()))


@router.delete(
    "/{session_id}",
    status_code=204,
    response_class=Response,
    operation_id="deleteSession",
    summary="Forget a conversation",
    response_description="It is forgotten",
    responses=error_responses(*GUARDED, InvalidParams, Conflict, SessionNotFound, StorageFull, StorageUnavailable),
)
async def delete_session(
    services: ServicesDep, principal: Principal, session_id: SessionId, if_match: IfMatch = None
) -> None:
    """End its streams and delete it; with the ETag of a response in `If-Match`, only if it has not changed since."""
    conversations = services.conversations
    version = await version_for(if_match, None, partial(conversations.version_of, principal, session_id))
    with told_as_given(None):
        await conversations.delete(principal, session_id, version=version)
