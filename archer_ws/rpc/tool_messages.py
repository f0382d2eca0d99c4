"""The params of the methods about tool calls (protocol section 23): the models of sessions/tool_models.py, with the ids
of the stream and the call.
"""

from pydantic import ConfigDict, Field

from archer_ws.core.wire_model import Identifier, WireModel
from archer_ws.examples.story import OSLO_STREAM_ID
from archer_ws.examples.tool_calls import APPROVALS, CLAIMS, OF_CALL, RESULTS, STEERS
from archer_ws.llm_gateway.tools import CallId
from archer_ws.sessions.tool_models import Approval, Steer, ToolResult

_STREAM = Field(description="The stream's id.")
_CALL_ID = Field(description="Which of its calls.")


class ApproveParams(Approval):
    """Whether a call may run."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**OF_CALL, **approval} for approval in APPROVALS]})

    stream_id: Identifier = _STREAM
    call_id: CallId = _CALL_ID


class ClaimParams(WireModel):
    """The client is about to run a call."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**OF_CALL, **CLAIMS[0]}]})

    stream_id: Identifier = _STREAM
    call_id: CallId = _CALL_ID
    claim: Identifier = Field(
        description="An id that you mint for this run: only whoever sends it may send the call's result. It lasts as "
        "long as the socket that last used it, and 60 s more; after a reconnect, use the same one again."
    )


class ResultParams(ToolResult):
    """The result of a call."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**OF_CALL, **result} for result in RESULTS]})

    stream_id: Identifier = _STREAM
    call_id: CallId = _CALL_ID


class SteerParams(Steer):
    """A user's message for a running stream."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"stream_id": OSLO_STREAM_ID, **steer} for steer in STEERS]}
    )

    stream_id: Identifier = _STREAM
