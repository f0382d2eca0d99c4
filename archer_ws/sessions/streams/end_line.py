"""Logs the end of a stream."""

import time

import structlog

from archer_ws.core.clock import tenths
from archer_ws.core.exceptions import InternalError
from archer_ws.core.tracebacks import forget_tracebacks
from archer_ws.llm_gateway.types import TokenUsage
from archer_ws.sessions.streams.intake import Intake
from archer_ws.sessions.streams.outcome import Outcome
from archer_ws.sessions.streams.work import StreamIdentity

log = structlog.get_logger(__name__)


def write_end_line(identity: StreamIdentity, outcome: Outcome, usage: TokenUsage, intake: Intake) -> None:
    """Write the line, and before it the cause of a defect, if there was one."""
    error = outcome.error
    if isinstance(error, InternalError):
        log.error("stream_defect", exc_info=error.__cause__)
    if error is not None:
        forget_tracebacks(error)  # They would keep the whole request in memory.
    # The logger itself: structlog's proxy finds `info` only by way of an exception.
    log.bind().info(
        "stream_ended",
        provider=identity.provider,
        model=identity.model,
        status=outcome.status,
        outcome=error.kind if error else outcome.reason or intake.finish_reason,
        first_token_ms=tenths(intake.first_text_ms) if intake.first_text_ms is not None else None,
        duration_ms=tenths((time.monotonic() - intake.began) * 1000),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        estimated=usage.estimated or False,
    )
