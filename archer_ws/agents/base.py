"""The seam between the session manager and whatever makes answers."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from archer_ws.llm_gateway.asking import later_step
from archer_ws.llm_gateway.tools import ToolCall
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

    async def prepare(self, provider: str | None = None) -> None:
        """Make a provider (by default the default one) ready to answer.

        Raises:
            ProviderFailure: it can't serve as configured.
        """

    async def context_window(self, route: Route) -> int | None:
        """The context of a route's model in tokens, or None when unknown."""

    def limits(self, route: Route) -> ModelLimits | None:
        """How many pictures, and how much of them, a request may hold for a route's model, or None when unknown."""


class Exchange(Protocol):
    """What an agent may say to the application between two steps, through the stream that it answers in."""

    @property
    def step(self) -> int:
        """Which step has just ended, from 1."""

    @property
    def is_asking(self) -> bool:
        """Whether the step's calls were told already: by a process before this one."""

    @property
    def steered(self) -> Sequence[ChatMessage]:
        """Messages of the user's that wait for a next step."""

    async def quiet(self) -> None:
        """Wait until all that is being said is taken or refused; what comes later finds the decision made."""

    async def ask(
        self,
        calls: Sequence[ToolCall],
        *,
        refused: Mapping[str, str],
        needs_approval: Callable[[str], bool],
        idempotent: Callable[[str], bool],
        timeout_s: float,
    ) -> None:
        """Tell the calls, and wait until each has its result.

        Args:
            calls: of the step, in its order.
            refused: what is wrong with some, by their ids: they reach nobody, and the model is told.
            needs_approval: whether a person must agree before the tool of that name runs.
            idempotent: whether it may be run twice.
            timeout_s: for all of them together.

        Raises:
            ToolTimeout: not all results came in time.
        """


@dataclass(frozen=True, slots=True)
class AgentTurn:
    """One step of a turn to answer: the request, where it goes, and all messages, with the session's history before
    them and what the turn's earlier steps said behind."""

    request: ChatRequest
    route: Route
    messages: Sequence[ChatMessage]
    options: ChatOptions
    #: From 1.
    step: int = 1


class Agent(ABC):
    """Turns one turn into chunks, step by step."""

    name: str

    @abstractmethod
    def run(self, turn: AgentTurn) -> AsyncGenerator[StreamChunk, None]:
        """The step's answer as it comes. The caller closes the generator; whatever it opened must close with it.

        Raises:
            ProviderFailure: the provider refused, broke or is not there.
        """

    async def go_on(self, request: ChatRequest, calls: Sequence[ToolCall], exchange: Exchange) -> bool:
        """Whether another step follows a step that ended well; this one says so where the user has said more.

        Args:
            request: the turn's.
            calls: that the step ended with, complete.
            exchange: to ask the application with.
        """
        await exchange.quiet()
        return not calls and bool(exchange.steered)

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
        options = turn.options if turn.step == 1 else later_step(turn.options)
        return self._gateway.stream_chat(turn.request, route=turn.route, messages=turn.messages, options=options)

    def accepts(self, turn: AgentTurn) -> bool:
        """Every turn."""
        return True
