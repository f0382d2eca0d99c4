"""The local adapter with the embedded model, generating in its real child process."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import httpx
import jsonschema_rs
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from archer_ws.core.exceptions import ContextTooLong, ModelNotFound, ProviderUnavailable, Unsupported
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.local.process import Endpoint, LocalProcess
from archer_ws.llm_gateway.local.watch import LOOKS, HangWatch
from archer_ws.llm_gateway.local_adapter import LocalAdapter
from archer_ws.llm_gateway.tools import NamedTool, Tool
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, Chunk, MessageRole, StreamChunk

#: One loop for all: what runs long is loaded once.
pytestmark = pytest.mark.asyncio(loop_scope="module")

#: A small model on a busy machine.
WAIT_S = 60.0
MODEL = "SmolLM2-135M-Instruct"
#: With temperature 0 the model goes on for more than 400 tokens.
STORY = "Write a very long story about a dog."


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.USER, content=text)]


def new_adapter() -> LocalAdapter:
    return LocalAdapter(model_path=None, parallel=4, timeouts=Timeouts(), catalog=load_catalog(), concurrency=8)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local() -> AsyncIterator[LocalAdapter]:
    """One running adapter for all; a test that kills its child leaves the restart to the next."""
    adapter = new_adapter()
    async with asyncio.timeout(WAIT_S):
        await adapter.prepare()
    yield adapter
    await adapter.aclose()


def serving(adapter: LocalAdapter) -> tuple[LocalProcess, Endpoint]:
    running = adapter._supervisor.serving
    assert running is not None
    return running


async def busy_slots(endpoint: Endpoint) -> int:
    """How many requests the child is working on."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{endpoint.url}/slots", headers={"Authorization": f"Bearer {endpoint.api_key}"})
    return sum(slot["is_processing"] for slot in answer.json())


async def become(busy: int, endpoint: Endpoint) -> None:
    async with asyncio.timeout(WAIT_S):
        while await busy_slots(endpoint) != busy:
            pass


async def exhaust(stream: AsyncIterator[StreamChunk]) -> None:
    async for _ in stream:
        pass


async def text_of(adapter: LocalAdapter, max_tokens: int = 8) -> str:
    async with asyncio.timeout(WAIT_S):
        return (await adapter.chat(user("Say hello."), None, 0.0, max_tokens)).content


async def test_a_chat_is_answered_with_text_usage_and_the_models_own_name(local: LocalAdapter) -> None:
    async with asyncio.timeout(WAIT_S):
        answer = await local.chat(user("Say hello."), None, 0.0, 200)
    assert answer.content.strip()
    assert (answer.provider, answer.model, answer.finish_reason) == ("local", MODEL, "stop")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0


async def test_conversations_with_the_same_instructions_do_not_forget_each_other(local: LocalAdapter) -> None:
    instructions = ChatMessage(role=MessageRole.SYSTEM, content="Answer in a word. " * 10)

    async def cached(text: str) -> tuple[int, int]:
        answer = await local.chat([instructions, *user(text)], None, 0.0, 1)
        assert answer.usage is not None
        return answer.usage.cached_tokens or 0, answer.usage.prompt_tokens

    async with asyncio.timeout(WAIT_S):
        for text in ("north " * 100, "south " * 100):
            await cached(text)
        for text in ("north " * 100, "south " * 100):
            known, whole = await cached(text)
            assert known == whole - 1


async def test_a_stream_comes_in_pieces_and_says_the_same(local: LocalAdapter) -> None:
    async with asyncio.timeout(WAIT_S):
        whole = await local.chat(user("Name three colours."), None, 0.0, 24)
        chunks = [chunk async for chunk in local.stream_chat(user("Name three colours."), None, 0.0, 24)]
    assert chunks[0] == StreamChunk(content="")
    assert sum(1 for chunk in chunks if chunk.content) > 3
    assert "".join(chunk.content for chunk in chunks) == whole.content
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["length"]
    usage = [chunk.usage for chunk in chunks if chunk.usage][-1]
    assert whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens == 24


async def test_what_is_pushed_is_said_in_the_same_order_and_is_a_sign_of_life(local: LocalAdapter) -> None:
    came: list[Chunk] = []
    pushed = 0

    def take(chunk: Chunk) -> None:
        nonlocal pushed
        pushed += 1
        came.append(chunk)

    heard_before = local._watch._sign_of_life
    async with asyncio.timeout(WAIT_S):
        whole = await local.chat(user("Name three colours."), None, 0.0, 24)
        options = ChatOptions(on_chunk=take)
        async for chunk in local.stream_chat(user("Name three colours."), None, 0.0, 24, options=options):
            came.append(chunk)  # noqa: PERF401 - pushed chunks come between them
    assert "".join(chunk.content for chunk in came) == whole.content
    assert pushed > 3
    assert local._watch._sign_of_life - heard_before >= len(came)


