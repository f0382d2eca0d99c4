"""Tools in OpenAI's dialect: its requests as ours, our answers as its, and mistakes told at the places it has. Pure."""

from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from archer_ws.api.openai.chunks import completion
from archer_ws.api.openai.error_object import openai_error
from archer_ws.api.openai.ignored import HEADER, ignored_header
from archer_ws.api.openai.requests import CompletionRequest, chat_request
from archer_ws.core.exceptions import ArcherError, FieldError, InvalidParams, Unsupported
from archer_ws.core.wire_model import request_error
from archer_ws.llm_gateway.tools import NamedTool, ToolCall
from archer_ws.llm_gateway.types import ChatRequest, ChatResponse

HELLO = {"role": "user", "content": "hello"}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", None], "default": None}},
    "required": ["city"],
}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Now.", "parameters": PARAMETERS, "strict": True},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}


def body(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"messages": [HELLO], **fields})


def asked(**fields: Any) -> ChatRequest:
    return chat_request(body(**fields))


def refusal(**fields: Any) -> ArcherError:
    """Why this is not taken, as the edge makes it of whatever was raised."""
    try:
        asked(**fields)
    except ArcherError as error:
        return error
    except (ValidationError, RequestValidationError) as error:
        return request_error(error.errors(), whole="body", hint="Correct what `param` names.")
    raise AssertionError("it was taken")


def after(*messages: dict[str, Any]) -> dict[str, Any]:
    """A request whose messages go on like this."""
    return {"messages": [HELLO, *messages]}


def test_tools_are_unfolded() -> None:
    [tool] = asked(tools=[WEATHER]).tools or []
    assert (tool.name, tool.description, tool.parameters, tool.strict) == ("get_weather", "Now.", PARAMETERS, True)
    [bare] = asked(tools=[{"type": "function", "function": {"name": "now"}}]).tools or []
    assert bare.model_dump(exclude_none=True) == {"name": "now"}


@pytest.mark.parametrize(
    ("choice", "ours"),
    [
        ("none", "none"),
        ("auto", "auto"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "get_weather"}}, NamedTool(name="get_weather")),
        (None, None),
    ],
)
def test_every_choice_is_ours(choice: Any, ours: Any) -> None:
    assert asked(tools=[WEATHER], tool_choice=choice).tool_choice == ours


@pytest.mark.parametrize("parallel", [True, False, None])
def test_whether_calls_may_be_parallel_is_handed_on(parallel: bool | None) -> None:
    assert asked(tools=[WEATHER], parallel_tool_calls=parallel).parallel_tool_calls is parallel


@pytest.mark.parametrize("said", [{"content": None}, {"content": ""}, {}, {"content": "Let me see.", "refusal": None}])
def test_an_assistant_s_calls_come_back_with_text_or_without(said: dict[str, Any]) -> None:
    message = asked(**after({"role": "assistant", "tool_calls": [CALL], **said})).messages[1]
    assert message.content == (said.get("content") or "")
    assert message.tool_calls == [ToolCall(call_id="call_1", name="get_weather", arguments='{"city": "Oslo"}')]


@pytest.mark.parametrize("arguments", ["{}", ""])
def test_a_call_without_arguments_has_an_empty_object(arguments: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "now", "arguments": arguments}}
    [made] = asked(**after({"role": "assistant", "tool_calls": [call]})).messages[1].tool_calls or []
    assert made.arguments == "{}"


def test_arguments_stay_as_they_were_written() -> None:
    written = '{ "b":1.0,\n "a": 12345678901234567890 }'
    call = {**CALL, "function": {"name": "f", "arguments": written}}
    [made] = asked(**after({"role": "assistant", "tool_calls": [call]})).messages[1].tool_calls or []
    assert made.arguments == written


