"""Tools with the local model: what its template knows, calls that are forced by a grammar, and calls told in words."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from archer_ws.core.exceptions import InvalidParams, Unsupported
from archer_ws.llm_gateway.asking import later_step
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.decoding.completion import folded
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.llama_adapter import LlamaAdapter
from archer_ws.llm_gateway.local.forced_calls import ForcedCall, as_call, forced_format
from archer_ws.llm_gateway.local.process import Endpoint
from archer_ws.llm_gateway.tools import NamedTool, Tool
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ChatResponse, Chunk, StreamChunk
from tests.fakes import tools_openai
from tests.fakes.openai_api import delta, ending, stream, text_stream
from tests.fakes.scripted_server import Reply, ScriptedServer, Wait, scripted_server
from tests.fakes.tool_dialects import MadeCall

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool(name="get_weather", description="The weather in a city.", parameters=CITY)
NOW = Tool(name="now")
WEATHER_ALONE = ChatOptions(tools=(WEATHER, NOW), tool_choice=NamedTool(name="get_weather"))
ANY_CALL = ChatOptions(tools=(WEATHER, NOW), tool_choice="required")


def conversation(*messages: dict[str, Any]) -> list[ChatMessage]:
    return [ChatMessage.model_validate(message) for message in messages]


QUESTION = conversation({"role": "user", "content": "How is it in Oslo?"})
LOOP = conversation(
    {"role": "user", "content": "How is it?"},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [
            {"call_id": "a", "name": "get_weather", "arguments": '{"city": "Oslo"}'},
            {"call_id": "b", "name": "now"},
        ],
    },
    {"role": "tool", "call_id": "b", "content": "no clock", "status": "error"},
    {"role": "tool", "call_id": "a", "content": "cold"},
)


@asynccontextmanager
async def child(*replies: Reply, knows_tools: bool) -> AsyncIterator[tuple[ScriptedServer, LlamaAdapter]]:
    """What a child of ours says, and what talks to it."""
    async with scripted_server(*replies) as server:
        adapter = LlamaAdapter(
            Endpoint(server.url, "key", 4096, knows_tools=knows_tools),
            model="m",
            sampling={},
            timeouts=Timeouts(),
            concurrency=1,
            carrier="own",
            catalog=load_catalog(),
            provider_name="local",
        )
        yield server, adapter
        await adapter.aclose()


async def body_of(messages: Sequence[ChatMessage], options: ChatOptions, *, knows_tools: bool) -> dict[str, Any]:
    """What a child is asked."""
    async with child(text_stream(["ok"]), knows_tools=knows_tools) as (server, adapter):
        async for _ in adapter.stream_chat(messages, options=options):
            pass
        return dict((await server.exchange()).json())


async def answer_to(options: ChatOptions, *pieces: str, reason: str = "stop") -> tuple[ChatResponse, list[StreamChunk]]:
    """What comes of an answer, asked for whole and as a stream."""
    reply = stream(*map(delta, pieces), *ending(reason))
    async with child(reply, reply, knows_tools=False) as (_, adapter):
        whole = await adapter.chat(QUESTION, options=options)
        chunks = [chunk async for chunk in adapter.stream_chat(QUESTION, options=options)]
    answer = folded(chunks)
    assert (whole.content, whole.finish_reason) == (answer.content, answer.finish_reason)
    return whole, chunks


async def test_a_forced_call_is_never_pushed_as_the_text_that_it_comes_as() -> None:
    pushed: list[Chunk] = []
    go_on = asyncio.Event()
    reply = stream(delta('{"city": '), Wait(go_on), delta('"Oslo"}'), *ending())
    async with child(reply, knows_tools=False) as (_, adapter):
        chunks: list[StreamChunk] = []
        async for chunk in adapter.stream_chat(QUESTION, options=replace(WEATHER_ALONE, on_chunk=pushed.append)):
            chunks.append(chunk)
            if chunk.arguments:
                go_on.set()
    assert "".join(chunk.arguments or "" for chunk in chunks) == '{"city": "Oslo"}'
    assert not any(chunk.content for chunk in chunks)
    assert pushed == []


BACKWARDS: list[tuple[dict[str, Any], str]] = [
    ({"type": "string", "minLength": 5, "maxLength": 2}, "maxLength"),
    ({"type": "array", "items": {}, "minItems": 3.0, "maxItems": 1}, "maxItems"),
    ({"anyOf": [{"type": "null"}, {"minLength": 1, "maxLength": 0}]}, "anyOf.1.maxLength"),
    ({"type": "integer", "minimum": 5, "maximum": 3}, "maximum"),
    ({"type": "string", "pattern": "^(a{1,2}b){5,2}$"}, "pattern"),
]


@pytest.mark.parametrize(("schema", "place"), BACKWARDS)
@pytest.mark.parametrize("knows_tools", [False, True])
async def test_a_schema_whose_limits_are_reversed_never_reaches_the_child(
    schema: dict[str, Any], place: str, knows_tools: bool
) -> None:
    """llama.cpp would add rules to its grammar until the machine has no memory left, even if nobody waits any more."""
    odd = Tool(name="odd", parameters={"type": "object", "properties": {"a": schema}})
    calling = ChatOptions(tools=(NOW, odd), tool_choice="auto" if knows_tools else "required")
    asked = {f"tools.1.parameters.properties.a.{place}": calling}
    if place != "pattern":  # A format's patterns are checked before.
        format_ = {"type": "json_schema", "json_schema": {"name": "odd", "schema": schema}}
        options = ChatOptions(response_format=ResponseFormat.model_validate(format_))
        asked[f"response_format.json_schema.schema.{place}"] = options
    async with child(knows_tools=knows_tools) as (server, adapter):
        for path, options in asked.items():
            with pytest.raises(InvalidParams) as caught:
                await anext(adapter.stream_chat(QUESTION, options=options))
            assert [each.path for each in caught.value.errors] == [path]
        assert server.exchanges == []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 2, "maxLength": 2, "pattern": r"^\{5,2\}[a-z]{2,3}a{7,}$"},
        {"type": "object", "properties": {"minLength": {"type": "integer"}, "maxLength": {"type": "integer"}}},
    ],
)
async def test_a_schema_whose_limits_are_in_order_is_sent(schema: dict[str, Any]) -> None:
    tool = Tool(name="fine", parameters={"type": "object", "properties": {"a": schema}})
    body = await body_of(QUESTION, ChatOptions(tools=(tool,), tool_choice="required"), knows_tools=False)
    assert body["response_format"]["json_schema"]["schema"]["properties"] == {"a": schema}


@pytest.mark.parametrize("choice", [None, "auto"])
async def test_a_model_whose_template_knows_no_tools_is_not_asked_with_them(choice: Any) -> None:
    # Measured with llama.cpp: the prompt is the same, the answer plain text, the status 200.
    async with child(knows_tools=False) as (server, adapter):
        with pytest.raises(Unsupported) as refused:
            await adapter.chat(QUESTION, options=ChatOptions(tools=(WEATHER,), tool_choice=choice))
        assert not server.exchanges
    assert [error.path for error in refused.value.errors or ()] == ["tools"]
    assert "hf:" in (refused.value.hint or "")


async def test_no_tools_are_sent_to_it_where_none_may_be_called() -> None:
    body = await body_of(QUESTION, ChatOptions(tools=(WEATHER,), tool_choice="none"), knows_tools=False)
    assert not {"tools", "tool_choice", "response_format"} & body.keys()
    assert body["messages"] == [{"role": "user", "content": "How is it in Oslo?"}]


async def test_a_model_whose_template_knows_tools_gets_them_as_openai_has_them() -> None:
    body = await body_of(LOOP, ChatOptions(tools=(WEATHER,), tool_choice="auto"), knows_tools=True)
    assert body["tools"][0]["function"]["name"] == "get_weather"
    assert body["tool_choice"] == "auto"
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool", "tool"]
    assert "response_format" not in body


@pytest.mark.parametrize("knows_tools", [True, False])
async def test_a_forced_call_is_asked_for_as_an_answer_by_the_tools_schema(knows_tools: bool) -> None:
    # ggml-org/llama.cpp#27217, #26535: the server ignores `required` and named choices.
    body = await body_of(QUESTION, WEATHER_ALONE, knows_tools=knows_tools)
    assert body["response_format"] == {"type": "json_schema", "json_schema": {"name": "get_weather", "schema": CITY}}
    assert "tool_choice" not in body
    if knows_tools:
        assert [tool["function"]["name"] for tool in body["tools"]] == ["get_weather"]
        assert body["messages"][0]["role"] == "user"
    else:
        assert "tools" not in body
        assert body["messages"][0]["role"] == "system"
        assert "The weather in a city." in body["messages"][0]["content"]
        assert "now" not in body["messages"][0]["content"]


@pytest.mark.parametrize(
    ("options", "path"),
    [
        (replace(WEATHER_ALONE, tools=(NOW, WEATHER)), "tools.1.parameters"),
        (ANY_CALL, "tools"),
    ],
    ids=["one tool", "one of several"],
)
async def test_parameters_of_which_no_grammar_can_be_made_are_refused_as_those_of_the_forced_tool(
    options: ChatOptions, path: str
) -> None:
    # llama.cpp's, for a `minLength` of 20,000.
    said = "Failed to initialize samplers: failed to parse grammar"
    refusal = Reply.of_json({"error": {"code": 400, "message": said, "type": "invalid_request_error"}}, status=400)
    async with child(refusal, knows_tools=False) as (_, adapter):
        with pytest.raises(InvalidParams, match=f"^{path}: .*failed to parse grammar") as refused:
            await adapter.chat(QUESTION, options=options)
    assert [error.path for error in refused.value.errors] == [path]


async def test_of_several_tools_one_is_asked_for_with_its_name_first() -> None:
    body = await body_of(QUESTION, ANY_CALL, knows_tools=False)
    schema = body["response_format"]["json_schema"]["schema"]
    assert [list(each["properties"]) for each in schema["anyOf"]] == [["name", "arguments"]] * 2
    assert [each["properties"]["name"] for each in schema["anyOf"]] == [{"const": "get_weather"}, {"const": "now"}]
    assert schema["$defs"]["get_weather"] == CITY
    assert schema["$defs"]["now"] == {"type": "object", "properties": {}}


def test_references_within_a_tools_schema_still_find_what_they_name() -> None:
    tree = {
        "type": "object",
        "properties": {"left": {"$ref": "#"}, "size": {"$ref": "#/$defs/size"}},
        "$defs": {"size": {"type": "integer"}},
    }
    moved = forced_format({"grow": tree, "now": {}})["json_schema"]["schema"]["$defs"]["grow"]
    assert moved["properties"] == {"left": {"$ref": "#/$defs/grow"}, "size": {"$ref": "#/$defs/grow/$defs/size"}}
    assert forced_format({"grow": tree})["json_schema"]["schema"] == tree


async def test_the_answers_text_is_the_arguments_of_the_forced_call() -> None:
    whole, chunks = await answer_to(WEATHER_ALONE, '{\n  "ci', 'ty": "Os', 'lo"}', "\n")
    assert (whole.content, whole.finish_reason) == ("", "tool_calls")
    assert [(call.name, call.arguments) for call in whole.tool_calls or ()] == [("get_weather", '{\n  "city": "Oslo"}')]
    assert not any(chunk.content for chunk in chunks)


async def test_of_several_tools_the_answer_says_which_and_the_rest_are_its_arguments() -> None:
    text = '{ "name": "get_weather",\n"arguments": {"city": "a } {\\" b"} }'
    whole, chunks = await answer_to(ANY_CALL, *text)
    assert [(call.name, call.arguments) for call in whole.tool_calls or ()] == [
        ("get_weather", '{"city": "a } {\\" b"}')
    ]
    assert {chunk.name for chunk in chunks if chunk.arguments} == {"get_weather"}


async def test_the_arguments_come_as_the_text_does() -> None:
    async def said() -> AsyncIterator[StreamChunk]:
        for text in ("", '{"name": "now", "argu', 'ments": {"a', '": 1', "}", "}", "\n"):
            yield StreamChunk(content=text)
        yield StreamChunk(content="", finish_reason="stop")

    chunks = [chunk async for chunk in as_call(said(), (WEATHER, NOW))]
    assert [chunk.arguments for chunk in chunks] == [None, None, '{"a', '": 1', "}", None, None, None]
    assert len({chunk.call_id for chunk in chunks if chunk.arguments}) == 1
    assert chunks[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("pieces", "reason", "told"),
    [
        (['{"city": "Os'], "length", "length"),
        # It may be whole by chance (ahwurm/localharness#77).
        (['{"city": "Oslo"}'], "length", "length"),
        # A text of the request's `stop` came, or the grammar failed (ggml-org/llama.cpp#19051).
        (['{"city": "Os'], "stop", "stop"),
        (["I do not know."], "stop", "stop"),
    ],
)
async def test_arguments_without_their_end_are_no_call(pieces: list[str], reason: str, told: str) -> None:
    whole, chunks = await answer_to(WEATHER_ALONE, *pieces, reason=reason)
    assert (whole.tool_calls, whole.finish_reason, whole.content) == (None, told, "")
    assert folded(chunks).finish_reason == told


async def test_calls_and_results_are_told_in_words_to_a_template_that_has_no_place_for_them() -> None:
    body = await body_of(LOOP, ChatOptions(), knows_tools=False)
    assert body["messages"] == [
        {"role": "user", "content": "How is it?"},
        {"role": "assistant", "content": 'I look.\nCall of get_weather: {"city": "Oslo"}\nCall of now: {}'},
        {"role": "user", "content": "Result of get_weather: cold\n\nResult of now: Error: no clock"},
    ]


async def test_a_step_behind_a_forced_call_goes_without_tools_to_a_template_that_knows_none() -> None:
    """Protocol section 23, rule 5: the call was made, and its result stands in the messages as plain text."""
    for forced in (ANY_CALL, WEATHER_ALONE):
        body = await body_of(LOOP, later_step(forced), knows_tools=False)
        assert body.keys().isdisjoint({"tools", "tool_choice", "response_format"})
        assert "cold" in json.dumps(body["messages"])
        assert {message["role"] for message in body["messages"]} == {"user", "assistant"}
    asked = await body_of(LOOP, later_step(ANY_CALL), knows_tools=True)
    assert ("tools" in asked, "tool_choice" in asked, "response_format" in asked) == (True, False, False)


async def test_what_a_forced_call_needs_to_know_joins_the_system_message_there_is() -> None:
    messages = conversation({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Go."})
    first, second = (await body_of(messages, WEATHER_ALONE, knows_tools=False))["messages"]
    assert first["content"].startswith("Be brief.\n\n")
    assert second == {"role": "user", "content": "Go."}


async def test_its_own_calls_are_read_where_the_template_knows_tools() -> None:
    reply = stream(*tools_openai.answer(MadeCall("now", "{}")))
    async with child(reply, knows_tools=True) as (_, adapter):
        whole = await adapter.chat(QUESTION, options=ChatOptions(tools=(NOW,)))
    assert [(call.name, call.arguments) for call in whole.tool_calls or ()] == [("now", "{}")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_however_it_is_cut_the_arguments_are_the_object_and_nothing_else(
    arguments: dict[str, Any], cuts: list[int], is_named: bool
) -> None:
    text = json.dumps(arguments, ensure_ascii=False)
    said = f"{text} \n" if is_named else f'{{"name" : "now", "arguments":  {text} }} '
    places = sorted({min(cut, len(said)) for cut in cuts} | {0, len(said)})
    call = ForcedCall("now" if is_named else None)
    told = "".join(call.feed(said[start:end]) for start, end in itertools.pairwise(places))
    assert (told, call.is_whole, call.name) == (text, True, "now")


BY_SCHEMA = ResponseFormat.model_validate({"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}})


@pytest.mark.parametrize("knows_tools", [True, False])
async def test_a_format_goes_to_llama_cpp_as_its_grammar_with_no_tools_beside_it(knows_tools: bool) -> None:
    options = ChatOptions(tools=(NOW,), tool_choice="none", response_format=BY_SCHEMA)
    async with child(text_stream(["{}"]), knows_tools=knows_tools) as (server, adapter):
        await adapter.chat(QUESTION, options=options)
        body = (await server.exchange()).json()
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    assert body["response_format"] == form
    assert not {"tools", "tool_choice"} & body.keys()


@pytest.mark.parametrize("choice", [None, "required"])
async def test_a_format_beside_tools_is_refused_since_its_grammar_would_win(choice: Any) -> None:
    # Measured: the schema wins even over `required`.
    options = ChatOptions(tools=(NOW,), tool_choice=choice, response_format=BY_SCHEMA)
    async with child(knows_tools=True) as (server, adapter):
        with pytest.raises(Unsupported) as caught:
            await adapter.chat(QUESTION, options=options)
        assert not server.exchanges
    assert [each.path for each in caught.value.errors] == ["response_format"]
