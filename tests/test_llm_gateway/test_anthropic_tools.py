"""What Anthropic is asked where there are tools: bodies compared whole with its documentation.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools, …/handle-tool-calls, …/parallel-tool-use
"""

import asyncio
import json
from typing import Any

import pytest

from archer_ws.core.exceptions import ArcherError, Unsupported
from archer_ws.llm_gateway.anthropic.turns import _UniqueIds
from archer_ws.llm_gateway.tools import NamedTool, Tool
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions
from tests.fakes import anthropic_api as api
from tests.fakes.scripted_server import scripted_server
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_anthropic import answer

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = (
    Tool(name="get_weather", description="The weather in a city.", parameters=CITY, strict=True),
    Tool(name="now"),
)
DECLARED: list[dict[str, Any]] = [
    {"name": "get_weather", "description": "The weather in a city.", "input_schema": CITY, "strict": True},
    {"name": "now", "input_schema": {"type": "object"}},
]
QUESTION = {"role": "user", "content": "Oslo or Rome?"}


def messages(*values: dict[str, Any]) -> list[ChatMessage]:
    return [ChatMessage.model_validate(value) for value in values]


def calling(*calls: tuple[str, str, str], text: str = "") -> dict[str, Any]:
    """An assistant's message with calls: id, name, arguments."""
    made = [{"call_id": call_id, "name": name, "arguments": arguments} for call_id, name, arguments in calls]
    return {"role": "assistant", "content": text, "tool_calls": made}


def result(call_id: str, text: str, **more: Any) -> dict[str, Any]:
    return {"role": "tool", "call_id": call_id, "content": text, **more}


def use(call_id: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": given}


def used(call_id: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": text, **more}


async def sent_raw(
    conversation: list[ChatMessage], options: ChatOptions | None = None, model: str = "claude-opus-5-5"
) -> bytes:
    """The body of the request that is made of a conversation."""
    async with (
        asyncio.timeout(10),
        scripted_server(api.text_stream(["ok"])) as server,
        api.adapter_at(server.url) as adapter,
    ):
        options = ChatOptions(tools=TOOLS) if options is None else options
        async for _ in adapter.stream_chat(conversation, model, options=options):
            pass
        return (await server.exchange()).body


async def sent(conversation: list[ChatMessage], options: ChatOptions | None = None, **more: Any) -> dict[str, Any]:
    body = json.loads(await sent_raw(conversation, options, **more))
    assert isinstance(body, dict)
    return body


async def test_a_loop_of_two_steps_with_parallel_calls_is_sent_as_documented() -> None:
    first = [MadeCall("get_weather", '{"city": "Oslo"}'), MadeCall("get_weather", '{"city": "Rome"}')]
    replies = [answer(*first, text="I look."), answer(MadeCall("now")), answer(text="Rome.")]
    conversation = messages({"role": "system", "content": "Be brief."}, QUESTION)
    options = ChatOptions(tools=TOOLS)
    async with (
        asyncio.timeout(10),
        scripted_server(*(api.stream(*steps) for steps in replies)) as server,
        api.adapter_at(server.url) as adapter,
    ):
        one = await adapter.chat(conversation, "claude-opus-5-5", max_tokens=64, options=options)
        assert one.tool_calls is not None
        conversation += messages({"role": "assistant", "content": one.content})
        conversation[-1].tool_calls = one.tool_calls
        oslo, rome = (call.call_id for call in one.tool_calls)
        # In the order in which the tools were done.
        conversation += messages(result(rome, "18°C"), result(oslo, "closed", status="error"))
        two = await adapter.chat(conversation, "claude-opus-5-5", max_tokens=64, options=options)
        assert two.tool_calls is not None
        (now,) = two.tool_calls
        conversation += messages(
            calling((now.call_id, now.name, now.arguments)),
            result(now.call_id, "noon"),
            {"role": "user", "content": "Hurry."},
        )
        three = await adapter.chat(conversation, "claude-opus-5-5", max_tokens=64, options=options)
        bodies = [exchange.json() for exchange in server.exchanges]
    assert (three.content, three.tool_calls) == ("Rome.", None)
    common = {
        "model": "claude-opus-5-5",
        "max_tokens": 64,
        "system": "Be brief.",
        "tools": DECLARED,
        "thinking": {"type": "adaptive", "display": "summarized"},
        "stream": True,
    }
    turns = [
        QUESTION,
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                use(oslo, "get_weather", {"city": "Oslo"}),
                use(rome, "get_weather", {"city": "Rome"}),
            ],
        },
        {"role": "user", "content": [used(oslo, "closed", is_error=True), used(rome, "18°C")]},
        {"role": "assistant", "content": [use(now.call_id, "now", {})]},
        {"role": "user", "content": [used(now.call_id, "noon"), {"type": "text", "text": "Hurry."}]},
    ]
    assert bodies == [{**common, "messages": turns[:count]} for count in (1, 3, 5)]


