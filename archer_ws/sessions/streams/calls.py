"""Puts the tool calls of a completion into a stream's log: their arguments as they arrive, and events of complete
calls."""

from datetime import datetime

from archer_ws.core.limits import CALL_ARGUMENTS_BYTES
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.sessions.streams.events import (
    CallName,
    CallState,
    MakeEvent,
    StreamToolCall,
    StreamToolResult,
    StreamToolUpdate,
)
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.streams.open_call import CallResult
from archer_ws.sessions.streams.scalars import ScalarEncoder, boundary


class CallTooLong(Exception):
    """A call's arguments exceed CALL_ARGUMENTS_BYTES; what fitted is in the log."""


class _Incoming:
    __slots__ = ("encoder", "name", "size")

    def __init__(self, name: CallName) -> None:
        self.name = name
        self.encoder = ScalarEncoder()
        #: The bytes of arguments received.
        self.size = 0


class IncomingCalls:
    """The calls of one completion, in the order in which they began."""

    __slots__ = ("_calls", "_log")

    def __init__(self, log: StreamLog) -> None:
        self._log = log
        self._calls: dict[str, _Incoming] = {}

    @property
    def names(self) -> list[CallName]:
        """Every call that has arguments, complete or not."""
        return [call.name for call in self._calls.values()]

    def take(self, call_id: str, name: str, arguments: str) -> None:
        """Append a piece of a call's arguments to the log. A call's name is that of its first piece.

        Raises:
            CallTooLong: the call's arguments are too long.
            LogFull: the log has no room for it.
        """
        call = self._calls.get(call_id)
        if call is None:
            call = self._calls[call_id] = _Incoming(CallName(call_id, name))
        text = call.encoder.encode(arguments)
        room = CALL_ARGUMENTS_BYTES - call.size
        call.size += len(text)
        if len(text) > room:
            self._log.append_text("arguments", text[: boundary(text, room)], call.name)
            raise CallTooLong
        self._log.append_text("arguments", text, call.name)

    def flush(self) -> None:
        """At the end of the completion: append what was held back of a character.

        Raises:
            LogFull: the log has no room for it.
        """
        for call in self._calls.values():
            self._log.append_text("arguments", call.encoder.flush(), call.name)


def complete(stream_id: str, call: CallName, *, needs_approval: bool, deadline_at: datetime | None = None) -> MakeEvent:
    """The event that a call is complete; its arguments are in the log already."""

    def make(seq: int) -> StreamToolCall:
        return StreamToolCall(
            stream_id=stream_id,
            seq=seq,
            call_id=call.call_id,
            name=call.name,
            arguments="",
            by="client",
            needs_approval=needs_approval or None,
            deadline_at=deadline_at,
        )

    return make


def update_event(stream_id: str, call_id: str, state: CallState, *, approved: bool | None = None) -> MakeEvent:
    """The event that an open call has a new state."""

    def make(seq: int) -> StreamToolUpdate:
        return StreamToolUpdate(stream_id=stream_id, seq=seq, call_id=call_id, state=state, approved=approved)

    return make


def result_event(stream_id: str, call_id: str, result: CallResult) -> MakeEvent:
    """The event that a call has its result."""

    def make(seq: int) -> StreamToolResult:
        return StreamToolResult(
            stream_id=stream_id,
            seq=seq,
            call_id=call_id,
            status=result.status,
            content=result.content,
            parts=list(result.parts) if result.parts else None,
        )

    return make


def as_tool_call(event: CallName | StreamToolCall, arguments: str) -> ToolCall:
    """The call as messages have it. Not validated: a model may call a tool that the request did not offer."""
    return ToolCall.model_construct(call_id=event.call_id, name=event.name, arguments=arguments)
