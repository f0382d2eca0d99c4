"""The seam between the session manager and whatever makes answers."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ChatRequest, ModelLimits, Route, StreamChunk


class Gateway(Protocol):
    """What agents and the session manager need of the router."""

    def resolve(self, request: ChatRequest, *, with_defaults: bool = True) -> Route:
        """The provider and model a request goes to, with the configured defaults for what it left open, or without.

        Raises:
            InvalidParams: there is no such provider.
        """

    def stream_chat(
        self,
        request: ChatRequest,
        *,
        route: Route | None = None,
        messages: Sequence[ChatMessage] | None = None,
        options: ChatOptions | None = None,
    ) -> AsyncGenerator[StreamChunk, None]:
        """The answer as it comes; closing the generator closes the upstream connection."""

    async def context_window(self, route: Route) -> int | None:
        """The context of a route's model in tokens, or None when unknown."""

    def limits(self, route: Route) -> ModelLimits | None:
        """How many pictures, and how much of them, a request may hold for a route's model, or None when unknown."""


@dataclass(frozen=True, slots=True)
class AgentTurn:
    """One turn to answer: the request, where it goes, and all messages with the session's history before them."""

    request: ChatRequest
    route: Route
    messages: Sequence[ChatMessage]
    options: ChatOptions


class Agent(ABC):
    """Turns one turn into chunks."""

    name: str

    @abstractmethod
    def run(self, turn: AgentTurn) -> AsyncGenerator[StreamChunk, None]:
        """The answer as it comes. The caller closes the generator; whatever it opened must close with it.

        Raises:
            ProviderFailure: the provider refused, broke or is not there.
        """

    def accepts(self, turn: AgentTurn) -> bool:
        """Whether this agent wants the turn; the first in the orchestrator's order gets it."""
        return False


class DirectAgent(Agent):
    """Hands the turn to the model as it is, at no cost per chunk: the router's own generator is returned."""

    name = "direct"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def run(self, turn: AgentTurn) -> AsyncGenerator[StreamChunk, None]:
        """The model's answer."""
        return self._gateway.stream_chat(turn.request, route=turn.route, messages=turn.messages, options=turn.options)

    def accepts(self, turn: AgentTurn) -> bool:
        """Every turn."""
        return True
