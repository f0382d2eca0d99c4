"""The params of the methods that speak of calls (protocol section 23): what sessions/tool_models.py has, and whose."""

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from archer_ws.core.wire_model import Identifier, WireModel
from archer_ws.llm_gateway.tools import CallId
from archer_ws.sessions.tool_models import RESULTS, STEERS, Approval, Steer, ToolResult

_CALL: JsonDict = {"stream_id": "sky-2", "call_id": "k3Zq9TxB1"}
_STREAM = Field(description="The stream's id.")
_CALL_ID = Field(description="Which of its calls.")


class ApproveParams(Approval):
    """Whether which call may run."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{**_CALL, "approved": True}, {**_CALL, "approved": False, "reason": "not that file"}]
        }
    )

    stream_id: Identifier = _STREAM
    call_id: CallId = _CALL_ID


class ClaimParams(WireModel):
    """That the client is about to run a call."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_CALL, "claim": "tab-7f3a"}]})

    stream_id: Identifier = _STREAM
    call_id: CallId = _CALL_ID
    claim: Identifier = Field(
        description="Yours, minted for this run: whoever shows it may answer the call. It lasts while the socket lives "
        "that last used it, and 60 s more: come back with the same one."
    )


class ResultParams(ToolResult):
    """What came of which call."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_CALL, **result} for result in RESULTS]})

    stream_id: Identifier = _STREAM
    call_id: CallId = _CALL_ID


class SteerParams(Steer):
    """A user's message for which stream."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"stream_id": "sky-2", **steer} for steer in STEERS]})

    stream_id: Identifier = _STREAM
