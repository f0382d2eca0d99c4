"""A stream: its state machine, and the task that generates it.

    queued ──► running ──► completed · incomplete · failed
       │        │  ▲
       │        ▼  │ (calls, and their results)
       │       waiting
       └─────────┴──► cancelling ──► cancelled

A waiting stream that is stored may be parked: its task ends without an end event. What clients send about its calls is
accepted until the process stops, and a later process goes on with the stream.

One task waits for the provider, and writes the end; nearly all chunks are pushed to `take` meanwhile. If the stream is
cancelled while it reads, a second task takes over: it stops the first one, and writes the end even if that one does not
stop. A cancel and a regular end race in one compare-and-set without an await between check and write: the first one
decides. The `Work` generates and stores the completion; intake.py interprets chunks; exchange.py has the tool loop;
ending.py builds the end; the manager knows which streams exist.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Literal

import structlog

from archer_ws.core.bound_field import bound_field
from archer_ws.core.clock import utc_now
from archer_ws.core.deferred import afterwards
from archer_ws.core.eager_task import start_now
from archer_ws.core.exceptions import ArcherError, ContextTooLong, ToolTimeout
from archer_ws.core.lean_event import LeanEvent
from archer_ws.core.limits import STREAM_OVERHEAD_BYTES
from archer_ws.core.patience import PatientTimer
from archer_ws.core.tracebacks import forget_tracebacks
from archer_ws.llm_gateway.types import CancelReason, ProgressPhase, StreamChunk, StreamStatus, TakeChunk, TokenUsage
from archer_ws.sessions.admission import admit
from archer_ws.sessions.format_judge import Judgement
from archer_ws.sessions.streams.calls import as_tool_call
from archer_ws.sessions.streams.end_line import write_end_line
from archer_ws.sessions.streams.ending import Ending, Loop, end_of_defect
from archer_ws.sessions.streams.events import StreamProgress
from archer_ws.sessions.streams.exchange import Exchange, Parked
from archer_ws.sessions.streams.hold import Hold
from archer_ws.sessions.streams.intake import Intake
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.streams.logprobs import TokenLogprobs
from archer_ws.sessions.streams.outcome import Outcome
from archer_ws.sessions.streams.rules import StreamRules
from archer_ws.sessions.streams.work import StreamIdentity, Work

log = structlog.get_logger(__name__)
_BOUND_ID = bound_field("stream_id")

_COMPLETED = Outcome("completed")
_NO_LOOP = Loop()
#: The events of all ended streams: thousands are retained, and each object costs the garbage collector time.
_SET = LeanEvent()
_SET.set()

#: How long a cancelled reader may take to close its connection (protocol section 6).
STOP_GRACE_S = 2.0


class Stream:
    """One stream.

    Args:
        identity: what never changes about it.
        rules: the parameters that all streams share.
        stream_log: its log so far; by default a new one.
    """

    def __init__(
        self, identity: StreamIdentity, rules: "StreamRules[Stream]", *, stream_log: StreamLog | None = None
    ) -> None:
        self.identity = identity
        self.log: StreamLog = rules.new_log() if stream_log is None else stream_log
        self.created_at = utc_now()
        self.ended_at = self.created_at
        self.history_dropped: int | None = None
        #: The log probabilities of its tokens, if the request asked for them.
        self.logprobs: TokenLogprobs | None = None
        #: False if the completion belongs to a session and was not stored before the end.
        self.stored: bool | None = None
        #: The ids of the messages that it stored.
        self.message_ids: list[str] = []
        #: The check of its format, if there was one.
        self.judgement: Judgement | None = None
        self._rules = rules
        #: None once the end is written.
        self._intake: Intake | None = Intake(identity, self.log)
        self._live_status: Literal["queued", "running", "waiting"] = "queued"
        self._work: Work | None = None
        self._exchange: Exchange | None = None
        self._loop: Loop | None = None
        self._is_parked = False
        #: Whether its task reads from the provider, or did when the stream was parked or cancelled.
        self._is_reading = False
        self._cancel_reason: CancelReason | None = None
        self._outcome: Outcome | None = None
        self._judging: asyncio.Task[Judgement | None] | None = None
        self._rejection: ArcherError | None = None
        # In the order of creation. A dict, since a set takes twice the memory.
        self._holds: dict[Hold, None] = {}
        self._grace: PatientTimer | None = None
        # Without a session nothing is stored before it is accepted.
        self._admitted = _SET if identity.session_id is None else LeanEvent()
        #: Set to done if it is cancelled while its turn is being stored. None until its task begins.
        self._cancelled_early: asyncio.Future[None] | None = None
        self._finished = LeanEvent()
        #: The task that will write the end, and the logging context of the stream's tasks.
        self.task: asyncio.Task[None] | None = None
        self._context: Context | None = None

    @property
    def stream_id(self) -> str:
        """The stream's id, unique for its principal."""
        return self.identity.stream_id

    @property
    def status(self) -> StreamStatus:
        """The stream's status; the status of an ended stream never changes."""
        if self._outcome is not None:
            return self._outcome.status
        return "cancelling" if self._is_cancelling() else self._live_status

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why it was cancelled, if it was."""
        return self._outcome.reason if self._outcome is not None else None

    @property
    def usage(self) -> TokenUsage | None:
        """The token counts, as far as they are known."""
        if self.log.ended is not None:
            return self.log.ended.usage
        return self._intake.usage if self._intake is not None else None

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped, once it has ended."""
        return self.log.ended.finish_reason if self.log.ended is not None else None

    @property
    def is_live(self) -> bool:
        """Whether the last event has not been written yet."""
        return self.log.ended is None

    @property
    def is_held(self) -> bool:
        """Whether it has any hold."""
        return bool(self._holds)

    @property
    def holds(self) -> tuple[Hold, ...]:
        """Its holds, oldest first."""
        return tuple(self._holds)

    @property
    def size_bytes(self) -> int:
        """The approximate memory that it takes, in bytes."""
        beside = self.logprobs.size_bytes if self.logprobs is not None else 0
        said = self._exchange.size_bytes if self._exchange is not None else 0
        return STREAM_OVERHEAD_BYTES + self.log.size_bytes + beside + said

    def start(self, work: Work, *, at_once: bool = False) -> None:
        """Begin the stream. Its task inherits the caller's logging context.

        With `at_once` the provider is asked before this returns, unless the stream has to wait for something. Otherwise
        it begins one loop iteration later, so that a cancel that was read with the request sends nothing upstream.
        """
        self._work = work
        context = self._context = copy_context()
        begin = start_now if at_once else asyncio.create_task
        task = begin(self._own(work), name=f"stream {self.stream_id}", context=context)
        # Begun at once, it may have ended; or it was cancelled while there was no `task` that `cancel` could stop.
        if not self._finished.is_set():
            self.task = task
            if self._is_stopped:
                self._begin_stop(task)

    @property
    def is_admitted(self) -> bool:
        """Whether it is accepted: `wait_admitted` would return at once."""
        return self._admitted.is_set() and self._rejection is None

    async def wait_admitted(self) -> None:
        """Return once the stream is accepted.

        Raises:
            ArcherError: it was refused; such a stream has no log and no id.
        """
        if not self._admitted.is_set():
            await self._admitted.wait()
        if self._rejection is not None:
            raise self._rejection

    async def wait_placed(self) -> None:
        """See `Work.wait_placed`; also returns if the stream is over."""
        if self._work is not None and self._cancelled_early is None:
            await asyncio.sleep(0)  # Its task begins in the next iteration of the event loop.
        if self._work is not None:
            await self._work.wait_placed()

    async def wait_ended(self) -> None:
        """Return once the last event is written, or the stream was refused."""
        await self._finished.wait()

    def cancel(self, reason: CancelReason) -> Literal["cancelling", "already_ended"]:
        """Cancel the stream; its tasks do the rest. Harmless to repeat: the first reason counts.

        A stream whose outcome is already decided keeps it; only the check of its format is cut short.
        """
        if self._outcome is not None:
            if self._judging is not None:
                self._judging.cancel()
            return "already_ended"
        if self._cancel_reason is None:
            self._cancel_reason = reason
            if self._is_reading and self.task is not None:
                self._begin_stop(self.task)
            elif self._cancelled_early is not None and not self._stays(reason):
                self._cancelled_early.set_result(None)
        return "cancelling"

    def _stays(self, reason: CancelReason) -> bool:
        """Whether it is about to be accepted all the same: the turn that interrupts it is stored behind its own."""
        return reason == "interrupted" and self._work is not None and self._work.is_storing

    @property
    def exchange(self) -> Exchange:
        """The tool loop. Created at first use, since most streams need none."""
        if self._exchange is None:
            assert self._work is not None, "used only while the stream runs"
            self._exchange = Exchange(self.stream_id, self.log, self._work)
        return self._exchange

    @property
    def takes_more(self) -> bool:
        """Whether the stream still accepts approvals, claims, results and steers: its end is not decided."""
        return self._work is not None and self._outcome is None and not self._is_cancelling()

    def go_on(self, work: Work, exchange: Exchange, usage: TokenUsage | None) -> None:
        """Go on where an earlier process left the stream waiting; `usage`: the token counts of its steps so far."""
        assert self._intake is not None
        self._intake.go_on(usage, work.estimate_prompt)
        self._exchange = exchange
        self._live_status = "waiting"
        if self._rules.grace_s is not None:
            # Who held it was lost with that process.
            self._grace = PatientTimer(self._rules.grace_s, self._leave)
        self.start(work)

    def set_waiting(self) -> None:
        """Note that it waits for tool results."""
        self._live_status = "waiting"
        self._rules.on_waiting(self)

    async def wait_place(self, what: str, place: Awaitable[None]) -> None:
        """Wait for its provider's slot again (see Exchange.wait_place)."""
        self._live_status = "queued"
        await self.exchange.wait_place(what, place)

    @property
    def can_park(self) -> bool:
        """Whether a later process could go on from here: calls were sent, and the next step has not begun."""
        return self.takes_more and self._exchange is not None and self._exchange.is_asking

    @property
    def is_parked(self) -> bool:
        """Whether it is parked."""
        return self._is_parked

    def park(self, *, at_once: bool = False) -> None:
        """Park a waiting stream: it begins no further step, and a later process goes on with it.

        Its task ends as soon as no client runs a call, or `at_once`.
        """
        self.exchange.park(at_once=at_once)

    async def leave(self, limit_s: float) -> None:
        """Leave a parked stream, since the process stops: pending acts are stored first, within `limit_s` seconds.
        After that nothing is accepted, and the readers are told to reconnect.
        """
        exchange = self._exchange
        assert exchange is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await exchange.quiet()
        if not self._is_parked or self._is_cancelling():
            return
        exchange.leave()
        self._work, self._is_reading = None, False
        if self._grace is not None:
            self._grace.cancel()
        for hold in self.holds:
            hold.reader.stream_parked()
        self._rules.on_left(self)

    def set_running(self) -> None:
        """Note that no wait for predecessors, the provider's slot or tool results goes on."""
        self._live_status = "running"

    def progress(self, phase: ProgressPhase, detail: str | None) -> None:
        """Report what happens before the first text."""
        if phase == "retrying":
            self._forget_try()
        self.log.append(lambda seq: StreamProgress(stream_id=self.stream_id, seq=seq, phase=phase, detail=detail))

    def _forget_try(self) -> None:
        """What a failed try reported beside its text, of which it had none, is not of the completion."""
        if self._intake is not None:
            self._intake.forget_try()
        if self.logprobs is not None:
            self.logprobs.forget_try()

    def keep_logprobs(self) -> None:
        """Buffer log probabilities from now on, for the response that sends them."""
        self.logprobs = TokenLogprobs(lambda: self.log.head_seq, self.identity.provider)

    def hold(self) -> Hold:
        """Create a hold, which keeps the stream from ending with a disconnect (protocol section 7)."""
        hold = Hold(self._release)
        self._holds[hold] = None
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        return hold

    def _release(self, hold: Hold) -> None:
        """Remove a hold; without any other, `on_disconnect` applies."""
        del self._holds[hold]
        if self._holds:
            return
        if self.log.ended is not None or self._finished.is_set():
            self._rules.on_unheld(self)
            return
        if self.identity.on_disconnect == "cancel":
            # Not at once: a new hold within this loop iteration prevents it.
            asyncio.get_running_loop().call_soon(self._leave)
        elif self._rules.grace_s is not None:
            self._grace = PatientTimer(self._rules.grace_s, self._leave)

    def _is_cancelling(self) -> bool:
        return self._cancel_reason is not None and self._outcome is None

    @property
    def _is_stopped(self) -> bool:
        """Whether it was cancelled while it read or was parked, so that `_stop` writes the end."""
        return self._is_reading and self._cancel_reason is not None

    def _leave(self) -> None:
        if not self._holds:
            self.cancel("disconnected")

    async def _own(self, work: Work) -> None:
        """The stream's task."""
        _BOUND_ID.set(self.identity.stream_id)
        intake = self._intake
        assert intake is not None
        try:
            try:
                if work.is_stored:
                    await self._admit(work)
            except ArcherError as error:
                self._rejection = error
                forget_tracebacks(error)
                return
            # The notified tasks run when this one has asked the provider, and waits for it.
            self._admitted.set()
            if self._is_cancelling():
                self._outcome = Outcome("cancelled", self._cancel_reason)
            else:
                await self._generate(work, intake)
            if not self._ends_elsewhere:
                await self._finish(work, intake)
        except Exception as cause:
            if self._is_stopped:
                raise
            # The outermost handler of a stream: whatever fails, its readers get an end.
            self._outcome = Outcome.broken(cause)
        finally:
            # Reached on every path, including the event loop's shutdown: the end is written without another await.
            self._admitted.set()
            if not self._ends_elsewhere:
                self._over(work, intake)

    @property
    def _ends_elsewhere(self) -> bool:
        """Whether `_own` leaves the end to `_stop` or to a later process."""
        return self._is_stopped or self._is_parked

    async def _generate(self, work: Work, intake: Intake) -> None:
        """Read from the provider, and decide the outcome; not if the stream was parked or cancelled meanwhile."""
        self._is_reading = True
        outcome: Outcome | None
        try:
            await self._read(work, intake)
            outcome = _COMPLETED
        except Parked:
            outcome = None
        except asyncio.CancelledError as cause:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            outcome = Outcome.of(cause)
        except Exception as cause:
            if self._is_stopped:
                raise
            outcome = Outcome.of(cause)
        # The compare-and-set: there is no await between this check and setting the outcome.
        if self._is_stopped:
            return
        if outcome is None:
            self._is_parked, self._live_status = True, "waiting"
        else:
            self._is_reading, self._outcome = False, outcome

    def _begin_stop(self, reader: asyncio.Task[None]) -> None:
        self.task = asyncio.create_task(self._stop(reader), name=f"stop {self.stream_id}", context=self._context)

    async def _stop(self, reader: asyncio.Task[None]) -> None:
        """The task that ends a stream which was cancelled while `reader`, its first task, read or was parked."""
        work, intake = self._work, self._intake
        assert work is not None
        assert intake is not None
        try:
            reader.cancel()
            _, pending = await asyncio.wait((reader,), timeout=STOP_GRACE_S)
            if pending:
                log.warning("reader_orphaned", provider=self.identity.provider, waited_s=STOP_GRACE_S)
                self._rules.on_orphan(reader)
            else:
                _forget_end(reader)
            self._outcome, self._is_parked = Outcome("cancelled", self._cancel_reason), False
            await self._finish(work, intake)
        except Exception as cause:  # noqa: BLE001 - as above
            self._outcome = Outcome.broken(cause)
        finally:
            self._over(work, intake)

    async def _finish(self, work: Work, intake: Intake) -> None:
        """After the outcome is decided: check the format, and store the completion."""
        intake.close()
        self._close_exchange()
        if work.has_format:
            await self._judge(work, intake)
        if work.is_stored and not await self._settle(work, intake):
            self.stored = False

    def _over(self, work: Work, intake: Intake) -> None:
        """Write the end, and release everything."""
        try:
            if self._rejection is None:
                self._write_end(work, intake)
            else:
                self._close_exchange()  # What clients have sent to it meanwhile comes too late.
        except Exception as cause:
            # Whatever it was: no stream is without its end, and none keeps its place.
            log.exception("stream_defect", stream_id=self.stream_id)
            if self.log.ended is None:
                outcome = Outcome.broken(cause)
                self._outcome = Outcome.plain(outcome.status, outcome.reason)
                self.log.append(partial(end_of_defect, self.identity, self.log, outcome))
        if self._grace is not None:
            self._grace.cancel()
        self._finished.set()
        self._let_go()
        self._rules.on_end(self)

    async def _admit(self, work: Work) -> None:
        cancelled = self._cancelled_early = asyncio.get_running_loop().create_future()
        if self._is_cancelling():
            cancelled.set_result(None)
        await admit(work, self.stream_id, cancelled, limit_s=self._rules.admit_limit_s, on_orphan=self._rules.on_orphan)

    async def _judge(self, work: Work, intake: Intake) -> None:
        """Check the format, if the model ended by itself and made no calls: truncated text and calls are not
        checked."""
        if self.status != "completed" or intake.complete_calls:
            return
        # A task of its own, so that a cancel can end it: interrupting streams and a stopping server wait for it.
        self._judging = asyncio.create_task(work.judge(self.log.text("content")), name=f"judge {self.stream_id}")
        try:
            await asyncio.wait((self._judging,))
            if not self._judging.cancelled():
                self.judgement = self._judging.result()
        except Exception:
            # The completion is complete anyway; it is only not checked.
            log.exception("judge_defect", stream_id=self.stream_id)
        finally:
            self._judging.cancel()
            self._judging = None

    async def _settle(self, work: Work, intake: Intake) -> bool:
        self.ended_at = utc_now()
        ending = self._ending(work, intake)
        return await work.settle(ending.completion(), ending.numbered())

    def _ending(self, work: Work, intake: Intake) -> Ending:
        assert self._outcome is not None
        return Ending(self, work, intake, self._outcome, self._close_exchange())

    def _close_exchange(self) -> Loop:
        """Accept nothing more from clients, and return the final state of the tool loop."""
        if self._exchange is None:
            return _NO_LOOP
        if self._loop is None:
            exchange, outcome = self._exchange, self._outcome
            timed_out = outcome is not None and isinstance(outcome.error, ToolTimeout)
            self._loop = Loop(
                exchange.step,
                exchange.is_asking,
                exchange.end("timeout" if timed_out else "cancelled"),
                exchange.steered,
            )
        return self._loop

    def _ended_before(self, outcome: Outcome) -> None:
        """Set the outcome of a stream that ended in an earlier process."""
        self._outcome, self._intake = outcome, None
        self._admitted.set()
        self._finished.set()

    def _let_go(self) -> None:
        """Release what an ended stream does not need, and notify its readers."""
        self.task = self._context = self._cancelled_early = None
        if self._exchange is not None:
            self._exchange.let_go()
        self._intake = self._work = self._exchange = self._loop = None
        self._admitted = self._finished = _SET
        for hold in self.holds:
            hold.reader.stream_ended()

    async def _read(self, work: Work, intake: Intake) -> None:
        chunks: AsyncGenerator[StreamChunk, None] | None = await work.open()
        while chunks is not None:
            try:
                try:
                    # Nearly all chunks are pushed to `take` meanwhile: these are the others.
                    async for chunk in chunks:
                        intake.take(chunk)
                finally:
                    await chunks.aclose()
            except ContextTooLong as failure:
                # Providers report this before any other chunk. The history is not the reason where a limit of the
                # completion leaves it no room.
                has_reason = failure.is_by_completion or intake.has_responded
                shorter = None if has_reason else await work.open_shorter()
                if shorter is None:
                    raise
                chunks = shorter
            else:
                chunks = await self._after_step(work, intake)

    @property
    def take(self) -> TakeChunk:
        """Takes chunks that are pushed (see ChatOptions). Read it only while the stream runs."""
        assert self._intake is not None
        return self._intake.take

    async def _after_step(self, work: Work, intake: Intake) -> AsyncGenerator[StreamChunk, None] | None:
        """The next step's chunks; None if there is no next step."""
        if self._outcome is not None or not (work.waits or self._exchange is not None):
            return None
        intake.end_step(work.estimate_prompt)
        return await work.go_on(
            [as_tool_call(call, self.log.arguments(call.call_id)) for call in intake.complete_calls]
        )

    async def begin_step(self) -> None:
        """Begin the next step (see Exchange.begin_step).

        Raises:
            StorageUnavailable, StorageFull: its event can't be stored.
        """
        await self.exchange.begin_step()
        if self.exchange.is_late_to_park:
            self.cancel("draining")
        if self._intake is not None:
            self._intake.next_step()
        if self.logprobs is not None:
            self.logprobs.next_step()

    def _write_end(self, work: Work, intake: Intake) -> None:
        outcome = self._outcome
        if outcome is None:
            # The task itself was cancelled: its event loop is closing.
            outcome = self._outcome = Outcome("cancelled", self._cancel_reason or "draining")
        self.ended_at = utc_now()
        # Not before: until now the outcome could still have become a failure.
        for make in self._ending(work, intake).last_events():
            self.log.append(make)
        if outcome.error is not None:
            # Its traceback would keep the whole request in memory.
            self._outcome = Outcome.plain(outcome.status, outcome.reason)
        usage = self.usage
        assert usage is not None
        afterwards(partial(write_end_line, self.identity, outcome, usage, intake))


def _forget_end(reader: asyncio.Task[None]) -> None:
    """Retrieve what a cancelled reader ended with, perhaps a failure while it stopped: the outcome is cancelled anyway.
    Its traceback would keep the whole request in memory."""
    try:
        error = reader.exception()
    except asyncio.CancelledError as cancelled:
        error = cancelled
    if error is not None:
        forget_tracebacks(error)
