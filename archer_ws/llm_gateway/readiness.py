"""Whether the default provider can serve: prepared at the start, then checked by short probes, one at a time and cached
for a moment. Orchestrators ask often and from many places; a provider must not notice that.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from archer_ws.core.exceptions import ProviderFailure
from archer_ws.llm_gateway.resilience.cached import Cached
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.types import ProviderStatus

log = structlog.get_logger(__name__)

#: The time limit of a probe, and how long its result is cached, in seconds.
PROBE_LIMIT_S = 3.0
REMEMBER_S = 2.0


class Readiness:
    """The default provider's state."""

    def __init__(self, router: LLMRouter, clock: Callable[[], float] = time.monotonic) -> None:
        self._router = router
        self._state = Cached(self._probe, REMEMBER_S, clock)
        self._preparing = False

    async def prepare(self) -> ProviderFailure | None:
        """Prepare the default provider. Returns the failure, if there is one.

        A failure is no reason to stop: other providers may serve, and this one may recover.
        """
        self._preparing = True
        try:
            await self._router.prepare()
        except ProviderFailure as error:
            log.warning(
                "provider_not_ready", provider=self._router.default_provider, error=error.message, hint=error.hint
            )
            return error
        finally:
            self._preparing = False
        return None

    async def check(self) -> ProviderStatus:
        """The state, at most REMEMBER_S old."""
        if self._preparing:
            provider = self._router.default_provider
            return ProviderStatus(
                provider=provider,
                available=False,
                error=f"{provider} is being prepared",
                hint="Try again in a moment: a large model can take minutes to load.",
            )
        return await self._state.get()

    async def _probe(self) -> ProviderStatus:
        provider = self._router.default_provider
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                return await self._router.health_check(provider)
        except TimeoutError:
            return ProviderStatus(
                provider=provider,
                available=False,
                error=f"{provider} did not respond within {PROBE_LIMIT_S:g} s",
                hint="Check whether it is overloaded or still starting.",
            )
