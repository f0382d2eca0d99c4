"""What is sent on one connection: one writer, which reads the logs of the subscribed streams at the peer's pace.

While nothing waits, a frame is sent in the call that brings it; otherwise the writer's task sends, in the order below.
There is no queue of frames. Each subscription has a cursor, and adjacent text is merged when the peer is slow, so
the logs limit the memory. Responses, heartbeats and notices have their own lane, which goes first; the reader limits
it, since it stops reading while the lane is full. States, of which only the newest matters, come next, one for each
thing that has one. This module keeps the protocol's promises of order (section 5): a frame that was put into the lane
before a stream was subscribed is sent before all of that stream's events.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from archer_ws.core.lean_event import LeanEvent
from archer_ws.core.limits import HEARTBEAT_S, LANE_BYTES_MAX
from archer_ws.core.tracebacks import forget_tracebacks
from archer_ws.rpc.channel import Channel, ChannelClosed
from archer_ws.rpc.codec import delta_prefix, encode_delta, encode_event, encode_notification
from archer_ws.rpc.messages import Heartbeat
from archer_ws.sessions.streams.events import ControlEvent, Delta, StreamEnded
from archer_ws.sessions.streams.log import DELTA_BYTES_MAX
from archer_ws.sessions.streams.stream import Stream

#: After this many frames the writer yields: a socket that accepts everything at once must not block the loop.
FRAMES_PER_TURN = 16
#: Likewise after this many skipped deltas, each some microseconds: a whole completion may have 64 thousand.
SKIPS_PER_TURN = 512

_HEARTBEAT = encode_notification("$/heartbeat", Heartbeat())


@dataclass(frozen=True, slots=True)
class Close:
    """The end of the lane: close the channel once everything before it is sent."""

    code: int
    reason: str
    #: Whether the pending events of the subscribed streams are sent first.
    after_streams: bool


class Subscription:
    """One stream's delivery on one connection.

    Args:
        stream: the stream.
        after: the last event that the client has.
        is_whole: skip the deltas, and send the whole text with the end.
    """

    __slots__ = ("_prefix", "cursor", "due", "is_queued", "is_whole", "stream", "timer", "unwatch")

    def __init__(self, stream: Stream, after: int, *, is_whole: bool) -> None:
        self.stream = stream
        self.cursor = after
        self.is_whole = is_whole
        self.is_queued = False
        #: When the next delta may be sent, if deltas are gathered (loop time).
        self.due = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self._prefix = delta_prefix(stream.stream_id)
        self.unwatch: Callable[[], None] = lambda: None

    @property
    def only_the_end_is_left(self) -> bool:
        """Whether the next event is the last one."""
        ended = self.stream.log.ended
        return ended is not None and self.cursor == ended.seq - 1

    def frame(self, event: Delta | ControlEvent) -> str:
        """The frame of one of the stream's events."""
        return encode_delta(self._prefix, event) if isinstance(event, Delta) else encode_event(event)


