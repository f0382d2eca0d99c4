"""Picks the agent for a turn."""

from collections.abc import Sequence

from archer_ws.agents.base import Agent, AgentTurn, DirectAgent, Gateway


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
