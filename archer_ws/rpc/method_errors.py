"""Which error a failed method call is answered with."""

from pydantic import ValidationError

from archer_ws.core.exceptions import ArcherError, InternalError, RequestError
from archer_ws.core.wire_model import request_error


def params_error(error: ValidationError) -> RequestError:
    """What is wrong with a method's params, by path; never their values, which may be prompts or keys."""
    found = error.errors(include_url=False, include_input=False)
    return request_error(found, whole="params", hint="Correct what `errors` names.")


def defect() -> ArcherError:
    """The error for a defect of ours; the details are in the log only."""
    return InternalError(
        "something went wrong inside the server", hint="The server's log has the details under this request_id."
    )
