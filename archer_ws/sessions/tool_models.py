"""The models of approvals, claims, results and steers, and of their outcomes (protocol section 23)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from archer_ws.core.limits import CLAIM_MAX_S, CLAIM_S
from archer_ws.core.wire_model import NUMBER, Identifier, WireModel, optional, wrong
from archer_ws.core.wire_types import NamedType
from archer_ws.examples.tool_calls import APPROVALS, CLAIMS, RESULTS, STEERS
from archer_ws.llm_gateway.content import MEDIA_PARTS_MAX, Content, MediaPart, Parts, with_parts
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
    NamedType("ToolOutcomeKind", "The outcome of an approval, a claim, a result or a steer. More may be added."),
]
#: The statuses that a client may give to a call that it ran, or refused to run.
GivenStatus = Annotated[
    Literal["ok", "error", "denied"], NamedType("GivenStatus", "How a call ended, as its runner reports it.")
]
Reason = Annotated[str, Field(max_length=10_000)]


def _with_parts(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `with_parts`; a request has the same limit of pictures and files as a chat.

    Raises:
        PydanticCustomError: a part is wrong, or there are too many pictures and files.
    """
    said = with_parts(given)
    parts = said.get("parts")
    if isinstance(parts, list) and sum(isinstance(part, MediaPart) for part in parts) > MEDIA_PARTS_MAX:
        path = "content" if isinstance(given.get("content"), list) else "parts"
        raise wrong(f"has more than {MEDIA_PARTS_MAX} pictures and documents", path, "Leave some of them out.")
    return said


class ToolOutcome(BaseModel):
    """The outcome of an approval, a claim, a result or a steer. All of these are harmless to repeat."""

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
        description="accepted or claimed: it is stored. taken: another client has claimed the call. needs_approval: a "
        "person must approve it first. already_answered: the call has its result. already_ended: the stream has ended. "
        "too_late: no further step follows, or the call that is denied was approved before. not_found: there is no "
        "such stream or call."
    )
    status: ResultStatus | None = optional("How the call ended, if it has its result.")


class Approval(WireModel):
    """A person's decision whether a call may run."""

    model_config = ConfigDict(json_schema_extra={"examples": [*APPROVALS]})

    approved: bool = Field(description="False: the call does not run, and the model is told so.")
    reason: Reason | None = Field(default=None, description="Why it may not run; the model is told.")


class Claim(WireModel):
    """A client's claim of a call that it is about to run."""

    model_config = ConfigDict(json_schema_extra={"examples": [*CLAIMS]})

    claim: Identifier = Field(
        description="An id that you mint for this run. Only a result with this id is accepted while the claim lasts."
    )
    ttl_s: Annotated[float, Field(gt=0, le=CLAIM_MAX_S), NUMBER] = Field(
        default=CLAIM_S, description="How long the claim lasts, in seconds; repeating it renews it."
    )


class ToolResult(WireModel):
    """The result of a call."""

    model_config = ConfigDict(json_schema_extra={"examples": [*RESULTS]})

    content: Content = Field(description="What the model is told: a text, or parts.")
    parts: Parts | None = optional(
        "Text, pictures and files in order, if it has more than text; `content` is then its text. Requests may "
        "also send this list as `content`."
    )
    status: GivenStatus = Field(default="ok", description="How the call ended.")
    claim: Identifier | None = Field(default=None, description="The id of your claim, if you have claimed the call.")

    @model_validator(mode="before")
    @classmethod
    def _text_beside_what_is_more(cls, given: Any) -> Any:
        return _with_parts(given) if isinstance(given, dict) else given


class Steer(WireModel):
    """A user's message for a running stream."""

    model_config = ConfigDict(json_schema_extra={"examples": [*STEERS]})

    message_id: Identifier = Field(
        description="An id that you mint for this message, so that repeating it is harmless."
    )
    content: Content = Field(description="What the model is told: a text, or parts.")
    parts: Parts | None = optional(
        "Text, pictures and files in order, if it has more than text; `content` is then its text. Requests may "
        "also send this list as `content`."
    )

    @model_validator(mode="before")
    @classmethod
    def _text_beside_what_is_more(cls, given: Any) -> Any:
        return _with_parts(given) if isinstance(given, dict) else given
