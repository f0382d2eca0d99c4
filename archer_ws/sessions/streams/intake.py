"""Puts a provider's chunks into a stream's log: that it responded, its text in whole characters, and the arguments of
its calls. Remembers the token counts and why the model stopped.

It knows neither tasks nor how a stream ends: it takes one chunk after another, from whoever has it.
"""

import time
from collections.abc import Callable

from archer_ws.core.exceptions import OutputTooLong
from archer_ws.core.limits import CALL_ARGUMENTS_BYTES
from archer_ws.llm_gateway.types import Chunk, Refusal, StreamStatus, TokenUsage
from archer_ws.sessions.streams.calls import CallTooLong, IncomingCalls
from archer_ws.sessions.streams.events import CallName, StreamStarted, TextKind
from archer_ws.sessions.streams.log import LogFull, StreamLog
from archer_ws.sessions.streams.outcome import final_usage
from archer_ws.sessions.streams.scalars import ScalarEncoder
from archer_ws.sessions.streams.work import StreamIdentity


def _sum(one: TokenUsage, other: TokenUsage) -> TokenUsage:
    def both(name: str) -> int | None:
        known = [each for each in (getattr(one, name), getattr(other, name)) if each is not None]
        return sum(known) if known else None

    return TokenUsage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        total_tokens=one.total_tokens + other.total_tokens,
        estimated=one.estimated or other.estimated or None,
        cached_tokens=both("cached_tokens"),
        reasoning_tokens=both("reasoning_tokens"),
    )


