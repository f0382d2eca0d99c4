"""The calls of a stream's step that clients run: what they may ask of them, and what comes of it (protocol section 23).

open_call.py has the rules of one call, acts.py stores what is decided; exchange.py sends the calls, and waits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from archer_ws.core.exceptions import FieldError, InvalidParams
from archer_ws.llm_gateway.tools import ResultStatus
from archer_ws.sessions.streams.acts import Act, Acts, KeepFiles, at_once
from archer_ws.sessions.streams.calls import result_event, update_event
from archer_ws.sessions.streams.open_call import CallResult, Holder, OpenCall
from archer_ws.sessions.tool_models import ToolOutcome

#: The pause before a claim lapses again after storing that failed, in seconds.
_LAPSE_AGAIN_S = 5.0
_ACCEPTED, _CLAIMED = ToolOutcome(outcome="accepted"), ToolOutcome(outcome="claimed")


class StepCalls:
    """The calls of the current step, in its order, and the statuses of those of earlier steps.

    Args:
        stream_id: the stream's id.
        acts: stores what clients send.
        on_change: called after a call got its result, or is open again.
    """

    def __init__(self, stream_id: str, acts: Acts, on_change: Callable[[], None]) -> None:
        self._stream_id = stream_id
        self._acts = acts
        self._on_change = on_change
        self._calls: dict[str, OpenCall] = {}
        #: The statuses of the calls of all steps, by call id.
        self._settled: dict[str, ResultStatus] = {}

    def __len__(self) -> int:
        """How many calls the step has; 0 if none was sent to clients yet."""
        return len(self._calls)

    @property
    def open(self) -> list[OpenCall]:
        """The calls that have no result."""
        return [call for call in self._calls.values() if call.result is None]

    @property
    def has_running(self) -> bool:
        """Whether a client runs one of the calls."""
        return any(call.is_running for call in self._calls.values())

    def sent(self, calls: Iterable[OpenCall]) -> None:
        """Note the calls that were sent in this step."""
        self._calls = {call.call_id: call for call in calls}

    def next_step(self) -> None:
        """Note that the next step has begun, which has no calls yet."""
        self._note_settled()
        self._calls = {}

    def settle_open(self, status: ResultStatus) -> list[OpenCall]:
        """Give the calls without a result one with this status, by the server. Returns these calls."""
        open_calls = self.open
        for call in open_calls:
            call.settle(CallResult.by_server(status))
        self._note_settled()
        return open_calls

    def let_go(self) -> None:
        """Drop the calls and the exchange of a stream that has ended: they refer to this, too."""
        self._calls, self._on_change = {}, lambda: None

    def resume(self, calls: Iterable[OpenCall], settled: Mapping[str, ResultStatus]) -> None:
        """Restore the calls of a waiting step, and the statuses of those of earlier steps."""
        self.sent(calls)
        self._settled = dict(settled)
        for call in self._calls.values():
            if call.is_running:
                call.lapse()  # The connection that held the claim was lost with the process.

    def approve(self, call_id: str, *, approved: bool, reason: str | None) -> Awaitable[ToolOutcome]:
        """Decide whether a call may run."""

        def decide(call: OpenCall) -> Act | ToolOutcome:
            if (outcome := call.settled_outcome()) is not None:
                return outcome
            if not call.needs_approval:
                raise InvalidParams(
                    f"the call {call_id!r} needs no approval",
                    hint="Claim it and run it, or send a result with status: denied.",
                    errors=[FieldError(path="call_id", message="needs no approval")],
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
        """Claim a call for a client that is about to run it."""

        def decide(call: OpenCall) -> Act | ToolOutcome:
            if (refusal := call.refusal(claim=claim)) is not None:
                return refusal
            take = partial(call.take, claim, holder, ttl_s)
            if call.claim is not None:
                take()
                return _CLAIMED
            return Act(_CLAIMED, take, update_event(self._stream_id, call_id, "running"))

        return self._act(call_id, decide)

    def add_result(
        self,
        call_id: str,
        result: CallResult,
        *,
        claim: str | None,
        with_files: Callable[[], Awaitable[CallResult]] | None = None,
    ) -> Awaitable[ToolOutcome]:
        """Give a call its result.

        Args:
            call_id: the call's id.
            result: the result.
            claim: the client's claim of the call, if it has one.
            with_files: stores the result's files, and returns the result that names them; None if it has none.
        """
        kept = result

        async def keep_files() -> None:
            nonlocal kept
            assert with_files is not None
            kept = await with_files()

        def decide(call: OpenCall) -> Act | ToolOutcome:
            return call.refusal(claim=claim) or self._settling(call, kept)

        # A repeated result gets its outcome at once, and does not count as content.
        call = self._calls.get(call_id)
        if call is not None and (outcome := call.settled_outcome()) is not None:
            return at_once(outcome)
        if call is None and call_id in self._settled:
            return at_once(self._not_open(call_id))
        size = len(result.content.encode())
        return self._act(call_id, decide, size=size, keep_files=with_files and keep_files)

    def _settling(self, call: OpenCall, result: CallResult) -> Act:
        def settle() -> None:
            call.settle(result)
            self._on_change()

        return Act(_ACCEPTED, settle, result_event(self._stream_id, call.call_id, result))

    def lapsed(self, call: OpenCall) -> None:
        """A claim has lapsed without a result. An idempotent call is open again; any other gets the result `lost`.

        This is an act like others; if storing it fails, it is tried again.
        """

        def decide() -> Act | ToolOutcome:
            if not call.has_lapsed:  # It has its result, or the claim was renewed.
                return _ACCEPTED
            if not call.idempotent:
                return self._settling(call, CallResult.by_server("lost"))

            def open_again() -> None:
                call.open_again()
                self._on_change()

            return Act(_ACCEPTED, open_again, update_event(self._stream_id, call.call_id, "pending"))

        def again(kept: "asyncio.Future[ToolOutcome]") -> None:
            if not kept.cancelled() and kept.exception() is not None and call.has_lapsed:
                call.lapse_in(_LAPSE_AGAIN_S)

        self._acts.begin(decide, over=lambda: _ACCEPTED).add_done_callback(again)

    def _act(
        self,
        call_id: str,
        decide: Callable[[OpenCall], Act | ToolOutcome],
        *,
        size: int = 0,
        keep_files: KeepFiles | None = None,
    ) -> Awaitable[ToolOutcome]:
        def decide_of() -> Act | ToolOutcome:
            call = self._calls.get(call_id)
            return self._not_open(call_id) if call is None else decide(call)

        return self._acts.begin(decide_of, over=partial(self._not_open, call_id), size=size, keep_files=keep_files)

    def _not_open(self, call_id: str) -> ToolOutcome:
        """The outcome for a call that is not open, or that belongs to an earlier step."""
        status = self._settled.get(call_id)
        if self._acts.is_over:
            return ToolOutcome(outcome="already_ended", status=status)
        return ToolOutcome(outcome="already_answered" if status is not None else "not_found", status=status)

    def _note_settled(self) -> None:
        for call in self._calls.values():
            if call.result is not None:
                self._settled[call.call_id] = call.result.status
