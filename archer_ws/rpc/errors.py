"""Which of our errors a failed method call is."""

from pydantic import ValidationError

from archer_ws.core.exceptions import ArcherError, FieldError, InternalError, InvalidParams

#: The most field errors one response lists.
MAX_FIELD_ERRORS = 20


def invalid_params(error: ValidationError) -> InvalidParams:
    """What is wrong with a method's params, by path; never the values, which may be prompts or keys."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    errors = [
        FieldError(path=".".join(map(str, each["loc"]))[:200] or "params", message=_message(each["msg"]))
        for each in found[:MAX_FIELD_ERRORS]
    ]
    rest = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return InvalidParams(
        f"{errors[0].path}: {errors[0].message}{rest}", hint="Correct what `errors` names.", errors=errors
    )


def defect() -> ArcherError:
    """What a client sees of a defect of ours; the log has the rest."""
    return InternalError(
        "something went wrong inside the server", hint="The server's log has the details under this request_id."
    )


def _message(text: str) -> str:
    return text.removeprefix("Value error, ")
