"""Agents that accept turns by what was said: the agent of a step also decides whether another one follows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archer_ws.agents.base import AgentTurn, DirectAgent, Exchange
from archer_ws.agents.tool_loop import ToolLoopAgent
from archer_ws.core.exceptions import FieldError
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatRequest
from archer_ws.sessions.tool_models import Steer, ToolResult
from tests.fakes.calls import CALLS_MADE, piece
from tests.fakes.scripted_gateway import ScriptedGateway
from tests.test_sessions.conftest import MakeManager
from tests.test_sessions.looping import ID, process, request, until
from tests.test_sessions.test_manager import ended


def accepts(turn: AgentTurn) -> bool:
    return turn.messages[0].content.startswith("Where")


class Guide(DirectAgent):
    """Takes questions for places, and notes what it is asked between two steps."""

    name = "guide"

    def __init__(self, gateway: ScriptedGateway) -> None:
        super().__init__(gateway)
        self.asked: list[int] = []

    def accepts(self, turn: AgentTurn) -> bool:
        return accepts(turn)

    async def go_on(self, request: ChatRequest, calls: Sequence[ToolCall], exchange: Exchange) -> bool:
        self.asked.append(exchange.step)
        return await super().go_on(request, calls, exchange)


async def no_errors(text: str, schema: Mapping[str, Any]) -> Sequence[FieldError]:
    return []


class LoopingGuide(ToolLoopAgent):
    """The same with tools."""

    name = "looping_guide"

    def __init__(self, gateway: ScriptedGateway) -> None:
        super().__init__(gateway, no_errors)

    def accepts(self, turn: AgentTurn) -> bool:
        return accepts(turn)


async def test_the_agent_of_a_step_decides_whether_another_one_follows(
    gateway: ScriptedGateway, make_manager: MakeManager
) -> None:
    guide = Guide(gateway)
    manager = make_manager(agents=[guide])
    asked = request(session_id=None, tools=None, on_tool_call=None)
    stream = (await manager.start("me", asked, request_id="req_1", on_disconnect="cancel")).stream
    first = await gateway.call(0)
    first.say("Lima.")
    await manager.calls.steer("me", ID, Steer(message_id="more", content="And where else?"))
    first.finish()
    second = await gateway.call(1)
    second.say("Quito.")
    second.finish()
    await ended(stream)
    assert (stream.status, guide.asked) == ("completed", [1, 2])


async def test_after_a_restart_an_agent_is_picked_by_the_turn_s_own_messages(
    gateway: ScriptedGateway, tmp_path: Path
) -> None:
    async with process(tmp_path, gateway, agents=[LoopingGuide(gateway)]) as (manager, store):
        await store.create("me", "s", None, None)
        stream = (await manager.start("me", request(), request_id="req_1", on_disconnect="cancel")).stream
        call = await gateway.call(0)
        call.say(piece("w1", "get_weather", "{}"), CALLS_MADE)
        call.finish("tool_calls")
        await until(lambda: stream.status == "waiting")
    async with process(tmp_path, gateway, agents=[LoopingGuide(gateway)]) as (manager, _):
        stream = manager.find("me", ID)
        await manager.calls.add_result("me", ID, "w1", ToolResult(content="sunny"))
        call = await gateway.call(1)
        call.say("It is sunny.")
        call.finish()
        await ended(stream)
        assert stream.status == "completed"