async def test_results_stand_first_in_one_message_whatever_was_said_between() -> None:
    # router-for-me/CLIProxyAPI#5478, leookun/cursor-byok#307
    conversation = messages(
        QUESTION,
        calling(("a", "now", "{}"), ("b", "now", "{}")),
        {"role": "assistant", "content": "One moment."},
        {"role": "user", "content": "And?"},
        result("b", "2"),
        {"role": "user", "content": " "},
        {"role": "user", "content": "Hello?"},
        result("a", "1"),
    )
    assert (await sent(conversation))["messages"][1:] == [
        {"role": "assistant", "content": [use("a", "now", {}), use("b", "now", {})]},
        {"role": "user", "content": [used("a", "1"), used("b", "2")]},
        {"role": "assistant", "content": "One moment."},
        {"role": "user", "content": "And?"},
        {"role": "user", "content": "Hello?"},
    ]


async def test_all_that_users_say_behind_results_stands_in_the_results_message() -> None:
    conversation = messages(
        QUESTION,
        calling(("a", "now", "{}"), text="\n"),
        result("a", "1"),
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "Hello?"},
    )
    assert (await sent(conversation))["messages"][1:] == [
        {"role": "assistant", "content": [use("a", "now", {})]},
        {
            "role": "user",
            "content": [used("a", "1"), {"type": "text", "text": "And?"}, {"type": "text", "text": "Hello?"}],
        },
    ]


async def test_a_call_that_nobody_answered_gets_a_failed_result_and_a_result_without_call_is_left_out() -> None:
    # letta-ai/letta#3308, posit-dev/positron#15719
    conversation = messages(
        QUESTION, result("gone", "1"), calling(("a", "now", "{}")), {"role": "user", "content": "Never mind."}
    )
    asked, called, answered = (await sent(conversation))["messages"]
    assert asked == QUESTION
    assert called["content"] == [use("a", "now", {})]
    failed, text = answered["content"]
    assert (failed["tool_use_id"], failed["is_error"]) == ("a", True)
    assert text == {"type": "text", "text": "Never mind."}


@pytest.mark.parametrize(
    ("given", "block"),
    [
        ({"content": ""}, {}),
        ({"content": " \n"}, {}),
        ({"content": "", "status": "ok"}, {}),
        ({"content": "no", "status": "denied"}, {"content": "no", "is_error": True}),
        ({"content": "", "status": "error"}, {"content": "The call ended: error.", "is_error": True}),
    ],
)
async def test_a_result_has_text_only_where_it_says_something(given: dict[str, Any], block: dict[str, Any]) -> None:
    conversation = messages(QUESTION, calling(("a", "now", "{}")), {"role": "tool", "call_id": "a", **given})
    assert (await sent(conversation))["messages"][-1]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", **block}
    ]


async def test_ids_fit_the_api_and_come_once() -> None:
    # maximhq/bifrost#5097; NVIDIA-NeMo/Switchyard#502: some servers count from call_0 in each step.
    conversation = messages(
        QUESTION,
        calling(("call_0", "now", "{}"), ("functions.now:1", "now", "{}")),
        result("functions.now:1", "b"),
        result("call_0", "a"),
        calling(("call_0", "now", "{}")),
        result("call_0", "c"),
    )
    _, one, first, two, second = (await sent(conversation))["messages"]
    assert [block["id"] for block in one["content"]] == [block["tool_use_id"] for block in first["content"]]
    assert [block["content"] for block in first["content"]] == ["a", "b"]
    ids = [block["id"] for block in (*one["content"], *two["content"])]
    assert ids[0] == "call_0"
    assert ids[1].isalnum()
    assert len(set(ids)) == 3
    assert (second["content"][0]["tool_use_id"], second["content"][0]["content"]) == (ids[2], "c")


async def test_arguments_are_sent_as_they_were_said() -> None:
    text = '{"b": 12345678901234567890123, "a": [1.10, "\\ud83d\\ude00"]}'
    body = await sent_raw(messages(QUESTION, calling(("a", "now", text)), result("a", "1")))
    assert f'"input":{text}'.encode() in body


@pytest.mark.parametrize("arguments", ['{"a": NaN}', '{"a"}{', "[1]", '"text"', r'{"a": "\ud83d"}'])
async def test_arguments_that_are_no_json_object_do_not_break_the_next_request(arguments: str) -> None:
    # BerriAI/litellm#33678; anthropics/claude-code#60394: the API refuses half a surrogate pair, also as an escape
    body = await sent(messages(QUESTION, calling(("a", "now", arguments)), result("a", "what?")))
    called, answered = body["messages"][1:]
    assert called["content"] == [use("a", "now", {})]
    assert answered["content"][0]["is_error"] is True
    assert arguments in answered["content"][0]["content"]


