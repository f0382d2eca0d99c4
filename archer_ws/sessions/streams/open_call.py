"""One call that a stream waits for: who may run it, who runs it, and its result (protocol section 23).

What is said of it is decided here in one step, with no await between look and write: the first word counts. That it is
kept and told is exchange.py's.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from archer_ws.core.limits import CLAIM_S
from archer_ws.llm_gateway.content import Part
from archer_ws.llm_gateway.tool_history import TOLD_BY_SERVER
from archer_ws.llm_gateway.tools import ResultStatus
from archer_ws.sessions.tool_models import ToolAnswer


@dataclass(frozen=True, slots=True)
class CallResult:
    """What came of a call."""

    status: ResultStatus
    content: str
    parts: Sequence[Part] | None = None

    @classmethod
    def unanswered(cls, status: ResultStatus) -> "CallResult":
        """What the server itself says of one."""
        return cls(status, TOLD_BY_SERVER[status])

    @classmethod
    def denied(cls, reason: str | None) -> "CallResult":
        """A person did not agree."""
        return cls("denied", f"The call was denied: {reason}" if reason else "The call was denied.")


class Holder:
    """A connection, as far as claims last while it lives."""

    def __init__(self) -> None:
        self.is_gone = False
        self._calls: dict[OpenCall, None] = {}

    def hold(self, call: "OpenCall") -> None:
        """The call is claimed over this connection."""
        self._calls[call] = None

    def release(self, call: "OpenCall") -> None:
        """The call has its result, or is claimed over another."""
        self._calls.pop(call, None)

    def gone(self) -> None:
        """The connection is closed: its claims last a while longer, for their runner to come back."""
        self.is_gone = True
        calls, self._calls = self._calls, {}
        for call in calls:
            call.lapse_in(CLAIM_S)


class OpenCall:
    """One call.

    Args:
        call_id: its id.
        needs_approval: whether a person must agree first.
        idempotent: whether it may be run again where its runner was lost.
        on_lapse: called when its claim is over.
    """

    __slots__ = (
        "_holder",
        "_lapse",
        "_on_lapse",
        "approved",
        "being_kept",
        "call_id",
        "claim",
        "done",
        "idempotent",
        "needs_approval",
        "settling",
    )

    def __init__(
        self, call_id: str, *, needs_approval: bool, idempotent: bool, on_lapse: Callable[["OpenCall"], None]
    ) -> None:
        self.call_id = call_id
        self.needs_approval = needs_approval
        self.idempotent = idempotent
        self.approved = False
        self.claim: str | None = None
        #: What is to be answered to what was said of it last.
        self.being_kept: asyncio.Future[ToolAnswer] | None = None
        #: The result that is being kept; it is the first, unless keeping it fails.
        self.settling: CallResult | None = None
        self.done: asyncio.Future[CallResult] = asyncio.get_running_loop().create_future()
        self._holder: Holder | None = None
        self._lapse: asyncio.TimerHandle | None = None
        self._on_lapse = on_lapse

    @property
    def result(self) -> CallResult | None:
        """Its result, once it is kept and told."""
        return self.done.result() if self.done.done() else None

    def pending(self) -> "asyncio.Future[ToolAnswer] | None":
        """What is to be answered to what was said of it, while that is not kept yet, and may still be refused."""
        return self.being_kept if self.being_kept is not None and not self.being_kept.done() else None

    @property
    def state(self) -> Literal["pending", "running"]:
        """Whether somebody runs it."""
        return "pending" if self.claim is None else "running"

    def refusal(self, *, claim: str | None) -> ToolAnswer | None:
        """Why it can't be claimed or answered under that claim, or under none."""
        if (settled := self.settling or self.result) is not None:
            return ToolAnswer(outcome="already_answered", status=settled.status)
        if self.needs_approval and not self.approved:
            return ToolAnswer(outcome="needs_approval")
        if self.claim is not None and claim != self.claim:
            return ToolAnswer(outcome="taken")
        return None

    def hold(self, holder: Holder | None, ttl_s: float) -> None:
        """Its claim lasts while `holder` lives, or for so long."""
        self.let_go()
        if holder is None:
            self.lapse_in(ttl_s)
        elif holder.is_gone:
            self.lapse_in(CLAIM_S)
        else:
            self._holder = holder
            holder.hold(self)

    def lapse_in(self, seconds: float) -> None:
        """Its claim is over then, unless it is renewed."""
        self.let_go()
        self._lapse = asyncio.get_running_loop().call_later(seconds, self._on_lapse, self)

    def open_again(self) -> None:
        """Nobody claims it."""
        self.let_go()
        self.claim = None

    def settle(self, result: CallResult) -> None:
        """It has its result."""
        self.let_go()
        self.settling = None
        if not self.done.done():
            self.done.set_result(result)

    def let_go(self) -> None:
        """Its claim no longer lapses."""
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None
        if self._holder is not None:
            self._holder.release(self)
            self._holder = None
