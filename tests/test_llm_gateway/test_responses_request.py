"""Requests of OpenAI's Responses API: what they say, which models are asked by it, and what of an answer goes back."""

import json
from typing import Any

import pytest

from archer_ws.core.exceptions import InvalidParams, ProviderError, Unsupported
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import UNKNOWN_MODEL, load_catalog
from archer_ws.llm_gateway.extras import Extras
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.openai.which_api import facts_for_api
from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.tools import NamedTool, Tool
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ChatRequest
from tests.conftest import MakeSettings
from tests.fakes import openai_api
from tests.fakes.openai_api import error
from tests.fakes.responses_api import Script, adapter_for, reply, text_answer
from tests.fakes.scripted_server import Reply, scripted_server

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool(name="get_weather", description="The weather in a city, now.", parameters=CITY, strict=True)
NOW = Tool(name="now", idempotent=True, needs_approval=False)
OK = reply(*text_answer(["ok"]))
#: What stands in every request.
ALWAYS: dict[str, Any] = {
    "model": "gpt-5.4",
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "reasoning": {"summary": "auto"},
    "stream": True,
}


def conversation(*messages: dict[str, Any]) -> list[ChatMessage]:
    return [ChatMessage.model_validate(message) for message in messages]


QUESTION = conversation({"role": "user", "content": "How is it in Oslo and Bodø?"})
ASKED = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": QUESTION[0].content}]}


async def sent(
    options: ChatOptions, messages: list[ChatMessage] = QUESTION, *, max_tokens: int | None = None
) -> dict[str, Any]:
    """The body of a request."""
    async with scripted_server(OK) as server, adapter_for(server) as adapter:
        async for _ in adapter.stream_chat(messages, max_tokens=max_tokens, options=options):
            pass
        exchange = await server.exchange()
        assert exchange.path == "/v1/responses"
        return dict(exchange.json())


