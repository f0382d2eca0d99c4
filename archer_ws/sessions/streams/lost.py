"""What becomes of the streams of a process that is gone: those that waited for results go on, the others have ended.

From what a journal kept; who starts and keeps them is the manager. Pure.
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
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, MessageRole
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

#: How far behind the last event that was kept a lost stream's end stands: nobody can have seen so many events of a
#: second, so no reader takes the end for one that it has seen (protocol section 26).
LOST_GAP = 1_000_000


def end_lost(
    record: StreamRecord, pieces: Sequence[LogPiece], loop: str | None, now: datetime, *, stored: bool | None = None
) -> tuple[StoredCompletion, LogEnd] | None:
    """The answer and the end of a stream whose process was lost; None where it waits for results, and goes on.
    `stored`: what the end says of that.

    Of what can't be read it takes the beginning, and it does not go on: one damaged stream must not keep the others
    from coming back.
    """
    stream_log, state = _log_of(record, pieces), _state_of(record, loop)
    if state.request is not None and stream_log.tool_calls() and _can_go_on(record, pieces, loop):
        return None
    messages = messages_of(stream_log.events())
    content, reasoning = stream_log.text("content"), stream_log.text("reasoning") or None
    if content and messages[-1].role is MessageRole.ASSISTANT:
        messages.pop()  # The answer itself.
    steps = [event for event in stream_log.events() if isinstance(event, StreamStep)]
    error = WorkerLost(
        "the server was lost while it answered",
        hint="The text that came until then is kept. To have it answered anew, ask again with replace_from.",
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
    """A stream that waited when its process went.

    Args:
        pieces: its whole log.
        loop: what was kept beside it (LoopState).

    Raises:
        ValueError, KeyError, msgspec.DecodeError: what was kept of it can't be read.
    """

    def __init__(self, pieces: Sequence[LogPiece], loop: str) -> None:
        self.log = MemoryLog.of(pieces)
        if self.log.head_seq != (pieces[-1].last_seq if pieces else 0):
            raise ValueError("the log has a gap")
        self.state = LoopState.model_validate_json(loop)
        self.state.native_turns()  # It is looked at now, and not in the middle.
        assert self.state.request is not None
        self.request = ChatRequest.model_validate(self.state.request)

    @property
    def said(self) -> list[ChatMessage]:
        """What the application has said within the stream, which may name files."""
        results = [message for message in messages_of(self.log.events()) if message.role is MessageRole.TOOL]
        return [*(message.as_chat() for message in results), *self.state.steered]

    def exchange(self, stream_id: str, keeper: Keeper) -> Exchange:
        """Where its calls stand: a claimed one is lost (or open, if it is idempotent), an answered one keeps its
        result; an approval holds."""
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
                        on_lapse=exchange.lapsed,
                    )
                    deadline_at = event.deadline_at or deadline_at
                case StreamToolUpdate() if event.call_id in calls:
                    call = calls[event.call_id]
                    call.approved = call.approved or bool(event.approved)
                    call.claim = new_id("claim") if event.state == "running" else None
                case StreamToolResult():
                    status: ResultStatus = event.status  # type: ignore[assignment] # ours, of this version or an older
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
                # Its text may be the answer's, which no log has.
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
