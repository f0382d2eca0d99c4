"""Tools by OpenAI's chat completions: what a request says, and the calls in what servers of that API answer."""

import json
from typing import Any

import pytest

from archer_ws.core.exceptions import ProviderError, Unsupported
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.decoding.completion import Unreadable, folded
from archer_ws.llm_gateway.decoding.repeated_arguments import RepeatedArguments
from archer_ws.llm_gateway.openai.decoder import ChatStreamDecoder
from archer_ws.llm_gateway.openai.request import fitting_ids
from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from archer_ws.llm_gateway.tools import NamedTool, Tool
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions
from tests.fakes.openai_api import DONE, adapter_for, chunk, delta, ending, error, event, finish, text_stream
from tests.fakes.scripted_server import scripted_server
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_openai import answer, call_delta, calls_chunk, whole_answer

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool(name="get_weather", description="The weather in a city, now.", parameters=CITY, strict=True)
NOW = Tool(name="now", idempotent=True, needs_approval=False)


def conversation(*messages: dict[str, Any]) -> list[ChatMessage]:
    return [ChatMessage.model_validate(message) for message in messages]


QUESTION = conversation({"role": "user", "content": "How is it in Oslo and Bodø?"})


async def sent(options: ChatOptions, messages: list[ChatMessage] = QUESTION) -> dict[str, Any]:
    """The body of a request."""
    async with scripted_server(text_stream(["ok"])) as server, adapter_for(server) as adapter:
        async for _ in adapter.stream_chat(messages, "gpt-4o", options=options):
            pass
        return dict((await server.exchange()).json())


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
    )
    options = ChatOptions(tools=(WEATHER, NOW), tool_choice="auto", parallel_tool_calls=True)
    assert await sent(options, messages) == {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "How is it in Oslo and Bodø?", "name": "ada"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_12xyz",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
                    },
                    {
                        "id": "call_34abc",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city":"Bodø"}'},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "call_12xyz", "content": "12 °C"},
            {"role": "tool", "tool_call_id": "call_34abc", "content": "Error: no such place"},
            {
                "role": "assistant",
                "content": "And now?",
                "tool_calls": [
                    {"id": "call_56def", "type": "function", "function": {"name": "now", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_56def", "content": "noon"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "get_weather",
                    "description": "The weather in a city, now.",
                    "parameters": CITY,
                    "strict": True,
                },
            },
            {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_nothing_is_said_of_tools_that_the_request_does_not_say() -> None:
    # A choice, or a word on parallel calls, without tools is a 400.
    without = await sent(ChatOptions(tool_choice="none", parallel_tool_calls=False))
    assert set(without) == {"model", "messages", "stream", "stream_options"}
    assert {"tool_choice", "parallel_tool_calls"}.isdisjoint(await sent(ChatOptions(tools=(NOW,))))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("none", "none"),
        ("required", "required"),
        (NamedTool(name="now"), {"type": "function", "function": {"name": "now"}}),
    ],
)
async def test_a_choice_is_said_in_the_apis_form(choice: Any, said: object) -> None:
    assert (await sent(ChatOptions(tools=(NOW,), tool_choice=choice)))["tool_choice"] == said


@pytest.mark.parametrize(
    ("tool", "parameters"),
    [
        (Tool(name="t"), {"type": "object", "properties": {}}),
        (Tool(name="t", strict=True), {"type": "object", "properties": {}, "additionalProperties": False}),
        # "object schema missing properties" is OpenAI's 400 to these.
        (Tool(name="t", parameters={"type": "object"}), {"type": "object", "properties": {}}),
        (Tool(name="t", parameters={}), {"type": "object", "properties": {}}),
        (Tool(name="t", parameters=CITY), CITY),
    ],
)
async def test_a_schema_has_what_servers_insist_on(tool: Tool, parameters: dict[str, Any]) -> None:
    (said,) = (await sent(ChatOptions(tools=(tool,))))["tools"]
    assert said["function"]["parameters"] == parameters


@pytest.mark.parametrize(
    ("url", "call_id", "fits"),
    [
        ("https://api.openai.com/v1", "call_" + "x" * 35, True),
        # vercel/ai#5171
        ("https://api.openai.com/v1", "call_" + "x" * 36, False),
        ("http://localhost:1234/v1", "functions.look:0", True),
        # nearai/ironclaw#1241
        ("https://api.mistral.ai/v1", "D681PevKs", True),
        ("https://api.mistral.ai/v1", "call_D681", False),
        ("https://api.mistral.ai/v1", "D681PevKsé", False),
        ("https://notmistral.ai/v1", "call_D681", True),
    ],
)
def test_each_host_has_its_own_idea_of_an_id(url: str, call_id: str, fits: bool) -> None:
    assert fitting_ids(url)(call_id) is fits


async def test_an_id_that_is_too_long_is_a_shorter_one_in_call_and_result() -> None:
    foreign, fitting = "toolu_" + "x" * 40, "call_1"
    messages = conversation(
        {"role": "user", "content": "q"},
        {
            "role": "assistant",
            "tool_calls": [{"call_id": foreign, "name": "now"}, {"call_id": fitting, "name": "now"}],
        },
        {"role": "tool", "call_id": foreign, "content": "a"},
        {"role": "tool", "call_id": fitting, "content": "b"},
    )
    _, calling, *results = (await sent(ChatOptions(), messages))["messages"]
    ids = [call["id"] for call in calling["tool_calls"]]
    assert (len(ids[0]), ids[1]) == (9, fitting)
    assert [each["tool_call_id"] for each in results] == ids


def hosted() -> OpenAIAdapter:
    return OpenAIAdapter(
        api_key="sk-test",
        base_url=None,
        default_model="gpt-4o",
        timeouts=Timeouts(),
        concurrency=1,
        catalog=load_catalog(),
    )


def test_a_model_that_refuses_tools_here_is_not_asked_with_them() -> None:
    with pytest.raises(Unsupported) as refused:
        hosted().stream_chat(QUESTION, "chatgpt-4o-latest", options=ChatOptions(tools=(NOW,)))
    assert [each.path for each in refused.value.errors or ()] == ["tools"]
    named = (refused.value.hint or "").split("Choose a model that does, such as ")[1].split(";")[0]
    assert load_catalog().facts("openai", named).tools


def test_without_a_call_to_make_it_is_asked_without_them() -> None:
    options = ChatOptions(tools=(NOW,), tool_choice="none")
    assert "tools" not in hosted()._body(QUESTION, "chatgpt-4o-latest", None, None, options)
    assert "tools" in hosted()._body(QUESTION, "gpt-5.2", None, None, options)


async def test_what_another_server_s_model_can_is_its_own_to_say() -> None:
    async with scripted_server(text_stream(["ok"])) as server, adapter_for(server) as adapter:
        await adapter.chat(QUESTION, "gpt-5.4", options=ChatOptions(tools=(NOW,)))
        assert "tools" in (await server.exchange()).json()
        names = json.dumps({"data": [{"id": "gpt-4o"}]}).encode()
        assert [model.capabilities for model in adapter._models(names)] == [None]


def test_the_list_says_which_models_take_tools() -> None:
    listed = ("gpt-4o-2024-08-06", "gpt-5.4", "chatgpt-4o-latest", "gpt-5-new")
    names = json.dumps({"data": [{"id": name} for name in listed]}).encode()
    known = [model.capabilities for model in hosted()._models(names)]
    sees = ["vision", "files"]
    assert known == [["tools", "json_schema", *sees], ["tools", "json_schema", "reasoning", *sees], sees, None]


@pytest.mark.parametrize("name", ["parallel_tool_calls", "tool_choice", "tools"])
async def test_what_the_client_asked_for_is_never_left_out(name: str) -> None:
    refusal = error(400, f"Unsupported parameter: '{name}' is not supported with this model.")
    body = json.loads(b"".join(step for step in refusal.steps if isinstance(step, bytes)))
    body["error"]["param"] = name
    refusal.steps = [json.dumps(body).encode()]
    options = ChatOptions(tools=(NOW,), tool_choice="auto", parallel_tool_calls=False)
    async with scripted_server(refusal, text_stream(["ok"])) as server, adapter_for(server) as adapter:
        with pytest.raises(ProviderError) as refused:
            await adapter.chat(QUESTION, options=options)
        assert len(server.exchanges) == 1
    assert [each.path for each in refused.value.errors or ()] == [name]


def decoded(*events: bytes, keeps_native: bool = False) -> tuple[list[tuple[str, str]], str | None, str]:
    """The calls to run (name and arguments), the finish reason, and the text; however the bytes are cut."""
    data = b"".join(events)
    outcomes = []
    cuts = [[data[start : start + size] for start in range(0, len(data), size)] for size in (len(data), 1, 50)]
    for reads in (events, *cuts):
        decoder = ChatStreamDecoder(keeps_native=keeps_native)
        chunks = [each for read in reads for each in decoder.feed(read)]
        chunks += decoder.finish()
        if decoder.fault is not None:
            raise decoder.fault
        found = folded(chunks)
        calls = [(call.name, call.arguments) for call in found.tool_calls or ()]
        outcomes.append((calls, found.finish_reason, found.content))
    assert outcomes == [outcomes[0]] * 4
    return outcomes[0]


ONE = call_delta(0, '{"x":1}', call_id="a", name="one")
TWO = call_delta(1, '{"y":2}', call_id="b", name="two")
BOTH = ([("one", '{"x":1}'), ("two", '{"y":2}')], "tool_calls", "")


def without(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in names}


@pytest.mark.parametrize(
    "events",
    [
        # SamSaffron/term-llm#314
        pytest.param([calls_chunk(without(ONE, "index")), calls_chunk(without(TWO, "index"))], id="without an index"),
        # BerriAI/litellm#39796
        pytest.param([calls_chunk(ONE, TWO)], id="in one delta"),
        pytest.param([calls_chunk(without(ONE, "index"), without(TWO, "index"))], id="in one delta, without an index"),
        pytest.param(
            [calls_chunk(without(ONE, "index", "id"), without(TWO, "index", "id"))],
            id="in one delta, with neither index nor id",
        ),
        # BerriAI/litellm#33678
        pytest.param([calls_chunk(ONE), calls_chunk({**TWO, "index": 0})], id="all with index 0"),
        pytest.param(
            [calls_chunk(without(ONE, "id"), {**without(TWO, "id"), "index": 0})],
            id="in one delta, all with index 0, without ids",
        ),
        pytest.param([calls_chunk({**ONE, "index": "0"}), calls_chunk({**TWO, "index": "1"})], id="counted in text"),
        # BerriAI/litellm#20711
        pytest.param(
            [
                calls_chunk(call_delta(0, call_id="a", name="one"), call_delta(1, call_id="b", name="two")),
                calls_chunk(call_delta(0, '{"x"')),
                calls_chunk(call_delta(1, '{"y":2}'), call_delta(0, ":1}")),
            ],
            id="mixed, later ones by index alone",
        ),
        pytest.param(
            [
                calls_chunk(call_delta(0, '{"x"', call_id="a", name="one")),
                calls_chunk(call_delta(0, ":1}", call_id="a", name="one")),
                calls_chunk(TWO),
            ],
            id="id and name repeated",
        ),
        pytest.param(
            [
                calls_chunk(call_delta(0, call_id="a", name="one")),
                calls_chunk(call_delta(0, '{"x"'), call_delta(0, ":1}")),
                calls_chunk(TWO),
            ],
            id="two pieces of one in a delta",
        ),
        pytest.param(
            [calls_chunk({**ONE, "function": {"name": "one", "arguments": {"x": 1}}}), calls_chunk(TWO)],
            id="arguments as an object",
        ),
        pytest.param(
            [calls_chunk({"id": "a", "name": "one", "arguments": '{"x":1}'}, TWO)], id="one of them not nested"
        ),
        pytest.param(
            [calls_chunk(ONE), calls_chunk({"index": 7, "function": {}}), calls_chunk(TWO)], id="an empty one"
        ),
        pytest.param(
            [
                chunk({"content": [{"type": "tool_use", "id": "a", "name": "one", "input": {"x": 1}}]}),
                chunk({"content": [{"type": "function_call", "call_id": "b", "name": "two", "arguments": '{"y":2}'}]}),
            ],
            id="among the parts of the content",
        ),
        pytest.param(
            [event({"choices": [{"index": 0, "message": {"role": "assistant", "tool_calls": [ONE, TWO]}}]})],
            id="in a message",
        ),
        pytest.param(
            [
                calls_chunk(ONE, TWO),
                event({"choices": [{"index": 0, "message": {"content": None, "tool_calls": [ONE, TWO]}}]}),
            ],
            id="the whole once more",
        ),
        pytest.param(
            [chunk({"tool_calls": [ONE]}, index=3), chunk({"tool_calls": [TWO]}, index=3)],
            id="in a choice of any number",
        ),
    ],
)
def test_two_calls_stay_two_however_a_server_counts_them(events: list[bytes]) -> None:
    assert decoded(*events, *ending("tool_calls")) == BOTH


BEGUN = calls_chunk(call_delta(0, call_id="a", name="one"))
FIRST, REST = calls_chunk(call_delta(0, '{"x"')), calls_chunk(call_delta(0, ":1}"))
WHOLE = calls_chunk(call_delta(0, '{"x":1}'))


@pytest.mark.parametrize(
    "events",
    [
        # elizaOS/eliza#16973, BerriAI/litellm#20480
        pytest.param([BEGUN, FIRST, REST, WHOLE], id="whole behind its pieces"),
        pytest.param([BEGUN, FIRST, REST, calls_chunk(ONE)], id="whole behind its pieces, with id and name"),
        pytest.param(
            [BEGUN, *(calls_chunk(call_delta(0, piece)) for piece in '{"x":1}'), WHOLE],
            id="whole behind many pieces of its form",
        ),
        # lidge-jun/opencodex#361, Soju06/codex-lb#284
        pytest.param([BEGUN, WHOLE, WHOLE, WHOLE], id="whole, three times"),
        pytest.param([calls_chunk(ONE), WHOLE], id="whole, and without id and name"),
        # vLLM, where it does not find what it sent in what it parsed.
        pytest.param(
            [BEGUN, FIRST, REST, chunk({"tool_calls": [call_delta(0, '{"x": 1}')]}, finish_reason="tool_calls")],
            id="in another spelling, with the reason",
        ),
        # NousResearch/hermes-agent#35592: DeepSeek at Baidu
        pytest.param(
            [BEGUN, *(calls_chunk(call_delta(0, '{"x":1}'[:end])) for end in (1, 2, 4, 5, 6, 7, 7))],
            id="all so far with each piece",
        ),
        pytest.param(
            [calls_chunk({**ONE, "function": {"name": "one", "arguments": '{"x":1}'[:end]}}) for end in (2, 5, 6, 7)],
            id="all so far with each piece, with id and name",
        ),
    ],
)
def test_arguments_that_a_server_sends_again_are_said_once(events: list[bytes]) -> None:
    assert decoded(*events, calls_chunk(TWO), *ending("tool_calls"), keeps_native=True) == BOTH


@pytest.mark.parametrize(
    "pieces",
    [
        ['{"x":', '{"x":', "1}}"],
        ['{"x":', '{"x":1}', "}"],
        ['{"x":[', '{"y":1}', ",", '{"y":1}', "]}"],
        ['{"x":[{"y":1}', ", ", '{"y":1}', "]}"],
        ['{"x":"', '{\\"x\\":1}', '"}'],
    ],
    ids=str,
)
def test_objects_within_a_calls_arguments_that_are_alike_are_all_said(pieces: list[str]) -> None:
    events = [BEGUN, *(calls_chunk(call_delta(0, piece)) for piece in pieces)]
    assert decoded(*events, *ending("tool_calls"), keeps_native=True) == ([("one", "".join(pieces))], "tool_calls", "")


def test_a_call_that_begins_objects_again_and_again_is_not_read_again_for_each() -> None:
    repeated, looks = RepeatedArguments(), 0

    def said() -> str:
        nonlocal looks
        looks += 1
        return "[" * 400_000

    assert {repeated.new_in("a", "{", said) for _ in range(10_000)} == {"{"}
    assert looks < 20


def test_the_calls_of_another_answer_are_not_mixed_in() -> None:
    events = [calls_chunk(ONE), chunk({"tool_calls": [TWO]}, index=1), calls_chunk(call_delta(0, " "))]
    assert decoded(*events, *ending("tool_calls")) == ([("one", '{"x":1} ')], "tool_calls", "")


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize("text", ["lo", "", None])
def test_an_entry_of_a_call_without_anything_in_it_begins_none(text: str | None, nothing: str | None) -> None:
    entry = {"index": 0, "id": nothing, "type": "function", "function": {"name": nothing, "arguments": nothing}}
    said = [chunk({"content": "Hel"}), chunk({"content": text, "tool_calls": [entry]})]
    assert decoded(*said, *ending("stop")) == ([], "stop", f"Hel{text or ''}")
    # Behind a call it belongs to this one.
    assert decoded(calls_chunk(ONE), *said, *ending("tool_calls")) == (BOTH[0][:1], "tool_calls", f"Hel{text or ''}")


def test_the_older_function_call_is_one_also_beside_reasoning_or_text() -> None:
    call = {"function_call": {"name": "one", "arguments": '{"x":1}'}}
    for beside, text in (
        ({"reasoning_content": "Hm."}, ""),
        ({"reasoning": "Hm."}, ""),
        ({"content": "I look."}, "I look."),
    ):
        assert decoded(chunk({**beside, **call}), *ending("function_call")) == (BOTH[0][:1], "tool_calls", text)


def test_the_older_function_call_is_a_call() -> None:
    events = [
        chunk({"content": None, "function_call": {"name": "one", "arguments": ""}}),
        chunk({"function_call": {"arguments": '{"x"'}}),
        chunk({"function_call": {"arguments": ":1}"}}),
    ]
    assert decoded(*events, *ending("function_call")) == ([("one", '{"x":1}')], "tool_calls", "")


@pytest.mark.parametrize("name", ["tool_calls", "function_call"])
def test_text_and_a_call_in_one_delta_are_both_heard(name: str) -> None:
    call = [ONE] if name == "tool_calls" else ONE["function"]
    assert decoded(chunk({"content": "I look.", name: call}), *ending()) == (
        [("one", '{"x":1}')],
        "tool_calls",
        "I look.",
    )


@pytest.mark.parametrize(
    "end",
    [
        # BerriAI/litellm#35663, maximhq/bifrost#6123: so does OpenAI with a named tool.
        pytest.param([*ending("stop")], id="stop"),
        pytest.param([DONE], id="no reason but the end marker"),
        pytest.param([finish("tool_calls")], id="no end marker"),
    ],
)
def test_calls_are_the_reason_however_the_end_is_told(end: list[bytes]) -> None:
    assert decoded(calls_chunk(ONE), calls_chunk(TWO), *end) == BOTH


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_reason_that_cuts_or_filters_is_not_replaced(reason: str) -> None:
    # vllm-project/vllm#58228, ahwurm/localharness#77: what came may parse by chance.
    assert decoded(calls_chunk(ONE), *ending(reason)) == ([], reason, "")


def test_what_was_cut_behind_a_tools_name_has_no_arguments() -> None:
    decoder = ChatStreamDecoder()
    events = [calls_chunk(call_delta(0, call_id="a", name="one")), *ending("length")]
    chunks = decoder.feed(b"".join(events))
    assert [chunk.arguments for chunk in chunks] == [None]
    assert chunks[0].finish_reason == "length"


def test_what_just_ends_amid_a_call_makes_none() -> None:
    decoder = ChatStreamDecoder()
    chunks = [*decoder.feed(calls_chunk(ONE)), *decoder.finish()]
    assert not decoder.is_whole
    assert folded(chunks).tool_calls is None


def test_calls_that_are_announced_and_not_made_are_just_an_end() -> None:
    assert decoded(delta("Hello"), *ending("tool_calls")) == ([], "stop", "Hello")


def test_a_call_of_a_kind_that_nobody_offered_is_no_answer() -> None:
    custom = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    with pytest.raises(Unreadable, match="custom"):
        decoded(calls_chunk(custom), *ending("tool_calls"))


def test_a_call_without_a_name_is_no_answer() -> None:
    with pytest.raises(Unreadable, match="name"):
        decoded(calls_chunk(call_delta(0, "{}", call_id="a")), *ending("tool_calls"))


async def test_calls_of_an_answer_that_came_whole_are_read() -> None:
    reply = whole_answer(MadeCall("one", '{"x":1}'), MadeCall("now"), text="I look.", reason="stop")
    async with scripted_server(reply) as server, adapter_for(server) as adapter:
        found = await adapter.chat(QUESTION, options=ChatOptions(tools=(NOW,)))
    assert [(call.name, call.arguments) for call in found.tool_calls or ()] == [("one", '{"x":1}'), ("now", "{}")]
    assert (found.content, found.finish_reason) == ("I look.", "tool_calls")


def test_arguments_of_one_read_are_one_piece() -> None:
    decoder = ChatStreamDecoder()
    chunks = decoder.feed(b"".join(answer(MadeCall("one", '{"text": "' + "x" * 500 + '"}'), text="I look.")))
    assert [bool(each.content) for each in chunks] == [True, False]
    assert chunks[1].finish_reason == "tool_calls"
    assert len(chunks[1].arguments or "") == 512
