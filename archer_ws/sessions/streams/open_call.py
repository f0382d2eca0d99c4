"""The state of one open call: its approval, its claim and its result (protocol section 23).

It has the rules of a call. acts.py serialises the requests, stores them and appends their events.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from archer_ws.core.limits import CLAIM_S
from archer_ws.core.patience import PatientTimer
from archer_ws.llm_gateway.content import Part
from archer_ws.llm_gateway.tool_history import TOLD_BY_SERVER
from archer_ws.llm_gateway.tools import ResultStatus
from archer_ws.sessions.tool_models import ToolOutcome


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of a call."""

    status: ResultStatus
    content: str
    parts: Sequence[Part] | None = None

    @classmethod
    def by_server(cls, status: ResultStatus) -> "CallResult":
        """The result that the server gives to a call that has none."""
        return cls(status, TOLD_BY_SERVER[status])

    @classmethod
    def denied(cls, reason: str | None) -> "CallResult":
        """The result of a call that a person denied."""
        return cls("denied", f"The call was denied: {reason}" if reason else "The call was denied.")


class Holder:
    """A connection as the holder of claims, which last while it is open."""

    def __init__(self) -> None:
        self.is_gone = False
        self._calls: dict[OpenCall, None] = {}

    def hold(self, call: "OpenCall") -> None:
        """Note that a call was claimed over this connection."""
        self._calls[call] = None

    def release(self, call: "OpenCall") -> None:
        """Note that a call has its result, or is claimed over another connection."""
        self._calls.pop(call, None)

    def gone(self) -> None:
        """The connection has closed. Its claims last for CLAIM_S longer, so that the client can reconnect."""
        self.is_gone = True
        calls, self._calls = self._calls, {}
        for call in calls:
            call.lapse_in(CLAIM_S)


class OpenCall:
    """One call.

    Args:
        call_id: its id.
        needs_approval: whether a person must approve it first.
        idempotent: whether it may run again if the client that ran it was lost.
        on_lapse: called when its claim lapses.
    """

    __slots__ = (
        "_holder",
        "_lapse",
        "_on_lapse",
        "approved",
        "call_id",
        "claim",
        "has_lapsed",
        "idempotent",
        "needs_approval",
        "result",
    )

    def __init__(
        self, call_id: str, *, needs_approval: bool, idempotent: bool, on_lapse: Callable[["OpenCall"], None]
    ) -> None:
        self.call_id = call_id
        self.needs_approval = needs_approval
        self.idempotent = idempotent
        self.approved = False
        self.claim: str | None = None
        #: Whether the claim has lapsed and was not renewed since.
        self.has_lapsed = False
        #: Set once it is stored.
        self.result: CallResult | None = None
        self._holder: Holder | None = None
        self._lapse: PatientTimer | None = None
        self._on_lapse = on_lapse

    @property
    def is_running(self) -> bool:
        """Whether a client has claimed it and it has no result yet."""
        return self.claim is not None and self.result is None

    def settled_outcome(self) -> ToolOutcome | None:
        """The outcome of requests for a call that has its result; None if it has none."""
        return None if self.result is None else ToolOutcome(outcome="already_answered", status=self.result.status)

    def refusal(self, *, claim: str | None) -> ToolOutcome | None:
        """The outcome that refuses a claim, or a result with this claim or none; None if it is accepted."""
        if (outcome := self.settled_outcome()) is not None:
            return outcome
        if self.needs_approval and not self.approved:
            return ToolOutcome(outcome="needs_approval")
        if self.claim is not None and claim != self.claim:
            return ToolOutcome(outcome="taken")
        return None

    def take(self, claim: str, holder: Holder | None, ttl_s: float) -> None:
        """Claim it."""
        self.claim = claim
        self.hold(holder, ttl_s)

    def hold(self, holder: Holder | None, ttl_s: float) -> None:
        """Let its claim last while `holder` is connected; without a holder, for `ttl_s` seconds."""
        self._let_go()
        if holder is None:
            self.lapse_in(ttl_s)
        elif holder.is_gone:
            self.lapse_in(CLAIM_S)
        else:
            self._holder = holder
            holder.hold(self)

    def lapse_in(self, seconds: float) -> None:
        """Let its claim lapse after so many seconds, unless it is renewed."""
        self._let_go()
        self._lapse = PatientTimer(seconds, self.lapse)

    def lapse(self) -> None:
        """Let its claim lapse now."""
        self._let_go()
        self.has_lapsed = True
        self._on_lapse(self)

    def open_again(self) -> None:
        """Remove its claim."""
        self._let_go()
        self.claim = None

    def settle(self, result: CallResult) -> None:
        """Set its result."""
        self._let_go()
        self.result = result

    def _let_go(self) -> None:
        self.has_lapsed = False
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None
        if self._holder is not None:
            self._holder.release(self)
            self._holder = None
