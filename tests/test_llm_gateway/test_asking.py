"""What of a request goes to a model, whether the answer comes whole or as it is said."""

from typing import Any

import pytest
from msgspec.structs import replace

from archer_ws.llm_gateway.asking import conversation, options_of
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ChatRequest, MessageRole, Route
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


@pytest.mark.parametrize(
    ("field", "value", "option"),
    [
        ("stop", ["."], (".",)),
        ("top_p", 0.5, 0.5),
        ("seed", 7, 7),
        ("parallel_tool_calls", False, False),
        ("response_format", ResponseFormat(type="json_object"), ResponseFormat(type="json_object")),
        ("response_format", {"type": "text"}, None),
    ],
)
def test_an_option_reaches_the_model_without_any_other(field: str, value: object, option: object) -> None:
    route = Route("openai", "m", None, None, defaulted=frozenset({"temperature"}), reasoning_effort="low")

    options = options_of(ask(**{field: value}), route, principal="ann")

    assert getattr(options, field) == option
    assert (options.principal, options.defaulted, options.reasoning_effort) == ("ann", route.defaulted, "low")
    assert replace(options, **{field: getattr(ChatOptions(), field)}) == options_of(ask(), route, principal="ann")


def test_tools_reach_the_model_without_a_choice_and_with_one() -> None:
    route = Route("openai", "m", None, None)

    alone, forced = (options_of(ask(tools=TOOLS, **more), route) for more in ({}, {"tool_choice": "required"}))

    assert [tool.name for tool in alone.tools] == [tool.name for tool in forced.tools] == ["get_weather", "delete_file"]
    assert (alone.tool_choice, forced.tool_choice) == (None, "required")


def test_instructions_stand_before_the_history_too() -> None:
    history = [ChatMessage(role=MessageRole.SYSTEM, content="Old."), ChatMessage(role=MessageRole.USER, content="Hi")]
    assert [message.content for message in conversation(ask(instructions="Now."), history)] == [
        "Now.", "Old.", "Hi", "What is the weather?",
    ]  # fmt: skip


def test_messages_without_instructions_and_history_are_not_copied() -> None:
    request = ask()
    assert conversation(request) is request.messages
