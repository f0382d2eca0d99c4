"""The tool loop of a running stream: the calls of its current step with their approvals, claims and results, and the
steered messages (protocol section 23).

    running ──ask──► waiting ──the last result──► running (the next step)
                        ├── deadline, cancel ──► the server gives every open call a result, and the stream ends
                        └── park ──► the stream stays stored, and a later process goes on with it

It sends the calls, and waits. step_calls.py decides what clients may do with them, acts.py serialises and stores that;
steering.py has the steered messages.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, Protocol

import structlog

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import ArcherError, Draining, ToolTimeout
from archer_ws.core.limits import SETTLE_PAUSES_S
from archer_ws.core.standstill import stood_still
from archer_ws.llm_gateway.tools import ResultStatus, ToolCall
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.streams.acts import Acts
from archer_ws.sessions.streams.calls import complete, result_event
from archer_ws.sessions.streams.events import (
    CallName,
    ControlEvent,
    MakeEvent,
    StreamProgress,
    StreamStep,
)
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.streams.loop_state import LoopState
from archer_ws.sessions.streams.open_call import CallResult, OpenCall
from archer_ws.sessions.streams.steering import Steering, as_steered
from archer_ws.sessions.streams.step_calls import StepCalls

log = structlog.get_logger(__name__)


class Keeper(Protocol):
    """Stores events before they are acknowledged, and is notified of the stream's waits."""

    async def keep(self, events: Sequence[ControlEvent]) -> None:
        """Store the next events of the log, and what a restart needs to go on.

        Raises:
            StorageUnavailable, StorageFull: they were not stored.
        """

    def waiting(self) -> AbstractContextManager[None]:
        """Count the stream as waiting for tool results, until the context is left.

        Raises:
            Overloaded: too many of the principal's streams wait.
        """

    def told_to_wait(self) -> None:
        """The calls have been sent, and the stream waits for their results."""


#: How often a waiting stream compares its deadline with the wall clock, in seconds: timers of the event loop do not
#: count the time during which the machine sleeps.
CLOCK_LOOK_S = 5.0


def left_behind(stream_id: str) -> Draining:
    """The error of requests for a stream that waits for the next process."""
    return Draining(
        f"stream {stream_id!r} waits for this server's next start",
        hint="Connect again in a moment.",
        retry_after_ms=5000,
    )


class Parked(Exception):
    """The stream is parked: no further step begins in this process."""


