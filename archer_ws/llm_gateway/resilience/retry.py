"""When and how a provider call is tried again, and how long each wait for it may last.

Retries are ours alone (the SDKs' are off) and happen only before the first text, so that no text is ever doubled.
The pauses are plain sleeps in the caller's task: cancelling that task ends them at once.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar, cast

import structlog

from archer_ws.core.exceptions import ProviderFailure, ProviderTimeout
from archer_ws.llm_gateway.base import BaseLLMAdapter, Timeouts
from archer_ws.llm_gateway.resilience.scrubbing import ChunkScrubber
from archer_ws.llm_gateway.resilience.wait_limit import WaitLimit
from archer_ws.llm_gateway.types import ChatOptions, StreamChunk

log = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter, and the provider's own word where it gives one.

    `max_retries` counts tries after the first. A Retry-After above `retry_after_max_s` is not waited for: the error
    goes to the client, who is told how long to wait.
    """

    max_retries: int = 2
    retry_after_max_s: float = 30.0

    def pause_s(self, attempt: int, error: ProviderFailure) -> float | None:
        """How long to wait after the failed try number `attempt` (from 0); None where another try makes no sense."""
        if not error.retryable or attempt >= self.max_retries:
            return None
        if error.retry_after_ms is not None:
            wait_s = error.retry_after_ms / 1000
            return wait_s if wait_s <= self.retry_after_max_s else None
        return random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt))


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """The waits one provider call is given."""

    policy: RetryPolicy
    timeouts: Timeouts

    def first_token_s(self, adapter: BaseLLMAdapter, options: ChatOptions) -> float:
        """How long the first text may take: a model that is loaded on demand takes longer, and so does a long call."""
        if _may_be_silent(adapter, options):
            return self.timeouts.total_s
        if adapter.loads_models:
            return max(self.timeouts.first_token_s, self.timeouts.model_load_s)
        return self.timeouts.first_token_s

    def idle_s(self, adapter: BaseLLMAdapter, options: ChatOptions) -> float:
        """How long nothing may come after the first text."""
        return self.timeouts.total_s if _may_be_silent(adapter, options) else self.timeouts.idle_s

    def pause_s(self, adapter: BaseLLMAdapter, attempt: int, error: ProviderFailure) -> float | None:
        """How long to wait after the failed try number `attempt` (from 0); None where another try makes no sense.

        Where models are loaded, a time-out was minutes, and whoever was asked goes on with what was given up: a second
        try would begin from the start, behind the first.
        """
        if adapter.loads_models and isinstance(error, ProviderTimeout):
            return None
        return self.policy.pause_s(attempt, error)


def _may_be_silent(adapter: BaseLLMAdapter, options: ChatOptions) -> bool:
    """Whether silence is no sign that something is wrong."""
    return adapter.is_silent_in_calls and bool(options.tools) and options.tool_choice != "none"


#: Says more of a failure that will not be retried, where the caller knows more.
Explain = Callable[[ProviderFailure], ProviderFailure]


async def call_with_retries(
    adapter: BaseLLMAdapter, waits: WaitPolicy, call: Callable[[], Awaitable[T]], explain: Explain
) -> T:
    """The result of `call`, tried as the policy says.

    Raises:
        ProviderTimeout: all tries together took longer than `total_s`.
        ProviderFailure: the last try's.
    """
    loop = asyncio.get_running_loop()
    total_s = waits.timeouts.total_s
    deadline = loop.time() + total_s
    attempt = 0
    while True:
        try:
            with WaitLimit(adapter.provider_name, whole_by=deadline, whole_s=total_s) as limit:
                limit.begin(deadline, "did not answer within", total_s)
                return await call()
        except ProviderFailure as error:
            pause_s = waits.pause_s(adapter, attempt, error)
            if pause_s is None or loop.time() + pause_s >= deadline:
                raise explain(error) from error.__cause__
            attempt += 1
            _tell(adapter, error, attempt, pause_s)
        await asyncio.sleep(pause_s)


async def stream_with_retries(
    adapter: BaseLLMAdapter,
    waits: WaitPolicy,
    options: ChatOptions,
    open_stream: Callable[[], AsyncIterator[StreamChunk]],
    explain: Explain,
) -> AsyncGenerator[StreamChunk, None]:
    """The chunks of `open_stream()`, tried again as the policy says until the first text has come.

    They are to be read by one task.

    Raises:
        ProviderTimeout: the first text, the next chunk or the whole took too long.
        ProviderFailure: the last try's.
    """
    loop = asyncio.get_running_loop()
    timeouts = waits.timeouts
    idle_s = waits.idle_s(adapter, options)
    deadline = loop.time() + timeouts.total_s
    attempt = 0
    scrubber = ChunkScrubber()
    while True:
        has_text = False
        first_token_s = waits.first_token_s(adapter, options)
        first_text_by = loop.time() + first_token_s
        try:
            # Every adapter's stream is an async generator; aclosing ends it, and its connection, on every way out.
            async with aclosing(cast(AsyncGenerator[StreamChunk, None], open_stream())) as chunks:
                with WaitLimit(adapter.provider_name, whole_by=deadline, whole_s=timeouts.total_s) as limit:
                    limit.begin(first_text_by, "sent no text within", first_token_s)
                    async for chunk in chunks:
                        limit.is_waiting = False
                        came = has_text or chunk.content or chunk.reasoning or chunk.arguments
                        scrubber.clean(chunk)
                        if chunk.finish_reason is not None:
                            for held in scrubber.held_arguments():
                                yield held
                        yield chunk
                        if has_text:
                            limit.by = loop.time() + idle_s
                            limit.is_waiting = True
                        elif came:
                            has_text = True
                            limit.begin(loop.time() + idle_s, "fell silent for", idle_s)
                        else:
                            limit.is_waiting = True
        except ProviderFailure as error:
            pause_s = None if has_text else waits.pause_s(adapter, attempt, error)
            if pause_s is None or loop.time() + pause_s >= deadline:
                for held in scrubber.rest():
                    yield held
                raise explain(error) from error.__cause__
            attempt += 1
            _tell(adapter, error, attempt, pause_s)
            options.progress("retrying", f"try {attempt + 1} in {pause_s:.1f} s: {error.message}")
        else:
            for held in scrubber.rest():
                yield held
            return
        await asyncio.sleep(pause_s)


def _tell(adapter: BaseLLMAdapter, error: ProviderFailure, attempt: int, pause_s: float) -> None:
    log.warning(
        "provider_retry",
        provider=adapter.provider_name,
        kind=error.kind,
        attempt=attempt,
        pause_ms=round(pause_s * 1000),
    )
