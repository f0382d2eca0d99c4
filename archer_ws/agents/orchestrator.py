"""Picks the agent for a turn."""

from collections.abc import AsyncGenerator, Sequence

from archer_ws.agents.base import Agent, AgentTurn, DirectAgent, Gateway
from archer_ws.llm_gateway.types import StreamChunk


class Orchestrator:
    """Gives each turn to the first agent that accepts it, or else to the model directly.

    Args:
        gateway: reaches the models.
        agents: asked in this order.
    """

    def __init__(self, gateway: Gateway, agents: Sequence[Agent] = ()) -> None:
        self._agents = tuple(agents)
        self._direct = DirectAgent(gateway)

    def pick(self, turn: AgentTurn) -> Agent:
        """The agent for the turn."""
        for agent in self._agents:
            if agent.accepts(turn):
                return agent
        return self._direct

    def run(self, turn: AgentTurn) -> AsyncGenerator[StreamChunk, None]:
        """The generator of the chosen agent. The caller closes it."""
        return self.pick(turn).run(turn)
