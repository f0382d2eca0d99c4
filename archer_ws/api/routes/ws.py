"""Tickets for browsers, which cannot send a credential with a WebSocket handshake (protocol section 2)."""

from fastapi import APIRouter
from pydantic import BaseModel

from archer_ws.api.dependencies import Principal, ServicesDep
from archer_ws.api.request_body import JsonRoute
from archer_ws.llm_gateway.types import optional

router = APIRouter(prefix="/api/v1/ws", route_class=JsonRoute, tags=["socket"])


class TicketRequest(BaseModel):
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
