"""Maps the reasoning effort that a request names to one that the model has (protocol section 24). Pure.

How a request asks for it is in each provider's folder.
"""

from collections.abc import Sequence
from typing import get_args

from archer_ws.core.exceptions import FieldError, Unsupported
from archer_ws.llm_gateway.types import ReasoningEffort

#: All efforts, the lowest first.
EFFORTS: tuple[ReasoningEffort, ...] = get_args(get_args(ReasoningEffort)[0])
_PATH = "reasoning_effort"


def effective_effort(
    asked: ReasoningEffort, efforts: Sequence[ReasoningEffort] | None, *, model: str
) -> ReasoningEffort:
    """The effort to ask for: the requested one, else the next lower one that the model has, else its lowest.

    Args:
        asked: the requested effort.
        efforts: the efforts that the model has; None if unknown: then the result is the requested one.
        model: its name, for the error.

    Raises:
        Unsupported: it has none, or the request asks for `none` and it can't stop thinking.
    """
    if efforts is None or asked in efforts:
        return asked
    if not efforts:
        raise takes_no_effort(model)
    if asked == "none":
        raise _refused(f"{model} can't stop thinking", f"Send {efforts[0]}, its lowest, or leave it out.")
    lower = [effort for effort in EFFORTS[: EFFORTS.index(asked)] if effort in efforts]
    return lower[-1] if lower else efforts[0]


def takes_no_effort(model: str) -> Unsupported:
    """The error about an effort for a model that does not reason, or has no adjustable effort."""
    return _refused(
        f"{model} takes no reasoning effort",
        "Leave it out, or choose a model that has `reasoning_efforts` in the list of models.",
    )


def _refused(what: str, hint: str) -> Unsupported:
    return Unsupported(f"{_PATH}: {what}", hint=hint, errors=[FieldError(path=_PATH, message=what)])