WEATHER = Tool(
    name="get_weather",
    description="The weather in a city, now.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"enum": [1, 3, 7]}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
)
MOON = Tool(
    name="moon",
    parameters={"type": "object", "properties": {"phase": {"enum": ["new", "full"]}}, "required": ["phase"]},
)


async def test_a_forced_call_has_arguments_that_fit_the_tools_schema(local: LocalAdapter) -> None:
    options = ChatOptions(tools=(WEATHER, MOON), tool_choice=NamedTool(name="get_weather"))
    async with asyncio.timeout(WAIT_S):
        answer = await local.chat(user("How is the weather in Oslo?"), None, 0.0, 200, options=options)
    assert (answer.finish_reason, answer.content) == ("tool_calls", "")
    (call,) = answer.tool_calls or []
    assert call.name == "get_weather"
    jsonschema_rs.validate(WEATHER.parameters or {}, json.loads(call.arguments))


async def test_an_answer_in_a_format_fits_its_schema(local: LocalAdapter) -> None:
    schema = WEATHER.parameters or {}
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}}
    options = ChatOptions(response_format=ResponseFormat.model_validate(form))
    async with asyncio.timeout(WAIT_S):
        answer = await local.chat(user("Say a city and some days."), None, 0.0, 200, options=options)
    assert (answer.finish_reason, answer.tool_calls) == ("stop", None)
    jsonschema_rs.validate(schema, json.loads(answer.content))


async def test_a_schema_that_refers_to_its_root_is_enforced(local: LocalAdapter) -> None:
    """The forms that generators give recursive types, with and without other definitions."""
    leaf: dict[str, Any] = {"type": "array", "items": {"$ref": "#"}, "maxItems": 0}
    schema = {
        "type": "object",
        "properties": {"kind": {"$ref": "#/$defs/kind"}, "children": leaf},
        "required": ["kind", "children"],
        "additionalProperties": False,
        "$defs": {"kind": {"enum": ["tree"]}},
    }
    form = {"type": "json_schema", "json_schema": {"name": "tree", "schema": schema}}
    grow = Tool(name="grow", parameters=schema)
    async with asyncio.timeout(WAIT_S):
        options = ChatOptions(response_format=ResponseFormat.model_validate(form))
        answer = await local.chat(user("Describe a tree."), None, 0.0, 200, options=options)
        options = ChatOptions(tools=(grow,), tool_choice="required")
        calling = await local.chat(user("Grow a tree."), None, 0.0, 200, options=options)
    jsonschema_rs.validate(schema, json.loads(answer.content))
    (call,) = calling.tool_calls or []
    jsonschema_rs.validate(schema, json.loads(call.arguments))


async def test_of_several_tools_one_is_called(local: LocalAdapter) -> None:
    options = ChatOptions(tools=(WEATHER, MOON), tool_choice="required")
    async with asyncio.timeout(WAIT_S):
        chunks = [
            chunk async for chunk in local.stream_chat(user("Is the moon full?"), None, 0.0, 200, options=options)
        ]
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["tool_calls"]
    (name,) = {chunk.name for chunk in chunks if chunk.arguments}
    schema = {tool.name: tool.parameters for tool in (WEATHER, MOON)}[name or ""]
    jsonschema_rs.validate(schema or {}, json.loads("".join(chunk.arguments or "" for chunk in chunks)))
    assert len([chunk for chunk in chunks if chunk.arguments]) > 1


async def test_a_forced_call_that_became_too_long_is_none(local: LocalAdapter) -> None:
    options = ChatOptions(tools=(WEATHER,), tool_choice="required")
    async with asyncio.timeout(WAIT_S):
        answer = await local.chat(user("How is the weather in Oslo?"), None, 0.0, 3, options=options)
    assert (answer.finish_reason, answer.tool_calls) == ("length", None)


async def test_a_model_that_was_not_taught_tools_says_so_beforehand(local: LocalAdapter) -> None:
    with pytest.raises(Unsupported):
        await local.chat(user("How is the weather in Oslo?"), options=ChatOptions(tools=(WEATHER,)))
    (listed,) = await local.list_models()
    assert listed.capabilities == ["json_schema"]