class Exchange:
    """The tool loop of one stream.

    Args:
        stream_id: the stream's id.
        stream_log: its log.
        keeper: stores events.
        step: the number of the stream's current step.
    """

    def __init__(self, stream_id: str, stream_log: StreamLog, keeper: Keeper, *, step: int = 1) -> None:
        self.step = step
        self._stream_id = stream_id
        self._log = stream_log
        self._keeper = keeper
        self._acts = Acts(stream_log, keeper.keep, f"act {stream_id}")
        #: The calls of the current step.
        self.calls = StepCalls(stream_id, self._acts, self._look)
        self._deadline_at: datetime | None = None
        #: Done when all calls have results, or the stream is parked.
        self._wait_over: asyncio.Future[None] | None = None
        self._parking: Literal["soon", "at once"] | None = None
        self._parked = asyncio.Event()
        self._on_idle: Callable[[], object] | None = None
        #: The steered messages.
        self.steering = Steering(self._acts)

    @property
    def is_asking(self) -> bool:
        """Whether the current step has calls that were sent to clients, in this process or before a restart."""
        return bool(self.calls)

    @property
    def size_bytes(self) -> int:
        """The bytes of pending acts and steered messages that are not in the log."""
        return self._acts.pending_bytes + self.steering.size_bytes

    @property
    def steered(self) -> Sequence[ChatMessage]:
        """The accepted messages that no step has followed yet."""
        return self.steering.waiting

    async def quiet(self) -> None:
        """Wait until all pending acts are stored or refused."""
        await self._acts.quiet()

    async def ask(
        self,
        calls: Sequence[ToolCall],
        *,
        refused: Mapping[str, str],
        needs_approval: Callable[[str], bool],
        idempotent: Callable[[str], bool],
        timeout_s: float,
    ) -> None:
        """Send the calls to the clients, and wait until each has a result.

        Args:
            calls: the calls of the step.
            refused: the errors of calls that are not sent, by call id; they become the results of these calls.
            needs_approval: whether a tool needs a person's approval, by its name.
            idempotent: whether a tool may run again, by its name.
            timeout_s: the time limit for all results, in seconds.

        Raises:
            ToolTimeout: not all calls had results in time.
            Overloaded: too many of the principal's streams wait.
            Parked: the process stops, and no client runs a call.
        """
        with nullcontext() if len(refused) == len(calls) else self._keeper.waiting():
            if not self.calls:
                await self._tell_calls(calls, refused, needs_approval, idempotent, timeout_s)
            self._wait_over = asyncio.get_running_loop().create_future()
            self._look()
            if not self._wait_over.done():
                self._keeper.told_to_wait()
            await self._until_deadline(self._wait_over)
            async with self._acts.order:
                pass  # Until the last result is appended: no other event may get the number under which it was stored.
            late = self.calls.open
            if self._parking and (self._wait_over.done() or not late):
                raise Parked
            if late:
                raise ToolTimeout(
                    f"{len(late)} of {len(self.calls)} calls had no result in time",
                    hint="Raise tool_timeout_s. If a tool fails, send a result with status: error. Results that come "
                    "later can begin the session's next turn.",
                )

    async def _until_deadline(self, wait_over: "asyncio.Future[None]") -> None:
        assert self._deadline_at is not None
        loop = asyncio.get_running_loop()
        while not wait_over.done() and (left_s := (self._deadline_at - utc_now()).total_seconds()) > 0:
            due = loop.time() + min(left_s, CLOCK_LOOK_S)
            await asyncio.wait((wait_over,), timeout=due - loop.time())
            if stood_still(due, loop.time()):
                # Results that came meanwhile are not read yet.
                await asyncio.wait((wait_over,), timeout=CLOCK_LOOK_S)

    def park(self, *, at_once: bool) -> None:
        """Begin no further step. While a client runs a call, go on waiting for its result, unless `at_once`."""
        self._parking = "at once" if at_once else "soon"
        self._look()
        self._parked.set()

    def when_idle(self, end: Callable[[], object]) -> None:
        """Call `end` as soon as the stream waits and no client runs a call."""
        self._on_idle = end
        self._look()

    async def wait_place(self, what: str, place: Awaitable[None]) -> None:
        """Wait for `place` between two steps, and report `what` the wait is for.

        The report is stored before it is appended, or not appended at all: otherwise a stream that goes on after a
        restart would give its number to another event.

        Raises:
            Parked: the process stops.
        """
        waiting, parked = asyncio.ensure_future(place), asyncio.ensure_future(self._parked.wait())
        try:
            await self._tell_queued(what)
            await asyncio.wait((waiting, parked), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise Parked
        finally:
            waiting.cancel()
            parked.cancel()

    async def _tell_queued(self, what: str) -> None:
        def make(seq: int) -> StreamProgress:
            return StreamProgress(stream_id=self._stream_id, seq=seq, phase="queued", detail=what)

        async with self._acts.order:
            try:
                await self._acts.keep([make])
            except ArcherError as failure:
                log.warning("wait_not_told", stream_id=self._stream_id, cause=str(failure))
            else:
                self._log.append(make)

    async def begin_step(self) -> None:
        """Begin the next step, with the steered messages.

        The event is stored before it is appended: otherwise, after a restart, the stream would still wait in the
        earlier step, and give other events the numbers that readers have seen. If the store fails, this retries for
        about a minute.

        Raises:
            StorageUnavailable, StorageFull: the event can't be stored.
            Parked: the step is left to a later process.
        """
        for pause_s in SETTLE_PAUSES_S:
            try:
                return await self._begin_step()
            except ArcherError as failure:
                log.warning("step_not_begun_yet", stream_id=self._stream_id, cause=str(failure), next_try_s=pause_s)
                await self._pause(pause_s)
        return await self._begin_step()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._parked.wait()

    async def _begin_step(self) -> None:
        async with self._acts.order:
            if self._parking and self.calls:
                raise Parked
            told = [as_steered(message) for message in self.steering.waiting] or None

            def make(seq: int) -> StreamStep:
                return StreamStep(stream_id=self._stream_id, seq=seq, step=self.step + 1, messages=told)

            await self._acts.keep([make])
            self._log.append(make)
            self.step += 1
            self.calls.next_step()
            self.steering.said()

    @property
    def is_late_to_park(self) -> bool:
        """Whether the stream was to be parked at once, read when its next step has begun."""
        return self._parking == "at once"

    def end(self, status: ResultStatus) -> list[MakeEvent]:
        """Accept nothing more, and give the calls without a result one with this status. Returns the events of these
        results."""
        self._acts.end()
        settled = self.calls.settle_open(status)
        self._acts.answer_undecided()
        result = CallResult.by_server(status)
        return [result_event(self._stream_id, call.call_id, result) for call in settled]

    def let_go(self) -> None:
        """The stream has ended: leave nothing here to the garbage collector, and so its request in memory."""
        self.calls.let_go()

    def leave(self) -> None:
        """Accept nothing more, since the process stops and a later one goes on. What is not decided is refused, so that
        its sender repeats it there."""
        self._acts.end(partial(left_behind, self._stream_id))
        self.calls.settle_open("cancelled")  # Ends the timers of their claims; nothing is told of it.
        self._acts.answer_undecided()

    def resume(
        self,
        calls: Sequence[OpenCall],
        deadline_at: datetime,
        settled: Mapping[str, ResultStatus],
        state: LoopState,
        told: Collection[str],
    ) -> None:
        """Restore the state in which an earlier process left the stream.

        Args:
            calls: the calls of the waiting step.
            deadline_at: the deadline of their results.
            settled: the statuses of the calls of earlier steps.
            state: the stored state beside the log.
            told: the ids of the steered messages that a step has followed.
        """
        self._deadline_at = deadline_at
        self.steering.resume(state.steered, told)
        self.calls.resume(calls, settled)

    async def _tell_calls(
        self,
        calls: Sequence[ToolCall],
        refused: Mapping[str, str],
        needs_approval: Callable[[str], bool],
        idempotent: Callable[[str], bool],
        timeout_s: float,
    ) -> None:
        self._deadline_at = deadline_at = utc_now() + timedelta(seconds=timeout_s)
        makes: list[MakeEvent] = []
        told: dict[str, OpenCall] = {}
        for call in calls:
            is_refused = call.call_id in refused
            told[call.call_id] = OpenCall(
                call.call_id,
                needs_approval=needs_approval(call.name) and not is_refused,
                idempotent=idempotent(call.name),
                on_lapse=self.calls.lapsed,
            )
            makes.append(
                complete(
                    self._stream_id,
                    CallName(call.call_id, call.name),
                    needs_approval=told[call.call_id].needs_approval,
                    deadline_at=None if is_refused else deadline_at,
                )
            )
        for call_id, what in refused.items():
            makes.append(result_event(self._stream_id, call_id, CallResult("error", what)))
        async with self._acts.order:
            try:
                await self._acts.keep(makes)
            except ArcherError as failure:
                # No client waits for this: go on, and let the journal store the events later.
                log.warning("calls_not_kept", stream_id=self._stream_id, cause=str(failure))
            for make in makes:
                self._log.append(make)
            for call_id, what in refused.items():
                told[call_id].settle(CallResult("error", what))
            self.calls.sent(told.values())

    def _look(self) -> None:
        """Check whether the wait is over."""
        if self._wait_over is None or self._wait_over.done():
            return
        is_parked = self._parking == "at once" or (self._parking == "soon" and not self.calls.has_running)
        if is_parked or not self.calls.open:
            self._wait_over.set_result(None)
        elif self._on_idle is not None and not self.calls.has_running:
            self._on_idle()
