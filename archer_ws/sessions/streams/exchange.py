"""What goes to and fro within a running stream: the calls of its step with their approvals, claims and results, and
messages that are steered in (protocol section 23).

    running ──ask──► waiting ──the last result──► running (the next step)
                        └── deadline, cancel ──► every open call gets its result, and the stream its end

Whatever a client says is decided at once, then kept (where the store is on a disk), then answered, and told in the log
behind the answer: one such act at a time, so that its event has the number under which it was kept. An act runs to its
end, also where who asked for it is gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from archer_ws.core.clock import utc_now
from archer_ws.core.deferred import afterwards
from archer_ws.core.exceptions import ArcherError, ContentTooLarge, InvalidParams, Overloaded, ToolTimeout
from archer_ws.core.limits import EXCHANGED_BYTES_MAX, STEERED_MAX
from archer_ws.llm_gateway.tools import ResultStatus, ToolCall
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.streams.calls import complete, result_event, update_event
from archer_ws.sessions.streams.events import CallName, ControlEvent, MakeEvent, SteeredMessage, StreamStep
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.streams.loop_state import LoopState
from archer_ws.sessions.streams.open_call import CallResult, Holder, OpenCall
from archer_ws.sessions.tool_models import ToolAnswer, ToolOutcome

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
_ACCEPTED = ToolAnswer(outcome="accepted")
_TAKEN = ToolAnswer(outcome="taken")


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
        #: Of those, which are not acknowledged yet.
        self._unkept: set[str] = set()
        self._bytes = 0
        self._is_over = False
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
    def has_claimed(self) -> bool:
        """Whether somebody runs one of the calls."""
        return any(call.claim is not None and call.result is None for call in self._calls.values())

    @property
    def steered(self) -> Sequence[ChatMessage]:
        """The messages that were accepted, and that no step has come for yet."""
        return [message for message in self._steered if message.message_id not in self._unkept]

    @property
    def accepted(self) -> Sequence[ChatMessage]:
        """Every message that was ever accepted to be steered in."""
        return list(self._accepted.values())

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
            assert self._deadline_at is not None
            left_s = (self._deadline_at - utc_now()).total_seconds()
            # Not awaited one by one: a cancel of this task would cancel the results that it waits for.
            await asyncio.wait([call.done for call in self._calls.values()], timeout=max(0.0, left_s))
            if late := sum(1 for call in self._calls.values() if call.result is None):
                raise ToolTimeout(
                    f"{late} of {len(self._calls)} calls had no result in time",
                    hint="Ask for more time with tool_timeout_s; a tool that fails should answer with status: error. "
                    "Results that come later can begin the session's next turn.",
                )

    async def begin_step(self) -> None:
        """The model is asked again; what was steered in is said now.

        It is kept before it is told: a stream that was found waiting after a restart would say again, under the same
        numbers, what readers have seen otherwise.

        Raises:
            StorageUnavailable, StorageFull: it can't be kept.
        """
        messages = [message for message in self._steered if message.message_id not in self._unkept]
        told = [as_steered(message) for message in messages] or None

        def make(seq: int) -> StreamStep:
            return StreamStep(stream_id=self._stream_id, seq=seq, step=self.step + 1, messages=told)

        async with self._order:
            await self._keeper.keep(self._numbered([make]))
            self._log.append(make)
        self.step += 1
        self._note_settled()
        self._calls = {}
        self._steered = [message for message in self._steered if message not in messages]

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

    def approve(self, call_id: str, *, approved: bool, reason: str | None) -> Awaitable[ToolAnswer]:
        """A person has said whether a call may run."""
        call = self._calls.get(call_id)
        if call is None or self._is_over:
            return self._not_open(call_id)
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

        return self._act(update_event(self._stream_id, call, "pending", approved=True), _ACCEPTED, undo=undo)

    def claim(self, call_id: str, claim: str, *, holder: Holder | None, ttl_s: float) -> Awaitable[ToolAnswer]:
        """A client is about to run a call."""
        call = self._calls.get(call_id)
        if call is None or self._is_over:
            return self._not_open(call_id)
        if (refusal := call.refusal(claim=claim)) is not None:
            return _now(refusal)
        claimed = ToolAnswer(outcome="claimed")
        if call.claim is not None:
            call.hold(holder, ttl_s)
            return _now(claimed) if call.is_claim_kept else self._when_kept(call, claim)
        call.claim, call.is_claim_kept = claim, False
        call.hold(holder, ttl_s)

        def told() -> None:
            call.is_claim_kept = True

        return self._act(update_event(self._stream_id, call, "running"), claimed, undo=call.open_again, effect=told)

    def answer(self, call_id: str, result: CallResult, *, claim: str | None) -> Awaitable[ToolAnswer]:
        """A call has its result."""
        call = self._calls.get(call_id)
        if call is None or self._is_over:
            return self._not_open(call_id)
        if (refusal := call.refusal(claim=claim)) is not None:
            return _now(refusal)
        self._take_room(len(result.content.encode()))
        return self._settle(call, result)

    def steer(self, message: ChatMessage) -> Awaitable[ToolAnswer]:
        """A user's message for the next step."""
        message_id = message.message_id
        assert message_id is not None
        if message_id in self._unkept:
            return asyncio.ensure_future(self._steered_again(message_id))
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
        self._take_room(message.text_bytes)
        self._accepted[message_id] = message
        self._unkept.add(message_id)
        self._steered.append(message)

        def undo() -> None:
            del self._accepted[message_id]
            self._unkept.discard(message_id)
            self._steered.remove(message)

        return self._act(
            None,
            _ACCEPTED,
            undo=undo,
            effect=lambda: self._unkept.discard(message_id),
            over="too_late",
        )

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
            await self._keeper.keep(self._numbered(makes))
        except ArcherError as failure:
            log.warning("calls_not_kept", stream_id=self._stream_id, cause=str(failure))

    def _settle(self, call: OpenCall, result: CallResult) -> Awaitable[ToolAnswer]:
        call.settling = result

        def undo() -> None:
            call.settling = None

        return self._act(
            result_event(self._stream_id, call.call_id, result),
            _ACCEPTED,
            undo=undo,
            effect=lambda: call.settle(result),
        )

    def lapsed(self, call: OpenCall) -> None:
        """The claim is over, and there is no result: only what may run twice is open again.

        It is kept as all else is; where that fails, it is tried again.
        """
        if call.settling is not None or call.result is not None or self._is_over:
            return
        if call.idempotent:
            claim = call.claim
            call.open_again()

            def undo() -> None:
                call.claim = claim
                call.lapse_in(_LAPSE_AGAIN_S)

            self._act(update_event(self._stream_id, call, "pending"), _ACCEPTED, undo=undo)
        else:
            lost = call.settling = CallResult.unanswered("lost")

            def undo_loss() -> None:
                call.settling = None
                call.lapse_in(_LAPSE_AGAIN_S)

            self._act(
                result_event(self._stream_id, call.call_id, lost),
                _ACCEPTED,
                undo=undo_loss,
                effect=lambda: call.settle(lost),
            )

    def _act(
        self,
        make: MakeEvent | None,
        answer: ToolAnswer,
        *,
        undo: Callable[[], None] = lambda: None,
        effect: Callable[[], None] = lambda: None,
        over: ToolOutcome = "already_ended",
    ) -> "asyncio.Future[ToolAnswer]":
        """Keep what was decided, answer, and tell it behind the answer.

        In a task of its own: who asked may go away, and what was decided is kept all the same.
        """
        answered: asyncio.Future[ToolAnswer] = asyncio.get_running_loop().create_future()

        async def run() -> None:
            try:
                await self._keep(make, effect)
            except _Over:
                _give(answered, ToolAnswer(outcome=over))
            except ArcherError as failure:
                undo()
                if not answered.done():
                    answered.set_exception(failure)
                    answered.exception()  # Who asked may be gone.
            else:
                _give(answered, answer)

        act = asyncio.create_task(run(), name=f"act {self._stream_id}")
        self._acts.add(act)
        act.add_done_callback(self._acts.discard)
        return answered

    async def _keep(self, make: MakeEvent | None, effect: Callable[[], None]) -> None:
        await self._order.acquire()
        try:
            if self._is_over:
                raise _Over
            await self._keeper.keep(self._numbered([make] if make is not None else []))
            if self._is_over:
                raise _Over
        except BaseException:
            self._order.release()
            raise
        if make is None:
            effect()
            self._order.release()
            return
        # Who asked is woken in the next turn of the loop, and answered there; this comes in the one behind it.
        self._untold.append((make, effect))
        afterwards(self._tell_untold)

    def _tell_untold(self) -> None:
        untold, self._untold = self._untold, []
        for make, effect in untold:
            self._log.append(make)
            effect()
            self._order.release()

    async def _when_kept(self, call: OpenCall, claim: str) -> ToolAnswer:
        """A claim that was repeated while it was being kept."""
        await self.quiet()
        return ToolAnswer(outcome="claimed") if call.claim == claim else call.refusal(claim=claim) or _TAKEN

    async def _steered_again(self, message_id: str) -> ToolAnswer:
        """A message that was repeated while it was being kept."""
        await self.quiet()
        is_kept = message_id in self._accepted and message_id not in self._unkept
        return ToolAnswer(outcome="accepted" if is_kept else "too_late")

    def _numbered(self, makes: Sequence[MakeEvent]) -> list[ControlEvent]:
        return [make(seq) for seq, make in enumerate(makes, self._log.head_seq + 1)]

    def _not_open(self, call_id: str) -> Awaitable[ToolAnswer]:
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

    def _take_room(self, size: int) -> None:
        if self._bytes + size > EXCHANGED_BYTES_MAX:
            raise ContentTooLarge(
                f"the results and messages of this stream would be more than {EXCHANGED_BYTES_MAX} bytes of text",
                hint="Answer with less: the part that the model needs.",
            )
        self._bytes += size


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


def _after(seconds: float) -> datetime:
    return utc_now() + timedelta(seconds=seconds)
