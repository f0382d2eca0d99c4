"""The WebSocket edge: a Starlette WebSocket as a channel, the handshake's credential, and the set of open sockets.

The messages are rpc/'s. Host and Origin have been checked before (security/).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog
from starlette.responses import Response
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from archer_ws.api.http.error_forms import error_response
from archer_ws.api.http.scope import request_id
from archer_ws.api.security.credentials import Credentials
from archer_ws.api.security.seats import seat_of
from archer_ws.api.security.tickets import TicketGone, TicketMisplaced, TicketOffice
from archer_ws.api.socket_quota import SocketPlace, SocketQuota
from archer_ws.core.exceptions import Draining
from archer_ws.rpc.channel import ChannelClosed
from archer_ws.rpc.close_reasons import CLOSE_CODES, CloseReason, close_text
from archer_ws.rpc.connection import Connection
from archer_ws.rpc.context import Handshake
from archer_ws.rpc.messages import SUBPROTOCOL

log = structlog.get_logger(__name__)

DIRECT_SOCKET = "archer.direct_socket"
TICKET_PREFIX = "archer.ticket."
_SENT_BEHIND_CLOSE = "after sending 'websocket.close'"
#: RFC 6455, section 7.4.1: a type of data that the endpoint cannot accept.
UNSUPPORTED_DATA = 1003


class DirectSocket(Protocol):
    """What our server's WebSocket protocol offers as the ASGI extension `DIRECT_SOCKET`. Messages bypass the layers of
    ASGI, which cost as much as everything else in sending a token."""

    def try_send_text(self, text: str) -> bool:
        """Send a message now; False if that would wait, or is impossible."""

    def push_text_to(self, take: Callable[[str], bool] | None) -> None:
        """Pass each further text message to `take` as it arrives, if all before it have been received; if `take`
        returns False, the message is received as by ASGI. None ends this."""


class SocketChannel:
    """A WebSocket's text messages."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        direct: DirectSocket | None = websocket.scope.get("extensions", {}).get(DIRECT_SOCKET)
        self._direct = direct
        #: Hands a message to the transport; False if that has to wait, or under another server than ours.
        self.try_send: Callable[[str], bool] = direct.try_send_text if direct else _never

    def push_to(self, take: Callable[[str], bool] | None) -> None:
        """See Channel; under another server than ours, all messages are left to `receive`."""
        if self._direct is not None:
            self._direct.push_text_to(take)

    async def receive(self) -> str:
        """The next text message; a binary one closes the socket.

        Raises:
            ChannelClosed: the peer is gone, or was closed for a binary message.
        """
        message = await self._websocket.receive()
        if message["type"] == "websocket.receive":
            text: str | None = message.get("text")
            if text is not None:
                return text
            await self.close(UNSUPPORTED_DATA, "text messages only")
        raise ChannelClosed

    async def send(self, text: str) -> None:
        """Hand a message to the transport; waits while its buffer is full.

        Raises:
            ChannelClosed: the peer is gone.
        """
        await self._send({"type": "websocket.send", "text": text})

    async def close(self, code: int, reason: str) -> None:
        """Close with a code; does nothing if it is closed."""
        with suppress(ChannelClosed):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def _send(self, message: Message) -> None:
        if self._websocket.application_state is WebSocketState.DISCONNECTED:
            raise ChannelClosed  # By ourselves: Starlette would take it for a mistake.
        try:
            await self._websocket.send(message)
        except WebSocketDisconnect:
            raise ChannelClosed from None
        except RuntimeError as error:
            # uvicorn's own protocol raises this if it has closed the connection itself; ours reports that by ASGI's
            # rules.
            if _SENT_BEHIND_CLOSE not in str(error):
                raise
            raise ChannelClosed from None


def _never(_text: str) -> bool:
    return False


class OpenSockets:
    """Every connection that is being served, so that all can be notified and closed when the server stops.

    Args:
        quota: how many there may be.
    """

    def __init__(self, quota: SocketQuota) -> None:
        self.quota = quota
        self._connections: set[Connection] = set()
        self._all_left = asyncio.Event()
        self._closing: CloseReason | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._connections)

    async def serve(self, connection: Connection) -> None:
        """Serve a connection until it is closed."""
        self._connections.add(connection)
        self._all_left.clear()
        if self._closing is not None:
            connection.close(self._closing)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._all_left.set()

    def notify_draining(self, remaining_ms: int) -> None:
        """Notify every peer that the server is about to stop."""
        for connection in self._connections:
            connection.notify_draining(remaining_ms)

    async def close_all(self, reason: CloseReason, limit_s: float) -> None:
        """Close every connection after its streams' events have been sent, and wait for that, at most `limit_s`.

        Connections whose peers do not read are left over. A connection that is made from now on is closed at once.
        """
        self._closing = reason
        for connection in self._connections:
            connection.close(reason, after_streams=True)
        if self._connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._all_left.wait()


async def accept(
    websocket: WebSocket, tickets: TicketOffice, credentials: Credentials, place: SocketPlace
) -> Handshake | None:
    """Finish the handshake: who the client is, or None if the socket was closed.

    A wrong header or ticket, or one socket too many, is answered with a close after the handshake, so that a browser
    can read the reason.
    """
    offered: list[str] = websocket.scope.get("subprotocols", [])
    principal: str | None = websocket.state.principal
    refusal: CloseReason | None = "unauthorized" if websocket.state.credential_refused else None
    ticket = next((name for name in offered if name.startswith(TICKET_PREFIX)), None)
    if ticket is not None:
        try:
            principal = tickets.redeem(ticket.removeprefix(TICKET_PREFIX), websocket.headers.get("origin"))
        except TicketGone:
            refusal = "credential_expired"
        except TicketMisplaced:
            refusal = "unauthorized"
    seat = seat_of(websocket.scope)

    def admit(shown: str) -> str | None:
        if seat is not None:
            seat.vouch()
        return place.admit(shown)

    no_room = admit(principal) if principal is not None and refusal is None else None
    if no_room is not None:
        refusal = "connection_limit"
    await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
    if refusal is not None:
        log.info("socket_refused", reason=refusal)
        await SocketChannel(websocket).close(CLOSE_CODES[refusal], close_text(refusal, no_room))
        return None
    return Handshake(principal, credentials.principal_of, admit)


def stopping() -> Draining:
    """Why there are no new sockets while the server is about to stop."""
    return Draining("the server is about to stop", hint="Connect again in a moment.", retry_after_ms=5000)


def draining_response(websocket: WebSocket) -> Response:
    """What a handshake is answered then."""
    return error_response(stopping(), request_id(websocket.scope))
