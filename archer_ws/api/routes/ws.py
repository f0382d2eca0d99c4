"""The socket, and tickets for browsers, which cannot send a credential in the WebSocket handshake (protocol section
2)."""

from typing import Annotated

from fastapi import APIRouter, Body, WebSocket
from fastapi.openapi.models import Example
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from archer_ws.api.dependencies import Principal, Services, ServicesDep
from archer_ws.api.http.request_body import JsonRoute
from archer_ws.api.http.scope import SOCKET_PATH
from archer_ws.api.openapi.error_responses import BODY, GUARDED, error_responses
from archer_ws.api.openapi.success_responses import success_response
from archer_ws.api.socket import SocketChannel, accept, draining_response
from archer_ws.config_values import parse_origin
from archer_ws.core.wire_model import WireModel, optional, wrong
from archer_ws.core.wire_types import Count
from archer_ws.examples.story import TICKET_RESULT
from archer_ws.rpc.connection import Connection

router = APIRouter(prefix=SOCKET_PATH, route_class=JsonRoute, tags=["socket"])


def _as_browsers_spell_it(origin: str) -> str:
    try:
        return parse_origin(origin)
    except ValueError:
        advice = "Send scheme://host:port, as location.origin has it: no path, not even a slash at the end."
        raise wrong("is not the origin of a page, so no page could use the ticket", "", advice) from None


class TicketRequest(WireModel):
    """The origin that the ticket is for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"origin": "http://localhost:1420"}, {}]})

    origin: Annotated[str, Field(max_length=256), AfterValidator(_as_browsers_spell_it)] | None = optional(
        "The page's origin; only pages of this origin can use the ticket."
    )


class Ticket(BaseModel):
    """Valid for one handshake: offer the subprotocol `archer.ticket.<ticket>` beside `archer.v1`."""

    model_config = ConfigDict(json_schema_extra={"examples": [TICKET_RESULT]})

    ticket: str = Field(description="The ticket, in characters that a subprotocol's name may have.")
    expires_in_s: Count = Field(description="How long it is valid, in seconds.")


EXAMPLES: dict[str, Example] = {
    "page": {"summary": "For a page", "value": {"origin": "http://localhost:1420"}},
    "program": {"summary": "For a program that is not a page", "value": {}},
}


@router.post(
    "/tickets",
    operation_id="createSocketTicket",
    summary="A ticket for the WebSocket",
    responses={200: success_response("Use it at once", example=TICKET_RESULT), **error_responses(*GUARDED, *BODY)},
)
async def create_ticket(
    services: ServicesDep,
    principal: Principal,
    wanted: Annotated[TicketRequest | None, Body(openapi_examples=EXAMPLES)] = None,
) -> Ticket:
    """A single-use ticket, valid for 30 s: offer the subprotocol `archer.ticket.<ticket>` beside `archer.v1`.

    Browsers can't send a header with a WebSocket's handshake; other programs need no ticket.
    """
    ticket = services.tickets.issue(principal, wanted.origin if wanted else None)
    return Ticket(ticket=ticket.token, expires_in_s=int(ticket.expires_in_s))


class SocketEndpoint:
    """archer.v1: many streams over one connection.

    A plain ASGI application: FastAPI's WebSocket routes keep three exit stacks for each connection.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until it is closed."""
        websocket = WebSocket(scope, receive, send)
        services: Services = websocket.app.state.services
        if services.manager.is_draining:
            await websocket.send_denial_response(draining_response(websocket))
            return
        place = services.sockets.quota.new_place()
        try:
            handshake = await accept(websocket, services.tickets, services.credentials, place)
            if handshake is not None:
                connection = Connection(SocketChannel(websocket), services.rpc, services.dispatcher, handshake)
                await services.sockets.serve(connection)
        finally:
            place.leave()


socket_route = WebSocketRoute(SOCKET_PATH, SocketEndpoint())
