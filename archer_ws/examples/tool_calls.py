"""What clients send about the calls of stream `oslo-1`, and what they steer into it (protocol section 23)."""

from pydantic.config import JsonDict

from archer_ws.examples.events import SHOWN, SHOWN_PARTS, STEERED
from archer_ws.examples.story import CALL_ID, CLAIM, DENIAL, JOB_CLAIM, NO_SUCH_CITY, OSLO_STREAM_ID, PICTURE, RESULT

#: The ids of a stream and one of its calls, in the params of methods.
OF_CALL: JsonDict = {"stream_id": OSLO_STREAM_ID, "call_id": CALL_ID}
AGREED: JsonDict = {"approved": True}
DENIED: JsonDict = {"approved": False, "reason": DENIAL}
APPROVALS: list[JsonDict] = [AGREED, DENIED]
LONG_CLAIM: JsonDict = {"claim": JOB_CLAIM, "ttl_s": 300}
CLAIMS: list[JsonDict] = [{"claim": CLAIM}, LONG_CLAIM]
OK_RESULT: JsonDict = {"content": RESULT}
ERROR_RESULT: JsonDict = {"content": NO_SUCH_CITY, "status": "error", "claim": CLAIM}
RESULTS: list[JsonDict] = [
    OK_RESULT,
    ERROR_RESULT,
    {"content": [*SHOWN_PARTS]},
    {"content": "", "parts": [PICTURE]},
]
STEERS: list[JsonDict] = [STEERED, SHOWN]