@pytest.mark.parametrize(
    ("content", "text"),
    [("rain", "rain"), ("", ""), ([{"type": "text", "text": "rain"}, {"type": "text", "text": "snow"}], "rain\nsnow")],
)
def test_a_result_is_text_or_parts_of_text(content: Any, text: str) -> None:
    given = after(
        {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "call_1", "content": content}
    )
    result = asked(**given).messages[2]
    assert (result.role.value, result.call_id, result.content) == ("tool", "call_1", text)


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"functions": [{"name": "f"}]}, "functions", "tools"),
        ({"function_call": {"name": "f"}}, "function_call", "tool_choice"),
        (after({"role": "function", "name": "f", "content": "x"}), "messages[1].role", "tool_call_id"),
        (
            after({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}),
            "messages[1].function_call",
            "tool_calls",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type", "functions"),
        (
            after({"role": "assistant", "tool_calls": [{"id": "1", "type": "custom", "custom": {}}]}),
            "messages[1].tool_calls[0].type",
            "functions",
        ),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
            "tool_choice.type",
            "auto",
        ),
        (
            after({"role": "tool", "tool_call_id": "1", "content": [{"type": "input_audio", "input_audio": {}}]}),
            "messages[1].content[0].type",
            "text",
        ),
    ],
)
def test_what_is_not_served_is_refused_with_what_to_do(fields: dict[str, Any], param: str, said: str) -> None:
    error = refusal(**fields)
    assert isinstance(error, Unsupported)
    told = openai_error(error.info("req_1"))["error"]
    assert (told["param"], told["code"]) == (param, "unsupported_parameter")
    assert said in (error.hint or "")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "name": "f", "parameters": {}}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tools": [WEATHER], "tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "f"}}, "tool_choice.function"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
            "tool_choice.function.name",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        (after({"role": "tool", "content": "x"}), "messages[1].tool_call_id"),
        (after({"role": "tool", "content": "x", "tool_call_id": "x" * 257}), "messages[1].tool_call_id"),
        (after({"role": "tool", "tool_call_id": "1"}), "messages[1].content"),
        (after({"role": "user", "content": "x", "tool_calls": [CALL]}), "messages[1].tool_calls"),
        (after({"role": "assistant", "tool_calls": [{**CALL, "id": ""}]}), "messages[1].tool_calls[0].id"),
        (after({"role": "assistant", "tool_calls": [CALL, CALL]}), "messages[1].tool_calls"),
        (after({"role": "assistant", "tool_calls": [{"type": "function"}]}), "messages[1].tool_calls[0].id"),
        (
            after({"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "a b", "arguments": "{}"}}]}),
            "messages[1].tool_calls[0].function.name",
        ),
        (
            after({"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {"a": 1}}}]}),
            "messages[1].tool_calls[0].function.arguments",
        ),
    ],
)
def test_a_mistake_is_told_at_openai_s_own_place(fields: dict[str, Any], param: str) -> None:
    error = refusal(**fields)
    assert isinstance(error, InvalidParams)
    told = openai_error(error.info("req_1"))["error"]
    assert (told["param"], told["code"]) == (param, "invalid_value")
    assert "call_id" not in told["message"].replace("tool_call_id", "")


def test_what_is_found_behind_the_edge_is_told_at_openai_s_place_too() -> None:
    ours = "messages.1.tool_calls.0.arguments"
    error = InvalidParams(f"{ours}: is no object", errors=[FieldError(path=ours, message="is no object")])
    told = openai_error(error.info("req_1"))["error"]
    assert told["param"] == "messages[1].tool_calls[0].function.arguments"
    assert told["message"].startswith("messages.1.tool_calls.0.function.arguments: is no object")


def answer(content: str, *calls: ToolCall) -> dict[str, Any]:
    whole = ChatResponse(
        id="str_1",
        content=content,
        model="m",
        provider="ollama",
        finish_reason="tool_calls" if calls else "stop",
        created_at=datetime.now(UTC),
        tool_calls=list(calls) or None,
    )
    choice: dict[str, Any] = completion(whole).model_dump()["choices"][0]
    return choice


def test_a_whole_answer_has_its_calls_in_order_and_no_text_where_there_is_none() -> None:
    calls = [ToolCall(call_id="a", name="f", arguments='{"x": 1}'), ToolCall(call_id="b", name="g")]
    told = answer("", *calls)
    assert told["finish_reason"] == "tool_calls"
    assert told["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    assert answer("Let me see.", *calls)["message"]["content"] == "Let me see."


def test_an_answer_without_calls_says_nothing_of_them() -> None:
    assert answer("")["message"] == {"role": "assistant", "content": "", "refusal": None}


@pytest.mark.parametrize(
    ("fields", "refused", "named"),
    [
        ({}, (), ""),
        ({"n": 1, "stop": "x", "tools": [], "logit_bias": {}}, (), ""),
        ({"user": "u", "metadata": None, "store": False}, (), "user, store"),
        ({"reasoning_effort": "low"}, (), ""),
        ({"presence_penalty": 1, "frequency_penalty": 1, "logprobs": True, "top_logprobs": 2}, (), ""),
        ({"seed": 1, "temperature": 1}, ("seed",), "seed"),
        ({"max_completion_tokens": 1}, ("max_tokens",), "max_completion_tokens"),
        ({"max_tokens": 1}, ("max_tokens",), "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, (), "max_tokens"),
        ({"stream_options": {"include_usage": True}}, (), "stream_options"),
        ({"stream_options": {"include_usage": True}, "stream": True}, (), ""),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, (), "tool_choice, parallel_tool_calls"),
        ({"tools": [WEATHER], "tool_choice": "auto", "parallel_tool_calls": False}, (), ""),
        ({"a\r\nSet-Cookie: x": 1, "ü": 1, "": 1, "b,c": 1, "x" * 65: 1}, (), ""),
    ],
)
def test_what_is_left_out_is_named_and_nothing_else(
    fields: dict[str, Any], refused: tuple[str, ...], named: str
) -> None:
    assert ignored_header(body(**fields), refused).get(HEADER, "") == named


def test_however_much_is_left_out_the_header_stays_short() -> None:
    header = ignored_header(body(**{f"field_{number}": 1 for number in range(1000)}), ())[HEADER]
    assert header.split(", ") == [f"field_{number}" for number in range(32)]


def test_of_very_many_calls_or_parts_that_are_wrong_none_is_looked_at() -> None:
    wrongs: list[dict[str, Any]] = [{"tool_calls": [{}] * 20_000}, {"content": [{}] * 20_000}]
    for much in wrongs:
        error = refusal(messages=[{"role": "assistant", **much}])
        assert [each.path for each in error.errors] == ["messages"]
    for name in ("tools", "stop", "modalities"):
        assert [each.path for each in refusal(**{name: [7] * 20_000}).errors] == [name]
