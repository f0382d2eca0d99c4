"""OpenAI's requests as ours: what is taken, what is ignored, what is refused and how that is told. Pure."""

from typing import Any

import pytest
from pydantic import ValidationError

from archer_ws.api.openai.error_object import openai_error
from archer_ws.api.openai.requests import CompletionRequest, chat_request
from archer_ws.core.exceptions import InvalidParams, Unsupported
from archer_ws.llm_gateway.types import ChatRequest

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


def asked(**fields: Any) -> ChatRequest:
    return chat_request(CompletionRequest.model_validate({**HELLO, **fields}))


def told(*messages: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message.role.value, message.content) for message in asked(messages=list(messages)).messages]


def test_what_both_have_is_handed_on() -> None:
    given = {"model": "local/x", "temperature": 0.5, "top_p": 0.9, "seed": 7, "max_tokens": 5, "stop": ["a", "b"]}
    assert asked(**given) == ChatRequest.model_validate({**HELLO, **given})
    assert asked(stream=True).stream
    assert asked() == ChatRequest.model_validate(HELLO)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
    ],
)
def test_max_completion_tokens_wins(fields: dict[str, Any], expected: int) -> None:
    assert asked(**fields).max_tokens == expected


@pytest.mark.parametrize(("stop", "expected"), [("end", ["end"]), (["a", "b"], ["a", "b"]), (None, None)])
def test_stop_is_a_text_or_a_list(stop: Any, expected: list[str] | None) -> None:
    assert asked(stop=stop).stop == expected


def test_parts_of_text_are_joined_by_line_breaks() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two", "cache_control": {"type": "x"}}]
    assert told({"role": "user", "content": parts}) == [("user", "one\ntwo")]


def test_a_developer_is_the_system() -> None:
    assert told({"role": "developer", "content": "Be brief."}, {"role": "system", "content": "Be kind."}) == [
        ("system", "Be brief."),
        ("system", "Be kind."),
    ]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"content": None}, ""),
        ({}, ""),
        ({"content": None, "refusal": "I can't."}, "I can't."),
        ({"content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]}, "a\nb"),
        ({"content": "x", "tool_calls": [], "function_call": None, "audio": None, "annotations": []}, "x"),
    ],
)
def test_what_an_assistant_said_may_come_back_as_it_was_given(said: dict[str, Any], text: str) -> None:
    assert told({"role": "assistant", **said}) == [("assistant", text)]


def test_names_are_handed_on() -> None:
    assert asked(messages=[{"role": "user", "name": "ada", "content": "x"}]).messages[0].name == "ada"


@pytest.mark.parametrize(
    "harmless",
    [
        {"n": 1}, {"n": None}, {"tools": []}, {"tools": None}, {"functions": []}, {"tool_choice": "none"},
        {"tool_choice": "auto"}, {"function_call": "none"}, {"parallel_tool_calls": True}, {"tools": [], "user": "u"},
        {"presence_penalty": 0, "frequency_penalty": 0.0}, {"logprobs": False, "top_logprobs": 0}, {"logit_bias": {}},
        {"response_format": None}, {"modalities": ["text"]}, {"stream_options": None},
        {"stream_options": {"include_usage": False, "include_obfuscation": False}},
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "safety_identifier": "s"},
        {"reasoning_effort": None, "verbosity": "low", "prediction": {"type": "content", "content": "x"}},
    ],
)  # fmt: skip
def test_what_changes_nothing_is_taken(harmless: dict[str, Any]) -> None:
    assert asked(**harmless) == asked()


@pytest.mark.parametrize(
    ("unserved", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"messages": [{"role": "function", "content": "x", "name": "f"}]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "messages[0].function_call"),
        ({"messages": [{"role": "assistant", "audio": {"id": "1"}}]}, "messages[0].audio"),
        (
            {"messages": [*HELLO["messages"], {"role": "user", "content": [{"type": "video_url", "video_url": {}}]}]},
            "messages[1].content[0].type",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(unserved: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        asked(**unserved)
    error = openai_error(caught.value.info("req_1"))["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert caught.value.hint
    assert caught.value.hint in error["message"]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0]"),
        ({"role": "assistant", "content": [{"type": "refusal", "text": "x"}]}, "messages[0].content[0]"),
    ],
)
def test_a_message_that_says_nothing_is_refused(message: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        asked(messages=[message])
    assert openai_error(caught.value.info("req_1"))["error"]["param"] == param


@pytest.mark.parametrize("fields", [{"temperature": 2.1}, {"messages": []}, {"stop": ["x"] * 17}, {"top_p": 0}])
def test_ranges_are_those_of_every_transport(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        asked(**fields)