async def test_a_loop_of_two_steps_reads_as_openai_s_documentation_has_it() -> None:
    messages = conversation(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How is it in Oslo and Bodø?", "name": "ada"},
        {
            "role": "assistant",
            "tool_calls": [
                {"call_id": "call_12xyz", "name": "get_weather", "arguments": '{"city":"Oslo"}'},
                {"call_id": "call_34abc", "name": "get_weather", "arguments": '{"city":"Bodø"}'},
            ],
        },
        {"role": "tool", "call_id": "call_34abc", "content": "no such place", "status": "error"},
        {"role": "tool", "call_id": "call_12xyz", "content": "12 °C", "status": "ok", "name": "weather"},
        {"role": "assistant", "content": "And now?", "tool_calls": [{"call_id": "call_56def", "name": "now"}]},
        {"role": "tool", "call_id": "call_56def", "content": "noon", "message_id": "m7"},
        {"role": "system", "content": "Be briefer."},
    )
    options = ChatOptions(tools=(WEATHER, NOW), tool_choice="auto", parallel_tool_calls=True)
    assert await sent(options, messages, max_tokens=100) == {
        **ALWAYS,
        "input": [
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
            ASKED,
            {
                "type": "function_call",
                "call_id": "call_12xyz",
                "name": "get_weather",
                "arguments": '{"city":"Oslo"}',
            },
            {
                "type": "function_call",
                "call_id": "call_34abc",
                "name": "get_weather",
                "arguments": '{"city":"Bodø"}',
            },
            {"type": "function_call_output", "call_id": "call_12xyz", "output": "12 °C"},
            {"type": "function_call_output", "call_id": "call_34abc", "output": "Error: no such place"},
            {"type": "message", "role": "assistant", "content": "And now?"},
            {"type": "function_call", "call_id": "call_56def", "name": "now", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_56def", "output": "noon"},
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be briefer."}]},
        ],
        "tools": [
            {
                "type": "function",
                "name": "get_weather",
                "description": "The weather in a city, now.",
                "parameters": CITY,
                "strict": True,
            },
            # onyx-dot-app/onyx#15008, open-webui/open-webui#27750: what says nothing is strict here, and has optional
            # arguments filled in.
            {
                "type": "function",
                "name": "now",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            },
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "max_output_tokens": 100,
    }


async def test_what_an_answer_thought_and_called_goes_back_as_it_came() -> None:
    # earendil-works/pi#3369: encrypted items whole, as they end; vercel/ai#7543: without ids that name nothing.
    script = Script()
    script.reasoning("I look **twice**.", "Then I tell.", encrypted="gAAAA+whole/=")
    script.message("I look.", phase="commentary")
    script.call("call_" + "x" * 40, "get_weather", '{"city": "Oslo", "id": 12345678901234567890}')
    script.call("call_2", "now", "{}")
    turns: list[NativeTurn] = []
    async with scripted_server(reply(*script.complete()), OK) as server, adapter_for(server) as adapter:
        tools = (WEATHER, NOW)
        answer = await adapter.chat(QUESTION, options=ChatOptions(tools=tools, on_native_turn=turns.append))
        made = answer.tool_calls or []
        messages = [
            *QUESTION,
            *conversation(
                {"role": "assistant", "content": answer.content, "tool_calls": [call.model_dump() for call in made]},
                {"role": "tool", "call_id": made[1].call_id, "content": "noon"},
                {"role": "tool", "call_id": made[0].call_id, "content": "12 °C"},
            ),
        ]
        kept = {call.call_id: turns[0] for call in made}
        await adapter.chat(messages, options=ChatOptions(tools=tools, native_turns=kept))
        second = (await server.exchange(1)).json()
    assert answer.reasoning == "I look **twice**.\n\nThen I tell."
    assert second["input"] == [
        ASKED,
        {
            "type": "reasoning",
            "summary": [
                {"type": "summary_text", "text": "I look **twice**."},
                {"type": "summary_text", "text": "Then I tell."},
            ],
            "encrypted_content": "gAAAA+whole/=",
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}],
            "phase": "commentary",
        },
        {
            "type": "function_call",
            "call_id": "call_" + "x" * 40,
            "name": "get_weather",
            "arguments": '{"city": "Oslo", "id": 12345678901234567890}',
        },
        {"type": "function_call", "call_id": "call_2", "name": "now", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_" + "x" * 40, "output": "12 °C"},
        {"type": "function_call_output", "call_id": "call_2", "output": "noon"},
    ]


async def test_reasoning_that_was_not_encrypted_is_not_named_by_its_id() -> None:
    # NousResearch/hermes-agent#10217
    script = Script()
    script.reasoning("I look.", encrypted=None)
    script.call("call_1", "now", "")
    turns: list[NativeTurn] = []
    async with scripted_server(reply(*script.complete()), OK) as server, adapter_for(server) as adapter:
        answer = await adapter.chat(QUESTION, options=ChatOptions(tools=(NOW,), on_native_turn=turns.append))
        (call,) = answer.tool_calls or []
        said = {"role": "assistant", "tool_calls": [call.model_dump()]}
        messages = [*QUESTION, *conversation(said, {"role": "tool", "call_id": call.call_id, "content": "noon"})]
        options = ChatOptions(tools=(NOW,), native_turns={call.call_id: turns[0]})
        await adapter.chat(messages, options=options)
        second = (await server.exchange(1)).json()
    assert second["input"] == [
        ASKED,
        {"type": "function_call", "call_id": "call_1", "name": "now", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "noon"},
    ]


@pytest.mark.parametrize(
    "said",
    [
        {"message": "The encrypted content gAAA...DQ== could not be verified.", "code": "invalid_encrypted_content"},
        {"message": "The encrypted content gAAA...wXBV could not be verified.", "code": None},
    ],
)
async def test_reasoning_that_is_not_known_again_does_not_end_the_loop(said: dict[str, Any]) -> None:
    # openai/codex#8119, openai/openai-agents-python#2063
    script = Script()
    script.reasoning("I look.")
    script.call("call_1", "now", "{}")
    refusal = Reply.of_json({"error": {"type": "invalid_request_error", "param": None, **said}}, status=400)
    turns: list[NativeTurn] = []
    async with scripted_server(reply(*script.complete()), refusal, OK) as server, adapter_for(server) as adapter:
        answer = await adapter.chat(QUESTION, options=ChatOptions(tools=(NOW,), on_native_turn=turns.append))
        (call,) = answer.tool_calls or []
        called = {"role": "assistant", "tool_calls": [call.model_dump()]}
        messages = [*QUESTION, *conversation(called, {"role": "tool", "call_id": call.call_id, "content": "noon"})]
        options = ChatOptions(tools=(NOW,), native_turns={call.call_id: turns[0]})
        assert (await adapter.chat(messages, options=options)).content == "ok"
        asked = [[item["type"] for item in exchange.json()["input"]] for exchange in server.exchanges]
    assert asked[1:] == [
        ["message", "reasoning", "function_call", "function_call_output"],
        ["message", "function_call", "function_call_output"],
    ]


async def test_the_same_refusal_of_a_request_without_reasoning_is_told() -> None:
    refusal = error(400, "The encrypted content could not be verified.", code="invalid_encrypted_content")
    async with scripted_server(refusal) as server, adapter_for(server) as adapter:
        with pytest.raises(ProviderError):
            await adapter.chat(QUESTION)
        assert len(server.exchanges) == 1


@pytest.mark.parametrize("status", [404, 405])
async def test_a_server_without_this_api_is_told_for_one_with_what_to_set(status: int) -> None:
    for refusal in (error(status, "Not Found"), Reply([b"404 page not found"], status=status)):
        async with scripted_server(refusal) as server, adapter_for(server) as adapter:
            with pytest.raises(ProviderError) as failed:
                await adapter.chat(QUESTION)
        assert "ARCHER_OPENAI_API=chat" in (failed.value.hint or "")


async def test_a_model_of_this_api_alone_that_was_asked_by_the_other_is_told_for_one() -> None:
    refusal = error(404, "This model is only supported in v1/responses and not in v1/chat/completions.")
    async with scripted_server(refusal) as server, openai_api.adapter_for(server) as adapter:
        with pytest.raises(ProviderError) as failed:
            await adapter.chat(QUESTION)
    assert "ARCHER_OPENAI_API=responses" in (failed.value.hint or "")


async def test_nothing_is_said_of_tools_that_the_request_does_not_say() -> None:
    assert await sent(ChatOptions(tool_choice="none", parallel_tool_calls=False)) == {**ALWAYS, "input": [ASKED]}


@pytest.mark.parametrize(
    ("choice", "said"),
    [("none", "none"), ("required", "required"), (NamedTool(name="now"), {"type": "function", "name": "now"})],
)
async def test_a_choice_is_said_in_the_apis_flat_form(choice: Any, said: object) -> None:
    assert (await sent(ChatOptions(tools=(NOW,), tool_choice=choice)))["tool_choice"] == said


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"type": "json_object"}, {"type": "json_object"}),
        (
            {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}},
            {"type": "json_schema", "name": "city", "schema": CITY, "strict": False},
        ),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "city", "schema": CITY, "strict": True, "description": "d"},
            },
            {"type": "json_schema", "name": "city", "schema": CITY, "strict": True, "description": "d"},
        ),
    ],
)
async def test_a_format_stands_in_text(asked: Any, said: object) -> None:
    options = ChatOptions(response_format=ResponseFormat.model_validate(asked))
    assert (await sent(options))["text"] == {"format": said}


