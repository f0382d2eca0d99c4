"""What one subscription received of a stream, and whether it arrived in the order that the protocol promises. Pure."""

from collections.abc import Iterator

from archer_ws.conformance.calls import Calls
from archer_ws.conformance.ledger import Rule
from archer_ws.conformance.methods import LIVE_STATUSES
from archer_ws.conformance.wire import StreamEvent, UnknownEvent
from archer_ws.rpc.messages import ChatSendResult
from archer_ws.sessions.streams.events import (
    StreamDelta,
    StreamEnded,
    StreamProgress,
    StreamStarted,
    StreamToolCall,
)

#: The longest text of one replayed delta (protocol section 7), in bytes.
REPLAYED_BYTES_MAX = 16 * 1024


class Told:
    """One subscription of one socket to one stream.

    Args:
        stream_id: which stream.
        after: the last event that was known before.
        is_whole: whether the whole text comes with the end, without deltas.
        accepted: the response to the send, if there was one.
    """

    def __init__(
        self, stream_id: str, after: int = 0, *, is_whole: bool = False, accepted: ChatSendResult | None = None
    ) -> None:
        self.stream_id = stream_id
        self.is_whole = is_whole
        self.last = after
        self.events = 0
        self.deltas = 0
        self.longest_delta_bytes = 0
        self.content = ""
        self.reasoning = ""
        self.started: StreamStarted | None = None
        self.progress: list[StreamProgress] = []
        self.ended: StreamEnded | None = None
        #: The names and numbers of the events that are not text: these are never merged, and may be unknown here.
        self.landmarks: list[tuple[str, int]] = []
        #: The names of what was received, in order.
        self.kinds: list[str] = []
        self._accepted = accepted
        self._calls = Calls(sees_all=after == 0 and not is_whole)

    @property
    def accepted(self) -> ChatSendResult:
        """The response to the send."""
        assert self._accepted is not None
        return self._accepted

    def take(self, event: StreamEvent) -> list[tuple[Rule, str]]:
        """Record an event; returns what is wrong with it."""
        faults = list(self._faults(event))
        self.last = event.seq
        self.events += 1
        match event:
            case StreamDelta():
                self._add(event)
            case StreamStarted():
                self.started = event
                self.kinds.append("started")
            case StreamProgress():
                self.progress.append(event)
                self.kinds.append("progress")
            case StreamEnded():
                self.ended = event
                self.kinds.append("ended")
            case UnknownEvent():
                self.kinds.append(event.method)
            case _:
                self.kinds.append(event.kind)
        if not isinstance(event, StreamDelta):
            self.landmarks.append((self.kinds[-1], event.seq))
        return faults

    def _add(self, delta: StreamDelta) -> None:
        if delta.reset:
            self.content = self.reasoning = ""
        self.content += delta.content or ""
        self.reasoning += delta.reasoning or ""
        self.deltas += 1
        text = delta.content or delta.reasoning or delta.arguments or ""
        self.longest_delta_bytes = max(self.longest_delta_bytes, len(text.encode()))
        self.kinds.append("delta")

    def _faults(self, event: StreamEvent) -> Iterator[tuple[Rule, str]]:
        if self.ended is not None:
            yield Rule.ENDS, f"seq {event.seq} of {self.stream_id} came after its stream/ended"
        first = _first(event)
        if self.is_whole and first <= self.last:
            yield Rule.ORDER, f"seq {first} of {self.stream_id} came after seq {self.last}"
        elif not self.is_whole and first != self.last + 1:
            yield Rule.ORDER, f"seq {first} of {self.stream_id} came after seq {self.last}: {self.last + 1} was due"
        match event:
            case _ if first > event.seq:
                yield Rule.ORDER, f"an event of {self.stream_id} goes from {first} to {event.seq}"
            case StreamDelta() if not _has_one_text(event):
                yield Rule.FORM, "stream/delta has one of content, reasoning and arguments, these with their call"
            case StreamDelta() if self.is_whole:
                yield Rule.ORDER, f"a delta of {self.stream_id} came, which was asked with stream: false"
            case StreamStarted() if self.started is not None or self.deltas:
                yield Rule.ORDER, f"stream/started of {self.stream_id} came twice or behind a delta"
            case StreamEnded() if event.status in LIVE_STATUSES:
                yield Rule.ENDS, f"stream/ended of {self.stream_id} says {event.status}"
            case StreamEnded():
                yield from self._end_faults(event)
        yield from ((Rule.CALLS, f"{fault}, in {self.stream_id}") for fault in self._call_faults(event))

    def _call_faults(self, event: StreamEvent) -> Iterator[str]:
        match event:
            case StreamDelta():
                yield from self._calls.text(event)
            case StreamToolCall():
                yield from self._calls.call(event)
            case StreamEnded():
                yield from self._calls.end(event)

    def _end_faults(self, end: StreamEnded) -> Iterator[tuple[Rule, str]]:
        if (end.status == "failed" and end.error is None) or (end.status == "completed" and end.error is not None):
            yield Rule.ENDS, f"stream/ended says {end.status} {'with' if end.error else 'without'} an error"
        if (end.reason is not None) != (end.status == "cancelled"):
            yield Rule.ENDS, f"stream/ended says {end.status} with the reason {end.reason}"
        if end.content is not None and not self.is_whole:
            yield Rule.ENDS, "stream/ended has the content, though stream: false was not asked"


def _first(event: StreamEvent) -> int:
    match event:
        case StreamDelta():
            return event.from_
        case UnknownEvent():
            return event.first
    return event.seq


def _has_one_text(delta: StreamDelta) -> bool:
    has_arguments = delta.arguments is not None
    texts = (delta.content is not None) + (delta.reasoning is not None) + has_arguments
    return texts == 1 and has_arguments == (delta.call_id is not None) == (delta.name is not None)