async def test_calls_and_results_of_a_conversation_reach_the_model(local: LocalAdapter) -> None:
    history = [
        *user("What is the password?"),
        ChatMessage.model_validate(
            {"role": "assistant", "tool_calls": [{"call_id": "a", "name": "moon", "arguments": '{"phase": "new"}'}]}
        ),
        ChatMessage.model_validate({"role": "tool", "call_id": "a", "content": "The password is xylophone."}),
    ]
    async with asyncio.timeout(WAIT_S):
        answer = await local.chat(history, None, 0.0, 60)
    assert "xylophone" in answer.content


async def test_one_stream_after_the_other_needs_no_second_try(local: LocalAdapter) -> None:
    """The child closes a connection after each stream without saying so."""
    for _ in range(5):
        async with asyncio.timeout(WAIT_S):
            assert [chunk async for chunk in local.stream_chat(user("Hi"), None, 0.0, 2)]


async def test_four_streams_run_at_once(local: LocalAdapter) -> None:
    _, endpoint = serving(local)
    streams = [local.stream_chat(user(f"{STORY} It is number {number}."), None, 0.0, 400) for number in range(4)]
    async with asyncio.timeout(WAIT_S):
        for stream in streams:
            while not (await anext(stream)).content:
                pass
    assert await busy_slots(endpoint) == 4
    for stream in streams:
        await stream.aclose()
    await become(0, endpoint)


async def test_options_reach_the_model(local: LocalAdapter) -> None:
    async with asyncio.timeout(WAIT_S):
        whole = await local.chat(user(STORY), None, 0.0, 30)
        word = whole.content.split()[4]
        cut = await local.chat(user(STORY), None, 0.0, 30, options=ChatOptions(stop=(word,)))
    assert cut.content == whole.content[: whole.content.index(word)]
    assert cut.finish_reason == "stop"


async def test_closing_a_stream_stops_the_generation(local: LocalAdapter) -> None:
    _, endpoint = serving(local)
    async with asyncio.timeout(WAIT_S), aclosing(local.stream_chat(user(STORY), None, 0.0, 4000)) as chunks:
        async for chunk in chunks:
            if chunk.content:
                break
        assert await busy_slots(endpoint) == 1
    async with asyncio.timeout(5):
        await become(0, endpoint)


async def test_a_cancel_before_the_first_token_stops_the_reading_of_the_prompt(local: LocalAdapter) -> None:
    _, endpoint = serving(local)
    # Half a minute's work, at best.
    task = asyncio.create_task(local.chat(user("tale " * 3500), None, 0.0, 4))
    await become(1, endpoint)
    task.cancel()
    await asyncio.wait([task], timeout=20)
    assert task.cancelled()
    async with asyncio.timeout(20):
        await become(0, endpoint)


async def test_the_context_that_is_told_is_what_a_request_has(local: LocalAdapter) -> None:
    window = await local.context_window(MODEL)
    assert window == 4096
    assert [(model.id, model.context_window) for model in await local.list_models()] == [(MODEL, window)]
    with pytest.raises(ContextTooLong):
        await local.chat(user("word " * window), None, 0.0, 4)
    with pytest.raises(ContextTooLong):
        await anext(local.stream_chat(user("word " * window), None, 0.0, 4))


async def test_a_running_model_is_healthy_with_a_latency(local: LocalAdapter) -> None:
    status = await local.health_check()
    assert (status.available, status.models, status.error) == (True, [MODEL], None)
    assert status.latency_ms is not None


@pytest.mark.parametrize("name", [None, MODEL, MODEL.upper(), "local"])
async def test_the_model_is_found_by_its_name(local: LocalAdapter, name: str | None) -> None:
    async with asyncio.timeout(WAIT_S):
        assert (await local.chat(user("Hi"), name, 0.0, 1)).model == MODEL


async def test_another_models_name_is_refused_with_the_one_that_is_there(local: LocalAdapter) -> None:
    with pytest.raises(ModelNotFound, match="llama3") as caught:
        await local.chat(user("Hi"), "llama3")
    assert MODEL in (caught.value.hint or "")


async def test_the_child_serves_loopback_alone_with_a_key_and_tells_no_path(local: LocalAdapter) -> None:
    _, endpoint = serving(local)
    async with httpx.AsyncClient(trust_env=False) as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            for path in ("/v1/models", "/slots"):
                assert (await http.get(endpoint.url + path, headers=headers)).status_code == 401
            assert (await http.post(f"{endpoint.url}/v1/chat/completions", headers=headers)).status_code == 401
        models = await http.get(f"{endpoint.url}/v1/models", headers={"Authorization": f"Bearer {endpoint.api_key}"})
    assert MODEL in models.text
    assert ".gguf" not in models.text
    address = urlsplit(endpoint.url)
    assert address.hostname == "127.0.0.1"
    # On Linux all of 127/8 is this machine: a server on every address would answer here, too.
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", address.port or 0), timeout=1):  # noqa: PT011 - which one differs over systems
        pass


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    adapter = new_adapter()
    try:
        assert await text_of(adapter)
    finally:
        await adapter.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