@pytest.mark.parametrize(
    "message",
    [
        "Invalid schema for response_format 'city': 'pattern' is not permitted.",
        "Response input messages must contain the word 'json' in some form to use 'text.format' of type 'json_object'.",
    ],
)
async def test_a_refused_format_is_the_request_s_mistake_at_its_field(message: str) -> None:
    refusal = error(400, message)
    options = ChatOptions(response_format=ResponseFormat(type="json_object"))
    async with scripted_server(refusal) as server, adapter_for(server) as adapter:
        with pytest.raises(InvalidParams) as refused:
            await adapter.chat(QUESTION, options=options)
    assert [each.path for each in refused.value.errors or ()] == ["response_format"]


@pytest.mark.parametrize(
    ("effort", "said"),
    [
        (None, {"summary": "auto"}),
        ("high", {"effort": "high", "summary": "auto"}),
        ("none", {"effort": "none"}),
    ],
)
async def test_reasoning_is_told_and_as_much_of_it_as_was_asked_for(effort: Any, said: object) -> None:
    assert (await sent(ChatOptions(reasoning_effort=effort)))["reasoning"] == said


@pytest.mark.parametrize(("effort", "left"), [(None, None), ("high", {"effort": "high"})])
async def test_an_organisation_that_may_see_no_summaries_is_answered_without_them(effort: Any, left: Any) -> None:
    # openai/openai-cookbook#2271
    said = "Your organization must be verified to generate reasoning summaries."
    body = {"error": {"message": said, "type": "invalid_request_error", "param": "reasoning.summary"}}
    async with scripted_server(Reply.of_json(body, status=400), OK, OK) as server, adapter_for(server) as adapter:
        options = ChatOptions(reasoning_effort=effort)
        for _ in range(2):
            assert (await adapter.chat(QUESTION, options=options)).content == "ok"
        asked = [exchange.json().get("reasoning") for exchange in server.exchanges]
    assert asked[0]["summary"] == "auto"
    # And it is remembered.
    assert asked[1:] == [left, left]


