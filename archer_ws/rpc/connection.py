"""One connection: its reader, its writer, its requests' tasks, and the streams it holds.

It owns these tasks as one group, and takes them down in this order: the reader or the writer ends (the peer left, or a
close was sent); the requests' tasks are cancelled; deliveries stop; the holds are released, which lets each stream's
`on_disconnect` decide. It knows nothing of what carries the messages (channel.py), and leaves the methods to
rpc/methods.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import anyio
import structlog

from archer_ws.core.exceptions import Overloaded, TooManyStreams, Unauthenticated
from archer_ws.core.ids import new_id
from archer_ws.core.limits import (
    BAD_MESSAGES_MAX,
    BAD_MESSAGES_WINDOW_S,
    INIT_TIMEOUT_S,
    MAX_REQUESTS,
    MAX_STREAMS,
)
from archer_ws.core.rare_line import RareLine
from archer_ws.rpc.channel import Channel, ChannelClosed
from archer_ws.rpc.codec import (
    BadBatch,
    BadMessage,
    RequestId,
    decode_call,
    encode_error,
    encode_errors,
    encode_notification,
)
from archer_ws.rpc.dispatcher import Dispatcher, note_failure
from archer_ws.rpc.errors import defect
from archer_ws.rpc.messages import CLOSE_CODES, CloseReason, ServerDraining
from archer_ws.rpc.services import RpcServices
from archer_ws.rpc.writer import Writer
from archer_ws.sessions.streams.hold import Hold
from archer_ws.sessions.streams.stream import Stream

log = structlog.get_logger(__name__)

#: The most a close frame's reason may have (RFC 6455, section 5.5), in bytes; ours are ASCII.
CLOSE_TEXT_CHARS = 123
_frame_defect = RareLine("frame_defect", level="error")
_violation = RareLine("protocol_violation")


def close_text(reason: CloseReason, detail: str | None = None) -> str:
    """What a close frame says: the reason's name, and as much of the rest as there is room for."""
    return f"{reason}: {detail}"[:CLOSE_TEXT_CHARS] if detail else reason


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as far as the handshake told.

    `principal` is None where a credential is still due; `credentials` tells whom a token stands for. `admit` is called
    once for a principal that is told later; what it returns is why there is no room for it, if there is none.
    """

    principal: str | None
    credentials: Callable[[str], str | None]
    admit: Callable[[str], str | None] = lambda _: None


class Connection:
    """One peer's connection.

    Args:
        channel: carries the messages.
        services: what the methods work on.
        dispatcher: the methods.
        peer: who it is.
    """

    def __init__(self, channel: Channel, services: RpcServices, dispatcher: Dispatcher, peer: Peer) -> None:
        self.connection_id = new_id("con")
        self.services = services
        self.principal = peer.principal
        self.is_initialized = False
        #: Whether any request has come: `initialize` must be the first.
        self.has_spoken = False
        self.writer = Writer(channel, on_ended=self.let_go)
        self.in_flight: set[RequestId] = set()
        self.running_requests = 0
        self._peer = peer
        self._channel = channel
        self._dispatcher = dispatcher
        self._holds: dict[Stream, Hold] = {}
        self._bad_messages: deque[float] = deque(maxlen=BAD_MESSAGES_MAX)
        self._request_count = 0
        self._is_closing = False

    async def run(self) -> None:
        """Serve until the peer leaves or the connection is closed."""
        structlog.contextvars.bind_contextvars(connection_id=self.connection_id)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, tasks.cancel_scope)
                tasks.start_soon(self._await_credential)
                await self._read(tasks)
                tasks.cancel_scope.cancel()
        finally:
            self.writer.detach_all()
            for hold in self._holds.values():
                hold.release()
            self._holds.clear()

    def next_request_id(self) -> str:
        """An id for the next request's errors and log lines."""
        self._request_count += 1
        return f"{self.connection_id}.{self._request_count}"

    def authenticate(self, token: str) -> str:
        """The principal a token stands for, who the connection is from now on.

        Raises:
            Unauthenticated: it stands for nobody; the connection closes behind the answer.
            Overloaded: the principal has as many connections as it may; likewise.
        """
        principal = self._peer.credentials(token)
        if principal is None:
            # Behind the answer, which is put as soon as this is raised.
            asyncio.get_running_loop().call_soon(self.close, "unauthorized")
            raise Unauthenticated(
                "the token is not one this server knows",
                hint="Send the token of the server's setting AUTH_TOKEN or AUTH_TOKENS.",
            )
        if no_room := self._peer.admit(principal):
            asyncio.get_running_loop().call_soon(partial(self.close, "connection_limit", detail=no_room))
            raise Overloaded(no_room, hint="Close some connections first.", retry_after_ms=5000)
        self.principal = principal
        return principal

    def hold(self, stream: Stream, hold: Hold) -> bool:
        """Keep the stream until it has ended and nothing of it is left to be delivered here, or this connection closes;
        whether it was not kept before."""
        if stream in self._holds:
            hold.release()
            return False
        self._holds[stream] = hold
        hold.reader = _Delivery(self, stream)
        return True

    def deliver(self, stream: Stream, after: int = 0, *, is_whole: bool = False) -> None:
        """Send the stream's events after `after`, from now on and until the last one."""
        if stream not in self._holds:
            # It ended while its delivery was being asked for: what is read is held, so that it counts.
            self.hold(stream, stream.hold())
        self.writer.attach(stream, after, is_whole=is_whole)
        if not self.writer.delivers(stream.stream_id):
            self.let_go(stream)

    def stop_delivering(self, stream_id: str) -> None:
        """Send no more of the stream; it is still held while it runs."""
        stream = self.writer.detach(stream_id)
        if stream is not None and not stream.is_live:
            self.let_go(stream)

    def let_go(self, stream: Stream) -> None:
        """Give up the hold on a stream of which nothing is to be delivered any more."""
        hold = self._holds.pop(stream, None)
        if hold is not None:
            hold.release()

    def break_off(self, stream: Stream) -> None:
        """Deliver nothing more of the stream, and close: the peer does not read, and memory is short."""
        log.warning("reader_cut_off", stream_id=stream.stream_id)
        self.writer.detach(stream.stream_id)
        self.let_go(stream)
        self.close("slow_reader")

    def check_room_for_stream(self) -> None:
        """Refuse one more running stream on a connection that has all it may.

        Raises:
            TooManyStreams: it has.
        """
        if self.writer.live_subscriptions >= MAX_STREAMS:
            raise TooManyStreams(
                f"{MAX_STREAMS} running streams are attached to this connection, the most it may have",
                hint="Wait for some to end, unsubscribe, or open another connection.",
                retry_after_ms=1000,
            )

    def check_room_for_request(self) -> None:
        """Refuse one more request on a connection that runs all it may.

        Raises:
            Overloaded: it does.
        """
        if self.running_requests >= MAX_REQUESTS:
            raise Overloaded(
                f"{MAX_REQUESTS} requests of this connection are being served, the most it may have",
                hint="Wait for some answers first.",
                retry_after_ms=1000,
            )

    def notify_draining(self, remaining_ms: int) -> None:
        """Tell the peer that the server is about to stop."""
        self.writer.put(encode_notification("server/draining", ServerDraining(remaining_ms=remaining_ms)))

    def close(self, reason: CloseReason, *, after_streams: bool = False, detail: str | None = None) -> None:
        """Close once all responses have been sent, and with `after_streams` all events that there are by then.

        `detail` goes into the close's reason, behind the reason's name.
        """
        if not self._is_closing:
            self._is_closing = True
            self.writer.put_close(CLOSE_CODES[reason], close_text(reason, detail), after_streams=after_streams)

    async def _write(self, scope: anyio.CancelScope) -> None:
        with suppress(ChannelClosed):
            await self.writer.run()
        scope.cancel()

    async def _read(self, tasks: anyio.abc.TaskGroup) -> None:
        """Read, parse, register, dispatch; only a full lane makes it wait (protocol section 3)."""
        while True:
            await self.writer.room()
            try:
                text = await self._channel.receive()
            except ChannelClosed:
                return
            if not self._is_closing:
                self._take(text, tasks)

    def _take(self, text: str, tasks: anyio.abc.TaskGroup) -> None:
        """Dispatch a frame's request, or answer what is none. Whatever a frame is, the connection lives on."""
        try:
            call = decode_call(text)
            self._check_is_free(call.id)
        except BadMessage as bad:
            self._answer_bad_message(bad)
        except BadBatch as batch:
            self._answer_batch(batch.refusals)
        except Exception:  # noqa: BLE001 - the reader's edge, as the dispatcher is the methods'; the line has it
            request_id = self.next_request_id()
            _frame_defect.write(request_id=request_id, exc_info=True)
            self.writer.put(encode_error(None, defect(), request_id))
        else:
            self._dispatcher.dispatch(self, call, tasks)

    def _check_is_free(self, identity: RequestId | None) -> None:
        if identity is not None and identity in self.in_flight:
            raise BadMessage(Dispatcher.id_in_flight())

    def _answer_batch(self, refusals: list[BadMessage]) -> None:
        answers: list[BadMessage] = []
        answered = set(self.in_flight)
        for each in refusals:
            # The one response under an id in use is another's.
            answers.append(BadMessage(Dispatcher.id_in_flight()) if each.id in answered else each)
            if each.id is not None:
                answered.add(each.id)
        if answers:
            request_id = self.next_request_id()
            note_failure(None, answers[0].error, request_id)
            self.writer.put(encode_errors(answers, request_id))
        self._count_violation()

    def _answer_bad_message(self, bad: BadMessage) -> None:
        try:
            self._check_is_free(bad.id)
        except BadMessage as taken:
            bad = taken  # The one response under that id is another's.
        is_call = bad.error.kind == "invalid_params"  # though a wrong one
        if is_call and bad.id is None:
            return  # Notifications are never answered (JSON-RPC 2.0, section 4.1).
        request_id = self.next_request_id()
        note_failure(None, bad.error, request_id)
        self.writer.put(encode_error(bad.id, bad.error, request_id))
        if not is_call:
            self._count_violation()

    def _count_violation(self) -> None:
        now = time.monotonic()
        if len(self._bad_messages) == BAD_MESSAGES_MAX and now - self._bad_messages[0] < BAD_MESSAGES_WINDOW_S:
            _violation.write(cause="too many frames that are no requests")
            self.close("protocol_violation")
        self._bad_messages.append(now)

    async def _await_credential(self) -> None:
        if self.principal is not None:
            return
        await anyio.sleep(INIT_TIMEOUT_S)
        if self.principal is None:
            self.close("init_timeout")


class _Delivery:
    """A stream's reader that is a connection."""

    __slots__ = ("_connection", "_stream")

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream

    def stream_ended(self) -> None:
        """Let go, unless events are still to be delivered; with the last of them the connection lets go by itself."""
        if not self._connection.writer.delivers(self._stream.stream_id):
            self._connection.let_go(self._stream)

    def position(self) -> float:
        """When the connection last took a frame: it goes round its streams, so none of them tells by itself."""
        return self._connection.writer.sent_at

    def cut_off(self) -> None:
        """Close the connection; its other streams can be resumed."""
        self._connection.break_off(self._stream)
