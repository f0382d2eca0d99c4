"""Whether the default provider can serve: its preparation at the start, then one short probe at a time, remembered
for a moment. Orchestrators ask often and from many sides; a provider must not feel that.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from archer_ws.core.exceptions import ProviderFailure
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
        self._clock = clock
        self._known: ProviderStatus | None = None
        self._known_until = 0.0
        self._probing: asyncio.Task[ProviderStatus] | None = None
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
        if self._known is not None and self._clock() < self._known_until:
            return self._known
        probing = self._probing
        # A probe of another loop (a test client makes one per request) can't be waited for.
        if probing is None or probing.done() or probing.get_loop() is not asyncio.get_running_loop():
            probing = self._probing = asyncio.create_task(self._probe())
        # Shielded: one caller's leaving must not fail the others that wait for the same probe.
        return await asyncio.shield(probing)

    async def _probe(self) -> ProviderStatus:
        provider = self._router.default_provider
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                status = await self._router.health_check(provider)
        except TimeoutError:
            status = ProviderStatus(
                provider=provider,
                available=False,
                error=f"{provider} did not answer within {PROBE_LIMIT_S:g} s",
                hint="See whether it is overloaded or still starting.",
            )
        self._known, self._known_until = status, self._clock() + REMEMBER_S
        return status
