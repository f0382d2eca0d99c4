"""What a provider says, put into a stream's log: that it answered, its text in whole characters, the arguments of its
calls, what it told besides.

It knows neither tasks nor how a stream ends; the stream gives it one chunk after another.
"""

import time
from contextlib import suppress

from archer_ws.core.exceptions import OutputTooLong
from archer_ws.core.limits import CALL_ARGUMENTS_BYTES
from archer_ws.llm_gateway.types import Refusal, StreamChunk, TokenUsage
from archer_ws.sessions.streams.calls import CallTooLong, IncomingCalls
from archer_ws.sessions.streams.events import CallName, StreamStarted, TextKind
from archer_ws.sessions.streams.log import LogFull, StreamLog
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
    """A stream's answers on their way into the log, for as long as they are generated."""

    __slots__ = (
        "_before",
        "_calls",
        "_encoders",
        "_identity",
        "_is_later",
        "_log",
        "began",
        "finish_reason",
        "first_text_ms",
        "has_responded",
        "refusal",
        "usage",
    )

    def __init__(self, identity: StreamIdentity, log: StreamLog) -> None:
        self._identity = identity
        self._log = log
        self._encoders: dict[TextKind, ScalarEncoder] = {}
        self._calls: IncomingCalls | None = None
        #: When the stream began (monotonic seconds), and how long its first text took from then on.
        self.began = time.monotonic()
        self.first_text_ms: float | None = None
        #: Whether the provider has said anything yet, in this step.
        self.has_responded = False
        #: Whether this is not the first step; and what earlier ones cost.
        self._is_later = False
        self._before: TokenUsage | None = None
        #: What it told last of the cost of all steps, and of why it stopped in this one.
        self.usage: TokenUsage | None = None
        self.finish_reason: str | None = None
        #: That the model declined to answer.
        self.refusal: Refusal | None = None

    def take(self, chunk: StreamChunk) -> None:
        """Put a chunk into the log.

        Raises:
            OutputTooLong: the log is full, or a call's arguments are too long; what fitted is kept.
        """
        if not self.has_responded:
            self.has_responded = True
            if not self._is_later:
                self._log.append(self._started)
        if chunk.usage is not None:
            self.usage = chunk.usage if self._before is None else _sum(self._before, chunk.usage)
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason
            # It comes with a reason.
            self.refusal = chunk.refusal or self.refusal
        if chunk.reasoning:
            self._take_text("reasoning", chunk.reasoning)
        if chunk.content:
            self._take_text("content", chunk.content)
        if arguments := chunk.arguments:
            self._take_arguments(chunk.call_id or "", chunk.name or "", arguments)

    def flush(self) -> None:
        """At the end: what was held back of a character, where there is still room for it."""
        with suppress(LogFull):
            for kind, encoder in self._encoders.items():
                self._log.append_text(kind, encoder.flush())
            if self._calls is not None:
                self._calls.flush()

    def next_step(self) -> None:
        """The model has answered, and is asked again."""
        self.go_on(self.usage)

    def go_on(self, before: TokenUsage | None) -> None:
        """What comes now is a later step; `before` is what all earlier ones cost."""
        self._is_later = True
        self._before = self.usage = before
        self._encoders.clear()
        self._calls = None
        self.has_responded = False
        self.finish_reason = self.refusal = None

    @property
    def complete_calls(self) -> list[CallName]:
        """The calls to be run, in order, if the answer came to a good end: those of a model that stopped to call."""
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
                f"the arguments of a tool call are longer than {CALL_ARGUMENTS_BYTES} bytes; what fitted was kept",
                hint="Have the tool take less at a time.",
                provider=self._identity.provider,
            ) from None
        except LogFull:
            raise self._too_long() from None

    def _note_first_text(self) -> None:
        self.first_text_ms = (time.monotonic() - self.began) * 1000

    def _take_text(self, kind: TextKind, text: str) -> None:
        if self.first_text_ms is None:
            self._note_first_text()
        encoder = self._encoders.get(kind)
        if encoder is None:
            encoder = self._encoders[kind] = ScalarEncoder()
        try:
            self._log.append_text(kind, encoder.encode(text))
        except LogFull:
            raise self._too_long() from None

    def _too_long(self) -> OutputTooLong:
        return OutputTooLong(
            "the answer is longer than a stream may hold; what fitted was kept",
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
