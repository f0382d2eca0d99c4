"""What a request may say: parts, calls, tools; and what is refused with its path."""

from typing import Any

import pytest
from pydantic import ValidationError

from archer_ws.core.exceptions import RequestError
from archer_ws.core.wire_model import request_error
from archer_ws.llm_gateway.types import ChatRequest

USER: dict[str, Any] = {"role": "user", "content": "hi"}
CALL: dict[str, Any] = {"call_id": "c1", "name": "look", "arguments": "{}"}
TOOL: dict[str, Any] = {"name": "look", "parameters": {"type": "object"}}


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": [USER], **fields})


def refused(**fields: Any) -> RequestError:
    with pytest.raises(ValidationError) as caught:
        request(**fields)
    return request_error(caught.value.errors(include_url=False), whole="params", hint="Correct it.")


def test_text_parts_are_their_texts_joined_by_line_breaks() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert request(messages=[{"role": "user", "content": content}]).messages[0].content == "a\nb"


@pytest.mark.parametrize(
    ("content", "kind", "path"),
    [
        ([{"type": "image_url", "image_url": {"url": "data:"}}], "unsupported", "messages.0.content.0.type"),
        ([{"type": "hologram"}], "unsupported", "messages.0.content.0.type"),
        ([{"type": "text"}], "invalid_params", "messages.0.content.0.text"),
        ([{"type": "text", "text": 7}], "invalid_params", "messages.0.content.0.text"),
        ([7], "invalid_params", "messages.0.content.0"),
        ([], "invalid_params", "messages.0.content"),
        ([{"type": "text", "text": "\ud800"}], "invalid_params", "messages.0.content.0.text"),
        (7, "invalid_params", "messages.0.content"),
    ],
)
def test_a_part_that_is_not_served_or_not_right_is_refused_with_its_path(content: Any, kind: str, path: str) -> None:
    error = refused(messages=[{"role": "user", "content": content}])
    assert (error.kind, error.errors[0].path) == (kind, path)
    assert error.hint


def test_calls_and_their_results_are_messages() -> None:
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [{**CALL, "arguments": ""}]},
        {"role": "tool", "call_id": "c1", "content": "12 degrees", "status": "ok"},
    ]
    asked, called, answered = request(messages=messages).messages
    assert asked.tool_calls is None
    assert called.content == ""
    assert called.tool_calls is not None
    assert called.tool_calls[0].arguments == "{}"
    assert (answered.call_id, answered.status) == ("c1", "ok")


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ({"role": "user", "content": "a", "tool_calls": [CALL]}, "messages.0.tool_calls"),
        ({"role": "assistant", "tool_calls": [CALL, CALL]}, "messages.0.tool_calls"),
        ({"role": "assistant"}, "messages.0.content"),
        ({"role": "tool", "content": "a"}, "messages.0.call_id"),
        ({"role": "user", "content": "a", "call_id": "c1"}, "messages.0.call_id"),
        ({"role": "user", "content": "a", "status": "ok"}, "messages.0.status"),
        ({"role": "tool", "content": "a", "call_id": "c" * 257}, "messages.0.call_id"),
        ({"role": "assistant", "tool_calls": [{**CALL, "name": "a b"}]}, "messages.0.tool_calls.0.name"),
    ],
)
def test_a_field_that_does_not_fit_the_role_is_refused_with_its_path(message: Any, path: str) -> None:
    assert refused(messages=[message]).errors[0].path == path


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"tools": [TOOL, TOOL]}, "tools.1.name"),
        ({"tools": [{"type": "function", "function": TOOL}]}, "tools.0.function"),
        ({"tools": [{"name": "x" * 65}]}, "tools.0.name"),
        ({"tools": [{"name": f"t{n}"} for n in range(129)]}, "tools"),
        ({"tools": [{"name": "a", "parameters": {"type": "string"}}]}, "tools.0.parameters"),
        ({"tools": [{"name": "a", "parameters": {"x": "y" * 65536}}]}, "tools.0.parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"name": "other"}}, "tool_choice.name"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "look"}}}, "tool_choice"),
    ],
)
def test_tools_that_no_provider_would_take_are_refused_with_their_path(fields: dict[str, Any], path: str) -> None:
    error = refused(**fields)
    assert (error.kind, error.errors[0].path) == ("invalid_params", path)


def test_a_schema_that_is_too_deep_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(10_000):
        deep = {"a": deep}
    assert refused(tools=[{"name": "a", "parameters": deep}]).errors[0].path == "tools.0.parameters"


def test_the_nested_form_of_a_tool_is_answered_with_the_flat_one() -> None:
    assert '{"name": "get_weather"' in (refused(tools=[{"type": "function", "function": TOOL}]).hint or "")


def test_type_function_beside_the_name_is_accepted() -> None:
    assert request(tools=[{"type": "function", **TOOL}], tool_choice={"name": "look"}).tools is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "json"),
        ("reasoning", {"effort": "high"}),
        ("thinking", {"type": "enabled", "budget_tokens": 2048}),
        ("think", "low"),
        ("think", False),
        ("presence_penalty", 0.1),
        ("frequency_penalty", -1),
        ("logprobs", True),
        ("top_logprobs", 2),
        ("n", 2),
        ("top_k", 40),
        ("functions", [TOOL]),
        ("system", "be brief"),
        ("max_completion_tokens", 5),
        ("images", ["aGk="]),
    ],
)
def test_a_field_that_would_change_the_answer_is_refused_and_not_ignored(field: str, value: Any) -> None:
    error = refused(**{field: value})
    assert (error.kind, error.errors[0].path) == ("unsupported", field)
    assert error.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("response_format", {"type": "text"}),
        ("n", 1),
        ("logprobs", False),
        ("user", "ada"),
        ("on_tool_call", "end"),
        # Null means missing.
        ("tools", [{"type": None, "function": None, **TOOL}]),
        ("response_format", {"type": "json_object", "schema": None}),
        ("mcp", None),
    ],
)
def test_a_field_that_changes_nothing_is_taken(field: str, value: Any) -> None:
    request(**{field: value})


def test_parts_and_calls_count_as_messages_where_there_are_too_many() -> None:
    calling = {"role": "assistant", "tool_calls": [{**CALL, "call_id": str(each)} for each in range(99)]}
    parted = {"role": "user", "content": [{"type": "text", "text": ""}] * 100}
    assert len(request(messages=[calling, parted] * 50).messages) == 100
    error = refused(messages=[*[calling, parted] * 50, USER])
    assert (error.kind, error.errors[0].path) == ("invalid_params", "messages")
    assert error.hint


def test_of_very_many_calls_that_are_wrong_none_is_looked_at() -> None:
    error = refused(messages=[{"role": "assistant", "tool_calls": [{}] * 200}] * 100)
    assert [each.path for each in error.errors] == ["messages"]


def test_numbers_in_a_schema_are_no_longer_than_any_bound_means() -> None:
    def tool(most: int) -> dict[str, Any]:
        return {"name": "look", "parameters": {"properties": {"n": {"enum": [0, most]}}}}

    assert request(tools=[tool(10**300)]).tools
    assert refused(tools=[tool(10**4000)]).errors[0].path == "tools.0.parameters"
