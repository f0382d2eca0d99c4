"""Logs the end of a stream."""

import time
from typing import NamedTuple

import structlog

from archer_ws.core.clock import tenths
from archer_ws.core.exceptions import InternalError
from archer_ws.llm_gateway.types import TokenUsage
from archer_ws.sessions.streams.outcome import Outcome
from archer_ws.sessions.streams.work import StreamIdentity

log = structlog.get_logger(__name__)


class EndLine(NamedTuple):
    """The fields of the log line; `began` is monotonic time in seconds."""

    identity: StreamIdentity
    outcome: Outcome
    finish_reason: str | None
    usage: TokenUsage
    began: float
    first_text_ms: float | None

    def write(self) -> None:
        """Write the line, and before it the cause of a defect, if there was one."""
        error = self.outcome.error
        if isinstance(error, InternalError):
            log.error("stream_defect", exc_info=error.__cause__)
        # The logger itself: structlog's proxy finds `info` only by way of an exception.
        log.bind().info(
            "stream_ended",
            provider=self.identity.provider,
            model=self.identity.model,
            status=self.outcome.status,
            outcome=error.kind if error else self.outcome.reason or self.finish_reason,
            first_token_ms=tenths(self.first_text_ms) if self.first_text_ms is not None else None,
            duration_ms=tenths((time.monotonic() - self.began) * 1000),
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
            estimated=self.usage.estimated or False,
        )