async def test_an_effort_that_the_model_does_not_have_is_the_request_s_mistake() -> None:
    body = {"error": {"message": "Unsupported value: 'none' is not supported.", "param": "reasoning.effort"}}
    async with scripted_server(Reply.of_json(body, status=400)) as server, adapter_for(server) as adapter:
        with pytest.raises(ProviderError) as refused:
            await adapter.chat(QUESTION, options=ChatOptions(reasoning_effort="none"))
        assert len(server.exchanges) == 1
    assert [each.path for each in refused.value.errors or ()] == ["reasoning_effort"]


async def test_a_server_that_refuses_encrypted_items_is_asked_without_and_never_to_store() -> None:
    refusal = error(400, "Encrypted content is not supported with this model.")
    body = json.loads(b"".join(step for step in refusal.steps if isinstance(step, bytes)))
    body["error"]["param"] = "include"
    never = Reply.of_json({"error": {"message": "no", "param": "store"}}, status=400)
    async with scripted_server(Reply.of_json(body, status=400), OK, never) as server, adapter_for(server) as adapter:
        assert (await adapter.chat(QUESTION)).content == "ok"
        assert "include" not in (await server.exchange(1)).json()
        with pytest.raises(ProviderError):
            await adapter.chat(QUESTION)
        assert [exchange.json()["store"] for exchange in server.exchanges] == [False] * 3


@pytest.mark.parametrize(("asked", "said"), [(1, 16), (15, 16), (16, 16), (4000, 4000)])
async def test_an_answer_is_bounded_to_no_less_than_the_api_takes(asked: int, said: int) -> None:
    assert (await sent(ChatOptions(), max_tokens=asked))["max_output_tokens"] == said


async def test_a_bound_that_nobody_asked_for_is_left_out_where_it_is_too_much() -> None:
    refusal = error(400, "maximum context length exceeded", code="context_length_exceeded")
    body = json.loads(b"".join(step for step in refusal.steps if isinstance(step, bytes)))
    body["error"]["param"] = "max_output_tokens"
    async with scripted_server(Reply.of_json(body, status=400), OK) as server, adapter_for(server) as adapter:
        options = ChatOptions(defaulted=frozenset({"max_tokens"}))
        assert (await adapter.chat(QUESTION, max_tokens=2048, options=options)).content == "ok"
        assert "max_output_tokens" not in (await server.exchange(1)).json()


