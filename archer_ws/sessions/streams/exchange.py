"""What goes to and fro within a running stream: the calls of its step with their approvals, claims and results, and
messages that are steered in (protocol section 23).

    running ──ask──► waiting ──the last result──► running (the next step)
                        ├── deadline, cancel ──► every open call gets its result, and the stream its end
                        └── park ──► what is said is kept, for a later process to go on with

In which order that is said, kept, answered and told is acts.py's, and what is steered in steering.py's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, Protocol

import structlog

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import ArcherError, InvalidParams, ToolTimeout
from archer_ws.core.limits import SETTLE_PAUSES_S
from archer_ws.llm_gateway.tools import ResultStatus, ToolCall
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.streams.acts import Act, Acts, at_once
from archer_ws.sessions.streams.calls import complete, result_event, update_event
from archer_ws.sessions.streams.events import (
    CallName,
    ControlEvent,
    MakeEvent,
    StreamProgress,
    StreamStep,
)
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.streams.loop_state import LoopState
from archer_ws.sessions.streams.open_call import CallResult, Holder, OpenCall
from archer_ws.sessions.streams.steering import Steering, as_steered
from archer_ws.sessions.tool_models import ToolOutcome

log = structlog.get_logger(__name__)


class Keeper(Protocol):
    """Where what is said is kept before it is acknowledged; and who else has to know."""

    async def keep(self, events: Sequence[ControlEvent]) -> None:
        """Keep the next events of the log, and all that a restart needs to go on.

        Raises:
            StorageUnavailable, StorageFull: they are not kept.
        """

    def waiting(self) -> AbstractContextManager[None]:
        """The stream waits, until this is left.

        Raises:
            Overloaded: too many of the principal's do.
        """

    def told_to_wait(self) -> None:
        """Its calls are told."""


#: How long after a claim's end could not be kept it is tried again.
_LAPSE_AGAIN_S = 5.0
#: How often a deadline is compared with the clock on the wall while a stream waits: a machine that slept has lost hours
#: that no timer of the loop has counted.
CLOCK_LOOK_S = 5.0
_ACCEPTED, _CLAIMED = ToolOutcome(outcome="accepted"), ToolOutcome(outcome="claimed")


class Parked(Exception):
    """Its step waits, and no other begins in this process."""


class Exchange:
    """One stream's.

    Args:
        stream_id: whose.
        stream_log: its log.
        keeper: keeps what is said.
        step: which step the stream is in.
    """

    def __init__(self, stream_id: str, stream_log: StreamLog, keeper: Keeper, *, step: int = 1) -> None:
        self.step = step
        self._stream_id = stream_id
        self._log = stream_log
        self._keeper = keeper
        self._acts = Acts(stream_log, keeper.keep, f"act {stream_id}")
        self._calls: dict[str, OpenCall] = {}
        self._deadline_at: datetime | None = None
        #: Done once there is no more to wait for.
        self._wait_over: asyncio.Future[None] | None = None
        self._parking: Literal["soon", "at once"] | None = None
        self._parked = asyncio.Event()
        self._on_idle: Callable[[], object] | None = None
        #: The messages that are steered in.
        self.steering = Steering(self._acts)
        #: Of the calls of all steps.
        self._settled: dict[str, ResultStatus] = {}

    # What the stream and its agent ask.

    @property
    def is_asking(self) -> bool:
        """Whether calls were told whose step has not ended: also those of before a restart."""
        return bool(self._calls)

    @property
    def size_bytes(self) -> int:
        """What was said and does not stand in the log."""
        return self._acts.pending_bytes + self.steering.size_bytes

    @property
    def has_claimed(self) -> bool:
        """Whether somebody runs one of the calls."""
        return any(call.is_running for call in self._calls.values())

    @property
    def steered(self) -> Sequence[ChatMessage]:
        """The messages that were accepted, and that no step has come for yet."""
        return self.steering.waiting

    async def quiet(self) -> None:
        """Wait until all that is being said is kept, or refused."""
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
        """Tell the calls, and wait until each has its result; `refused` says what is wrong with some, by their ids.

        Raises:
            ToolTimeout: not all came in time.
            Overloaded: too many of the principal's streams wait.
            Parked: the process stops, and nobody runs a call.
        """
        with nullcontext() if len(refused) == len(calls) else self._keeper.waiting():
            if not self._calls:
                await self._tell_calls(calls, refused, needs_approval, idempotent, timeout_s)
            self._wait_over = asyncio.get_running_loop().create_future()
            self._look()
            if not self._wait_over.done():
                self._keeper.told_to_wait()
            await self._until_deadline(self._wait_over)
            async with self._acts.order:
                pass  # The last result is told: nothing may take the number under which it was kept.
            late = self._open_calls()
            if self._parking and (self._wait_over.done() or not late):
                raise Parked
            if late:
                raise ToolTimeout(
                    f"{len(late)} of {len(self._calls)} calls had no result in time",
                    hint="Ask for more time with tool_timeout_s; a tool that fails should answer with status: error. "
                    "Results that come later can begin the session's next turn.",
                )

    async def _until_deadline(self, wait_over: "asyncio.Future[None]") -> None:
        assert self._deadline_at is not None
        while not wait_over.done() and (left_s := (self._deadline_at - utc_now()).total_seconds()) > 0:
            await asyncio.wait((wait_over,), timeout=min(left_s, CLOCK_LOOK_S))

    def park(self, *, at_once: bool) -> None:
        """Begin no further step; while somebody runs a call, go on waiting for it, unless it is `at_once`."""
        self._parking = "at once" if at_once else "soon"
        self._look()
        self._parked.set()

    def when_idle(self, end: Callable[[], object]) -> None:
        """Call `end` as soon as its step waits, and nobody runs a call."""
        self._on_idle = end
        self._look()

    async def wait_place(self, what: str, place: Awaitable[None]) -> None:
        """Wait between two steps, and tell for what.

        It is kept before it is told, or not told: else a stream that goes on after a restart would give its number to
        another event.

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
        """The model is asked again; what was steered in is said now.

        It is kept before it is told: a stream that was found waiting after a restart would say again, under the same
        numbers, what readers have seen otherwise. While the store is in trouble it is tried again, for about a minute.

        Raises:
            StorageUnavailable, StorageFull: it can't be kept.
            Parked: it is to begin in a later process.
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
            if self._parking and self._calls:
                raise Parked
            told = [as_steered(message) for message in self.steering.waiting] or None

            def make(seq: int) -> StreamStep:
                return StreamStep(stream_id=self._stream_id, seq=seq, step=self.step + 1, messages=told)

            await self._acts.keep([make])
            self._log.append(make)
            self.step += 1
            self._note_settled()
            self._calls = {}
            self.steering.said()

    @property
    def is_late_to_park(self) -> bool:
        """Whether it was to be parked at once, while its next step began."""
        return self._parking == "at once" and not self._calls

    def decide_end(self) -> None:
        """No further step comes."""
        self._acts.is_over = True

    def end(self, status: ResultStatus) -> list[MakeEvent]:
        """Nothing is taken any more: what the stream tells before its end, of calls that have no result."""
        self._acts.end()
        open_calls = self._open_calls()
        result = CallResult.by_server(status)
        for call in open_calls:
            call.settle(result)
        self._note_settled()
        return [result_event(self._stream_id, call.call_id, result) for call in open_calls]

    def resume(
        self,
        calls: Sequence[OpenCall],
        deadline_at: datetime,
        settled: Mapping[str, ResultStatus],
        state: LoopState,
        told: Collection[str],
    ) -> None:
        """The state in which an earlier process left it.

        Args:
            calls: of the step that waits.
            deadline_at: when they must have their results.
            settled: how the calls of earlier steps ended.
            state: what was kept beside the log.
            told: the ids of the messages that steps have come for.
        """
        self._calls = {call.call_id: call for call in calls}
        self._deadline_at = deadline_at
        self._settled = dict(settled)
        self.steering.resume(state.steered, told)
        for call in calls:
            if call.is_running:
                call.lapse()  # Its runner's connection went with the process.

    # What clients say.

    def approve(self, call_id: str, *, approved: bool, reason: str | None) -> Awaitable[ToolOutcome]:
        """A person has said whether a call may run."""

        def decide(call: OpenCall) -> Act | ToolOutcome:
            if (outcome := call.settled_outcome()) is not None:
                return outcome
            if not call.needs_approval:
                raise InvalidParams(
                    f"the call {call_id!r} needs no approval",
                    hint="Claim it and run it, or answer it with status: denied.",
                )
            if call.approved:
                return _ACCEPTED if approved else ToolOutcome(outcome="too_late")
            if not approved:
                return self._settling(call, CallResult.denied(reason))

            def approve() -> None:
                call.approved = True

            return Act(_ACCEPTED, approve, update_event(self._stream_id, call_id, "pending", approved=True))

        return self._act(call_id, decide)

    def claim(self, call_id: str, claim: str, *, holder: Holder | None, ttl_s: float) -> Awaitable[ToolOutcome]:
        """A client is about to run a call."""

        def decide(call: OpenCall) -> Act | ToolOutcome:
            if (refusal := call.refusal(claim=claim)) is not None:
                return refusal
            take = partial(call.take, claim, holder, ttl_s)
            if call.claim is not None:
                take()
                return _CLAIMED
            return Act(_CLAIMED, take, update_event(self._stream_id, call_id, "running"))

        return self._act(call_id, decide)

    def add_result(self, call_id: str, result: CallResult, *, claim: str | None) -> Awaitable[ToolOutcome]:
        """A call has its result."""

        def decide(call: OpenCall) -> Act | ToolOutcome:
            return call.refusal(claim=claim) or self._settling(call, result)

        call = self._calls.get(call_id)
        if call is not None and (outcome := call.settled_outcome()) is not None:
            return at_once(outcome)  # However often it comes: it waits for nothing, and takes no room.
        return self._act(call_id, decide, size=len(result.content.encode()))

    # How it is kept and told.

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
                on_lapse=self.lapsed,
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
                # Nobody waits for an acknowledgement: it goes on, and its journal has what could not be kept.
                log.warning("calls_not_kept", stream_id=self._stream_id, cause=str(failure))
            for make in makes:
                self._log.append(make)
            for call_id, what in refused.items():
                told[call_id].settle(CallResult("error", what))
            self._calls = told

    def _look(self) -> None:
        """Whether there is more to wait for."""
        if self._wait_over is None or self._wait_over.done():
            return
        is_parked = self._parking == "at once" or (self._parking == "soon" and not self.has_claimed)
        if is_parked or not self._open_calls():
            self._wait_over.set_result(None)
        elif self._on_idle is not None and not self.has_claimed:
            self._on_idle()

    def _open_calls(self) -> list[OpenCall]:
        return [call for call in self._calls.values() if call.result is None]

    def _settling(self, call: OpenCall, result: CallResult) -> Act:
        def settle() -> None:
            call.settle(result)
            self._look()

        return Act(_ACCEPTED, settle, result_event(self._stream_id, call.call_id, result))

    def lapsed(self, call: OpenCall) -> None:
        """A claim is over, and there is no result: only what may run twice is open again.

        It is kept as all else is; where that fails, it is tried again.
        """

        def decide() -> Act | ToolOutcome:
            if call.result is not None or not call.has_lapsed:
                return _ACCEPTED
            if not call.idempotent:
                return self._settling(call, CallResult.by_server("lost"))

            def open_again() -> None:
                call.open_again()
                self._look()

            return Act(_ACCEPTED, open_again, update_event(self._stream_id, call.call_id, "pending"))

        def again(kept: "asyncio.Future[ToolOutcome]") -> None:
            if not kept.cancelled() and kept.exception() is not None and call.has_lapsed:
                call.lapse_in(_LAPSE_AGAIN_S)

        self._acts.begin(decide, over=lambda: _ACCEPTED).add_done_callback(again)

    def _act(
        self, call_id: str, decide: Callable[[OpenCall], Act | ToolOutcome], *, size: int = 0
    ) -> Awaitable[ToolOutcome]:
        def decide_of() -> Act | ToolOutcome:
            call = self._calls.get(call_id)
            return self._not_open(call_id) if call is None else decide(call)

        return self._acts.begin(decide_of, over=partial(self._not_open, call_id), size=size)

    def _not_open(self, call_id: str) -> ToolOutcome:
        """What is said of a call that is not open, or of an earlier step."""
        status = self._settled.get(call_id)
        if self._acts.is_over:
            return ToolOutcome(outcome="already_ended", status=status)
        return ToolOutcome(outcome="already_answered" if status is not None else "not_found", status=status)

    def _note_settled(self) -> None:
        for call in self._calls.values():
            if call.result is not None:
                self._settled[call.call_id] = call.result.status
