"""Builds a stream's last events and its stored completion, once its outcome is known.

It only reads: the stream (stream.py) stores the completion and appends the events.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.llm_gateway.types import ASSISTANT, ChatMessage, TokenUsage
from archer_ws.sessions.format_judge import Judgement
from archer_ws.sessions.models import StreamMessage
from archer_ws.sessions.storage.values import EarlierMessage, StoredCompletion
from archer_ws.sessions.streams.calls import as_tool_call, complete
from archer_ws.sessions.streams.events import CallName, ControlEvent, MakeEvent, SteeredMessage, StreamEnded
from archer_ws.sessions.streams.fold import messages_of
from archer_ws.sessions.streams.intake import Intake
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.streams.outcome import Outcome, final_usage
from archer_ws.sessions.streams.steering import as_steered
from archer_ws.sessions.streams.work import StreamIdentity, Work


class EndingStream(Protocol):
    """The attributes of an ending stream that are read here."""

    identity: StreamIdentity
    log: StreamLog
    history_dropped: int | None
    stored: bool | None
    message_ids: list[str]
    judgement: Judgement | None


@dataclass(frozen=True, slots=True)
class Loop:
    """The state of a stream's tool loop at its end."""

    step: int = 1
    #: Whether the last step ended with calls that were sent to clients and awaited.
    has_told_calls: bool = False
    #: The results that the server gave to calls that had none.
    server_results: Sequence[MakeEvent] = field(default_factory=tuple)
    #: Steered messages that no step followed.
    unsteered: Sequence[ChatMessage] = field(default_factory=tuple)


class Ending:
    """The end of one stream.

    Args:
        stream: the stream.
        work: its work.
        intake: what the provider reported.
        outcome: how it ended.
        loop: the state of its tool loop.
    """

    def __init__(
        self,
        stream: EndingStream,
        work: Work,
        intake: Intake,
        outcome: Outcome,
        loop: Loop,
    ) -> None:
        self._stream = stream
        self._identity: StreamIdentity = stream.identity
        self._log = stream.log
        self._work = work
        self._intake = intake
        self._outcome = outcome
        self._loop = loop
        is_good = outcome.status == "completed"
        #: The calls that the stream ends with, for the client to run; none unless the stream completed.
        self._calls: list[CallName] = intake.complete_calls if is_good and not loop.has_told_calls else []
        self._refusal = intake.refusal if is_good else None
        #: Why the model stopped. `tool_calls` is reported only together with calls that may be run: otherwise a client
        #: would wait for calls, or run incomplete ones.
        self._reason = intake.finish_reason if is_good or intake.finish_reason != "tool_calls" else None

    def last_events(self) -> list[MakeEvent]:
        """The server's results for calls without one, the calls that a stream without a tool loop ends with, and the
        end."""
        return [*self._loop.server_results, *map(self._complete, self._calls), self._ended]

    def _complete(self, call: CallName) -> MakeEvent:
        return complete(self._identity.stream_id, call, needs_approval=self._work.needs_approval(call.name))

    def numbered(self) -> list[ControlEvent]:
        """The last events with the numbers that they will have in the log."""
        return [make(seq) for seq, make in enumerate(self.last_events(), self._log.head_seq + 1)]

    def completion(self) -> StoredCompletion:
        """What the session stores: the last completion, and the messages of earlier steps before it."""
        has_completion = not self._loop.has_told_calls
        return StoredCompletion(
            self._log.text("content") if has_completion else "",
            self._outcome.status,
            calls=[as_tool_call(call, self._log.arguments(call.call_id)) for call in self._calls],
            refusal=self._refusal,
            reasoning=(self._log.text("reasoning") or None) if has_completion else None,
            provider=self._identity.provider,
            model=self._identity.model,
            finish_reason=self._reason,
            usage=self._usage(),
            error=self._error(),
            earlier=self._earlier(),
        )

    def _earlier(self) -> list[EarlierMessage]:
        if self._loop.step == 1 and not self._loop.has_told_calls:
            return []
        results = [make(0) for make in self._loop.server_results]
        messages = messages_of([*self._log.events(), *results])
        if not self._loop.has_told_calls and self._log.text("content"):
            messages.pop()  # The last completion, which is not an earlier message.
        return earlier_messages(messages, self._identity.provider, self._identity.model)

    def _ended(self, seq: int) -> StreamEnded:
        stream, outcome, loop = self._stream, self._outcome, self._loop
        ended = StreamEnded(
            stream_id=self._identity.stream_id,
            seq=seq,
            status=outcome.status,
            reason=outcome.reason,
            finish_reason=self._reason,
            usage=self._usage(),
            text_bytes=self._log.content_bytes,
            history_dropped=stream.history_dropped,
            error=self._error(),
            stored=stream.stored,
            message_ids=[*stream.message_ids] or None,
            refusal=self._refusal,
            steps=loop.step if loop.step > 1 else None,
            unsteered=told_unsteered(loop.unsteered),
        )
        judged = stream.judgement
        if judged is None:
            return ended
        return replace(ended, format_valid=judged.valid, format_errors=[*judged.errors] or None)

    def _usage(self) -> TokenUsage:
        return self._intake.whole_usage(self._outcome.status, self._work.estimate_prompt)

    def _error(self) -> ErrorInfo | None:
        error = self._outcome.error
        return error.info(self._identity.request_id, stream_id=self._identity.stream_id) if error else None


def end_of_defect(identity: StreamIdentity, stream_log: StreamLog, outcome: Outcome, seq: int) -> StreamEnded:
    """The end of a stream whose own end could not be built: without anything that may be the reason."""
    assert outcome.error is not None
    return StreamEnded(
        stream_id=identity.stream_id,
        seq=seq,
        status=outcome.status,
        usage=final_usage(outcome.status, None, stream_log.text_bytes, lambda: 0),
        text_bytes=stream_log.content_bytes,
        error=outcome.error.info(identity.request_id, stream_id=identity.stream_id),
    )


def earlier_messages(messages: Sequence[StreamMessage], provider: str, model: str) -> list[EarlierMessage]:
    """The messages of a stream's earlier steps, in the form in which they are stored."""
    return [
        EarlierMessage(
            message.as_chat(),
            StoredCompletion(
                message.content,
                "completed",
                calls=message.tool_calls or (),
                reasoning=message.reasoning,
                provider=provider,
                model=model,
                finish_reason="tool_calls" if message.tool_calls else None,
            )
            if message.role is ASSISTANT
            else None,
        )
        for message in messages
    ]


def told_unsteered(messages: Sequence[ChatMessage]) -> list[SteeredMessage] | None:
    """The steered messages that no step followed, as the last event reports them."""
    return [as_steered(message) for message in messages] if messages else None
