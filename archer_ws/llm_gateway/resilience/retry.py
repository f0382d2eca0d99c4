"""Decides when a provider call is retried, and how long each wait for it may last.

Only this module retries (the SDKs' retries are off), and only before the first text, so that no text is repeated. The
pauses are plain sleeps in the caller's task: cancelling that task ends them at once.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import structlog

from archer_ws.core.exceptions import ProviderFailure, ProviderTimeout
from archer_ws.llm_gateway.base import BaseLLMAdapter, Timeouts
from archer_ws.llm_gateway.resilience.scrubbing import ChunkScrubber
from archer_ws.llm_gateway.resilience.wait_limit import WaitLimit
from archer_ws.llm_gateway.types import ChatOptions, Chunk, StreamChunk, TakeChunk

log = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter; the provider's Retry-After takes precedence.

    `max_retries` counts tries after the first. A Retry-After above `retry_after_max_s` is not waited for: the client
    gets the error, with the time to wait.
    """

    max_retries: int = 2
    retry_after_max_s: float = 30.0

    def pause_s(self, attempt: int, error: ProviderFailure) -> float | None:
        """The pause after the failed try number `attempt` (from 0); None if there is no further try."""
        if not error.retryable or attempt >= self.max_retries:
            return None
        if error.retry_after_ms is not None:
            wait_s = error.retry_after_ms / 1000
            return wait_s if wait_s <= self.retry_after_max_s else None
        return random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt))


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """The time limits and pauses of a provider call."""

    policy: RetryPolicy
    timeouts: Timeouts

    def of_silence(self, adapter: BaseLLMAdapter, options: ChatOptions) -> tuple[float, float]:
        """The time limits for the first text, and for silence after it.

        The first one is longer for a model that is loaded on demand. Neither applies to a provider that sends nothing
        while it generates a tool call.
        """
        timeouts = self.timeouts
        if adapter.is_silent_in_calls and options.tools and options.tool_choice != "none":
            return timeouts.total_s, timeouts.total_s
        if adapter.loads_models:
            return max(timeouts.first_token_s, timeouts.model_load_s), timeouts.idle_s
        return timeouts.first_token_s, timeouts.idle_s

    def pause_s(self, adapter: BaseLLMAdapter, attempt: int, error: ProviderFailure) -> float | None:
        """The pause after the failed try number `attempt` (from 0); None if there is no further try.

        If models are loaded on demand, a time-out took minutes, and the server continues with the abandoned request: a
        second try would start from the beginning, queued after it.
        """
        if adapter.loads_models and isinstance(error, ProviderTimeout):
            return None
        return self.policy.pause_s(attempt, error)


#: Adds what the caller knows to a failure that will not be retried.
Explain = Callable[[ProviderFailure], ProviderFailure]


async def call_with_retries(
    adapter: BaseLLMAdapter, waits: WaitPolicy, call: Callable[[], Awaitable[T]], explain: Explain
) -> T:
    """The result of `call`, retried by the policy.

    Raises:
        ProviderTimeout: all tries together took longer than `total_s`.
        ProviderFailure: the failure of the last try.
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
    open_stream: Callable[[TakeChunk | None], AsyncIterator[StreamChunk]],
    explain: Explain,
    *,
    on_chunk: TakeChunk | None = None,
) -> AsyncGenerator[StreamChunk, None]:
    """The chunks of `open_stream(take)`, retried by the policy until the first text has come.

    With `on_chunk`, the adapter may push chunks to `take`, which passes them on to `on_chunk` in the same call (see
    ChatOptions). One task must read the others.

    Raises:
        ProviderTimeout: the first text, the next chunk or the whole took too long.
        ProviderFailure: the failure of the last try.
    """
    loop = asyncio.get_running_loop()
    timeouts = waits.timeouts
    first_token_s, idle_s = waits.of_silence(adapter, options)
    deadline = loop.time() + timeouts.total_s
    attempt = 0
    scrubber = ChunkScrubber()
    while True:
        first_text_by = loop.time() + first_token_s
        limit = WaitLimit(adapter.provider_name, whole_by=deadline, whole_s=timeouts.total_s)
        passage = _Passage(limit, idle_s, scrubber, on_chunk)
        try:
            chunks = open_stream(passage.push if on_chunk else None)
            try:
                with limit:
                    limit.begin(first_text_by, "sent no text within", first_token_s)
                    async for chunk in chunks:
                        limit.is_waiting = False
                        for held in passage.masked(chunk):
                            yield held
                        yield chunk
                        passage.await_next()
            finally:
                # Every adapter's stream is an async generator; this ends it, and its connection, in every case.
                await cast("AsyncGenerator[StreamChunk, None]", chunks).aclose()
        except ProviderFailure as error:
            pause_s = None if passage.has_text else waits.pause_s(adapter, attempt, error)
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


class _Passage:
    """What the chunks of one try pass on their way to the caller: the mask of known keys, and the time limits.

    Attributes:
        has_text: whether text came, so that nothing may be tried again.
    """

    __slots__ = ("_idle_s", "_is_timed", "_limit", "_on_chunk", "_scrubber", "_time", "has_text")

    def __init__(self, limit: WaitLimit, idle_s: float, scrubber: ChunkScrubber, on_chunk: TakeChunk | None) -> None:
        self._limit = limit
        self._idle_s = idle_s
        self._scrubber = scrubber
        self._on_chunk = on_chunk
        self._time = limit.time
        self._is_timed = False
        self.has_text = False

    def push(self, chunk: Chunk) -> None:
        """Pass a chunk on to `on_chunk`."""
        pass_on = self._on_chunk
        assert pass_on is not None
        if self._is_timed and chunk.finish_reason is None:
            # Nearly all of a stream, so without further calls.
            self._scrubber.clean(chunk)
            pass_on(chunk)
            self._limit.by = self._time() + self._idle_s
            return
        for held in self.masked(chunk):
            pass_on(held)
        pass_on(chunk)
        self.await_next()

    def masked(self, chunk: Chunk) -> Sequence[StreamChunk]:
        """Mask keys in the chunk; returns what was held back and goes before it."""
        if not self.has_text and (chunk.content or chunk.reasoning or chunk.arguments):
            self.has_text = True
        self._scrubber.clean(chunk)
        return () if chunk.finish_reason is None else self._scrubber.held_arguments()

    def await_next(self) -> None:
        """From now on the provider's silence counts."""
        limit = self._limit
        if self._is_timed:
            limit.by = self._time() + self._idle_s
            limit.is_waiting = True
        elif self.has_text:
            self._is_timed = True
            limit.begin(self._time() + self._idle_s, "fell silent for", self._idle_s)
        else:
            limit.is_waiting = True


def _tell(adapter: BaseLLMAdapter, error: ProviderFailure, attempt: int, pause_s: float) -> None:
    log.warning(
        "provider_retry",
        provider=adapter.provider_name,
        kind=error.kind,
        attempt=attempt,
        pause_ms=round(pause_s * 1000),
    )
