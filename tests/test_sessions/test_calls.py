"""A model's calls in a stream: told when the answer ended well, and never otherwise."""

import asyncio
from typing import Any

import pytest

from archer_ws.core.exceptions import (
    ArcherError,
    ContentTooLarge,
    InvalidParams,
    ProviderUnavailable,
    UpstreamTruncated,
)
from archer_ws.core.limits import CALL_ARGUMENTS_BYTES
from archer_ws.llm_gateway.types import ChatRequest, StreamChunk
from archer_ws.sessions.fingerprint import fingerprint_of
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.streams.events import Delta, StreamEnded, StreamStarted, StreamToolCall
from archer_ws.sessions.streams.gates import ManagerLimits
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.views import chat_response
from tests.fakes.calls import CALLS_MADE, INTERLEAVED, TOOLS, WHOLE, piece
from tests.fakes.scripted_gateway import Call, ScriptedGateway
from tests.test_sessions.conftest import MakeManager
from tests.test_sessions.test_manager import ended, events, until

QUESTION = {"role": "user", "content": "What is the weather?"}
CALL = {"call_id": "c1", "name": "get_weather"}


def ask(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": list(messages) or [QUESTION], "tools": TOOLS, **fields})


async def begun(
    manager: SessionManager, gateway: ScriptedGateway, request: ChatRequest | None = None
) -> tuple[Stream, Call]:
    held = await manager.start("me", request or ask(), request_id="req_1", on_disconnect="cancel")
    return held.stream, await gateway.call()


def kinds(stream: Stream) -> list[type]:
    return [type(event) for event in events(stream)]


async def test_complete_calls_are_told_in_their_order_between_the_last_text_and_the_end(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream, call = await begun(manager, gateway)
    call.say("Let me look.", *INTERLEAVED, CALLS_MADE)
    call.finish("tool_calls")
    end = await ended(stream)

    assert kinds(stream) == [StreamStarted, *[Delta] * 5, StreamToolCall, StreamToolCall, StreamEnded]
    first, second = [event for event in events(stream) if isinstance(event, StreamToolCall)]
    assert (first.call_id, first.name, first.arguments) == ("call1", "get_weather", '{"city": "Oslo"}')
    assert (second.call_id, second.name, second.arguments) == ("call2", "delete_file", "{}")
    assert (first.by, first.needs_approval, second.needs_approval) == ("client", None, True)
    assert (end.status, end.finish_reason, end.text_bytes) == ("completed", "tool_calls", len("Let me look."))
    answer = chat_response(stream)
    assert (answer.content, answer.tool_calls) == ("Let me look.", list(WHOLE))


@pytest.mark.parametrize("finish_reason", ["length", "content_filter", "stop"])
async def test_calls_of_an_answer_that_stopped_for_another_reason_are_not_told(
    manager: SessionManager, gateway: ScriptedGateway, finish_reason: str
) -> None:
    # vllm-project/vllm#58228, ahwurm/localharness#77: arguments cut by the token limit may parse by chance.
    stream, call = await begun(manager, gateway)
    call.say(*INTERLEAVED)
    call.finish(finish_reason)
    end = await ended(stream)
    assert StreamToolCall not in kinds(stream)
    assert (end.status, end.finish_reason) == ("completed", finish_reason)
    assert chat_response(stream).tool_calls is None


@pytest.mark.parametrize(
    ("error", "status"), [(UpstreamTruncated("cut"), "incomplete"), (ProviderUnavailable("away"), "failed")]
)
async def test_calls_of_an_answer_that_broke_off_are_not_told_even_behind_a_good_reason(
    manager: SessionManager, gateway: ScriptedGateway, error: ArcherError, status: str
) -> None:
    stream, call = await begun(manager, gateway)
    call.say(*INTERLEAVED, CALLS_MADE)
    call.fail(error)
    end = await ended(stream)
    assert (end.status, end.finish_reason) == (status, None)
    assert StreamToolCall not in kinds(stream)
    assert chat_response(stream).tool_calls is None


async def test_a_cancel_behind_the_word_that_there_are_calls_tells_neither_it_nor_them(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream, call = await begun(manager, gateway)
    call.say(*INTERLEAVED, CALLS_MADE, StreamChunk(content="."))
    await until(stream, 1 + len(INTERLEAVED) + 1)
    manager.cancel("me", stream.stream_id)
    end = await ended(stream)
    assert (end.status, end.finish_reason) == ("cancelled", None)
    assert StreamToolCall not in kinds(stream)


async def test_a_cancel_in_mid_arguments_keeps_them_as_text_and_tells_no_call(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream, call = await begun(manager, gateway)
    call.say(*INTERLEAVED[:3])
    await until(stream, 4)
    manager.cancel("me", stream.stream_id)
    end = await ended(stream)
    assert call.closed.is_set()
    assert kinds(stream) == [StreamStarted, Delta, Delta, Delta, StreamEnded]
    assert stream.log.arguments("call1") == '{"city": "Oslo'
    assert (end.status, end.text_bytes) == ("cancelled", 0)
    assert end.usage is not None
    # 15 bytes of arguments, at 4 a token.
    assert (end.usage.estimated, end.usage.completion_tokens) == (True, 4)


async def test_the_arguments_of_a_call_are_bounded(manager: SessionManager, gateway: ScriptedGateway) -> None:
    stream, call = await begun(manager, gateway)
    call.say(piece("call1", "get_weather", '{"city": "'), piece("call1", "get_weather", "é" * CALL_ARGUMENTS_BYTES))
    end = await ended(stream)
    assert end.error is not None
    assert (end.status, end.error.kind) == ("incomplete", "output_too_long")
    kept = len(stream.log.arguments("call1").encode())
    assert CALL_ARGUMENTS_BYTES - 1 <= kept <= CALL_ARGUMENTS_BYTES
    assert StreamToolCall not in kinds(stream)


async def test_a_call_may_be_as_long_as_the_bound_beside_another(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream, call = await begun(manager, gateway)
    long = '{"a":"' + "x" * (CALL_ARGUMENTS_BYTES - 8) + '"}'
    call.say(piece("call1", "get_weather", long), piece("call2", "get_weather", long))
    call.finish("tool_calls")
    assert (await ended(stream)).status == "completed"
    assert [event.arguments for event in stream.log.tool_calls()] == [long, long]


async def test_halves_of_a_character_are_joined_within_their_call(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream, call = await begun(manager, gateway)
    call.say(
        piece("call1", "get_weather", '{"city": "\ud83d'),
        piece("call2", "get_weather", '{"city": "\ud83d'),
        piece("call1", "get_weather", '\ude00"}'),
    )
    call.finish("tool_calls")
    await ended(stream)
    first, second = stream.log.tool_calls()
    assert first.arguments == '{"city": "😀"}'
    assert second.arguments == '{"city": "\ufffd'
    text = {"call1": b"", "call2": b""}
    for event in events(stream):
        if isinstance(event, Delta) and event.call is not None:
            text[event.call.call_id] += event.text
    assert [each.decode() for each in text.values()] == [first.arguments, second.arguments]


async def test_what_the_model_may_call_and_what_it_must_know_goes_to_it(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    request = ask(instructions="Be brief.", tool_choice={"name": "get_weather"}, parallel_tool_calls=False)
    stream, call = await begun(manager, gateway, request)
    call.finish()
    await ended(stream)
    assert [(message.role, message.content) for message in call.messages] == [
        ("system", "Be brief."),
        ("user", "What is the weather?"),
    ]
    assert [tool.name for tool in call.options.tools] == ["get_weather", "delete_file"]
    assert call.options.tool_choice == request.tool_choice
    assert call.options.parallel_tool_calls is False


async def test_tools_and_instructions_count_in_the_estimate_of_the_prompt(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    async def prompt_tokens(request: ChatRequest) -> int:
        stream, _ = await begun(manager, gateway, request)
        manager.cancel("me", stream.stream_id)
        usage = (await ended(stream)).usage
        assert usage is not None
        return usage.prompt_tokens

    bare = await prompt_tokens(ask(tools=None))
    described = {"name": "t", "description": "d" * 4000}
    assert await prompt_tokens(ask(tools=[described])) - bare > 1000
    assert await prompt_tokens(ask(tools=None, instructions="i" * 4000)) - bare == 1004


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ([QUESTION, {"role": "assistant", "tool_calls": [{**CALL, "arguments": f'{{"a": "{"x" * 60}"}}'}]}], {}),
        ([QUESTION, {"role": "tool", "call_id": "c1", "content": "x" * 60}], {}),
        ([QUESTION], {"instructions": "x" * 60}),
    ],
)
async def test_arguments_results_and_instructions_count_in_the_size_of_a_request(
    make_manager: MakeManager, messages: list[dict[str, Any]], fields: dict[str, Any]
) -> None:
    manager = make_manager(limits=ManagerLimits(max_content_bytes=70))
    with pytest.raises(ContentTooLarge):
        await manager.start("me", ask(*messages, **fields), request_id="req_1", on_disconnect="cancel")


async def test_broken_arguments_without_a_result_are_refused_at_the_door(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    # BerriAI/litellm#33678: they came back as a 500 a turn later.
    calls = [CALL, {"call_id": "c2", "name": "t", "arguments": '{"a":'}]
    with pytest.raises(InvalidParams) as refused:
        await begun(manager, gateway, ask(QUESTION, {"role": "assistant", "tool_calls": calls}))
    assert refused.value.errors[0].path == "messages.1.tool_calls.1.arguments"
    result = {"role": "tool", "call_id": "c2", "content": "bad arguments", "status": "error"}
    stream, call = await begun(manager, gateway, ask(QUESTION, {"role": "assistant", "tool_calls": calls}, result))
    call.finish()
    assert (await ended(stream)).status == "completed"


def test_a_request_is_the_same_whatever_the_order_of_its_fields_and_with_what_it_left_out() -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    other_order = {"properties": {"b": {"type": "string"}, "a": {"type": "string"}}, "type": "object"}
    one = ask(tools=[{"name": "t", "parameters": parameters}], stream=True, stream_id="s", seed=None)
    same = ask(tools=[{"parameters": other_order, "name": "t"}])
    assert fingerprint_of(one) == fingerprint_of(same)
    assert fingerprint_of(one) != fingerprint_of(ask(tools=[{"name": "u", "parameters": parameters}]))
    assert fingerprint_of(one) != fingerprint_of(ask(tools=[{"name": "t", "parameters": parameters}], seed=1))


def test_a_field_that_comes_to_the_protocol_changes_no_hash_of_requests_without_it() -> None:
    class Later(ChatRequest):
        patience: int = 3

    given = {"messages": [QUESTION], "temperature": 0.5}
    assert fingerprint_of(Later.model_validate(given)) == fingerprint_of(ChatRequest.model_validate(given))


def test_the_hash_of_a_request_stays_for_the_streams_that_an_earlier_version_stored() -> None:
    tools = [{"name": "t", "description": None, "parameters": {"properties": {"b": {"maximum": 1.5}, "a": {}}}}]
    call = {"role": "assistant", "tool_calls": [{"call_id": "c", "name": "t", "arguments": '{"a": "é"}'}]}
    result = {"role": "tool", "call_id": "c", "content": "\n\x07 \\ 😀", "status": "error"}
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 10**30, "default": None}}}
    request = ask(
        QUESTION,
        call,
        result,
        tools=tools,
        tool_choice={"name": "t"},
        temperature=0.7,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
    )
    assert fingerprint_of(request).hex() == "8755cc15506dcd8bbadde657f12b606f"


async def test_arguments_are_text_for_who_waits_for_the_first(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream, call = await begun(manager, gateway)
    call.say(StreamChunk(content=""), piece("call1", "get_weather", "{}"))
    await until(stream, 2)
    assert stream.log.text_bytes == 2
    assert stream.log.content_bytes == 0
    call.finish("tool_calls")
    async with asyncio.timeout(10):
        await stream.wait_ended()
