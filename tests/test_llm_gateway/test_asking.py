"""What of a request goes to a model, whether the answer comes whole or as it is said."""

from typing import Any

import pytest

from archer_ws.llm_gateway.asking import conversation
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, MessageRole
from tests.conftest import MakeSettings
from tests.fakes.calls import TOOLS
from tests.fakes.scripted_adapter import ScriptedAdapter

QUESTION = {"role": "user", "content": "What is the weather?"}


def ask(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": [QUESTION], **fields})


@pytest.mark.parametrize("whole", [True, False])
async def test_instructions_tools_and_their_choice_reach_the_adapter(make_settings: MakeSettings, whole: bool) -> None:
    router = LLMRouter(make_settings())
    adapter = router._instances["ollama"] = ScriptedAdapter(["Fine."])
    request = ask(instructions="Be brief.", tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=7)
    if whole:
        await router.chat(request)
    else:
        _ = [chunk async for chunk in router.stream_chat(request)]
    (asked,) = adapter.asked
    assert [(message.role, message.content) for message in asked["messages"]] == [
        ("system", "Be brief."),
        ("user", "What is the weather?"),
    ]
    options = asked["options"]
    assert [tool.name for tool in options.tools] == ["get_weather", "delete_file"]
    assert (options.tool_choice, options.parallel_tool_calls, options.seed) == ("required", False, 7)


def test_instructions_stand_before_the_history_too() -> None:
    history = [ChatMessage(role=MessageRole.SYSTEM, content="Old."), ChatMessage(role=MessageRole.USER, content="Hi")]
    assert [message.content for message in conversation(ask(instructions="Now."), history)] == [
        "Now.", "Old.", "Hi", "What is the weather?",
    ]  # fmt: skip


def test_messages_without_instructions_and_history_are_not_copied() -> None:
    request = ask()
    assert conversation(request) is request.messages
