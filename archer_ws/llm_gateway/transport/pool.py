"""Our own connections to providers: created on demand, and kept for later requests for a while.

Owns which connection carries which request, and when a connection can be used again. transport/connection.py has the
connections; transport/library.py handles proxies.
"""

import asyncio
import ssl
from collections import defaultdict
from functools import partial
from typing import TypeAlias

from archer_ws.core.lean_event import LeanEvent
from archer_ws.llm_gateway.transport.carrier import Carrier
from archer_ws.llm_gateway.transport.connection import Origin, ProviderConnection, Unanswered, connect
from archer_ws.llm_gateway.transport.json_body import Body, size_of
from archer_ws.llm_gateway.transport.request import Destination, RequestTemplate
from archer_ws.llm_gateway.transport.response import StreamedResponse

#: The address of a connection, and the principal that uses it.
_Use: TypeAlias = tuple[Destination, str]


class StreamPool(Carrier):
    """The connections; to be created and used in one event loop.

    A connection is kept only if the end of its response was beyond doubt (RFC 9112, section 6.3) and nothing came after
    it. It is closed if anything comes while it is idle, and is not used if there is unread input. One case remains: a
    provider sends a second, unrequested response so late that it is still on its way when the next request is written.
    Then it is taken for that request's response; the principal is the same, as in `Carrier`.

    A server may close a connection while the next request is on its way. If no byte of a response came, the request is
    sent again over a new connection (RFC 9110, section 9.2.2). The loss of a new connection is a normal error.

    Args:
        connect_s: the time limit for connecting. The caller sets all other limits.
        keep_alive_s: how long an idle connection is kept.
        tls: how certificates are verified; None if no URL is https.
    """

    def __init__(self, *, connect_s: float, keep_alive_s: float, tls: ssl.SSLContext | None) -> None:
        self._connect_s = connect_s
        self._keep_alive_s = keep_alive_s
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._open: set[ProviderConnection] = set()
        self._none_open = LeanEvent()
        #: Idle connections, each with the loop time at which it is closed; the last used one is used next.
        self._idle: dict[_Use, list[tuple[ProviderConnection, float]]] = defaultdict(list)
        #: Closes those whose time has come: a timer for each would be set and cancelled with each request.
        self._closing: asyncio.TimerHandle | None = None

    async def ask(self, request: RequestTemplate, body: Body, *, principal: str = "") -> StreamedResponse:
        """See `Carrier`."""
        use = request.place, principal
        head = request.head(size_of(body))
        # A server that was asked to close need not confirm it.
        on_over = ProviderConnection.abort if request.is_last else partial(self._keep, use)
        connection = self._take_idle(use)
        if connection is not None:
            try:
                return await connection.ask(head, body, on_over=on_over)
            except Unanswered:
                pass
        connection = await self._connected(use)
        return await connection.ask(head, body, on_over=on_over)

    async def close(self) -> None:
        """See `Carrier`."""
        # The sockets of a closed loop are gone.
        if self._open and not self._loop.is_closed():
            for connection in tuple(self._open):
                connection.abort()
            self._none_open.clear()
            await self._none_open.wait()

    async def _connected(self, use: _Use) -> ProviderConnection:
        host, port, is_tls = use[0]
        connection = await connect(Origin(host, port, self._tls if is_tls else None), self._connect_s)
        self._open.add(connection)
        connection.on_lost = partial(self._forget, use, connection)
        return connection

    def _take_idle(self, use: _Use) -> ProviderConnection | None:
        idle = self._idle.get(use)
        while idle:
            connection, _ = idle.pop()
            if connection.is_open and connection.is_silent:
                return connection
            connection.abort()
        return None

    def _keep(self, use: _Use, connection: ProviderConnection) -> None:
        until = self._loop.time() + self._keep_alive_s
        self._idle[use].append((connection, until))
        if self._closing is None:
            self._closing = self._loop.call_at(until, self._close_old)

    def _close_old(self) -> None:
        """Close the connections that were idle for too long, and wait for the next one's time."""
        now = self._loop.time()
        idle = [entry for entries in self._idle.values() for entry in entries]
        for connection, until in idle:
            if until <= now:
                # It is forgotten when it is lost.
                connection.abort()
        later = min((until for _, until in idle if until > now), default=None)
        self._closing = None if later is None else self._loop.call_at(later, self._close_old)

    def _forget(self, use: _Use, connection: ProviderConnection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()
            if self._closing is not None:
                self._closing.cancel()
                self._closing = None
        idle = self._idle.get(use, [])
        for entry in idle:
            if entry[0] is connection:
                idle.remove(entry)
                break
        if not idle:
            # Principals come and go.
            self._idle.pop(use, None)
