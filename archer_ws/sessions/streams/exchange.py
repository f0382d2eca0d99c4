"""What goes to and fro within a running stream: the calls of its step with their approvals, claims and results, and
messages that are steered in (protocol section 23).

    running ──ask──► waiting ──the last result──► running (the next step)
                        └── deadline, cancel ──► every open call gets its result, and the stream its end

Whatever a client says is decided at once, then kept (where the store is on a disk), then answered, and told in the log
behind the answer: one such act at a time, so that its event has the number under which it was kept. An act runs to its
end, also where who asked for it is gone.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from archer_ws.core.clock import utc_now
from archer_ws.core.deferred import afterwards
from archer_ws.core.exceptions import ArcherError, ContentTooLarge, InvalidParams, Overloaded, ToolTimeout
from archer_ws.core.limits import EXCHANGED_BYTES_MAX, SETTLE_PAUSES_S, STEERED_MAX
from archer_ws.llm_gateway.tools import ResultStatus, ToolCall
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.streams.calls import complete, result_event, update_event
from archer_ws.sessions.streams.events import CallName, ControlEvent, MakeEvent, SteeredMessage, StreamStep
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.streams.loop_state import LoopState
from archer_ws.sessions.streams.open_call import CallResult, Holder, OpenCall
from archer_ws.sessions.tool_models import ToolAnswer

log = structlog.get_logger(__name__)


class Keeper(Protocol):
    """Where what is said is kept before it is acknowledged; and who else has to know."""

    async def keep(self, events: Sequence[ControlEvent], *, with_state: bool) -> None:
        """Keep the next events of the log, and all that came before them; `with_state`: also what a restart needs to go
        on beside the log, which has changed.

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

    def call_settled(self) -> None:
        """One of them has its result."""


#: How long after a claim's end could not be kept it is tried again.
_LAPSE_AGAIN_S = 5.0
#: How often a deadline is compared with the clock on the wall while a stream waits: a machine that slept has lost hours
#: that no timer of the loop has counted.
CLOCK_LOOK_S = 5.0
_ACCEPTED = ToolAnswer(outcome="accepted")


