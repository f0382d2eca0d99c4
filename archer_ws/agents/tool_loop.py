"""Runs the tool loop in one stream: ask the model, have the application run its calls, ask again (protocol section
23)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from archer_ws.agents.base import AgentTurn, DirectAgent, Exchange, Gateway
from archer_ws.core.exceptions import FieldError, MaxStepsExceeded
from archer_ws.core.limits import MAX_STEPS, TOOL_TIMEOUT_S
from archer_ws.llm_gateway.tools import Tool, ToolCall, is_json_object
from archer_ws.llm_gateway.types import ChatRequest

#: Returns what is wrong with a text by a JSON Schema; None if it could not be checked in time.
Judge = Callable[[str, Mapping[str, Any]], Awaitable[Sequence[FieldError] | None]]

#: The number of errors in a call's arguments that the model is told: it corrects them one after another anyway.
_ERRORS_TOLD = 5


class ToolLoopAgent(DirectAgent):
    """Continues after calls until a completion has none.

    A call with wrong arguments, or of a tool that was not offered, does not reach the application. The model gets the
    reason as its result at once.

    Args:
        gateway: reaches the models.
        judge: checks arguments against their tool's schema.
    """

    name = "tool_loop"

    def __init__(self, gateway: Gateway, judge: Judge) -> None:
        super().__init__(gateway)
        self._judge = judge

    def accepts(self, turn: AgentTurn) -> bool:
        """Accepts turns whose stream waits for tool results."""
        return turn.request.waits_for_results

    async def go_on(self, request: ChatRequest, calls: Sequence[ToolCall], exchange: Exchange) -> bool:
        """Wait for the results of the calls; without calls, decide as every agent does.

        Raises:
            MaxStepsExceeded: the step was the last that the request allows.
            ToolTimeout: some results did not come in time.
        """
        if not calls:
            return await super().go_on(request, calls, exchange)
        most = request.max_steps or MAX_STEPS
        if exchange.step >= most:
            raise MaxStepsExceeded(
                f"the model called tools in the last of {most} steps",
                hint="Raise max_steps, or ask again: the calls of the last step were not reported, and did not run.",
            )
        offered = {tool.name: tool for tool in request.tools or ()}
        await exchange.ask(
            calls,
            refused={} if exchange.is_asking else await self._refused(calls, offered),
            needs_approval=lambda name: bool(offered[name].needs_approval) if name in offered else False,
            idempotent=lambda name: bool(offered[name].idempotent) if name in offered else False,
            timeout_s=request.tool_timeout_s or TOOL_TIMEOUT_S,
        )
        return True

    async def _refused(self, calls: Sequence[ToolCall], offered: Mapping[str, Tool]) -> dict[str, str]:
        """What is wrong with calls, by their ids, in the words for the model. Correct calls are left out."""
        wrong = [(call.call_id, await self._what_is_wrong(call, offered.get(call.name))) for call in calls]
        return {call_id: what for call_id, what in wrong if what is not None}

    async def _what_is_wrong(self, call: ToolCall, tool: Tool | None) -> str | None:
        if tool is None:
            return f"There is no tool {call.name!r}: it was not offered."
        if not is_json_object(call.arguments):
            return "The arguments are not the JSON text of an object."
        errors = await self._judge(call.arguments, tool.parameters) if tool.parameters else None
        if not errors:
            return None
        told = "; ".join(
            f"{each.path}: {each.message}" if each.path else each.message for each in errors[:_ERRORS_TOLD]
        )
        return f"The arguments do not fit the tool's schema: {told}"
