"""How a generation ended, and what it cost. Pure."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from archer_ws.core.exceptions import (
    ArcherError,
    InternalError,
    MaxStepsExceeded,
    OutputTooLong,
    ToolTimeout,
    UpstreamTruncated,
)
from archer_ws.llm_gateway.types import CancelReason, StreamStatus, TokenUsage
from archer_ws.sessions.history import BYTES_PER_TOKEN


@dataclass(frozen=True, slots=True)
class Outcome:
    """An ended stream's status, and why."""

    status: StreamStatus
    reason: CancelReason | None = None
    error: ArcherError | None = None

    @classmethod
    @cache
    def plain(cls, status: StreamStatus, reason: CancelReason | None) -> "Outcome":
        """An outcome without its error: one object for all streams that ended so."""
        return cls(status, reason)

    @classmethod
    def of(cls, reader: asyncio.Task[None]) -> "Outcome":
        """What a reader that is done, and was not cancelled by its owner, means."""
        if reader.cancelled():
            return cls("failed", error=InternalError("the generation was interrupted", hint="Try again."))
        match reader.exception():
            case None:
                return cls("completed")
            case (UpstreamTruncated() | OutputTooLong() | ToolTimeout() | MaxStepsExceeded()) as error:
                return cls("incomplete", error=error)
            case ArcherError() as error:
                return cls("failed", error=error)
            case cause:
                return cls.broken(cause)

    @classmethod
    def broken(cls, cause: BaseException) -> "Outcome":
        """A defect of ours; the cause is for the log only."""
        defect = InternalError("the server failed while generating", hint="See the server's log.")
        defect.__cause__ = cause
        return cls("failed", error=defect)


def final_usage(
    status: StreamStatus, told: TokenUsage | None, text_bytes: int, estimate_prompt: Callable[[], int]
) -> TokenUsage:
    """The provider's figures for a completed stream, else the best that can be said; also where it told only some.

    `told` is the last the provider said, `text_bytes` counts what came (reasoning too), `estimate_prompt` gives our
    own count of the prompt's tokens, and is asked only where there is no other.
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
