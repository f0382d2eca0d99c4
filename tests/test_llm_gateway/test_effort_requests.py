"""What goes with an effort: room to think, forced calls, formats, sampling; and servers and models that take none."""

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from archer_ws.core.exceptions import ArcherError, ProviderError, Unsupported
from archer_ws.llm_gateway.anthropic.request import request_body
from archer_ws.llm_gateway.base import BaseLLMAdapter, Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.llama_adapter import LlamaAdapter
from archer_ws.llm_gateway.local.process import Endpoint
from archer_ws.llm_gateway.native_replay import native_turn
from archer_ws.llm_gateway.native_turns import NativeBlocks, NativeCall
from archer_ws.llm_gateway.tools import NamedTool, Tool
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole, ReasoningEffort
from tests.fakes import anthropic_api, openai_api
from tests.fakes.any_provider import HELLO, adapter_at
from tests.fakes.ollama_api import Answer, ollama_server, ollama_show, ollama_stream
from tests.fakes.scripted_server import Reply, scripted_server

SUMMARIZED = {"type": "adaptive", "display": "summarized"}
LOOK = Tool(name="look")
LOOP = [
    *HELLO,
    ChatMessage.model_validate({"role": "assistant", "tool_calls": [{"call_id": "a", "name": "look"}]}),
    ChatMessage.model_validate({"role": "tool", "call_id": "a", "content": "dark"}),
]


def claude(
    model: str, effort: ReasoningEffort | None, max_tokens: int | None = None, messages: Any = HELLO, **options: Any
) -> dict[str, Any]:
    return request_body(
        messages,
        model=model,
        facts=load_catalog().facts("anthropic", model),
        temperature=options.pop("temperature", None),
        max_tokens=max_tokens,
        options=ChatOptions(reasoning_effort=effort, **options),
    )


def path_of(error: ArcherError) -> list[str]:
    assert error.hint
    return [each.path for each in error.errors or ()]


@pytest.mark.parametrize(
    ("effort", "max_tokens", "budget"),
    [("high", 32_000, 16_384), ("high", 4000, 3000), ("low", 1025, 1024), ("minimal", 1100, 1024)],
)
def test_a_budget_leaves_room_in_the_bound_that_the_client_named(
    effort: ReasoningEffort, max_tokens: int, budget: int
) -> None:
    body = claude("claude-sonnet-4-5", effort, max_tokens)
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (max_tokens, budget)


@pytest.mark.parametrize("max_tokens", [1, 500, 1024])
def test_a_bound_without_room_to_think_is_refused_with_what_to_send(max_tokens: int) -> None:
    with pytest.raises(Unsupported) as refused:
        claude("claude-sonnet-4-5", "low", max_tokens)
    assert path_of(refused.value) == ["reasoning_effort"]
    assert "1024" in (refused.value.hint or "")


def test_a_bound_of_ours_is_for_the_answer_and_grows_by_the_thinking() -> None:
    ours = frozenset({"max_tokens"})
    body = claude("claude-sonnet-4-5", "medium", 2048, defaulted=ours)
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (2048 + 8192, 8192)
    # Not beyond what the model can say.
    body = claude("claude-opus-4-1", "high", 20_000, defaulted=ours)
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (32_000, 16_384)
    # The owner's own, greater than that, stays.
    assert claude("claude-opus-4-1", "high", 40_000, defaulted=ours)["max_tokens"] == 40_000


