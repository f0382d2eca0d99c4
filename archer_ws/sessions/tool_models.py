"""What clients say of the calls that a stream waits for, and what they are answered (protocol section 23)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from archer_ws.core.limits import CLAIM_MAX_S, CLAIM_S
from archer_ws.core.wire_model import Identifier, Text, WireModel, optional
from archer_ws.core.wire_types import NamedType
from archer_ws.examples.tool_calls import APPROVALS, CLAIMS, RESULTS, STEERS
from archer_ws.llm_gateway.content import Content, Parts, with_parts
from archer_ws.llm_gateway.tools import ResultStatus

ToolOutcomeKind = Annotated[
    Literal[
        "accepted",
        "claimed",
        "taken",
        "needs_approval",
        "already_answered",
        "already_ended",
        "too_late",
        "not_found",
    ],
    NamedType("ToolOutcomeKind", "What became of what was said of a call, or steered into a stream. It may grow."),
]
#: What a client may say of a call that it ran, or did not want to run.
GivenStatus = Annotated[
    Literal["ok", "error", "denied"], NamedType("GivenStatus", "How a call ended, as its runner tells it.")
]
Reason = Annotated[Text, Field(max_length=10_000)]


class ToolOutcome(BaseModel):
    """What became of an approval, a claim, a result or a steer; all are harmless to repeat."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"outcome": "accepted"},
                {"outcome": "taken"},
                {"outcome": "already_answered", "status": "ok"},
                {"outcome": "not_found"},
            ]
        }
    )

    outcome: ToolOutcomeKind = Field(
        description="accepted or claimed: it is kept. taken: another's claim holds the call. needs_approval: a person "
        "must agree first. already_answered: the call has its result. already_ended: the stream has ended. too_late: "
        "no further step comes. not_found: there is no such stream or call."
    )
    status: ResultStatus | None = optional("How the call ended, where it has its result.")


class Approval(WireModel):
    """Whether a call may run."""

    model_config = ConfigDict(json_schema_extra={"examples": [*APPROVALS]})

    approved: bool = Field(description="False: it does not run, and the model is told so.")
    reason: Reason | None = Field(default=None, description="Why not; the model is told.")


class Claim(WireModel):
    """That a client is about to run a call."""

    model_config = ConfigDict(json_schema_extra={"examples": [*CLAIMS]})

    claim: Identifier = Field(description="Yours, minted for this run: whoever shows it may answer the call.")
    ttl_s: Annotated[float, Field(gt=0, le=CLAIM_MAX_S)] = Field(
        default=CLAIM_S, description="How long the claim lasts, in seconds; repeating it renews it."
    )


class ToolResult(WireModel):
    """What came of a call."""

    model_config = ConfigDict(json_schema_extra={"examples": [*RESULTS]})

    content: Content = Field(description="What the model is told: a text, or parts.")
    parts: Parts | None = optional(
        "All that it says, in order, where that is more than text: `content` is its text then. As it is received; "
        "what is sent may be a list as `content`."
    )
    status: GivenStatus = Field(default="ok", description="How the call ended.")
    claim: Identifier | None = Field(default=None, description="The claim that you run it under, if any.")

    @model_validator(mode="before")
    @classmethod
    def _text_beside_what_is_more(cls, given: Any) -> Any:
        return with_parts(given) if isinstance(given, dict) else given


class Steer(WireModel):
    """A user's message for a stream that runs."""

    model_config = ConfigDict(json_schema_extra={"examples": [*STEERS]})

    message_id: Identifier = Field(description="Yours, minted for this message: repeating it is harmless.")
    content: Content = Field(description="What the model is told: a text, or parts.")
    parts: Parts | None = optional(
        "All that it says, in order, where that is more than text: `content` is its text then. As it is received; "
        "what is sent may be a list as `content`."
    )

    @model_validator(mode="before")
    @classmethod
    def _text_beside_what_is_more(cls, given: Any) -> Any:
        return with_parts(given) if isinstance(given, dict) else given
