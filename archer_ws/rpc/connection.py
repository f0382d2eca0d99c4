"""One connection: its reader, its writer, its requests' tasks, and its holds on streams.

It owns these tasks as one group and ends them in this order: the reader or the writer ends (the peer left, or a close
was sent); the requests' tasks are cancelled; deliveries stop; the holds are released, after which each stream's
`on_disconnect` decides. It does not know the transport (channel.py). The methods are in rpc/methods and see the
connection through context.py.
"""

import asyncio
import time
from collections import deque
from contextvars import copy_context
from typing import NoReturn

import structlog

from archer_ws.core.limits import BAD_MESSAGES_MAX, BAD_MESSAGES_WINDOW_S
from archer_ws.core.rare_line import RareLine
from archer_ws.rpc.channel import Channel, ChannelClosed
from archer_ws.rpc.close_reasons import CloseReason
from archer_ws.rpc.codec import (
    BadBatch,
    BadMessage,
    RequestId,
    decode_call,
    encode_error,
    encode_errors,
    encode_notification,
)
from archer_ws.rpc.context import Context, Handshake
from archer_ws.rpc.dispatcher import Dispatcher, note_failure
from archer_ws.rpc.messages import ServerDraining
from archer_ws.rpc.method_errors import defect
from archer_ws.rpc.requests import id_in_use
from archer_ws.rpc.services import RpcServices

_frame_defect = RareLine("frame_defect", level="error")
_violation = RareLine("protocol_violation")


class Connection:
    """One client's connection.

    Args:
        channel: carries the messages.
        services: what the methods work on.
        dispatcher: the methods.
        handshake: who the client is.
    """

    def __init__(self, channel: Channel, services: RpcServices, dispatcher: Dispatcher, handshake: Handshake) -> None:
        self.context = Context(channel, services, handshake)
        self._channel = channel
        self._dispatcher = dispatcher
        self._init_timeout_s = services.limits.init_timeout_s
        self._bad_messages: deque[float] = deque(maxlen=BAD_MESSAGES_MAX)

    async def run(self) -> None:
        """Serve until the peer leaves or the connection is closed."""
        structlog.contextvars.bind_contextvars(connection_id=self.context.connection_id)
        try:
            # The reader or the writer ends first, with ChannelClosed, and so cancels the others.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(), name=f"writer {self.context.connection_id}")
                tasks.create_task(self._await_credential(), name=f"credential {self.context.connection_id}")
                await self._read(tasks)
        except* ChannelClosed:
            pass
        finally:
            self.context.release_all()

    def notify_draining(self, remaining_ms: int) -> None:
        """Notify the peer that the server is about to stop."""
        self.context.writer.put(encode_notification("server/draining", ServerDraining(remaining_ms=remaining_ms)))

    def close(self, reason: CloseReason, *, after_streams: bool = False) -> None:
        """Close after all responses have been sent and, with `after_streams`, all events that exist by then."""
        self.context.close(reason, after_streams=after_streams)

    async def _write(self) -> NoReturn:
        try:
            await self.context.writer.run()
        finally:
            self.context.is_closing = True  # No response could be sent.
        raise ChannelClosed

    async def _read(self, tasks: asyncio.TaskGroup) -> NoReturn:
        """Read, parse, register, dispatch; waits only while the lane is full (protocol section 3)."""
        context = copy_context()

        def take(text: str) -> None:
            if not self.context.is_closing:
                # In a copy, since each request binds its name for the log.
                context.copy().run(self._take, text, tasks)

        def take_at_once(text: str) -> bool:
            if not self.context.writer.has_room:
                return False
            take(text)
            return True

        # Most messages are taken as they arrive: waking this task would cost more than reading them.
        self._channel.push_to(take_at_once)
        try:
            while True:
                await self.context.writer.room()
                take(await self._channel.receive())
        except ChannelClosed:
            # The requests that were read last begin: what clients do to a tool loop then goes on without them.
            await asyncio.sleep(0)
            raise
        finally:
            self._channel.push_to(None)

    def _take(self, text: str, tasks: asyncio.TaskGroup) -> None:
        """Dispatch a frame's request, or respond with an error. No frame ends the connection by itself."""
        try:
            call = decode_call(text)
            self._check_is_free(call.id)
        except BadMessage as bad:
            self._respond_to_bad_message(bad)
        except BadBatch as batch:
            self._respond_to_batch(batch.refusals)
        except Exception:  # noqa: BLE001 - the outermost handler of the reader; the error is logged
            request_id = self.context.requests.next_name()
            _frame_defect.write(request_id=request_id, exc_info=True)
            self.context.writer.put(encode_error(None, defect(), request_id))
        else:
            self._dispatcher.dispatch(self.context, call, tasks)

    def _check_is_free(self, identity: RequestId | None) -> None:
        if self.context.requests.is_in_use(identity):
            raise BadMessage(id_in_use())

    def _respond_to_batch(self, refusals: list[BadMessage]) -> None:
        responses: list[BadMessage] = []
        used_ids = set(self.context.requests.ids)
        for each in refusals:
            # The only response under an id in use belongs to another request.
            responses.append(BadMessage(id_in_use()) if each.id in used_ids else each)
            if each.id is not None:
                used_ids.add(each.id)
        if responses:
            request_id = self.context.requests.next_name()
            note_failure(None, responses[0].error, request_id)
            self.context.writer.put(encode_errors(responses, request_id))
        self._count_violation()

    def _respond_to_bad_message(self, bad: BadMessage) -> None:
        try:
            self._check_is_free(bad.id)
        except BadMessage as taken:
            bad = taken  # The only response under that id belongs to another request.
        is_call = bad.error.kind == "invalid_params"  # a request, though with wrong params
        if is_call and bad.id is None:
            return  # Notifications never get a response (JSON-RPC 2.0, section 4.1).
        request_id = self.context.requests.next_name()
        note_failure(None, bad.error, request_id)
        self.context.writer.put(encode_error(bad.id, bad.error, request_id))
        if not is_call:
            self._count_violation()

    def _count_violation(self) -> None:
        now = time.monotonic()
        if len(self._bad_messages) == BAD_MESSAGES_MAX and now - self._bad_messages[0] < BAD_MESSAGES_WINDOW_S:
            _violation.write(cause="too many frames that are no requests")
            self.close("protocol_violation")
        self._bad_messages.append(now)

    async def _await_credential(self) -> None:
        if self.context.is_authenticated:
            return
        await asyncio.sleep(self._init_timeout_s)
        if not self.context.is_authenticated:
            self.close("init_timeout")
