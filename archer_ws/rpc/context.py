"""What a method sees of its connection: the client's principal, the services, and the streams that the client receives.

Methods change a connection only through this. connection.py has its tasks and reads its channel.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from archer_ws.core.exceptions import Overloaded, TooManyStreams, Unauthenticated
from archer_ws.core.ids import new_id
from archer_ws.rpc.channel import Channel
from archer_ws.rpc.close_reasons import CLOSE_CODES, CloseReason, close_text
from archer_ws.rpc.requests import Requests
from archer_ws.rpc.services import RpcServices
from archer_ws.rpc.watching import Watching
from archer_ws.rpc.writer import Writer
from archer_ws.sessions.streams.hold import Hold
from archer_ws.sessions.streams.open_call import Holder
from archer_ws.sessions.streams.stream import Stream

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Handshake:
    """Who the client is, as far as the handshake told.

    `principal` is None if the client still has to send a credential; `credentials` returns the principal of a token.
    `admit` is called for the principal of a token; it returns why there is no room for it, or None.
    """

    principal: str | None
    credentials: Callable[[str], str | None]
    admit: Callable[[str], str | None] = lambda _: None


class ExpectedDelivery:
    """A delivery that begins with a response which has not been sent yet, since the request waits; use it as a context
    manager around the wait. The delivery already counts as one, and can be left.

    Args:
        stream: the stream; None while it is being looked up.
        forget: called with this when the wait is over.
    """

    __slots__ = ("_forget", "is_left", "stream", "stream_id")

    def __init__(self, stream_id: str, stream: Stream | None, forget: "Callable[[ExpectedDelivery], object]") -> None:
        self.stream_id = stream_id
        self.stream = stream
        self.is_left = False
        self._forget = forget

    def __enter__(self) -> "ExpectedDelivery":
        return self

    def __exit__(self, *_: object) -> None:
        self._forget(self)


class Context:
    """One connection, as its methods see it.

    Args:
        channel: where the writer sends.
        services: what the methods work on.
        handshake: who the client is.
    """

    def __init__(self, channel: Channel, services: RpcServices, handshake: Handshake) -> None:
        self.connection_id = new_id("con")
        self.services = services
        self.writer = Writer(channel, on_ended=self.release, heartbeat_s=services.limits.heartbeat_s)
        #: The requests that are being served.
        self.requests = Requests(self.connection_id, services.limits.max_requests)
        self.is_initialized = False
        #: Whether any request has been received: `initialize` must be the first.
        self.has_spoken = False
        self.is_closing = False
        self._handshake = handshake
        self._principal = handshake.principal
        self._holds: dict[Stream, Hold] = {}
        self._expected: dict[ExpectedDelivery, None] = {}
        self._watching: Watching | None = None
        #: The tool calls that are claimed over this connection.
        self.claims = Holder()

    @property
    def is_authenticated(self) -> bool:
        """Whether the principal is known."""
        return self._principal is not None

    @property
    def principal(self) -> str:
        """The client's principal. The dispatcher runs no method that needs one without it."""
        assert self._principal is not None
        return self._principal

    @property
    def watching(self) -> Watching:
        """Which of the principal's conversations this connection watches."""
        if self._watching is None:
            self._watching = Watching(self.principal, self.services.manager.changes, self.writer)
        return self._watching

    def authenticate(self, token: str) -> None:
        """Make the token's principal the principal of this connection.

        Raises:
            Unauthenticated: the token is unknown; the connection closes after the response.
            Overloaded: the principal has the most connections it may have; the connection closes after the response.
        """
        principal = self._handshake.credentials(token)
        if principal is None:
            # After the response, which is queued as soon as this is raised.
            asyncio.get_running_loop().call_soon(self.close, "unauthorized")
            raise Unauthenticated(
                "the token is not one this server knows",
                hint="Send the token of the server's setting AUTH_TOKEN or AUTH_TOKENS. Without these, send no token.",
            )
        if no_room := self._handshake.admit(principal):
            asyncio.get_running_loop().call_soon(partial(self.close, "connection_limit", detail=no_room))
            raise Overloaded(no_room, hint="Close some connections first.", retry_after_ms=5000)
        self._principal = principal

    def check_room(self, stream: Stream | None = None) -> None:
        """Refuse one more running stream on a connection that has the most it may have. A stream that has ended, or
        that is delivered or expected already, needs no room; None stands for a stream that has not begun.

        Raises:
            TooManyStreams: the connection has no room.
        """
        if stream is not None and (not stream.is_live or self.writer.delivers(stream.stream_id)):
            return
        most = self.services.limits.max_streams
        expected = self._only_expected() if self._expected else ()
        if stream is not None and stream in expected:
            return
        if not self.writer.has_room_for_streams(most - len(expected)):
            raise TooManyStreams(
                f"{most} running streams are subscribed on this connection, which is its limit",
                hint="Wait for some to end, unsubscribe, or open another connection.",
                retry_after_ms=1000,
            )

    def _only_expected(self) -> set[Stream]:
        """The running streams whose delivery is expected and has not begun."""
        streams = {each.stream for each in self._expected if each.stream is not None and not each.is_left}
        return {each for each in streams if each.is_live and not self.writer.delivers(each.stream_id)}

    def expect(self, stream_id: str, stream: Stream | None = None) -> ExpectedDelivery:
        """Note that a delivery of the stream begins when the request that asks for it no longer waits."""
        expected = ExpectedDelivery(stream_id, stream, self._forget)
        self._expected[expected] = None
        return expected

    def _forget(self, expected: ExpectedDelivery) -> None:
        self._expected.pop(expected, None)

    def hold(self, stream: Stream, hold: Hold) -> bool:
        """Hold the stream until it has ended and all of it has been delivered here, or until this connection closes.

        Returns whether it was not held before.
        """
        if stream in self._holds:
            hold.release()
            return False
        self._holds[stream] = hold
        hold.reader = _Delivery(self, stream)
        return True

    def deliver_expected(self, expected: ExpectedDelivery, after: int = 0, *, is_whole: bool = False) -> None:
        """`deliver`, unless the client has left the stream while its request waited."""
        stream = expected.stream
        assert stream is not None
        if not expected.is_left:
            self.deliver(stream, after, is_whole=is_whole)
        elif not stream.is_live:
            self.release(stream)

    def deliver(self, stream: Stream, after: int = 0, *, is_whole: bool = False) -> None:
        """Send the stream's events after `after`, from now on up to the last one."""
        if stream not in self._holds:
            # It ended while its delivery was being requested: hold it, so that this reader counts.
            self.hold(stream, stream.hold())
        self.writer.subscribe(stream, after, is_whole=is_whole)
        if not self.writer.delivers(stream.stream_id):
            self.release(stream)

    def stop_delivering(self, stream_id: str) -> None:
        """Stop sending the stream's events, and do not begin for earlier requests that still wait; a running stream is
        still held."""
        for expected in self._expected:
            if expected.stream_id == stream_id:
                expected.is_left = True
        stream = self.writer.unsubscribe(stream_id)
        if stream is not None and not stream.is_live:
            self.release(stream)

    def release(self, stream: Stream) -> None:
        """Release the hold on a stream that has nothing more to deliver here."""
        hold = self._holds.pop(stream, None)
        if hold is not None:
            hold.release()

    def release_all(self) -> None:
        """Stop all deliveries and release every hold: the connection is over."""
        self.writer.drop_unsent()
        self.claims.gone()
        if self._watching is not None:
            self._watching.end(None)
        for hold in self._holds.values():
            hold.release()
        self._holds.clear()

    def break_off(self, stream: Stream) -> None:
        """Stop delivering the stream, and close: the peer does not read, and memory is short."""
        log.warning("reader_cut_off", stream_id=stream.stream_id)
        self.writer.unsubscribe(stream.stream_id)
        self.release(stream)
        self.close("slow_reader")

    def close(self, reason: CloseReason, *, after_streams: bool = False, detail: str | None = None) -> None:
        """Close after all responses have been sent and, with `after_streams`, all events that exist by then.

        `detail` follows the reason's name in the close frame.
        """
        if not self.is_closing:
            self.is_closing = True
            self.writer.put_close(CLOSE_CODES[reason], close_text(reason, detail), after_streams=after_streams)


class _Delivery:
    """A stream's reader (hold.py) that is a connection."""

    __slots__ = ("_context", "_stream")

    def __init__(self, context: Context, stream: Stream) -> None:
        self._context = context
        self._stream = stream

    def stream_ended(self) -> None:
        """Release the stream, unless events are still to be delivered; the writer releases it after the last one."""
        if not self._context.writer.delivers(self._stream.stream_id):
            self._context.release(self._stream)

    def stream_parked(self) -> None:
        """Do nothing: the connection is about to close, and its client will subscribe again."""

    def position(self) -> float:
        """When the connection last sent a frame. It serves its streams in turn, so no single stream's position tells
        whether it reads."""
        return self._context.writer.sent_at

    def cut_off(self) -> None:
        """Close the connection; its other streams can be resumed."""
        self._context.break_off(self._stream)
