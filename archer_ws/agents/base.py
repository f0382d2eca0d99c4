"""The seam between the session manager and the code that generates completions."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Protocol

from archer_ws.core.lean_dataclass import lean_dataclass
from archer_ws.llm_gateway.asking import later_step
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import (
    ChatMessage,
    ChatOptions,
    ChatRequest,
    ModelLimits,
    Route,
    StreamChunk,
    TakeChunk,
)


class Gateway(Protocol):
    """What agents and the session manager need from the router."""

    def resolve(self, request: ChatRequest, *, with_defaults: bool = True) -> Route:
        """The provider and model for a request, with or without the configured defaults for what the request leaves
        open.

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
        on_chunk: TakeChunk | None = None,
    ) -> AsyncGenerator[StreamChunk, None]:
        """The completion as it is generated. Closing the generator closes the connection to the provider.

        With `on_chunk`, chunks may go there instead of being yielded: see ChatOptions.
        """

    async def prepare(self, provider: str | None = None) -> None:
        """Make a provider (by default the default one) ready to answer.

        Raises:
            ProviderFailure: it can't serve as configured.
        """

    async def context_window(self, route: Route) -> int | None:
        """The context of a route's model in tokens; None if it is unknown."""

    def limits(self, route: Route) -> ModelLimits | None:
        """The number and size of the pictures that a request may have for a route's model; None if they are unknown."""


class Exchange(Protocol):
    """What an agent can ask of the application between two steps of its stream."""

    @property
    def step(self) -> int:
        """The number of the step that has just ended, from 1."""

    @property
    def is_asking(self) -> bool:
        """Whether the step's calls were already sent to the application, by a process before this one."""

    @property
    def steered(self) -> Sequence[ChatMessage]:
        """The user's messages that wait for the next step."""

    async def quiet(self) -> None:
        """Wait until each message being received has been accepted or refused. Messages received later apply after the
        decision."""

    async def ask(
        self,
        calls: Sequence[ToolCall],
        *,
        refused: Mapping[str, str],
        needs_approval: Callable[[str], bool],
        idempotent: Callable[[str], bool],
        timeout_s: float,
    ) -> None:
        """Send the calls to the application, and wait until each one has its result.

        Args:
            calls: the step's calls, in its order.
            refused: what is wrong with some of them, by their ids: these do not reach the application, but the model
                gets the reason as the result.
            needs_approval: whether a person must agree before the tool of that name runs.
            idempotent: whether the tool of that name may run twice.
            timeout_s: the time limit for all calls together.

        Raises:
            ToolTimeout: some results did not come in time.
        """


@lean_dataclass(frozen=True, slots=True)
class AgentTurn:
    """One step of a turn: the request, its route, and all messages: the session's history, the turn's messages, and
    what the turn's earlier steps said.
    """

    request: ChatRequest
    route: Route
    messages: Sequence[ChatMessage]
    options: ChatOptions
    #: From 1.
    step: int = 1
    #: Takes chunks that a gateway pushes (see ChatOptions). An agent that changes chunks does not pass it on.
    on_chunk: TakeChunk | None = None


class Agent(ABC):
    """Turns one turn into chunks, step by step."""

    name: str

    @abstractmethod
    def run(self, turn: AgentTurn) -> AsyncGenerator[StreamChunk, None]:
        """The step's completion as it is generated. The caller closes the generator, which then closes all that it
        opened.

        Raises:
            ProviderFailure: the provider refused the request, broke off or can't be reached.
        """

    async def go_on(self, request: ChatRequest, calls: Sequence[ToolCall], exchange: Exchange) -> bool:
        """Whether another step follows a step that ended well. This default says yes if the user has sent more
        messages.

        Args:
            request: the turn's request.
            calls: the calls that the step ended with, complete.
            exchange: asks the application.
        """
        await exchange.quiet()
        return not calls and bool(exchange.steered)

    def accepts(self, turn: AgentTurn) -> bool:
        """Whether this agent takes the turn. The first agent in the orchestrator's order that does so gets it.

        Asked before each step. The agent of a step is also asked whether another one follows. Only after a restart it
        is picked for that by a turn without the session's history.
        """
        return False


class DirectAgent(Agent):
    """Passes the turn to the model unchanged. It returns the router's own generator, so it costs nothing per chunk."""

    name = "direct"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def run(self, turn: AgentTurn) -> AsyncGenerator[StreamChunk, None]:
        """The model's completion."""
        options = turn.options if turn.step == 1 else later_step(turn.options)
        return self._gateway.stream_chat(
            turn.request, route=turn.route, messages=turn.messages, options=options, on_chunk=turn.on_chunk
        )

    def accepts(self, turn: AgentTurn) -> bool:
        """Accepts every turn."""
        return True
