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
    status: StreamStatus,
    told: TokenUsage | None,
    text_bytes: int,
    estimate_prompt: Callable[[], int],
    *,
    earlier: tuple[TokenUsage, int] | None = None,
) -> TokenUsage:
    """The provider's token counts for a completed stream; otherwise an estimate, which completes partial counts.

    Of a stream with several steps, only the last one is estimated.

    Args:
        status: how the stream ended.
        told: the last counts from the provider.
        text_bytes: the bytes of all text, including reasoning and arguments.
        estimate_prompt: returns an estimate of the prompt's tokens; called only if the provider reported none.
        earlier: the provider's counts for the steps before the last, included in `told`; and the bytes of their text.
    """
    if told is not None and status == "completed" and not told.estimated:
        return told
    before_prompt, before_completion, before_bytes = 0, 0, 0
    if earlier is not None:
        before_prompt, before_completion = earlier[0].prompt_tokens, earlier[0].completion_tokens
        before_bytes = earlier[1]
    prompt = told.prompt_tokens if told else 0
    if prompt == before_prompt:
        # The text of earlier steps is in the last one's prompt.
        prompt += estimate_prompt() + _tokens_of(before_bytes)
    completion = max(told.completion_tokens if told else 0, before_completion + _tokens_of(text_bytes - before_bytes))
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        estimated=True,
        cached_tokens=told.cached_tokens if told else None,
        reasoning_tokens=told.reasoning_tokens if told else None,
    )


def _tokens_of(text_bytes: int) -> int:
    return -(-text_bytes // BYTES_PER_TOKEN)