async def test_a_bound_that_was_asked_for_and_refused_is_named_as_it_was_asked_for() -> None:
    body = {"error": {"message": "Invalid value.", "param": "max_output_tokens"}}
    async with scripted_server(Reply.of_json(body, status=400)) as server, adapter_for(server) as adapter:
        with pytest.raises(ProviderError) as refused:
            await adapter.chat(QUESTION, max_tokens=4000)
    assert [each.path for each in refused.value.errors or ()] == ["max_tokens"]


async def test_what_the_api_has_no_field_for_is_not_sent() -> None:
    body = await sent(ChatOptions(stop=("END",), seed=7, top_p=0.5))
    assert body == {**ALWAYS, "input": [ASKED]}
    async with scripted_server(OK) as server, adapter_for(server) as adapter:
        await adapter.chat(QUESTION, "gpt-4.1", 0.5, options=ChatOptions(stop=("END",), seed=7, top_p=0.5))
        body = (await server.exchange()).json()
    assert (body["temperature"], body["top_p"]) == (0.5, 0.5)
    assert {"stop", "seed"}.isdisjoint(body)


@pytest.mark.parametrize(("api", "refused"), [("responses", {"stop", "seed"}), ("auto", set()), ("chat", set())])
def test_what_is_not_sent_is_told(make_settings: MakeSettings, api: str, refused: set[str]) -> None:
    router = LLMRouter(make_settings(openai_base_url="http://127.0.0.1:1/v1", openai_api=api))
    asked = {"role": "user", "content": "x"}
    request = ChatRequest.model_validate(
        {"messages": [asked], "model": "openai/any", "stop": ["END"], "seed": 7, "top_p": 0.5}
    )
    assert router.left_out(request) == refused


def test_of_openai_s_own_models_it_is_told_by_the_model(make_settings: MakeSettings) -> None:
    router = LLMRouter(make_settings(openai_api_key="sk-test"))
    for model, refused in (("gpt-6-astra", {"stop", "seed"}), ("gpt-4o", set())):
        asked = {"messages": [{"role": "user", "content": "x"}], "model": model, "stop": ["END"], "seed": 7}
        assert router.left_out(ChatRequest.model_validate(asked)) == refused


@pytest.mark.parametrize(("length", "as_given"), [(64, True), (65, False)])
async def test_an_id_of_up_to_64_characters_is_sent_as_it_is(length: int, as_given: bool) -> None:
    foreign = "x" * length
    said = {"role": "assistant", "tool_calls": [{"call_id": foreign, "name": "now"}]}
    messages = [*QUESTION, *conversation(said, {"role": "tool", "call_id": foreign, "content": "noon"})]
    _, call, result = (await sent(ChatOptions(tools=(NOW,)), messages))["input"]
    assert call["call_id"] == result["call_id"]
    assert (call["call_id"] == foreign) is as_given
    assert len(call["call_id"]) <= 64


def hosted(**settings: Any) -> OpenAIAdapter:
    defaults: dict[str, Any] = {
        "api_key": "sk-test",
        "base_url": None,
        "default_model": "gpt-4o",
        "timeouts": Timeouts(),
        "concurrency": 1,
        "catalog": load_catalog(),
    }
    return OpenAIAdapter(**defaults | settings)


@pytest.mark.parametrize("model", ["gpt-5.4", "gpt-5.4-mini-2026-03-17", "gpt-5.6-terra", "gpt-6-astra", "gpt-6-new"])
def test_openai_s_own_models_from_gpt_5_4_on_are_asked_by_it_with_tools_or_without(model: str) -> None:
    # BerriAI/litellm#34569, bolna-ai/bolna#1019
    for options in (ChatOptions(), ChatOptions(tools=(NOW,))):
        body = hosted()._body(QUESTION, model, None, None, options)
        assert body["input"] == [ASKED]
        assert "messages" not in body


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5", "gpt-5.2", "o3", "gpt-5-new"])
def test_others_are_asked_by_chat_completions(model: str) -> None:
    assert "messages" in hosted()._body(QUESTION, model, None, None, ChatOptions())