async def test_the_child_leaves_signals_to_its_parent(local: LocalAdapter) -> None:
    process, _ = serving(local)
    assert process.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process.pid, number)
    assert await text_of(local)
    assert process.serving


async def test_a_crash_in_mid_stream_is_told_as_one_and_the_next_request_works(local: LocalAdapter) -> None:
    process, _ = serving(local)
    progress: list[tuple[str, str | None]] = []
    text = ""
    with capture_logs() as logs:
        stream = local.stream_chat(user(STORY), None, 0.0, 4000)
        async with asyncio.timeout(WAIT_S):
            while not text:
                text = (await anext(stream)).content
            process.kill()
            with pytest.raises(ProviderUnavailable) as caught:
                await exhaust(stream)
            options = ChatOptions(on_progress=lambda phase, detail: progress.append((phase, detail)))
            answer = await local.chat(user("Say hello."), None, 0.0, 4, options=options)
    assert "crashed" in caught.value.message
    assert sys.platform == "win32" or "SIGKILL" in caught.value.message
    assert "next request" in (caught.value.hint or "")
    assert answer.content
    assert progress == [("loading", f"{MODEL} is being loaded")]
    assert "local_model_exited" in [entry["event"] for entry in logs]


async def test_a_crash_behind_a_plain_chat_is_told_as_one(local: LocalAdapter) -> None:
    await text_of(local)
    process, endpoint = serving(local)
    task = asyncio.create_task(local.chat(user(STORY), None, 0.0, 4000))
    await become(1, endpoint)
    process.kill()
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ProviderUnavailable, match="crashed"):
            await task


@pytest.mark.skipif(sys.platform == "win32", reason="a process can't be stopped there")
async def test_a_model_that_is_stopped_is_replaced_within_the_first_token_limit() -> None:
    timeouts = Timeouts(first_token_s=6.0)
    adapter = LocalAdapter(model_path=None, parallel=1, timeouts=timeouts, catalog=load_catalog(), concurrency=2)
    try:
        assert await text_of(adapter)
        process, _ = serving(adapter)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(ProviderUnavailable, match="crashed"):
                await adapter.chat(user("Say hello."), None, 0.0, 4)
            assert (await adapter.chat(user("Say hello."), None, 0.0, 4)).content
        assert serving(adapter)[0] is not process
    finally:
        await adapter.aclose()


async def test_a_model_that_only_reads_a_long_prompt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[bool] = []
    look = HangWatch._answers

    async def noted(watch: HangWatch, endpoint: Endpoint) -> bool:
        looks.append(await look(watch, endpoint))
        return looks[-1]

    monkeypatch.setattr(HangWatch, "_answers", noted)
    timeouts = Timeouts(first_token_s=6.0)
    adapter = LocalAdapter(model_path=None, parallel=1, timeouts=timeouts, catalog=load_catalog(), concurrency=2)
    try:
        assert await text_of(adapter)
        process, _ = serving(adapter)
        # As long as this machine needs it to be: until it was looked at more often than a silent process would be.
        questions = 30
        while len(looks) <= LOOKS:
            looks.clear()
            async with asyncio.timeout(WAIT_S):
                assert (await adapter.chat(user("Why is the sky blue? " * questions), None, 0.0, 4)).content
            questions *= 2
        assert all(looks)
        assert serving(adapter)[0] is process
    finally:
        await adapter.aclose()


async def test_a_closed_adapter_has_ended_its_child_and_starts_it_again_when_asked() -> None:
    adapter = new_adapter()
    try:
        assert await text_of(adapter)
        process, _ = serving(adapter)
        await adapter.aclose()
        end = await process.exit_within(0)
        assert end is not None
        # By itself, and not by force.
        assert (end.returncode, end.stopped) == (0, True)
        assert await text_of(adapter)
    finally:
        await adapter.aclose()


async def test_a_cancel_while_it_loads_returns_at_once() -> None:
    adapter = new_adapter()
    loading = asyncio.Event()
    options = ChatOptions(on_progress=lambda *_: loading.set())
    task = asyncio.create_task(adapter.chat(user("Hi"), None, 0.0, 1, options=options))
    try:
        async with asyncio.timeout(WAIT_S):
            await loading.wait()
        task.cancel()
        await asyncio.wait([task], timeout=20)
        assert task.cancelled()
    finally:
        await adapter.aclose()