@pytest.mark.parametrize(
    ("choice", "parallel", "told"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("auto", None, {"type": "auto"}),
        ("none", None, {"type": "none"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        (NamedTool(name="now"), None, {"type": "tool", "name": "now"}),
        (NamedTool(name="now"), False, {"type": "tool", "name": "now", "disable_parallel_tool_use": True}),
    ],
)
async def test_what_must_be_called_is_said_in_anthropics_words(choice: Any, parallel: Any, told: Any) -> None:
    options = ChatOptions(tools=TOOLS, tool_choice=choice, parallel_tool_calls=parallel)
    body = await sent(messages(QUESTION), options)
    assert (body["tools"], body.get("tool_choice")) == (DECLARED, told)


@pytest.mark.parametrize("choice", ["auto", "none", None])
async def test_without_tools_nothing_is_said_of_them(choice: Any) -> None:
    body = await sent(messages(QUESTION), ChatOptions(tool_choice=choice, parallel_tool_calls=False))
    assert not {"tools", "tool_choice"} & set(body)


async def test_calls_of_a_conversation_that_goes_on_without_tools_stay_valid() -> None:
    # earendil-works/pi#149, vercel/ai#16991
    conversation = messages(
        QUESTION, calling(("a", "now", "{}"), ("b", "now", "{}")), result("a", "1"), result("b", "2")
    )
    body = await sent(conversation, ChatOptions())
    assert body["tools"] == [{"name": "now", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize("choice", ["required", NamedTool(name="now")])
@pytest.mark.parametrize("model", ["claude-fable-5-1", "claude-mythos-5-1", "claude-fable-5-2", "claude-mythos-5-2"])
async def test_a_model_that_refuses_to_be_forced_is_not_asked(model: str, choice: Any) -> None:
    # zed-industries/zed#63571
    async with scripted_server() as server, api.adapter_at(server.url) as adapter:
        with pytest.raises(Unsupported) as caught:
            await adapter.chat(messages(QUESTION), model, options=ChatOptions(tools=TOOLS, tool_choice=choice))
        assert server.exchanges == []
    assert [error.path for error in caught.value.errors] == ["tool_choice"]
    assert '"auto"' in str(caught.value.hint)


async def test_what_such_a_model_takes_is_sent() -> None:
    for choice in ("auto", "none"):
        options = ChatOptions(tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)
        assert (await sent(messages(QUESTION), options, model="claude-fable-5-1"))["tool_choice"]["type"] == choice


async def test_tools_that_a_server_refuses_are_never_left_out() -> None:
    said = "tools.0.custom.strict: Extra inputs are not permitted"
    async with (
        scripted_server(responder=lambda _: api.error(400, "invalid_request_error", said)) as server,
        api.adapter_at(server.url) as adapter,
    ):
        with pytest.raises(ArcherError, match="strict"):
            await adapter.chat(messages(QUESTION), options=ChatOptions(tools=TOOLS))
        assert len(server.exchanges) == 1


async def test_only_anthropic_itself_is_asked_to_stream_arguments_as_they_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # vercel/ai#17179: Bedrock answers 400 to the field.
    async with scripted_server(api.text_stream(["ok"]), api.text_stream(["ok"])) as server:
        async with api.adapter_at(server.url) as adapter:
            await adapter.chat(messages(QUESTION), options=ChatOptions(tools=TOOLS))
        monkeypatch.setattr("archer_ws.llm_gateway.anthropic_adapter.ANTHROPIC_URL", server.url)
        async with api.adapter_at(None) as adapter:
            await adapter.chat(messages(QUESTION), options=ChatOptions(tools=TOOLS))
        others, hosted = (exchange.json()["tools"] for exchange in server.exchanges)
    assert others == DECLARED
    assert hosted == [{**tool, "eager_input_streaming": True} for tool in DECLARED]


def test_the_next_number_of_an_id_that_came_often_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    class Counted(set[str]):
        def __contains__(self, each: object) -> bool:
            nonlocal looks
            looks += 1
            return super().__contains__(each)

    ids = _UniqueIds()
    monkeypatch.setattr(ids, "_taken", Counted())
    sent = [ids.of_call(each) for each in ("a_2", *["a"] * 100)]
    assert (len(set(sent)), sent[:4]) == (101, ["a_2", "a", "a_1", "a_3"])
    assert looks < 3 * len(sent)


async def test_the_list_says_which_models_take_tools() -> None:
    names = json.dumps({"data": [{"id": "claude-opus-5-5"}, {"id": "claude-9-new"}, {"id": "something"}]}).encode()
    async with api.adapter_at(None) as hosted:
        known = ["tools", "json_schema", "reasoning", "vision", "files"]
        assert [model.capabilities for model in hosted._models(names)] == [known, known, None]
