"""A provider's state, from asking it for its models."""

import time
from collections.abc import Awaitable, Callable

from archer_ws.core.exceptions import ArcherError, ProviderNotConfigured
from archer_ws.llm_gateway.types import ProviderStatus


async def probe(
    provider: str, prepare: Callable[[], Awaitable[object]], ask: Callable[[], Awaitable[list[str]]]
) -> ProviderStatus:
    """Whether the provider answers; never raises an `ArcherError`.

    `prepare` is what only a first use costs (imports, a pool) and does not count as latency; `ask` gives the names of
    the models.
    """
    try:
        await prepare()
        started = time.perf_counter()
        models = await ask()
    except ArcherError as error:
        return ProviderStatus(
            provider=provider,
            available=False,
            error=error.message,
            hint=error.hint,
            configured=False if isinstance(error, ProviderNotConfigured) else None,
        )
    return ProviderStatus(
        provider=provider,
        available=True,
        latency_ms=round((time.perf_counter() - started) * 1000, 1),
        models=models,
    )
