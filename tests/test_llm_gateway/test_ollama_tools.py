"""Tools with Ollama: what it is asked (https://docs.ollama.com/capabilities/tool-calling), and the calls it answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from archer_ws.core.exceptions import ArcherError, ProviderTimeout, Unsupported
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.ollama_adapter import OllamaAdapter
from archer_ws.llm_gateway.resilience.retry import RetryPolicy, WaitPolicy, stream_with_retries
from archer_ws.llm_gateway.tools import NamedTool, Tool
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ChatResponse, StreamChunk
from tests.fakes.ollama_api import Answer, adapter_at, ollama_end, ollama_error, ollama_line, ollama_server, ollama_show
from tests.fakes.scripted_server import Reply, ScriptedServer, Step, Wait, scripted_server
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_ollama import answer, calls_line, made_call

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = (Tool(name="get_weather", description="The weather in a city.", parameters=CITY), Tool(name="now"))
DECLARED = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": "The weather in a city.", "parameters": CITY},
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]
QUESTION = {"role": "user", "content": "Oslo or Rome?"}
OSLO, ROME = MadeCall("get_weather", '{"city": "Oslo"}'), MadeCall("get_weather", '{"city": "Rome"}')
KNOWS_TOOLS = ollama_show(capabilities=["completion", "tools"])


def messages(*values: dict[str, Any]) -> list[ChatMessage]:
    return [ChatMessage.model_validate(value) for value in values]


def ndjson(*steps: Step) -> Reply:
    return Reply(steps, content_type="application/x-ndjson")


@asynccontextmanager
async def ollama(*replies: Reply, show: Answer = KNOWS_TOOLS) -> AsyncIterator[tuple[ScriptedServer, OllamaAdapter]]:
    """An Ollama whose model is as `show` says, that gives these answers to chats; and an adapter for it."""
    answers = iter(replies)
    server = ollama_server({"/api/chat": lambda _: next(answers), "/api/show": show})
    async with (
        asyncio.timeout(10),
        scripted_server(responder=server) as running,
        adapter_at(running.url) as adapter,
    ):
        yield running, adapter


def chats(server: ScriptedServer) -> list[Any]:
    return [exchange.json() for exchange in server.exchanges if exchange.path == "/api/chat"]


async def sent(conversation: list[ChatMessage], options: ChatOptions | None = None) -> Any:
    async with ollama(ndjson(*answer(text="ok"))) as (server, adapter):
        options = ChatOptions(tools=TOOLS) if options is None else options
        async for _ in adapter.stream_chat(conversation, options=options):
            pass
        (body,) = chats(server)
        return body


async def answered(*steps: bytes, whole: bool = False) -> ChatResponse:
    async with ollama(ndjson(*steps) if not whole else Reply([*steps])) as (_, adapter):
        return await adapter.chat(messages(QUESTION), options=ChatOptions(tools=TOOLS))


def made(answer: ChatResponse) -> list[tuple[str, object]]:
    return [(call.name, json.loads(call.arguments)) for call in answer.tool_calls or ()]


async def test_a_loop_of_two_steps_with_parallel_calls_is_sent_as_documented() -> None:
    conversation = messages({"role": "system", "content": "Be brief."}, QUESTION)
    options = ChatOptions(tools=TOOLS)
    replies = [answer(OSLO, ROME, text="I look."), answer(MadeCall("now")), answer(text="Rome.")]
    async with ollama(*(ndjson(*steps) for steps in replies)) as (server, adapter):
        one = await adapter.chat(conversation, options=options)
        assert one.tool_calls is not None
        conversation += messages({"role": "assistant", "content": one.content})
        conversation[-1].tool_calls = one.tool_calls
        oslo, rome = (call.call_id for call in one.tool_calls)
        # In the order in which the tools were done.
        conversation += messages(
            {"role": "tool", "call_id": rome, "content": "18°C"},
            {"role": "tool", "call_id": oslo, "content": "closed", "status": "error"},
        )
        two = await adapter.chat(conversation, options=options)
        assert two.tool_calls is not None
        now = two.tool_calls[0]
        conversation += messages({"role": "assistant", "content": ""})
        conversation[-1].tool_calls = two.tool_calls
        conversation += messages(
            {"role": "tool", "call_id": now.call_id, "content": "noon"}, {"role": "user", "content": "Hurry."}
        )
        three = await adapter.chat(conversation, options=options)
        bodies = chats(server)
    assert (three.content, three.finish_reason) == ("Rome.", "stop")
    common = {
        "model": "llama3.2",
        "tools": DECLARED,
        "stream": False,
        "truncate": False,
        "shift": False,
        "options": {},
    }

    def entry(call_id: str, index: int, name: str, given: dict[str, Any]) -> dict[str, Any]:
        return {"id": call_id, "type": "function", "function": {"index": index, "name": name, "arguments": given}}

    told = [
        {"role": "system", "content": "Be brief."},
        QUESTION,
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                entry(oslo, 0, "get_weather", {"city": "Oslo"}),
                entry(rome, 1, "get_weather", {"city": "Rome"}),
            ],
        },
        {"role": "tool", "content": "Error: closed", "tool_name": "get_weather", "tool_call_id": oslo},
        {"role": "tool", "content": "18°C", "tool_name": "get_weather", "tool_call_id": rome},
        {"role": "assistant", "content": "", "tool_calls": [entry(now.call_id, 0, "now", {})]},
        {"role": "tool", "content": "noon", "tool_name": "now", "tool_call_id": now.call_id},
        {"role": "user", "content": "Hurry."},
    ]
    assert bodies == [{**common, "messages": told[:count]} for count in (2, 5, 8)]


@pytest.mark.parametrize(("given", "text"), [("no", "Error: no"), ("", "Error: denied")])
async def test_a_failure_is_told_in_the_results_text(given: str, text: str) -> None:
    call = {"call_id": "a", "name": "now", "arguments": "{}"}
    conversation = messages(
        QUESTION,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "call_id": "a", "content": given, "status": "denied"},
    )
    assert (await sent(conversation))["messages"][-1]["content"] == text


@pytest.mark.parametrize(
    ("options", "path"),
    [
        (ChatOptions(tools=TOOLS, tool_choice="required"), "tool_choice"),
        (ChatOptions(tools=TOOLS, tool_choice=NamedTool(name="now")), "tool_choice"),
        (ChatOptions(tools=TOOLS, parallel_tool_calls=False), "parallel_tool_calls"),
    ],
)
@pytest.mark.parametrize("is_streamed", [True, False])
async def test_what_ollama_cannot_be_told_is_refused_before_anything_is_sent(
    options: ChatOptions, path: str, is_streamed: bool
) -> None:
    async with ollama() as (server, adapter):
        with pytest.raises(Unsupported) as caught:
            await asked(adapter, options, is_streamed)
        assert server.exchanges == []
    assert [error.path for error in caught.value.errors] == [path]
    assert caught.value.hint


@pytest.mark.parametrize("choice", ["auto", None])
async def test_what_ollama_does_anyway_may_be_said(choice: Any) -> None:
    body = await sent(messages(QUESTION), ChatOptions(tools=TOOLS, tool_choice=choice, parallel_tool_calls=True))
    assert body["tools"] == DECLARED
    assert not {"tool_choice", "parallel_tool_calls"} & set(body)


async def test_where_none_is_to_be_called_ollama_is_told_of_none() -> None:
    call = {"call_id": "a", "name": "now", "arguments": "{}"}
    conversation = messages(
        QUESTION, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "call_id": "a", "content": "noon"}
    )
    body = await sent(conversation, ChatOptions(tools=TOOLS, tool_choice="none", parallel_tool_calls=False))
    assert "tools" not in body
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool"]


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_model_that_knows_no_tools_is_not_asked(is_streamed: bool) -> None:
    # tinyhumansai/openhuman#2787, ollama/ollama#9473
    async with ollama(show=ollama_show(capabilities=["completion", "vision"])) as (server, adapter):
        for _ in range(2):
            with pytest.raises(Unsupported) as caught:
                await asked(adapter, ChatOptions(tools=TOOLS), is_streamed)
        assert [exchange.path for exchange in server.exchanges] == ["/api/show"]
    assert [error.path for error in caught.value.errors] == ["tools"]
    assert "ollama show" in str(caught.value.hint)


async def test_such_a_model_is_asked_where_no_tools_are_offered() -> None:
    async with ollama(ndjson(*answer(text="ok")), show=ollama_show(capabilities=["completion"])) as (_, adapter):
        assert (await adapter.chat(messages(QUESTION), options=ChatOptions(tools=TOOLS, tool_choice="none"))).content


@pytest.mark.parametrize(
    "show", [ollama_show(), ollama_error("no manifest"), Reply([b"404 page not found"], status=404)]
)
async def test_a_model_of_which_nothing_is_known_is_asked(show: Reply) -> None:
    async with ollama(ndjson(*answer(OSLO)), show=show) as (_, adapter):
        assert made(await adapter.chat(messages(QUESTION), options=ChatOptions(tools=TOOLS)))


NO_WAITS = WaitPolicy(RetryPolicy(), Timeouts(first_token_s=0, model_load_s=0, idle_s=0, total_s=10))


@asynccontextmanager
async def silent_until(made_it: asyncio.Event) -> AsyncIterator[tuple[ScriptedServer, OllamaAdapter]]:
    """An Ollama that says nothing while it makes a call: neither before the first text nor after it."""
    call = answer(OSLO, text="I look.")
    async with ollama(ndjson(Wait(made_it), call[0], Wait(made_it), *call[1:])) as (server, adapter):
        yield server, adapter


async def patiently(adapter: OllamaAdapter, options: ChatOptions) -> list[StreamChunk]:
    chunks = stream_with_retries(
        adapter,
        NO_WAITS,
        options,
        lambda _: adapter.stream_chat(messages(QUESTION), options=options),
        lambda failure: failure,
    )
    return [chunk async for chunk in chunks]


async def test_silence_while_a_call_is_made_is_no_failure() -> None:
    # ollama/ollama#14932
    made_it = asyncio.Event()
    async with silent_until(made_it) as (server, adapter):
        reading = asyncio.create_task(patiently(adapter, ChatOptions(tools=TOOLS)))
        await server.exchange(1)
        made_it.set()
        chunks = await reading
    assert [chunk.finish_reason for chunk in chunks][-1] == "tool_calls"


async def test_silence_without_tools_is_one() -> None:
    async with silent_until(asyncio.Event()) as (_, adapter):
        with pytest.raises(ProviderTimeout):
            await patiently(adapter, ChatOptions())


ALIKE = [made_call(OSLO), made_call(ROME)]
NAMED = [made_call(OSLO, call_id="call_1"), made_call(ROME, call_id="call_2")]
NUMBERED = [made_call(OSLO), made_call(ROME, index=1)]


@pytest.mark.parametrize("entries", [ALIKE, NAMED, NUMBERED], ids=["alike", "with ids", "numbered"])
@pytest.mark.parametrize("in_one_line", [True, False])
async def test_calls_with_one_index_stay_apart(entries: list[dict[str, Any]], in_one_line: bool) -> None:
    # BerriAI/litellm#33678
    lines = [calls_line(*entries)] if in_one_line else [calls_line(entry) for entry in entries]
    answer = await answered(*lines, ollama_end("stop"))
    assert made(answer) == [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})]
    assert answer.tool_calls is not None
    assert len({call.call_id for call in answer.tool_calls}) == 2
    # ollama/ollama#7963
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize("given", [None, {}, ""])
async def test_a_call_without_arguments_has_an_empty_object(given: object) -> None:
    # agentgateway/agentgateway#3002
    answer = await answered(calls_line({"function": {"name": "now", "arguments": given}}), ollama_end())
    assert answer.tool_calls is not None
    assert [call.arguments for call in answer.tool_calls] == ["{}"]


@pytest.mark.parametrize("ending", [{"done": True, "done_reason": "stop"}, {"done": True}, {"done": None}])
async def test_a_whole_answer_has_text_and_calls(ending: dict[str, Any]) -> None:
    answer = await answered(
        calls_line(made_call(OSLO), made_call(MadeCall("now")), content="I look.", **ending), whole=True
    )
    assert (answer.content, answer.finish_reason) == ("I look.", "tool_calls")
    assert made(answer) == [("get_weather", {"city": "Oslo"}), ("now", {})]


async def test_a_call_may_stand_beside_text_in_mid_answer() -> None:
    answer = await answered(ollama_line("I "), calls_line(made_call(OSLO), content="look."), ollama_end())
    assert (answer.content, made(answer)) == ("I look.", [("get_weather", {"city": "Oslo"})])


async def test_text_reasoning_and_a_call_of_one_line_come_in_this_order() -> None:
    line = json.loads(calls_line(made_call(OSLO), content="I look."))
    line["message"]["thinking"] = "Where?"
    async with ollama(ndjson(json.dumps(line).encode() + b"\n", ollama_end())) as (_, adapter):
        options = ChatOptions(tools=TOOLS)
        chunks = [chunk async for chunk in adapter.stream_chat(messages(QUESTION), options=options)]
    said = [chunk.reasoning or chunk.content or chunk.arguments for chunk in chunks]
    assert [text for text in said if text] == ["Where?", "I look.", '{"city":"Oslo"}']


async def test_a_call_cut_by_the_limit_is_not_to_be_run() -> None:
    # vllm-project/vllm#58228
    answer = await answered(calls_line(made_call(OSLO)), ollama_end("length"))
    assert (answer.finish_reason, answer.tool_calls) == ("length", None)


@pytest.mark.parametrize(
    "calls", [7, {"function": {}}, [7], [{}], [{"function": "now"}], [{"function": {"name": "", "arguments": {}}}]]
)
async def test_calls_that_nobody_could_run_are_no_answer(calls: object) -> None:
    line = json.loads(calls_line())
    line["message"]["tool_calls"] = calls
    with pytest.raises(ArcherError) as caught:
        await answered(json.dumps(line).encode() + b"\n", ollama_end())
    assert caught.value.kind == "provider_error"


async def asked(adapter: OllamaAdapter, options: ChatOptions, is_streamed: bool) -> None:
    if is_streamed:
        async for _ in adapter.stream_chat(messages(QUESTION), options=options):
            pass
    else:
        await adapter.chat(messages(QUESTION), options=options)


@pytest.mark.parametrize(
    "given", ['{"a":1e400}', '{"b":1,"a":' + "7" * 5000 + "}", '{"a":' + "[" * 500 + "]" * 500 + "}"]
)
async def test_arguments_that_python_cannot_hold_are_sent_as_they_were_said(given: str) -> None:
    call = {"call_id": "a", "name": "now", "arguments": given}
    history = messages(
        QUESTION, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "call_id": "a", "content": "x"}
    )
    async with ollama(ndjson(*answer(text="ok"))) as (server, adapter):
        await adapter.chat(history, options=ChatOptions())
        assert f'"arguments":{given}'.encode() in server.exchanges[-1].body
