"""Conversations: create, list, read, change, delete."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from archer_ws.api.dependencies import Principal, ServicesDep
from archer_ws.api.request_body import JsonRoute
from archer_ws.core.ids import ID_PATTERN
from archer_ws.sessions.models import Session, SessionCreate, SessionDetail, SessionPage, SessionUpdate
from archer_ws.sessions.store import PAGE_MAX

router = APIRouter(prefix="/api/v1/sessions", route_class=JsonRoute, tags=["sessions"])

SessionId = Annotated[str, Path(pattern=ID_PATTERN)]


@router.post("", status_code=201, responses={200: {"model": Session, "description": "It existed already"}})
async def create_session(
    services: ServicesDep, principal: Principal, response: Response, wanted: SessionCreate | None = None
) -> Session:
    """A new conversation, or the existing one with that `session_id`."""
    session, is_new = await services.conversations.create(principal, wanted or SessionCreate())
    if not is_new:
        response.status_code = 200
    return session


@router.get("")
async def list_sessions(
    services: ServicesDep,
    principal: Principal,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 50,
    cursor: str | None = None,
) -> SessionPage:
    """Your conversations, newest first."""
    return await services.conversations.page(principal, limit, cursor)


@router.get("/{session_id}")
async def get_session(services: ServicesDep, principal: Principal, session_id: SessionId) -> SessionDetail:
    """One conversation with its messages and running streams."""
    return await services.conversations.get(principal, session_id)


@router.patch("/{session_id}")
async def update_session(
    services: ServicesDep, principal: Principal, session_id: SessionId, change: SessionUpdate
) -> Session:
    """Change the title or the metadata; what is left out stays."""
    return await services.conversations.update(principal, session_id, change)


@router.delete("/{session_id}", status_code=204)
async def delete_session(services: ServicesDep, principal: Principal, session_id: SessionId) -> None:
    """End its streams and forget it."""
    await services.conversations.delete(principal, session_id)