async def test_another_server_is_asked_by_chat_completions_whatever_its_model_s_name() -> None:
    async with (
        scripted_server(openai_api.text_stream(["ok"])) as server,
        openai_api.adapter_for(server) as adapter,
    ):
        await adapter.chat(QUESTION, "gpt-5.4", options=ChatOptions(tools=(NOW,)))
        assert (await server.exchange()).path == "/v1/chat/completions"


def test_the_owner_s_word_comes_before_the_catalog_s() -> None:
    by_chat, unknown = load_catalog().facts("openai", "gpt-5.4"), UNKNOWN_MODEL
    assert [
        (facts_for_api(by_chat, "auto", is_hosted=True).api, facts_for_api(by_chat, "auto", is_hosted=False).api),
        (facts_for_api(by_chat, "chat", is_hosted=True).api, facts_for_api(unknown, "auto", is_hosted=True).api),
        (
            facts_for_api(unknown, "responses", is_hosted=True).api,
            facts_for_api(unknown, "responses", is_hosted=False).api,
        ),
    ] == [("responses", "chat"), ("chat", "chat"), ("responses", "responses")]


def test_an_effort_that_this_api_alone_has_is_none_of_the_other_s() -> None:
    # BerriAI/litellm-docs#1173
    assert "max" in (hosted().reasoning_efforts("gpt-6-astra") or ())
    assert "max" not in (hosted(api="chat").reasoning_efforts("gpt-6-astra") or ())


@pytest.mark.parametrize("extra", ["presence_penalty", "frequency_penalty", "logprobs"])
def test_penalties_and_probabilities_are_refused_where_the_api_has_none(
    make_settings: MakeSettings, extra: str
) -> None:
    router = LLMRouter(make_settings(openai_api_key="sk-test"))
    named: dict[str, Any] = {"top_logprobs": 1} if extra == "logprobs" else {extra: 1.0}
    for model, is_refused in (("gpt-5.4", True), ("gpt-4o", False)):
        asked = {"messages": [{"role": "user", "content": "x"}], "model": model}
        request = ChatRequest.model_validate(asked).with_extras(Extras(**named))
        if not is_refused:
            assert router.resolve(request).model == model
            continue
        with pytest.raises(Unsupported, match="Responses API") as refused:
            router.resolve(request)
        assert [each.path for each in refused.value.errors or ()] == [extra]


@pytest.mark.parametrize("model", ["gpt-5.4", "gpt-6-astra", "gpt-6.1-terra-2026-10-01", "chatgpt-4o-latest"])
def test_by_chat_completions_alone_such_a_model_takes_no_tools(model: str) -> None:
    adapter = hosted(api="chat")
    with pytest.raises(Unsupported) as refused:
        adapter.stream_chat(QUESTION, model, options=ChatOptions(tools=(NOW,)))
    assert [each.path for each in refused.value.errors or ()] == ["tools"]
    named = (refused.value.hint or "").split("Choose a model that does, such as ")[1].split(";")[0]
    assert "tools" in adapter._body(QUESTION, named, None, None, ChatOptions(tools=(NOW,)))
    assert "tools" not in adapter._body(QUESTION, model, None, None, ChatOptions(tools=(NOW,), tool_choice="none"))


def test_the_list_says_which_models_take_tools_by_the_api_that_asks_them() -> None:
    names = json.dumps({"data": [{"id": name} for name in ("gpt-4o", "gpt-5.4", "gpt-6-new")]}).encode()
    for api, take_tools in (("auto", [True, True, True]), ("chat", [True, False, False])):
        listed = hosted(api=api)._models(names)
        assert ["tools" in (model.capabilities or ()) for model in listed] == take_tools