class Writer:
    """All that is sent on a connection; `run` is its task.

    Args:
        channel: where to send.
        on_ended: called with a stream whose end the task is about to send: nothing else of it is needed here.
        heartbeat_s: after this much silence a heartbeat is sent, in seconds.
    """

    def __init__(
        self, channel: Channel, *, on_ended: Callable[[Stream], None], heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self._channel = channel
        self._heartbeat_s = heartbeat_s
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        self._lane: deque[str | Close] = deque()
        self._lane_bytes = 0
        self._has_room = LeanEvent()
        self._has_room.set()
        self._subscriptions: dict[str, Subscription] = {}
        self._ready: deque[Subscription] = deque()
        #: By key, what makes the frame of the newest state that has not been sent.
        self._states: dict[str, Callable[[], str]] = {}
        self._wake = LeanEvent()
        #: Whether `run` waits, with nothing left to send.
        self._is_idle = False
        #: When the last frame was sent (loop time), and the timer that checks it.
        self._sent_at = 0.0
        self._heart: asyncio.TimerHandle | None = None
        #: How long a stream's later deltas are gathered, in seconds.
        self.coalesce_s = 0.0

    def has_room_for_streams(self, most: int) -> bool:
        """Whether fewer than so many subscribed streams have not ended."""
        if len(self._subscriptions) < most:
            return True
        return sum(subscription.stream.is_live for subscription in self._subscriptions.values()) < most

    @property
    def sent_at(self) -> float:
        """When the channel last accepted a frame (loop time)."""
        return self._sent_at

    def delivers(self, stream_id: str) -> bool:
        """Whether the stream's events are being delivered."""
        return stream_id in self._subscriptions

    def put(self, frame: str) -> None:
        """Send a frame ahead of all deltas; at once if nothing else waits."""
        if self._sends_now(frame):
            return
        self._lane.append(frame)
        self._lane_bytes += len(frame)
        if self._lane_bytes > LANE_BYTES_MAX:
            self._has_room.clear()
        self._wake_up()

    def _sends_now(self, frame: str) -> bool:
        """Send a frame at once if nothing else waits, and return whether it was sent: waking `run` for it would cost as
        much as the rest of sending it."""
        if not self._is_idle or not self._channel.try_send(frame):
            return False
        self._sent_at = self._loop.time()
        return True

    def _wake_up(self) -> None:
        self._is_idle = False
        self._wake.set()

    def put_state(self, key: str, frame: Callable[[], str]) -> None:
        """Send a state, unless a newer one with the same key replaces it first."""
        self._states[key] = frame
        self._wake_up()

    def keep_states(self, is_wanted: Callable[[str], bool]) -> None:
        """Drop the unsent states whose key is not wanted."""
        self._states = {key: frame for key, frame in self._states.items() if is_wanted(key)}

    def put_close(self, code: int, reason: str, *, after_streams: bool) -> None:
        """Close the channel after everything in the lane is sent and, with `after_streams`, every event that exists."""
        self._lane.append(Close(code, reason, after_streams))
        self._wake_up()

    @property
    def has_room(self) -> bool:
        """Whether the lane is not full: `room` would return at once."""
        return self._has_room.is_set()

    async def room(self) -> None:
        """Wait while the lane is full."""
        await self._has_room.wait()

    def subscribe(self, stream: Stream, after: int = 0, *, is_whole: bool = False) -> None:
        """Deliver the stream's events after `after`, if any are to come; this replaces another delivery of the same
        stream."""
        self.unsubscribe(stream.stream_id)
        ended = stream.log.ended
        if ended is not None and after >= ended.seq:
            return
        subscription = Subscription(stream, after, is_whole=is_whole)
        self._subscriptions[stream.stream_id] = subscription
        subscription.unwatch = stream.log.watch(partial(self._told_of_more, subscription))
        self._mark(subscription)

    def unsubscribe(self, stream_id: str) -> Stream | None:
        """Stop delivering the stream, and return it; None if it is not being delivered."""
        subscription = self._subscriptions.pop(stream_id, None)
        if subscription is None:
            return None
        subscription.unwatch()
        if subscription.timer is not None:
            subscription.timer.cancel()
        if subscription.is_queued:
            self._ready.remove(subscription)
        return subscription.stream

    def unsubscribe_all(self) -> None:
        """Stop all deliveries."""
        for stream_id in list(self._subscriptions):
            self.unsubscribe(stream_id)

    def drop_unsent(self) -> None:
        """Stop all deliveries, and free what waits to be sent: the channel is closed, and the connection stays in
        memory until the next garbage collection."""
        self.unsubscribe_all()
        self._lane.clear()
        self._states.clear()

    async def run(self) -> None:
        """Send until the channel is closed.

        Raises:
            ChannelClosed: the peer is gone.
        """
        self._sent_at = self._loop.time()
        self._beat()
        try:
            await self._send_all()
        except (ChannelClosed, asyncio.CancelledError) as over:
            forget_tracebacks(over)  # They have the frame that was being sent.
            raise
        finally:
            if self._heart is not None:
                self._heart.cancel()

    async def _send_all(self) -> None:
        sent = skipped = 0
        while True:
            if self._lane and not self._streams_go_first():
                frame = self._lane.popleft()
                if isinstance(frame, Close):
                    await self._channel.close(frame.code, frame.reason)
                    return
                self._lane_bytes -= len(frame)
            elif self._states:
                frame = self._states.pop(next(iter(self._states)))()
            elif self._ready:
                next_frame = self._next_of(self._ready.popleft())
                if next_frame is None:
                    skipped += 1
                    if skipped % SKIPS_PER_TURN == 0:
                        await asyncio.sleep(0)
                    continue
                frame = next_frame
            else:
                self._wake.clear()
                self._is_idle = True
                try:
                    await self._wake.wait()
                finally:
                    self._is_idle = False
                continue
            if not self._channel.try_send(frame):
                await self._channel.send(frame)
            self._sent_at = self._loop.time()
            if self._lane_bytes <= LANE_BYTES_MAX // 2:
                self._has_room.set()
            sent += 1
            if sent % FRAMES_PER_TURN == 0:
                await asyncio.sleep(0)

    def _streams_go_first(self) -> bool:
        frame = self._lane[0]
        return isinstance(frame, Close) and frame.after_streams and bool(self._ready)

    def _beat(self) -> None:
        """After a long silence, send a heartbeat. One timer is enough: the time of the last frame is checked only when
        it fires."""
        now = self._loop.time()
        if now - self._sent_at >= self._heartbeat_s:
            if not self._lane:
                self.put(_HEARTBEAT)
            self._sent_at = now
        self._heart = self._loop.call_at(self._sent_at + self._heartbeat_s, self._beat)

    def _next_of(self, subscription: Subscription) -> str | None:
        """The next frame of a ready stream, if there is one; the stream then queues behind the others."""
        subscription.is_queued = False
        stream = subscription.stream
        event = stream.log.read(subscription.cursor)
        if event is None:
            return None
        subscription.cursor = event.seq
        if isinstance(event, Delta):
            # A full delta means that the peer lags: gathering would delay it further.
            self._mark(subscription, after_delta=len(event.text) < DELTA_BYTES_MAX // 2)
            return None if subscription.is_whole else subscription.frame(event)
        if isinstance(event, StreamEnded):
            self.unsubscribe(stream.stream_id)
            if subscription.is_whole:
                event = replace(event, content=stream.log.text("content"))
            self._on_ended(stream)
            return encode_event(event)
        self._mark(subscription)
        return subscription.frame(event)

    def _told_of_more(self, subscription: Subscription) -> None:
        """The stream's log has grown: send the event at once if nothing else waits, else queue the stream."""
        if self._is_idle and not self.coalesce_s and not subscription.is_whole:
            log = subscription.stream.log
            event = log.read(subscription.cursor)
            if event is not None:
                try:
                    frame = subscription.frame(event)
                except Exception:  # noqa: BLE001 - the task meets it again, and raises it where it belongs
                    self._mark(subscription)
                    return
                if self._sends_now(frame):
                    subscription.cursor = event.seq
                    if isinstance(event, StreamEnded):
                        # The stream is released by its reader's `stream_ended`, which follows.
                        self.unsubscribe(event.stream_id)
                    if event.seq == log.head_seq:
                        return
        self._mark(subscription)

    def _mark(self, subscription: Subscription, *, after_delta: bool = False) -> None:
        """Queue the stream if it has something to send; an end goes before other streams' deltas."""
        if after_delta and self.coalesce_s:
            subscription.due = self._loop.time() + self.coalesce_s
        if subscription.is_queued or subscription.stream.log.head_seq <= subscription.cursor:
            return
        if subscription.only_the_end_is_left:
            subscription.is_queued = True
            self._ready.appendleft(subscription)
        elif not self._gathers(subscription):
            subscription.is_queued = True
            self._ready.append(subscription)
        self._wake_up()

    def _gathers(self, subscription: Subscription) -> bool:
        """Whether the stream's deltas are still being gathered; if so, a timer queues it when they are due."""
        if not self.coalesce_s or subscription.stream.log.ended is not None:
            return False
        if subscription.due <= self._loop.time():
            return False
        if subscription.timer is None:
            subscription.timer = self._loop.call_at(subscription.due, self._due, subscription)
        return True

    def _due(self, subscription: Subscription) -> None:
        subscription.timer = None
        subscription.due = 0.0
        self._mark(subscription)