def test_a_format_and_an_effort_stand_in_one_output_config() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    asked = ResponseFormat.model_validate({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
    assert claude("claude-opus-5-5", "low", response_format=asked)["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": schema},
    }
    assert claude("claude-sonnet-4-5", "low", response_format=asked)["output_config"] == {
        "format": {"type": "json_schema", "schema": schema}
    }


@pytest.mark.parametrize("model", ["claude-3-7-sonnet", "claude-sonnet-4-5", "claude-opus-4-6", "claude-opus-4-7"])
@pytest.mark.parametrize("choice", ["required", NamedTool(name="look")])
def test_a_forced_call_and_thinking_exclude_each_other_up_to_4_7(model: str, choice: Any) -> None:
    # langchain-ai/langchain-aws#1151
    with pytest.raises(Unsupported) as refused:
        claude(model, "low", tools=(LOOK,), tool_choice=choice)
    assert path_of(refused.value) == ["tool_choice"]
    for effort in (None, "none"):
        assert claude(model, effort, tools=(LOOK,), tool_choice=choice)["tool_choice"]["type"] in ("any", "tool")
    assert claude(model, "low", tools=(LOOK,), tool_choice="auto")["tool_choice"] == {"type": "auto"}


@pytest.mark.parametrize("model", ["claude-opus-4-8", "claude-opus-5", "claude-sonnet-5"])
def test_newer_models_think_and_are_made_to_call(model: str) -> None:
    # langchain-ai/langchain-aws#1141
    body = claude(model, "high", tools=(LOOK,), tool_choice="required")
    assert (body["tool_choice"], body["output_config"]) == ({"type": "any"}, {"effort": "high"})


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-6", "some-proxys-model"])
def test_nothing_is_sampled_while_a_claude_thinks(model: str) -> None:
    thinking = claude(model, "low", temperature=0.5, top_p=0.9, stop=("x",))
    assert not {"temperature", "top_p"} & thinking.keys()
    assert thinking["stop_sequences"] == ["x"]
    for effort in (None, "none"):
        assert claude(model, effort, temperature=0.5)["temperature"] == 0.5


def test_a_loop_whose_thinking_is_gone_goes_on_without_thinking() -> None:
    # anthropics/claude-code#14264
    body = claude("claude-sonnet-4-5", "high", 2000, LOOP, tools=(LOOK,))
    assert ("thinking" in body, body["max_tokens"]) == (False, 2000)
    blocks = NativeBlocks.of(b'[{"type":"thinking"}]', [NativeCall("a", "toolu_1", "look", "{}")])
    assert blocks is not None
    options = ChatOptions(tools=(LOOK,))
    kept = {"a": native_turn(blocks, LOOP[:-2], options, "anthropic", "claude-sonnet-4-5")}
    body = claude("claude-sonnet-4-5", "high", 2000, LOOP, tools=(LOOK,), native_turns=kept)
    assert ("thinking" in body, body["messages"][-2]["content"]) == (True, Raw(blocks.blocks))
    assert claude("claude-opus-5-5", "high", 2000, LOOP, tools=(LOOK,))["thinking"] == SUMMARIZED
    assert "thinking" not in claude("claude-sonnet-4-5", "high", 2000, [*LOOP, *HELLO], tools=(LOOK,))
    answered = [*LOOP, ChatMessage(role=MessageRole.ASSISTANT, content="Seen."), *HELLO]
    assert "thinking" in claude("claude-sonnet-4-5", "high", 2000, answered, tools=(LOOK,))


@pytest.mark.parametrize("effort", ["none", None])
def test_a_request_that_does_not_think_has_no_earlier_thoughts_either(effort: ReasoningEffort | None) -> None:
    blocks = NativeBlocks.of(b'[{"type":"thinking"}]', [NativeCall("a", "toolu_1", "look", "{}")])
    assert blocks is not None
    kept = {"a": native_turn(blocks, LOOP[:-2], ChatOptions(tools=(LOOK,)), "anthropic", "claude-sonnet-4-5")}
    body = claude("claude-sonnet-4-5", effort, 2000, LOOP, tools=(LOOK,), native_turns=kept)
    assert [block["type"] for block in body["messages"][-2]["content"]] == ["tool_use"]


async def test_a_server_that_knows_no_thinking_is_asked_without_it_where_nobody_asked_for_it() -> None:
    unknown = {"message": "thinking: Extra inputs are not permitted", "type": "invalid_request_error"}
    refusal = Reply.of_json({"type": "error", "error": unknown}, 400)
    hello = anthropic_api.text_stream(["Hello"])
    async with scripted_server(refusal, hello, hello) as server, anthropic_api.adapter_at(server.url) as adapter:
        for _ in range(2):
            assert (await adapter.chat(HELLO, "claude-opus-5-5")).content == "Hello"
        bodies = [exchange.json() for exchange in server.exchanges]
    assert [body.get("thinking") for body in bodies] == [SUMMARIZED, None, None]


@pytest.mark.parametrize("field", ["thinking", "output_config"])
async def test_an_effort_that_was_asked_for_is_never_left_out(field: str) -> None:
    said = {"message": f"{field}: Extra inputs are not permitted", "type": "invalid_request_error", "param": field}
    refusal = Reply.of_json({"type": "error", "error": said}, 400)
    options = ChatOptions(reasoning_effort="low")
    async with scripted_server(refusal, refusal) as server, anthropic_api.adapter_at(server.url) as adapter:
        with pytest.raises(ProviderError) as refused:
            await adapter.chat(HELLO, "claude-opus-5-5", options=options)
        assert len(server.exchanges) == 1
    assert path_of(refused.value) == ["reasoning_effort"]


async def test_an_openai_server_that_knows_no_effort_says_so_at_its_path() -> None:
    refusal = openai_api.error(400, "Unrecognized request argument supplied: reasoning_effort")
    options = ChatOptions(reasoning_effort="low")
    async with scripted_server(refusal) as server, openai_api.adapter_for(server) as adapter:
        with pytest.raises(ProviderError, match="reasoning_effort"):
            await adapter.chat(HELLO, "llama-70b", options=options)
        assert len(server.exchanges) == 1


async def first_of(adapter: BaseLLMAdapter, model: str, options: ChatOptions) -> object:
    return await anext(aiter(adapter.stream_chat(HELLO, model, options=options)))


def ollama(**answers: Answer) -> Any:
    return ollama_server({"/api/chat": ollama_stream("Hello"), **answers})


@pytest.mark.parametrize(
    ("model", "asked", "think"),
    [
        ("qwen3", "none", False),
        ("qwen3", "low", True),
        ("qwen3", "max", True),
        ("qwen3", "minimal", False),
        ("gpt-oss:20b", "minimal", "low"),
        ("gpt-oss:20b", "medium", "medium"),
        ("hf.co/unsloth/gpt-oss-120b-GGUF", "max", "high"),
    ],
)
async def test_ollama_is_told_yes_or_no_or_a_level_for_gpt_oss(model: str, asked: ReasoningEffort, think: Any) -> None:
    show = ollama_show(4096, capabilities=["completion", "thinking"])
    answers: dict[str, Answer] = {"/api/show": show}
    async with scripted_server(responder=ollama(**answers)) as server, adapter_at("ollama", server.url) as adapter:
        options = ChatOptions(reasoning_effort=asked)
        _ = [chunk async for chunk in adapter.stream_chat(HELLO, model, options=options)]
        (body,) = [each.json() for each in server.exchanges if each.path == "/api/chat"]
        assert body["think"] == think
        _ = [chunk async for chunk in adapter.stream_chat(HELLO, model)]
        assert "think" not in server.exchanges[-1].json()


async def test_a_model_made_of_gpt_oss_is_known_by_its_family() -> None:
    show = Reply.of_json({"details": {"family": "gptoss"}, "capabilities": ["completion", "thinking"]})
    answers: dict[str, Answer] = {"/api/show": show}
    async with scripted_server(responder=ollama(**answers)) as server, adapter_at("ollama", server.url) as adapter:
        _ = [chunk async for chunk in adapter.stream_chat(HELLO, "mine", options=ChatOptions(reasoning_effort="high"))]
        assert server.exchanges[-1].json()["think"] == "high"
        assert adapter.reasoning_efforts("mine") == ("low", "medium", "high")


@pytest.mark.parametrize("effort", ["none", "high"])
async def test_an_ollama_model_that_can_not_think_is_not_asked(effort: ReasoningEffort) -> None:
    # ollama/ollama#9473
    answers: dict[str, Answer] = {"/api/show": ollama_show(4096, capabilities=["completion", "tools"])}
    async with scripted_server(responder=ollama(**answers)) as server, adapter_at("ollama", server.url) as adapter:
        options = ChatOptions(reasoning_effort=effort)
        for asked in (adapter.chat(HELLO, "llama3.2", options=options), first_of(adapter, "llama3.2", options)):
            with pytest.raises(Unsupported) as refused:
                await asked
            assert path_of(refused.value) == ["reasoning_effort"]
        assert [each.path for each in server.exchanges] == ["/api/show"]


async def test_an_ollama_that_tells_no_capabilities_is_asked_all_the_same() -> None:
    answers: dict[str, Answer] = {"/api/show": ollama_show(4096)}
    async with scripted_server(responder=ollama(**answers)) as server, adapter_at("ollama", server.url) as adapter:
        _ = [chunk async for chunk in adapter.stream_chat(HELLO, "m", options=ChatOptions(reasoning_effort="high"))]
        assert server.exchanges[-1].json()["think"] is True


async def test_an_ollama_that_refuses_to_think_is_told_as_a_matter_of_the_effort() -> None:
    # tinyhumansai/openhuman#2787
    refusal = Reply.of_json({"error": '"gemma3" does not support thinking'}, 400)
    answers: dict[str, Answer] = {"/api/show": ollama_show(4096), "/api/chat": refusal}
    async with scripted_server(responder=ollama(**answers)) as server, adapter_at("ollama", server.url) as adapter:
        with pytest.raises(Unsupported) as refused:
            await first_of(adapter, "gemma3", ChatOptions(reasoning_effort="high"))
    assert path_of(refused.value) == ["reasoning_effort"]


@pytest.mark.parametrize(
    ("effort", "fields"),
    [
        (None, {}),
        ("none", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("low", {"chat_template_kwargs": {"enable_thinking": True}, "thinking_budget_tokens": 1024}),
        ("medium", {"chat_template_kwargs": {"enable_thinking": True}, "thinking_budget_tokens": 4096}),
        ("high", {"chat_template_kwargs": {"enable_thinking": True}}),
    ],
)
@pytest.mark.parametrize("knows_thinking", [True, False])
async def test_llama_cpp_is_asked_where_the_template_knows_thinking(
    effort: ReasoningEffort | None, fields: dict[str, Any], knows_thinking: bool
) -> None:
    async with asyncio.timeout(10), scripted_server(openai_api.text_stream(["ok"])) as server:
        adapter = LlamaAdapter(
            Endpoint(server.url, "key", 4096, knows_thinking=knows_thinking),
            model="m",
            sampling={},
            timeouts=Timeouts(),
            concurrency=1,
            carrier="own",
            catalog=load_catalog(),
            provider_name="local",
        )
        options = ChatOptions(reasoning_effort=effort)
        if effort is not None and not knows_thinking:
            with pytest.raises(Unsupported) as refused:
                await adapter.chat(HELLO, options=options)
            assert path_of(refused.value) == ["reasoning_effort"]
            assert not server.exchanges
        else:
            await adapter.chat(HELLO, options=options)
            body = server.exchanges[0].json()
            about = ("chat_template_kwargs", "thinking_budget_tokens", "reasoning_effort")
            assert {name: value for name, value in body.items() if name in about} == fields
        await adapter.aclose()


@pytest.mark.parametrize(("usage", "reasoning"), [({"output_tokens_details": {"thinking_tokens": 40}}, 40), ({}, None)])
async def test_the_tokens_of_anthropics_thinking_are_told(usage: dict[str, Any], reasoning: int | None) -> None:
    steps = (anthropic_api.start(), anthropic_api.block_start(), anthropic_api.delta("Hello"))
    reply = anthropic_api.stream(*steps, *anthropic_api.ending(**usage))
    async with scripted_server(reply) as server, anthropic_api.adapter_at(server.url) as adapter:
        answer = await adapter.chat(HELLO, "claude-opus-5-5", options=ChatOptions(reasoning_effort="low"))
    assert answer.usage is not None
    assert answer.usage.reasoning_tokens == reasoning
