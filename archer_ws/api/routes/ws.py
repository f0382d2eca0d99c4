"""The socket, and tickets for browsers, which cannot send a credential with its handshake (protocol section 2)."""

from fastapi import APIRouter, WebSocket
from pydantic import BaseModel

from archer_ws.api.dependencies import Principal, Services, ServicesDep
from archer_ws.api.request_body import JsonRoute
from archer_ws.api.socket import SocketChannel, accept, draining_response
from archer_ws.llm_gateway.types import WireModel, optional
from archer_ws.rpc.connection import Connection

router = APIRouter(prefix="/api/v1/ws", route_class=JsonRoute, tags=["socket"])


class TicketRequest(WireModel):
    """For which origin."""

    origin: str | None = optional("The page's origin, which alone may use the ticket.", max_length=256)


class Ticket(BaseModel):
    """Good for one handshake: offer the subprotocol `archer.ticket.<ticket>` beside `archer.v1`."""

    ticket: str
    expires_in_s: int


@router.post("/tickets")
async def create_ticket(services: ServicesDep, principal: Principal, wanted: TicketRequest | None = None) -> Ticket:
    """A single-use ticket, valid for 30 s."""
    ticket = services.tickets.issue(principal, wanted.origin if wanted else None)
    return Ticket(ticket=ticket.token, expires_in_s=int(ticket.expires_in_s))


@router.websocket("")
async def serve_socket(websocket: WebSocket) -> None:
    """archer.v1: many streams over one connection."""
    services: Services = websocket.app.state.services
    if services.manager.is_draining:
        await websocket.send_denial_response(draining_response(websocket))
        return
    peer = await accept(websocket, services.tickets, services.credentials)
    if peer is not None:
        connection = Connection(SocketChannel(websocket), services.rpc, services.dispatcher, peer)
        await services.sockets.serve(connection)
