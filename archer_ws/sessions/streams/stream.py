"""One generation: its state machine, its owner task and the reader child.

    queued ──► running ──► completed · incomplete · failed
       └─────────┴──► cancelling ──► cancelled

The owner task runs the provider's reader as its child and alone writes the end. Cancel and finish meet in one
compare-and-set with no await between check and write: whoever comes first decides. What is generated, and what becomes
of the answer, is the `Work`'s; what a chunk means is intake.py's; which streams exist is the manager's.
"""

import asyncio
from contextlib import aclosing
from typing import Literal

import structlog

from archer_ws.core.clock import utc_now
from archer_ws.core.deferred import afterwards
from archer_ws.core.exceptions import ArcherError, ContextTooLong, ErrorInfo
from archer_ws.core.lean_event import LeanEvent
from archer_ws.core.limits import STREAM_OVERHEAD_BYTES
from archer_ws.llm_gateway.types import CancelReason, ProgressPhase, Refusal, StreamStatus, TokenUsage
from archer_ws.sessions.admission import admit
from archer_ws.sessions.format_judge import Judgement
from archer_ws.sessions.storage.values import StoredAnswer
from archer_ws.sessions.streams.calls import as_tool_call, complete
from archer_ws.sessions.streams.end_line import EndLine
from archer_ws.sessions.streams.events import CallName, MakeEvent, StreamEnded, StreamProgress
from archer_ws.sessions.streams.hold import Hold
from archer_ws.sessions.streams.intake import Intake
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.streams.logprobs import TokenLogprobs
from archer_ws.sessions.streams.outcome import Outcome, final_usage
from archer_ws.sessions.streams.rules import StreamRules
from archer_ws.sessions.streams.work import StreamIdentity, Work

log = structlog.get_logger(__name__)

#: How long a cancelled reader may take to close its connection (protocol section 6).
STOP_GRACE_S = 2.0


