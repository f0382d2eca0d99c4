"""How much of a conversation a route's model can be sent: asked of the gateway, and remembered from the last time.

A provider may take a while to tell, and a request is accepted before that: what was told last is a good guess.
"""

from archer_ws.agents.base import Gateway
from archer_ws.llm_gateway.types import ModelLimits, Route

#: Models that are remembered; more are asked for anew.
_MODELS_MAX = 1000


class Windows:
    """The context of every model that was asked for."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._last: dict[tuple[str, str], int] = {}

    def budget(self, route: Route) -> int | None:
        """What prompt and history may take by what was told last, in tokens; None where nothing was."""
        return _budget(self._last.get((route.provider, route.model)), route)

    def limits(self, route: Route) -> ModelLimits | None:
        """How many pictures, and how much of them, a request may hold; None where nobody knows."""
        return self._gateway.limits(route)

    async def ask(self, route: Route) -> int | None:
        """What they may take, in tokens; None where nobody knows."""
        window = await self._gateway.context_window(route)
        if window is not None:
            if len(self._last) >= _MODELS_MAX:
                self._last.clear()
            self._last[route.provider, route.model] = window
        return _budget(window, route)


def _budget(window: int | None, route: Route) -> int | None:
    # The answer needs its room too, but never so much that nothing is left for the question.
    return None if window is None else max(window - (route.completion_tokens_max or window), window // 2)
