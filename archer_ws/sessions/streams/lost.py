"""Restores the streams of a lost process from the journal: those that waited for tool results go on, the others get an
end. Pure: the manager runs and retains them.
"""

from collections.abc import Sequence
from datetime import datetime

import structlog
from msgspec import DecodeError

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import WorkerLost
from archer_ws.core.ids import new_id
from archer_ws.llm_gateway.content import Part
from archer_ws.llm_gateway.tools import ResultStatus
from archer_ws.llm_gateway.types import ASSISTANT, TOOL, ChatMessage, ChatRequest
from archer_ws.sessions.storage.journal import LogEnd, LogPiece, StreamRecord
from archer_ws.sessions.storage.values import StoredCompletion
from archer_ws.sessions.streams.ending import earlier_messages, told_unsteered
from archer_ws.sessions.streams.events import (
    ControlEvent,
    StreamEnded,
    StreamStep,
    StreamToolCall,
    StreamToolResult,
    StreamToolUpdate,
)
from archer_ws.sessions.streams.exchange import Exchange, Keeper
from archer_ws.sessions.streams.fold import messages_of
from archer_ws.sessions.streams.loop_state import LoopState
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.open_call import CallResult, OpenCall
from archer_ws.sessions.streams.pieces import log_end

log = structlog.get_logger(__name__)

#: How far the number of a lost stream's end is beyond its last stored event. The journal is written once a second, and
#: no stream has so many events in a second, so no reader can have seen this number (protocol section 26).
LOST_GAP = 1_000_000


def end_lost(
    record: StreamRecord, pieces: Sequence[LogPiece], loop: str | None, now: datetime, *, stored: bool | None = None
) -> tuple[StoredCompletion, LogEnd] | None:
    """The completion and the end of a stream whose process was lost; None if it waits for tool results and can go on.

    If a part of it can't be read, it gets the readable beginning and an end: a damaged stream must not prevent the
    recovery of the others.

    Args:
        record: its row.
        pieces: its stored log.
        loop: its state beside the log (see LoopState), if it has one.
        now: the time of its end.
        stored: the value of the end's `stored`.
    """
    stream_log, state = _log_of(record, pieces), _state_of(record, loop)
    if state.request is not None and stream_log.tool_calls() and _can_go_on(record, pieces, loop):
        return None
    messages = messages_of(stream_log.events())
    # A step whose calls were sent is an earlier message, with its text; no completion follows it.
    has_completion = not stream_log.tool_calls()
    content = stream_log.text("content") if has_completion else ""
    reasoning = (stream_log.text("reasoning") or None) if has_completion else None
    if content and messages[-1].role is ASSISTANT:
        messages.pop()  # The last completion, which is not an earlier message.
    steps = [event for event in stream_log.events() if isinstance(event, StreamStep)]
    error = WorkerLost(
        "the server stopped or crashed during the generation",
        hint="The text up to then is stored. To generate it again, send the request again with replace_from.",
    ).info(record.request_id, stream_id=record.stream_id)
    ended = StreamEnded(
        stream_id=record.stream_id,
        seq=stream_log.head_seq + LOST_GAP,
        status="incomplete",
        text_bytes=stream_log.content_bytes,
        error=error,
        stored=stored,
        steps=len(steps) + 1 if steps else None,
        unsteered=told_unsteered(state.unsteered(_steered_in(steps))),
    )
    completion = StoredCompletion(
        content,
        "incomplete",
        reasoning=reasoning,
        provider=record.provider,
        model=record.model,
        error=error,
        earlier=earlier_messages(messages, record.provider, record.model),
    )
    return completion, log_end(ended, now, ())


class LeftWaiting:
    """A stream that waited for tool results when its process stopped.

    Args:
        pieces: its whole log.
        loop: its state beside the log (see LoopState).

    Raises:
        ValueError, KeyError, msgspec.DecodeError: it can't be read.
    """

    def __init__(self, pieces: Sequence[LogPiece], loop: str) -> None:
        self.log = MemoryLog.of(pieces)
        if self.log.head_seq != (pieces[-1].last_seq if pieces else 0):
            raise ValueError("the log has a gap")
        self.state = LoopState.model_validate_json(loop)
        self.state.native_turns()  # Decoded here, so that damage is found before the stream goes on.
        assert self.state.request is not None
        self.request = ChatRequest.model_validate(self.state.request)

    @property
    def said(self) -> list[ChatMessage]:
        """The tool results and steered messages of the stream, which may name files."""
        results = [message for message in messages_of(self.log.events()) if message.role is TOOL]
        return [*(message.as_chat() for message in results), *self.state.steered]

    def exchange(self, stream_id: str, keeper: Keeper) -> Exchange:
        """Restore the state of its calls. A claimed call is lost, or open again if it is idempotent; results and
        approvals are retained."""
        events = [event for event in self.log.events() if isinstance(event, ControlEvent)]
        steps = [event for event in events if isinstance(event, StreamStep)]
        begun = steps[-1].seq if steps else 0
        exchange = Exchange(stream_id, self.log, keeper, step=len(steps) + 1)
        idempotent = {tool.name for tool in self.request.tools or () if tool.idempotent}
        calls: dict[str, OpenCall] = {}
        settled: dict[str, ResultStatus] = {}
        deadline_at = utc_now()
        for event in events:
            match event:
                case StreamToolCall() if event.seq > begun:
                    calls[event.call_id] = OpenCall(
                        event.call_id,
                        needs_approval=bool(event.needs_approval),
                        idempotent=event.name in idempotent,
                        on_lapse=exchange.calls.lapsed,
                    )
                    deadline_at = event.deadline_at or deadline_at
                case StreamToolUpdate() if event.call_id in calls:
                    call = calls[event.call_id]
                    call.approved = call.approved or bool(event.approved)
                    call.claim = new_id("claim") if event.state == "running" else None
                case StreamToolResult():
                    status: ResultStatus = event.status  # type: ignore[assignment] # written by this server
                    settled[event.call_id] = status
                    if event.call_id in calls:
                        parts = [part for part in event.parts or () if isinstance(part, Part)]
                        calls[event.call_id].settle(CallResult(status, event.content or "", parts or None))
        exchange.resume(list(calls.values()), deadline_at, settled, self.state, _steered_in(steps))
        return exchange


def _can_go_on(record: StreamRecord, pieces: Sequence[LogPiece], loop: str | None) -> bool:
    try:
        LeftWaiting(pieces, loop or "")
    except (ValueError, KeyError, DecodeError) as cause:
        log.error("stream_damaged", stream_id=record.stream_id, cause=type(cause).__name__)  # noqa: TRY400 - as below
        return False
    return True


def _log_of(record: StreamRecord, pieces: Sequence[LogPiece]) -> MemoryLog:
    for most in range(len(pieces), 0, -1):
        try:
            return MemoryLog.of(pieces[:most])
        except (ValueError, KeyError) as cause:
            if most == len(pieces):
                # The exception's text may contain the completion's, which must not be logged.
                log.error("stream_damaged", stream_id=record.stream_id, cause=type(cause).__name__)  # noqa: TRY400
    return MemoryLog()


def _state_of(record: StreamRecord, loop: str | None) -> LoopState:
    if loop is None:
        return LoopState()
    try:
        return LoopState.model_validate_json(loop)
    except ValueError as cause:
        log.error("stream_damaged", stream_id=record.stream_id, cause=type(cause).__name__)  # noqa: TRY400
        return LoopState()


def _steered_in(steps: Sequence[StreamStep]) -> list[str]:
    return [message.message_id for step in steps for message in step.messages or ()]
