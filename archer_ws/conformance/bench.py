"""What a check works with: its own connections, prompts, and cleaning up of what it created."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import connect as websocket
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.typing import Origin, Subprotocol

from archer_ws.client.dialling import CLOSE_LIMIT_S, MESSAGE_BYTES_MAX, Address
from archer_ws.client.errors import ClientError
from archer_ws.conformance.failing import Failed, Skipped
from archer_ws.conformance.methods import INITIALIZE, SESSION_CREATE, SESSION_DELETE, STREAM_CANCEL
from archer_ws.conformance.peer import Peer, Trial
from archer_ws.rpc.messages import PROTOCOL_VERSION, SUBPROTOCOL, ConnectionLimits, InitializeResult
from archer_ws.sessions.models import Session

#: How long cleaning up may take at most, in seconds.
TIDY_LIMIT_S = 10.0

_SHORT = "Say hello in one short sentence."
_LONG = "Count from 1 to 200 in words, one number on each line. Do not stop before 200."


@dataclass(frozen=True, slots=True)
class Target:
    """The server, as the probe found it.

    `route` is the provider and model that chats name; empty for the server's default.
    """

    address: Address
    token: str | None
    needs_token: bool
    greeting: InitializeResult
    route: Mapping[str, str] = field(default_factory=dict)

    @property
    def limits(self) -> ConnectionLimits:
        """The limits of one connection."""
        return self.greeting.limits


class Bench:
    """One check's workplace. Every connection is initialized, with the token if there is one, unless stated otherwise.

    Args:
        target: the server.
        trial: the check's run.
    """

    def __init__(self, target: Target, trial: Trial) -> None:
        self.target = target
        self.trial = trial
        self._peers: list[Peer] = []

    async def connect(self) -> Peer:
        """A connection that is ready for requests."""
        peer = await self.connect_plain(with_token=False)
        await peer.call(INITIALIZE, **hello(self.target.token))
        return peer

    async def connect_plain(
        self,
        *,
        subprotocols: Sequence[str] | None = (SUBPROTOCOL,),
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        compression: str | None = None,
        with_token: bool = True,
    ) -> Peer:
        """A connection without `initialize`; the credential, if one is needed, is sent in the handshake.

        Raises:
            InvalidStatus: the server refuses the upgrade.
        """
        sent = dict(headers or {})
        if with_token and self.target.token is not None:
            sent["Authorization"] = f"Bearer {self.target.token}"
        try:
            connection = await websocket(
                self.target.address.socket_url,
                subprotocols=None if subprotocols is None else [Subprotocol(name) for name in subprotocols],
                additional_headers=sent,
                origin=None if origin is None else Origin(origin),
                compression=compression,
                proxy=None if self.target.address.is_local else True,
                ping_interval=None,
                close_timeout=CLOSE_LIMIT_S,
                max_size=MESSAGE_BYTES_MAX,
                # Deltas are buffered here, not in the kernel, while a check does not read.
                max_queue=None,
            )
        except InvalidStatus:
            raise
        except (OSError, EOFError, InvalidHandshake) as error:
            raise Failed("a connection", f"{type(error).__name__}: {error}") from error
        peer = Peer(connection, self.trial)
        self._peers.append(peer)
        return peer

    def short(self, **more: Any) -> dict[str, Any]:
        """The params of a chat with a short completion."""
        return self._chat(_SHORT, 16, more)

    def long(self, **more: Any) -> dict[str, Any]:
        """The params of a chat with a long completion."""
        return self._chat(_LONG, 400, more)

    async def session(self, peer: Peer, **params: Any) -> Session:
        """A conversation, deleted at the end."""
        params.setdefault("session_id", new_id("s"))
        self.trial.sessions.add(params["session_id"])
        return await peer.call(SESSION_CREATE, **params)

    async def tidy(self) -> None:
        """Clean up: cancel the streams, delete the sessions, close the connections."""
        try:
            async with asyncio.timeout(min(TIDY_LIMIT_S, 2 * self.trial.quiet_s)):
                if self.trial.streams or self.trial.sessions:
                    await self._undo()
        except (TimeoutError, Failed, Skipped, InvalidHandshake, ClientError):
            pass  # The check has reported what is wrong.
        finally:
            await asyncio.gather(*(peer.leave() for peer in self._peers))

    async def _undo(self) -> None:
        peer = await self.connect()
        cancels = [await peer.request(STREAM_CANCEL, stream_id=stream_id) for stream_id in self.trial.streams]
        for request in cancels:
            await peer.response(request)
        for session_id in self.trial.sessions:
            await peer.response(await peer.request(SESSION_DELETE, session_id=session_id))

    def _chat(self, text: str, max_tokens: int, more: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "messages": [{"role": "user", "content": text}],
            "max_tokens": max_tokens,
            "stream_id": new_id("c"),
            **self.target.route,
            **more,
        }


def hello(token: str | None) -> dict[str, Any]:
    """The params of `initialize`."""
    client = {"name": "archer-ws conformance", "version": str(PROTOCOL_VERSION)}
    return {"protocol_version": PROTOCOL_VERSION, "client": client, **({"token": token} if token else {})}


def new_id(kind: str) -> str:
    """A fresh id for a stream or a session."""
    return f"conformance-{kind}-{secrets.token_hex(8)}"