class Intake:
    """Takes the chunks of a stream's completions, until the stream ends."""

    __slots__ = (
        "_before",
        "_bytes_before",
        "_calls",
        "_encoders",
        "_identity",
        "_is_closed",
        "_is_later",
        "_log",
        "_told",
        "began",
        "finish_reason",
        "first_text_ms",
        "has_responded",
        "refusal",
    )

    def __init__(self, identity: StreamIdentity, log: StreamLog) -> None:
        self._identity = identity
        self._log = log
        #: Only for kinds whose text had half of a surrogate pair.
        self._encoders: dict[TextKind, ScalarEncoder] = {}
        self._is_closed = False
        self._calls: IncomingCalls | None = None
        #: When the stream began (monotonic seconds), and the time from then to its first text (ms).
        self.began = time.monotonic()
        self.first_text_ms: float | None = None
        #: Whether the provider has sent a chunk in this step.
        self.has_responded = False
        #: Whether this is a later step than the first; the tokens of all earlier steps, and the bytes of their text.
        self._is_later = False
        self._before: TokenUsage | None = None
        self._bytes_before = 0
        #: The provider's latest token counts in this step, and why the model stopped in it.
        self._told: TokenUsage | None = None
        self.finish_reason: str | None = None
        #: The model's refusal, if it refused.
        self.refusal: Refusal | None = None

    def take(self, chunk: Chunk) -> None:
        """Put a chunk into the log, which notifies the readers.

        Raises:
            OutputTooLong: the log is full, or a call's arguments are too long; what fitted is in the log.
        """
        if self._is_closed:  # An orphaned task goes on.
            return
        if not self.has_responded:
            self.has_responded = True
            if not self._is_later:
                self._log.append(self._started)
        if chunk.usage is not None:
            self._told = chunk.usage
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason
            # A refusal comes with a finish reason.
            self.refusal = chunk.refusal or self.refusal
        if reasoning := chunk.reasoning:
            self._take_text("reasoning", reasoning)
        if content := chunk.content:
            self._take_text("content", content)
        if arguments := chunk.arguments:
            self._take_arguments(chunk.call_id or "", chunk.name or "", arguments)

    def forget_try(self) -> None:
        """After a try that failed before its first text: forget what it reported."""
        self._told = self.finish_reason = self.refusal = None

    def flush(self) -> None:
        """At the end of a completion: append what was held back of a character, if there is room."""
        try:
            for kind, encoder in self._encoders.items():
                self._log.append_text(kind, encoder.flush())
            if self._calls is not None:
                self._calls.flush()
        except LogFull:
            pass

    def close(self) -> None:
        """`flush`, and ignore all further chunks."""
        self.flush()
        self._is_closed = True

    def end_step(self, estimate_prompt: Callable[[], int]) -> None:
        """At the end of a step that another may follow: `flush`, and count its tokens (see `whole_usage`)."""
        self.flush()
        self._told = self._usage_of_step("completed", estimate_prompt)

    def next_step(self) -> None:
        """Begin the next step."""
        self._before = self.usage
        self._bytes_before = self._log.text_bytes
        self._told = None
        self._is_later = True
        self._encoders.clear()
        self._calls = None
        self.has_responded = False
        self.finish_reason = self.refusal = None

    def go_on(self, usage: TokenUsage | None, estimate_prompt: Callable[[], int]) -> None:
        """Go on behind a step of an earlier process, which ended with calls; `usage`: the token counts so far."""
        self._is_later = True
        self._told = usage
        self.finish_reason = "tool_calls"
        self.end_step(estimate_prompt)

    @property
    def usage(self) -> TokenUsage | None:
        """The latest token counts of all steps together."""
        if self._before is None or self._told is None:
            return self._told or self._before
        return _sum(self._before, self._told)

    def whole_usage(self, status: StreamStatus, estimate_prompt: Callable[[], int]) -> TokenUsage:
        """The token counts of all steps together. What the provider did not report of a step is estimated.

        Args:
            status: how the last step ended.
            estimate_prompt: returns an estimate of its prompt's tokens; called only if the provider reported none.
        """
        # A step that was complete before its stream was cancelled is complete.
        status = status if self.finish_reason is None else "completed"
        last = self._usage_of_step(status, estimate_prompt)
        return last if self._before is None else _sum(self._before, last)

    def _usage_of_step(self, status: StreamStatus, estimate_prompt: Callable[[], int]) -> TokenUsage:
        return final_usage(status, self._told, self._log.text_bytes - self._bytes_before, estimate_prompt)

    @property
    def complete_calls(self) -> list[CallName]:
        """The calls to run, in order, if the model stopped in order to call tools."""
        return self._calls.names if self._calls is not None and self.finish_reason == "tool_calls" else []

    def _take_arguments(self, call_id: str, name: str, arguments: str) -> None:
        if self.first_text_ms is None:
            self._note_first_text()
        if self._calls is None:
            self._calls = IncomingCalls(self._log)
        try:
            self._calls.take(call_id, name, arguments)
        except CallTooLong:
            raise OutputTooLong(
                f"the arguments of a tool call are longer than {CALL_ARGUMENTS_BYTES} bytes; the rest was cut off",
                hint="Describe the tool so that it needs less at a time.",
                provider=self._identity.provider,
            ) from None
        except LogFull:
            raise self._too_long() from None

    def _note_first_text(self) -> None:
        self.first_text_ms = (time.monotonic() - self.began) * 1000

    def _take_text(self, kind: TextKind, text: str) -> None:
        if self.first_text_ms is None:
            self._note_first_text()
        try:
            encoded = self._encoders[kind].encode(text) if kind in self._encoders else text.encode()
        except UnicodeEncodeError:
            encoder = self._encoders[kind] = ScalarEncoder()
            encoded = encoder.encode(text)
        try:
            self._log.append_text(kind, encoded)
        except LogFull:
            raise self._too_long() from None

    def _too_long(self) -> OutputTooLong:
        return OutputTooLong(
            "the completion is longer than a stream's limit; the rest was cut off",
            hint="Ask for less at a time, or set max_tokens.",
            provider=self._identity.provider,
        )

    def _started(self, seq: int) -> StreamStarted:
        identity = self._identity
        return StreamStarted(
            stream_id=identity.stream_id,
            seq=seq,
            session_id=identity.session_id,
            provider=identity.provider,
            model=identity.model,
            reasoning_effort=identity.reasoning_effort,
        )
