"""The params of the methods about tool calls (protocol section 23): the models of sessions/tool_models.py, with the ids
of the stream and the call.
"""

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from archer_ws.core.wire_model import Identifier, WireModel
from archer_ws.llm_gateway.tools import CallId
from archer_ws.sessions.tool_models import RESULTS, STEERS, Approval, Steer, ToolResult

_CALL: JsonDict = {"stream_id": "sky-2", "call_id": "k3Zq9TxB1"}
_STREAM = Field(description="The stream's id.")
_CALL_ID = Field(description="Which of its calls.")


class ApproveParams(Approval):
    """Whether a call may run."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{**_CALL, "approved": True}, {**_CALL, "approved": False, "reason": "not that file"}]
        }
    )

    stream_id: Identifier = _STREAM
    call_id: CallId = _CALL_ID


class ClaimParams(WireModel):
    """The client is about to run a call."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_CALL, "claim": "tab-7f3a"}]})

    stream_id: Identifier = _STREAM
    call_id: CallId = _CALL_ID
    claim: Identifier = Field(
        description="An id that you mint for this run: only whoever sends it may send the call's result. It lasts as "
        "long as the socket that last used it, and 60 s more; after a reconnect, use the same one again."
    )


class ResultParams(ToolResult):
    """The result of a call."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_CALL, **result} for result in RESULTS]})

    stream_id: Identifier = _STREAM
    call_id: CallId = _CALL_ID


class SteerParams(Steer):
    """A user's message for a running stream."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"stream_id": "sky-2", **steer} for steer in STEERS]})

    stream_id: Identifier = _STREAM
