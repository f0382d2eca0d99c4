"""The models of several providers together: one that is slow, or hangs, does not delay the others.

The router knows the providers, and how to ask each of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from archer_ws.core.exceptions import ArcherError, ProviderTimeout
from archer_ws.llm_gateway.probing import unavailable
from archer_ws.llm_gateway.types import ModelInfo, ProviderStatus

#: How long the models of some providers wait for those of others: as long as a health check, which then calls these
#: others unavailable, too. In seconds.
OTHERS_WAIT_S = 5.0

Found = list[ModelInfo] | ArcherError


class Listings:
    """The models that each provider listed last, and the requests for newer lists.

    Args:
        ask: asks one provider, within its adapter's time limits. It raises an ArcherError if that fails.
    """

    def __init__(self, ask: Callable[[str], Awaitable[list[ModelInfo]]]) -> None:
        self._ask = ask
        self._asking: dict[str, asyncio.Task[Found]] = {}
        self._last: dict[str, list[ModelInfo]] = {}

    async def of(self, providers: Sequence[str]) -> tuple[list[ModelInfo], list[ProviderStatus]]:
        """The models of these providers, and the states of those that could not be asked.

        Once there are models, further ones are waited for at most OTHERS_WAIT_S. A request that takes longer goes on:
        its result stands in for a later one that is late, too.
        """
        requests = {name: self._request(name) for name in providers}
        _, late = await asyncio.wait(requests.values(), timeout=OTHERS_WAIT_S)
        while late and not any(map(_has_models, requests.values())):
            _, late = await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)
        items: list[ModelInfo] = []
        missing: list[ProviderStatus] = []
        for name, request in requests.items():
            found = _late(name) if request in late else request.result()
            if request in late:
                items += self._last.get(name, ())
            if isinstance(found, ArcherError):
                missing.append(unavailable(name, found))
            else:
                items += found
        return items, missing

    async def aclose(self) -> None:
        """Stop asking."""
        loop = asyncio.get_running_loop()
        requests = [request for request in self._asking.values() if request.get_loop() is loop]
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)

    def _request(self, provider: str) -> asyncio.Task[Found]:
        running = self._asking.get(provider)
        # A task of another loop (a test client creates one per request) can't be awaited.
        if running is None or running.done() or running.get_loop() is not asyncio.get_running_loop():
            running = self._asking[provider] = asyncio.create_task(self._found(provider))
        return running

    async def _found(self, provider: str) -> Found:
        try:
            models = self._last[provider] = await self._ask(provider)
        except ArcherError as failure:
            return failure
        return models


def _has_models(request: asyncio.Task[Found]) -> bool:
    return request.done() and not isinstance(found := request.result(), ArcherError) and bool(found)


def _late(provider: str) -> ProviderTimeout:
    return ProviderTimeout(
        f"{provider} did not list its models within {OTHERS_WAIT_S:g} s",
        hint="The models that it listed last are shown, if there are any. Ask again in a moment, or for this provider "
        "alone, which waits longer.",
        provider=provider,
    )
