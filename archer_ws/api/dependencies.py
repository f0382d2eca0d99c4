"""What routes receive: the objects that main.py wired, and the request's principal."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from archer_ws.api.security.credentials import Credentials
from archer_ws.api.security.tickets import TicketOffice
from archer_ws.api.socket import OpenSockets
from archer_ws.core.limits import Limits
from archer_ws.files.files import Files
from archer_ws.llm_gateway.readiness import Readiness
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.rpc.dispatcher import Dispatcher
from archer_ws.rpc.services import RpcServices
from archer_ws.sessions.attachments import Attachments
from archer_ws.sessions.conversations import Conversations
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.storage.store import SessionStore


@dataclass(frozen=True, slots=True)
class Services:
    """The objects that every endpoint shares."""

    version: str
    #: Whether people find the console at `/`.
    has_console: bool
    router: LLMRouter
    readiness: Readiness
    manager: SessionManager
    judge: FormatJudge
    store: SessionStore
    conversations: Conversations
    files: Files
    attachments: Attachments
    tickets: TicketOffice
    file_tickets: TicketOffice
    credentials: Credentials
    sockets: OpenSockets
    rpc: RpcServices
    dispatcher: Dispatcher
    limits: Limits


async def get_services(request: Request) -> Services:
    """The application's services."""
    return cast(Services, request.app.state.services)


async def get_principal(request: Request) -> str:
    """The principal that the request's credential stands for."""
    return cast(str, request.state.principal)


async def get_request_id(request: Request) -> str:
    """The id of this request, as its response carries it."""
    return cast(str, request.state.request_id)


ServicesDep = Annotated[Services, Depends(get_services)]
Principal = Annotated[str, Depends(get_principal)]
RequestId = Annotated[str, Depends(get_request_id)]
