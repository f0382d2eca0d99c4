"""The context windows of models: requested from the gateway, and cached.

A provider may take a while to report a context window, but a request must be accepted before that. Until then the
window that was reported last is used.
"""

from archer_ws.agents.base import Gateway
from archer_ws.llm_gateway.types import ModelLimits, Route

#: How many models are cached; beyond that the cache is cleared.
_MODELS_MAX = 1000


class Windows:
    """The context windows of the models that requests were routed to."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._last: dict[tuple[str, str], int] = {}

    def budget(self, route: Route) -> int | None:
        """The tokens that prompt and history may take, by the cached window; None if there is none."""
        return _budget(self._last.get((route.provider, route.model)), route)

    def limits(self, route: Route) -> ModelLimits | None:
        """The limits of pictures and files in a request; None if they are unknown."""
        return self._gateway.limits(route)

    async def ask(self, route: Route) -> int | None:
        """The tokens that prompt and history may take, by the window that the gateway reports now; None if unknown."""
        window = await self._gateway.context_window(route)
        if window is not None:
            if len(self._last) >= _MODELS_MAX:
                self._last.clear()
            self._last[route.provider, route.model] = window
        return _budget(window, route)


def _budget(window: int | None, route: Route) -> int | None:
    # The completion needs room, too, but at most half of the window is reserved for it.
    return None if window is None else max(window - (route.completion_tokens_max or window), window // 2)