class Stream:
    """One generation.

    Args:
        identity: what it is.
        rules: what holds for it as for others.
    """

    def __init__(self, identity: StreamIdentity, rules: "StreamRules[Stream]") -> None:
        self.identity = identity
        self.log: StreamLog = rules.new_log()
        self.created_at = utc_now()
        self.ended_at = self.created_at
        self.history_dropped: int | None = None
        #: What is to be told of the tokens, where the request asked for it.
        self.logprobs: TokenLogprobs | None = None
        #: False where the answer belongs to a session and could not be kept there before the end was told.
        self.stored: bool | None = None
        #: Of the messages that it stored.
        self.message_ids: list[str] = []
        self._rules = rules
        #: Until the end is written.
        self._intake: Intake | None = Intake(identity, self.log)
        self._live_status: Literal["queued", "running"] = "queued"
        self._cancel_reason: CancelReason | None = None
        self._outcome: Outcome | None = None
        self._judging: asyncio.Task[Judgement | None] | None = None
        self._judgement: Judgement | None = None
        self._rejection: ArcherError | None = None
        # In the order they came: a dict, as a set costs twice as much.
        self._holds: dict[Hold, None] = {}
        self._grace: asyncio.TimerHandle | None = None
        self._admitted = LeanEvent()
        #: Done as soon as the owner has something to decide: the reader is, or a cancel came.
        self._decision: asyncio.Future[None] | None = None
        self._finished = LeanEvent()
        self.task: asyncio.Task[None] | None = None

    @property
    def stream_id(self) -> str:
        """The id, unique for its principal."""
        return self.identity.stream_id

    @property
    def status(self) -> StreamStatus:
        """Where it stands; the ended ones never change again."""
        if self._outcome is not None:
            return self._outcome.status
        return "cancelling" if self._is_cancelling() else self._live_status

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Who cancelled it, where it has ended so."""
        return self._outcome.reason if self._outcome is not None else None

    @property
    def usage(self) -> TokenUsage | None:
        """What it cost, as far as that is known."""
        if self.log.ended is not None:
            return self.log.ended.usage
        return self._intake.usage if self._intake is not None else None

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped, once it has ended."""
        return self.log.ended.finish_reason if self.log.ended is not None else None

    @property
    def is_live(self) -> bool:
        """Whether the last event is still to come."""
        return self.log.ended is None

    @property
    def is_held(self) -> bool:
        """Whether anybody reads it."""
        return bool(self._holds)

    @property
    def holds(self) -> tuple[Hold, ...]:
        """Who reads it."""
        return tuple(self._holds)

    @property
    def size_bytes(self) -> int:
        """What it costs in memory, about."""
        beside = self.logprobs.size_bytes if self.logprobs is not None else 0
        return STREAM_OVERHEAD_BYTES + self.log.size_bytes + beside

    def start(self, work: Work) -> None:
        """Begin; the owner task inherits the caller's logging context."""
        self._decision = asyncio.get_running_loop().create_future()
        if self._is_cancelling():
            self._decide()
        self.task = asyncio.create_task(self._own(work), name=f"stream {self.stream_id}")

    async def wait_admitted(self) -> None:
        """Return once the stream is accepted.

        Raises:
            ArcherError: it was refused; such a stream has no log and no id.
        """
        await self._admitted.wait()
        if self._rejection is not None:
            raise self._rejection

    async def wait_ended(self) -> None:
        """Return once the last event is written, or the stream was refused."""
        await self._finished.wait()

    def cancel(self, reason: CancelReason) -> Literal["cancelling", "already_ended"]:
        """Ask for the end; the owner does the rest. Harmless to repeat: the first reason stays.

        An answer that is whole stays so; only its end waits no longer for the judgement of its form.
        """
        if self._outcome is not None:
            if self._judging is not None:
                self._judging.cancel()
            return "already_ended"
        if self._cancel_reason is None:
            self._cancel_reason = reason
            self._decide()
        return "cancelling"

    def set_running(self) -> None:
        """The wait for a predecessor or a provider's slot is over."""
        self._live_status = "running"

    def progress(self, phase: ProgressPhase, detail: str | None) -> None:
        """Tell what happens before the first text."""
        self.log.append(lambda seq: StreamProgress(stream_id=self.stream_id, seq=seq, phase=phase, detail=detail))

    def keep_logprobs(self) -> None:
        """From now on what `logprobs` is given waits for the answer that tells it."""
        self.logprobs = TokenLogprobs(lambda: self.log.head_seq, self.identity.provider)

    def hold(self) -> Hold:
        """Keep the stream alive as its reader (protocol section 7)."""
        hold = Hold(self._release)
        self._holds[hold] = None
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        return hold

    def _release(self, hold: Hold) -> None:
        """One holder less."""
        del self._holds[hold]
        if self._holds:
            return
        if self._finished.is_set() or not self.is_live:
            self._rules.on_unheld(self)
            return
        loop = asyncio.get_running_loop()
        if self.identity.on_disconnect == "cancel":
            # Not at once: a new holder within this loop step wins.
            loop.call_soon(self._leave)
        elif self._rules.grace_s is not None:
            self._grace = loop.call_later(self._rules.grace_s, self._leave)

    def _is_cancelling(self) -> bool:
        return self._cancel_reason is not None and self._outcome is None

    def _decide(self, _: object = None) -> None:
        """Wake the owner, who looks at what has happened."""
        if self._decision is not None and not self._decision.done():
            self._decision.set_result(None)

    def _leave(self) -> None:
        if not self._holds:
            self.cancel("disconnected")

    async def _own(self, work: Work) -> None:
        structlog.contextvars.bind_contextvars(stream_id=self.stream_id)
        intake = self._intake
        assert intake is not None
        try:
            try:
                if work.is_stored:
                    await self._admit(work)
            except ArcherError as error:
                self._rejection = error
                return
            # The provider is asked first: those who are told now have time until it answers.
            reader = self._begin(work, intake)
            self._admitted.set()
            await self._generate(reader)
            intake.flush()
            if work.has_format:
                await self._judge(work, intake)
            if work.is_stored and not await self._settle(work, intake):
                self.stored = False
        except Exception as cause:  # noqa: BLE001 - the edge of a generation: whatever breaks, its readers get an end
            self._outcome = Outcome.broken(cause)
        finally:
            # Reached on every way out, the loop's shutdown included: the end is written without another await.
            if self._rejection is None:
                self._write_end(work, intake)
            if self._grace is not None:
                self._grace.cancel()
            self._admitted.set()
            self._finished.set()
            self._let_go()
            self._rules.on_end(self)

    async def _admit(self, work: Work) -> None:
        assert self._decision is not None
        await admit(
            work, self.stream_id, self._decision, limit_s=self._rules.admit_limit_s, on_orphan=self._rules.on_orphan
        )

    async def _judge(self, work: Work, intake: Intake) -> None:
        """Only what the model ended by itself: what was cut off here has no form, and calls are no answer yet."""
        if self.status != "completed" or intake.complete_calls:
            return
        # A task of its own, for a cancel to end: whoever interrupts, leaves or stops the server waits for this.
        self._judging = asyncio.create_task(work.judge(self.log.text("content")), name=f"judge {self.stream_id}")
        try:
            await asyncio.wait((self._judging,))
            if not self._judging.cancelled():
                self._judgement = self._judging.result()
        except Exception:
            # The answer is whole all the same: it is told, and only not judged.
            log.exception("judge_defect", stream_id=self.stream_id)
        finally:
            self._judging.cancel()
            self._judging = None

    async def _settle(self, work: Work, intake: Intake) -> bool:
        outcome = self._outcome
        assert outcome is not None
        self.ended_at = utc_now()
        next_seq = self.log.head_seq + 1
        return await work.settle(
            StoredAnswer(
                self.log.text("content"),
                outcome.status,
                calls=[as_tool_call(call, self.log.arguments(call.call_id)) for call in self._complete_calls(intake)],
                refusal=self._refusal(intake),
                reasoning=self.log.text("reasoning") or None,
                provider=self.identity.provider,
                model=self.identity.model,
                finish_reason=self._reason(intake),
                usage=self._final_usage(work, intake),
                error=self._error_info(),
            ),
            [make(seq) for seq, make in enumerate(self._last_events(work, intake), next_seq)],
        )

    def _final_usage(self, work: Work, intake: Intake) -> TokenUsage:
        return final_usage(self.status, intake.usage, self.log.text_bytes, work.estimate_prompt)

    def _error_info(self) -> ErrorInfo | None:
        error = self._outcome.error if self._outcome is not None else None
        return error.info(self.identity.request_id, stream_id=self.stream_id) if error else None

    def _complete_calls(self, intake: Intake) -> list[CallName]:
        """The calls that may be run: none of an answer that did not come to its good end."""
        return intake.complete_calls if self.status == "completed" else []

    def _refusal(self, intake: Intake) -> Refusal | None:
        return intake.refusal if self.status == "completed" else None

    def _reason(self, intake: Intake) -> str | None:
        """Why the model stopped. That it stopped to call is told with calls that may be run alone: a client that goes
        by this word would wait for them, or run what is no whole call."""
        if intake.finish_reason == "tool_calls" and self.status != "completed":
            return None
        return intake.finish_reason

    def _ended_before(self, outcome: Outcome) -> None:
        """It has ended before this process began."""
        self._outcome, self._intake = outcome, None
        self._admitted.set()
        self._finished.set()

    def _let_go(self) -> None:
        """Keep only what can still be asked for, and nothing for readers who have nothing to come."""
        self.task = self._decision = self._intake = None
        for hold in self.holds:
            hold.reader.stream_ended()

    def _begin(self, work: Work, intake: Intake) -> asyncio.Task[None] | None:
        """The reader; none where the stream was cancelled before."""
        if self._is_cancelling():
            return None
        return asyncio.create_task(self._read(work, intake), name=f"reader {self.stream_id}")

    async def _generate(self, reader: asyncio.Task[None] | None) -> None:
        """Let the reader run until it is done or the stream is cancelled, and decide the outcome."""
        if reader is None:
            self._outcome = Outcome("cancelled", self._cancel_reason)
            return
        assert self._decision is not None
        reader.add_done_callback(self._decide)
        try:
            await self._decision
            # The compare-and-set: from here on a cancel finds an outcome, or the outcome finds a cancel.
            if not self._is_cancelling():
                self._outcome = Outcome.of(reader)
                return
            await self._stop(reader)
            self._outcome = Outcome("cancelled", self._cancel_reason)
        finally:
            reader.cancel()

    async def _stop(self, reader: asyncio.Task[None]) -> None:
        reader.cancel()
        _, pending = await asyncio.wait((reader,), timeout=STOP_GRACE_S)
        if pending:
            log.warning("reader_orphaned", provider=self.identity.provider, waited_s=STOP_GRACE_S)
            self._rules.on_orphan(reader)
        elif not reader.cancelled():
            # It was done already, or failed on its way out; the outcome is the cancel's all the same.
            reader.exception()

    async def _read(self, work: Work, intake: Intake) -> None:
        chunks = await work.open()
        while True:
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        if self._outcome is None:  # Else an orphan speaks after the end.
                            intake.take(chunk)
            except ContextTooLong:
                # Told before anything else is: the prompt alone is too long.
                shorter = None if intake.has_answered else await work.open_shorter()
                if shorter is None:
                    raise
                chunks = shorter
            else:
                return

    def _write_end(self, work: Work, intake: Intake) -> None:
        outcome = self._outcome
        if outcome is None:
            # The owner itself was cancelled: its loop is closing.
            outcome = self._outcome = Outcome("cancelled", self._cancel_reason or "draining")
        self.ended_at = utc_now()
        # Only now can nothing make the answer a bad one any more.
        for make in self._last_events(work, intake):
            self.log.append(make)
        # Without the error itself: its traceback keeps the whole request in memory.
        self._outcome = Outcome(outcome.status, outcome.reason)
        usage = self.usage
        assert usage is not None
        line = EndLine(self.identity, outcome, intake.finish_reason, usage, intake.began, intake.first_text_ms)
        afterwards(line.write)

    def _last_events(self, work: Work, intake: Intake) -> list[MakeEvent]:
        """The complete calls, and the end, of a stream whose outcome is known."""
        outcome = self._outcome
        assert outcome is not None
        usage = self._final_usage(work, intake)
        error = self._error_info()
        judged = self._judgement

        def ended(seq: int) -> StreamEnded:
            return StreamEnded(
                stream_id=self.stream_id,
                seq=seq,
                status=outcome.status,
                reason=outcome.reason,
                finish_reason=self._reason(intake),
                usage=usage,
                text_bytes=self.log.content_bytes,
                history_dropped=self.history_dropped,
                error=error,
                stored=self.stored,
                message_ids=[*self.message_ids] or None,
                refusal=self._refusal(intake),
                format_valid=judged.valid if judged else None,
                format_errors=[*judged.errors] or None if judged else None,
            )

        calls = self._complete_calls(intake)
        told = [complete(self.stream_id, call, needs_approval=work.needs_approval(call.name)) for call in calls]
        return [*told, ended]