class _Over(Exception):
    """The end came first."""


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
        self._calls: dict[str, OpenCall] = {}
        self._deadline_at: datetime | None = None
        #: Accepted, for the next step; and the ids of all that were ever accepted.
        self._steered: list[ChatMessage] = []
        self._accepted: dict[str, ChatMessage] = {}
        #: Of those, which are not acknowledged yet, each with what is to be answered; and the one that is being kept.
        self._unkept: dict[str, asyncio.Future[ToolAnswer]] = {}
        self._is_keeping: str | None = None
        self._bytes = 0
        self._is_over = False
        #: Whether the next step's beginning is being kept.
        self._is_stepping = False
        self._order = asyncio.Lock()
        #: What was acknowledged, and is told behind the acknowledgement.
        self._untold: list[tuple[MakeEvent, Callable[[], None]]] = []
        self._acts: set[asyncio.Task[None]] = set()
        #: Of the calls of all steps.
        self._settled: dict[str, ResultStatus] = {}

    # What the stream and its agent ask.

    @property
    def is_asking(self) -> bool:
        """Whether calls were told whose step has not ended: also those of before a restart."""
        return bool(self._calls)

    @property
    def can_park(self) -> bool:
        """Whether a later process could go on from here: its calls are told, and the next step has not begun."""
        return self.is_asking and not self._is_stepping

    @property
    def has_claimed(self) -> bool:
        """Whether somebody runs one of the calls."""
        return any(call.claim is not None and call.result is None for call in self._calls.values())

    @property
    def steered(self) -> Sequence[ChatMessage]:
        """The messages that were accepted, and that no step has come for yet."""
        return [message for message in self._steered if message.message_id not in self._unkept]

    @property
    def to_keep(self) -> Sequence[ChatMessage]:
        """Every message that was ever accepted to be steered in, and the one that is being accepted."""
        unkept = self._unkept.keys() - {self._is_keeping}
        return [message for message_id, message in self._accepted.items() if message_id not in unkept]

    async def quiet(self) -> None:
        """Wait until all that is being said is kept, or refused."""
        while self._acts:
            await asyncio.wait(self._acts)

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
        """
        with self._keeper.waiting():
            if not self._calls:
                await self._tell_calls(calls, refused, needs_approval, idempotent, timeout_s)
            self._keeper.told_to_wait()
            if late := await self._await_results():
                raise ToolTimeout(
                    f"{late} of {len(self._calls)} calls had no result in time",
                    hint="Ask for more time with tool_timeout_s; a tool that fails should answer with status: error. "
                    "Results that come later can begin the session's next turn.",
                )

    async def _await_results(self) -> int:
        """Wait for all results until the deadline; how many are missing then."""
        assert self._deadline_at is not None
        while open_calls := [call.done for call in self._calls.values() if call.result is None]:
            left_s = (self._deadline_at - utc_now()).total_seconds()
            if left_s <= 0:
                break
            # Not awaited one by one: a cancel of this task would cancel the results that it waits for.
            await asyncio.wait(open_calls, timeout=min(left_s, CLOCK_LOOK_S), return_when=asyncio.FIRST_COMPLETED)
        return len(open_calls)

    async def tell(self, make: MakeEvent) -> None:
        """Tell what nobody asked for, between two steps: kept first, or it is not told.

        Else a stream that goes on after a restart would give its number to another event.
        """
        try:
            async with self._order:
                await self._keeper.keep(self._numbered([make]), with_state=False)
                self._log.append(make)
        except ArcherError as failure:
            log.warning("event_not_told", stream_id=self._stream_id, cause=str(failure))

    async def begin_step(self) -> None:
        """The model is asked again; what was steered in is said now.

        It is kept before it is told: a stream that was found waiting after a restart would say again, under the same
        numbers, what readers have seen otherwise. While the store is in trouble it is tried again, for about a minute.

        Raises:
            StorageUnavailable, StorageFull: it can't be kept.
        """
        for pause_s in SETTLE_PAUSES_S:
            try:
                messages = await self._keep_step()
            except ArcherError as failure:
                log.warning("step_not_begun_yet", stream_id=self._stream_id, cause=str(failure), next_try_s=pause_s)
                await asyncio.sleep(pause_s)
            else:
                break
        else:
            messages = await self._keep_step()
        self.step += 1
        self._note_settled()
        self._calls = {}
        self._steered = [message for message in self._steered if message not in messages]

    async def _keep_step(self) -> Sequence[ChatMessage]:
        """Keep and tell that the step begins; what was steered in."""
        async with self._order:
            messages = self.steered
            told = [as_steered(message) for message in messages] or None

            def make(seq: int) -> StreamStep:
                return StreamStep(stream_id=self._stream_id, seq=seq, step=self.step + 1, messages=told)

            self._is_stepping = True
            try:
                await self._keeper.keep(self._numbered([make]), with_state=False)
            finally:
                self._is_stepping = False
            self._log.append(make)
        return messages

    def decide_end(self) -> None:
        """No further step comes."""
        self._is_over = True

    def end(self, status: ResultStatus) -> list[MakeEvent]:
        """Nothing is taken any more: what the stream tells before its end, of calls that have no result."""
        self._is_over = True
        self._tell_untold()
        unanswered = [call for call in self._calls.values() if call.result is None]
        result = CallResult.unanswered(status)
        for call in unanswered:
            call.settle(result)
        self._note_settled()
        return [result_event(self._stream_id, call.call_id, result) for call in unanswered]

    async def park(self) -> None:
        """Stop, for a later process to go on: what is being said is still kept and answered, and no claim lapses."""
        for call in self._calls.values():
            call.let_go()
        await self.quiet()
        self._is_over = True

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
        self._accepted = {str(message.message_id): message for message in state.steered}
        self._steered = [message for message in state.steered if message.message_id not in told]
        for call in calls:
            if call.claim is not None and call.result is None:
                self.lapsed(call)  # Its runner's connection went with the process.

    # What clients say. Each decides at once, so that the next frame finds it, and gives what to wait for.

    def approve(self, call_id: str, *, approved: bool, reason: str | None) -> "asyncio.Future[ToolAnswer]":
        """A person has said whether a call may run."""
        call = self._calls.get(call_id)
        if call is None or self._is_over:
            return self._not_open(call_id)
        if call.pending() is not None:
            return self._behind(call.pending, lambda: self.approve(call_id, approved=approved, reason=reason))
        if (settled := call.settling or call.result) is not None:
            return _now(ToolAnswer(outcome="already_answered", status=settled.status))
        if not call.needs_approval:
            raise InvalidParams(
                f"the call {call_id!r} needs no approval", hint="Claim it and run it, or answer it with status: denied."
            )
        if call.approved:
            return _now(ToolAnswer(outcome="accepted" if approved else "too_late"))
        if not approved:
            return self._settle(call, CallResult.denied(reason))
        call.approved = True

        def undo() -> None:
            call.approved = False

        make = update_event(self._stream_id, call, "pending", approved=True)
        return self._act(make, _ACCEPTED, call=call, undo=undo)

    def claim(self, call_id: str, claim: str, *, holder: Holder | None, ttl_s: float) -> "asyncio.Future[ToolAnswer]":
        """A client is about to run a call."""
        call = self._calls.get(call_id)
        if call is None or self._is_over:
            return self._not_open(call_id)
        if call.pending() is not None:
            return self._behind(call.pending, lambda: self.claim(call_id, claim, holder=holder, ttl_s=ttl_s))
        if (refusal := call.refusal(claim=claim)) is not None:
            return _now(refusal)
        claimed = ToolAnswer(outcome="claimed")
        is_repeated = call.claim is not None
        call.claim = claim
        call.hold(holder, ttl_s)
        if is_repeated:
            return _now(claimed)
        make = update_event(self._stream_id, call, "running")
        return self._act(make, claimed, call=call, undo=call.open_again)

    def answer(self, call_id: str, result: CallResult, *, claim: str | None) -> "asyncio.Future[ToolAnswer]":
        """A call has its result."""
        call = self._calls.get(call_id)
        if call is None or self._is_over:
            return self._not_open(call_id)
        if call.pending() is not None:
            return self._behind(call.pending, lambda: self.answer(call_id, result, claim=claim))
        if (refusal := call.refusal(claim=claim)) is not None:
            return _now(refusal)
        return self._settle(call, result, self._take_room(len(result.content.encode())))

    def steer(self, message: ChatMessage) -> "asyncio.Future[ToolAnswer]":
        """A user's message for the next step."""
        message_id = message.message_id
        assert message_id is not None
        if message_id in self._unkept:
            return self._behind(lambda: self._unkept.get(message_id), lambda: self.steer(message))
        if message_id in self._accepted:
            return _now(_ACCEPTED)
        if self._is_over:
            return _now(ToolAnswer(outcome="too_late"))
        if len(self._steered) >= STEERED_MAX:
            raise Overloaded(
                f"{STEERED_MAX} messages wait to be steered into the stream, the most there may be",
                hint="Wait for its next step.",
                retry_after_ms=1000,
            )
        give_back = self._take_room(message.text_bytes)
        self._accepted[message_id] = message
        self._steered.append(message)

        def undo() -> None:
            del self._accepted[message_id], self._unkept[message_id]
            self._steered.remove(message)
            give_back()

        def accepted() -> None:
            del self._unkept[message_id]

        self._unkept[message_id] = self._act(None, _ACCEPTED, steered=message_id, undo=undo, effect=accepted)
        return self._unkept[message_id]

    # How it is kept and told.

    async def _tell_calls(
        self,
        calls: Sequence[ToolCall],
        refused: Mapping[str, str],
        needs_approval: Callable[[str], bool],
        idempotent: Callable[[str], bool],
        timeout_s: float,
    ) -> None:
        self._deadline_at = deadline_at = _after(timeout_s)
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
        await self._keep_if_possible(makes)
        for make in makes:
            self._log.append(make)
        for call_id, what in refused.items():
            told[call_id].settle(CallResult("error", what))
        self._calls = told

    async def _keep_if_possible(self, makes: Sequence[MakeEvent]) -> None:
        """Where nobody waits for an acknowledgement the stream goes on, and its journal has what could not be kept."""
        try:
            await self._keeper.keep(self._numbered(makes), with_state=True)
        except ArcherError as failure:
            log.warning("calls_not_kept", stream_id=self._stream_id, cause=str(failure))

    def _settle(
        self, call: OpenCall, result: CallResult, give_back: Callable[[], None] = lambda: None
    ) -> "asyncio.Future[ToolAnswer]":
        call.settling = result

        def undo() -> None:
            call.settling = None
            give_back()

        def settled() -> None:
            call.settle(result)
            self._keeper.call_settled()

        make = result_event(self._stream_id, call.call_id, result)
        return self._act(make, _ACCEPTED, call=call, undo=undo, effect=settled)

    def lapsed(self, call: OpenCall) -> None:
        """The claim is over, and there is no result: only what may run twice is open again.

        It is kept as all else is; where that fails, it is tried again.
        """
        if call.settling is not None or call.result is not None or self._is_over:
            return
        if call.pending() is not None:
            call.lapse_in(_LAPSE_AGAIN_S)
        elif call.idempotent:
            claim = call.claim
            call.open_again()

            def undo() -> None:
                call.claim = claim
                call.lapse_in(_LAPSE_AGAIN_S)

            self._act(update_event(self._stream_id, call, "pending"), _ACCEPTED, call=call, undo=undo)
        else:
            self._settle(call, CallResult.unanswered("lost"), lambda: call.lapse_in(_LAPSE_AGAIN_S))

    def _act(
        self,
        make: MakeEvent | None,
        answer: ToolAnswer,
        *,
        undo: Callable[[], None],
        effect: Callable[[], None] = lambda: None,
        call: OpenCall | None = None,
        steered: str | None = None,
    ) -> "asyncio.Future[ToolAnswer]":
        """Keep what was decided of a call or a steered message, answer, and tell it behind the answer.

        In a task of its own: who asked may go away, and what was decided is kept all the same.
        """
        answered: asyncio.Future[ToolAnswer] = asyncio.get_running_loop().create_future()
        if call is not None:
            call.being_kept = answered

        async def run() -> None:
            try:
                await self._keep(make, effect, steered)
            except _Over:
                undo()
                _give(answered, ToolAnswer(outcome="already_ended" if steered is None else "too_late"))
            except ArcherError as failure:
                undo()
                _refuse(answered, failure)
            else:
                # Who asked is woken in the next turn of the loop, and answered there; the event comes behind it.
                _give(answered, answer)
                afterwards(self._tell_untold)

        self._run(run())
        return answered

    def _run(self, act: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(act, name=f"act {self._stream_id}")
        self._acts.add(task)
        task.add_done_callback(self._acts.discard)

    async def _keep(self, make: MakeEvent | None, effect: Callable[[], None], steered: str | None) -> None:
        await self._order.acquire()
        self._is_keeping = steered
        try:
            if self._is_over:
                raise _Over
            await self._keeper.keep(self._numbered([make] if make is not None else []), with_state=steered is not None)
            if self._is_over:
                raise _Over
        except BaseException:
            self._order.release()
            raise
        finally:
            self._is_keeping = None
        if make is None:
            effect()
            self._order.release()
            return
        self._untold.append((make, effect))

    def _tell_untold(self) -> None:
        untold, self._untold = self._untold, []
        for make, effect in untold:
            self._log.append(make)
            effect()
            self._order.release()

    def _behind(
        self,
        before: Callable[[], "asyncio.Future[ToolAnswer] | None"],
        say: Callable[[], "asyncio.Future[ToolAnswer]"],
    ) -> "asyncio.Future[ToolAnswer]":
        """Say it when what was said before is kept or refused: only then is it known what holds."""
        answered: asyncio.Future[ToolAnswer] = asyncio.get_running_loop().create_future()

        async def later() -> None:
            while (pending := before()) is not None:
                await asyncio.wait((pending,))
            try:
                said = say()
            except ArcherError as refusal:
                _refuse(answered, refusal)
            else:
                said.add_done_callback(lambda _: _copy(said, answered))
                await asyncio.wait((said,))

        self._run(later())
        return answered

    def _numbered(self, makes: Sequence[MakeEvent]) -> list[ControlEvent]:
        return [make(seq) for seq, make in enumerate(makes, self._log.head_seq + 1)]

    def _not_open(self, call_id: str) -> "asyncio.Future[ToolAnswer]":
        """What is said of a call that is not open, or of an earlier step."""
        status = self._settled.get(call_id)
        if self._is_over:
            return _now(ToolAnswer(outcome="already_ended", status=status))
        if status is not None:
            return _now(ToolAnswer(outcome="already_answered", status=status))
        return _now(ToolAnswer(outcome="not_found"))

    def _note_settled(self) -> None:
        for call in self._calls.values():
            if call.result is not None:
                self._settled[call.call_id] = call.result.status

    def _take_room(self, size: int) -> Callable[[], None]:
        """Count this text; what gives its room back."""
        if self._bytes + size > EXCHANGED_BYTES_MAX:
            raise ContentTooLarge(
                f"the results and messages of this stream would be more than {EXCHANGED_BYTES_MAX} bytes of text",
                hint="Answer with less: the part that the model needs.",
            )
        self._bytes += size

        def give_back() -> None:
            self._bytes -= size

        return give_back


def as_steered(message: ChatMessage) -> SteeredMessage:
    """The message as events have it."""
    assert message.message_id is not None
    return SteeredMessage(
        message_id=message.message_id, content=message.content, parts=list(message.parts) if message.parts else None
    )


def _now(answer: ToolAnswer) -> "asyncio.Future[ToolAnswer]":
    answered: asyncio.Future[ToolAnswer] = asyncio.get_running_loop().create_future()
    answered.set_result(answer)
    return answered


def _give(answered: "asyncio.Future[ToolAnswer]", answer: ToolAnswer) -> None:
    if not answered.done():
        answered.set_result(answer)


def _refuse(answered: "asyncio.Future[ToolAnswer]", refusal: BaseException) -> None:
    if not answered.done():
        answered.set_exception(refusal)
        answered.exception()  # Who asked may be gone.


def _copy(said: "asyncio.Future[ToolAnswer]", answered: "asyncio.Future[ToolAnswer]") -> None:
    if said.cancelled():
        answered.cancel()
    elif (refusal := said.exception()) is not None:
        _refuse(answered, refusal)
    else:
        _give(answered, said.result())


def _after(seconds: float) -> datetime:
    return utc_now() + timedelta(seconds=seconds)
