"""How a stream ended, and its token counts. Pure."""

import asyncio
from collections.abc import Callable
from functools import cache

from archer_ws.core.exceptions import (
    ArcherError,
    InternalError,
    MaxStepsExceeded,
    OutputTooLong,
    ToolTimeout,
    UpstreamTruncated,
)
from archer_ws.core.lean_dataclass import lean_dataclass
from archer_ws.llm_gateway.types import CancelReason, StreamStatus, TokenUsage
from archer_ws.sessions.history import BYTES_PER_TOKEN


@lean_dataclass(frozen=True, slots=True)
class Outcome:
    """An ended stream's status, with the reason of a cancel, or the error."""

    status: StreamStatus
    reason: CancelReason | None = None
    error: ArcherError | None = None

    @classmethod
    @cache
    def plain(cls, status: StreamStatus, reason: CancelReason | None) -> "Outcome":
        """An outcome without its error: one object for all streams that ended so."""
        return cls(status, reason)

    @classmethod
    def of(cls, cause: BaseException) -> "Outcome":
        """The outcome of a generation that ended by an exception, and was not cancelled by its stream."""
        match cause:
            case asyncio.CancelledError():
                return cls("failed", error=InternalError("the generation was interrupted", hint="Try again."))
            case (UpstreamTruncated() | OutputTooLong() | ToolTimeout() | MaxStepsExceeded()) as error:
                return cls("incomplete", error=error)
            case ArcherError() as error:
                return cls("failed", error=error)
            case _:
                return cls.broken(cause)

    @classmethod
    def broken(cls, cause: BaseException) -> "Outcome":
        """The outcome of a defect of the server; the cause is logged, and not sent."""
        defect = InternalError("the server failed while generating", hint="See the server's log.")
        defect.__cause__ = cause
        return cls("failed", error=defect)


def final_usage(
    status: StreamStatus, told: TokenUsage | None, text_bytes: int, estimate_prompt: Callable[[], int]
) -> TokenUsage:
    """The provider's token counts for a step that completed; otherwise an estimate, which completes partial counts.

    Args:
        status: how the step ended.
        told: the last counts from the provider.
        text_bytes: the bytes of all text, including reasoning and arguments.
        estimate_prompt: returns an estimate of the prompt's tokens; called only if the provider reported none.
    """
    if told is not None and status == "completed" and not told.estimated:
        return told
    prompt = told.prompt_tokens if told and told.prompt_tokens else estimate_prompt()
    completion = max(told.completion_tokens if told else 0, -(-text_bytes // BYTES_PER_TOKEN))
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        estimated=True,
        cached_tokens=told.cached_tokens if told else None,
        reasoning_tokens=told.reasoning_tokens if told else None,
    )
