"""Whether the default provider can serve: its preparation at the start, then one short probe at a time, remembered
for a moment. Orchestrators ask often and from many sides; a provider must not feel that.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from archer_ws.core.exceptions import ProviderFailure
from archer_ws.llm_gateway.resilience.remembered import Remembered
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.types import ProviderStatus

log = structlog.get_logger(__name__)

#: How long a probe may take, and how long its answer holds, in seconds.
PROBE_LIMIT_S = 3.0
REMEMBER_S = 2.0


class Readiness:
    """The default provider's state."""

    def __init__(self, router: LLMRouter, clock: Callable[[], float] = time.monotonic) -> None:
        self._router = router
        self._state = Remembered(self._probe, REMEMBER_S, clock)
        self._preparing = False

    async def prepare(self) -> ProviderFailure | None:
        """Make the default provider ready to answer; what keeps it from that, if anything.

        A failure is no reason to stop: other providers may serve, and this one may come later.
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
                error=f"{provider} is being made ready",
                hint="Ask again in a moment: a large model can take minutes to load.",
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
                error=f"{provider} did not answer within {PROBE_LIMIT_S:g} s",
                hint="See whether it is overloaded or still starting.",
            )
