"""Answers that were asked for in a format: judged at their end, and what becomes of those that were refused."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from archer_ws.core.exceptions import UpstreamTruncated
from archer_ws.llm_gateway.types import CancelReason, ChatRequest, MessageRole, Refusal, StreamChunk
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.streams.events import StreamEnded
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.views import chat_response
from tests.fakes.calls import INTERLEAVED, TOOLS
from tests.fakes.raw_http import soon
from tests.fakes.scripted_gateway import Call, ScriptedGateway
from tests.test_sessions.conftest import MakeManager
from tests.test_sessions.test_manager import ended

PEOPLE = {
    "type": "json_schema",
    "json_schema": {
        "name": "people",
        "schema": {"type": "object", "properties": {"people": {"type": "integer"}}, "required": ["people"]},
    },
}
REFUSAL = StreamChunk(content="", finish_reason="content_filter", refusal=Refusal(text="I can't"))


async def asked(manager: SessionManager, gateway: ScriptedGateway, **fields: Any) -> tuple[Stream, Call]:
    number = len(gateway.calls)
    body = {"messages": [{"role": "user", "content": "How many?"}], "response_format": PEOPLE, **fields}
    request = ChatRequest.model_validate(body)
    stream = (await manager.start("me", request, request_id="req_1", on_disconnect="cancel")).stream
    return stream, await gateway.call(number)


async def answered(
    manager: SessionManager, gateway: ScriptedGateway, *says: str | StreamChunk, reason: str = "stop", **fields: Any
) -> tuple[Stream, StreamEnded]:
    stream, call = await asked(manager, gateway, **fields)
    call.say(*says)
    call.finish(reason)
    return stream, await ended(stream)


def found(end: StreamEnded) -> list[tuple[str, str]] | None:
    return None if end.format_errors is None else [(each.path, each.message) for each in end.format_errors]


@pytest.mark.parametrize(
    ("text", "valid", "errors"),
    [
        ('{"people": 5}', True, None),
        # ollama/ollama#15260, ollama/ollama#8063, ggml-org/llama.cpp#19051: what was promised is not kept.
        ('{"people": "many"}', False, [("people", 'it is not of type "integer"')]),
        ('```json\n{"people": 5}\n```', False, [("", "not valid JSON: expected value at line 1 column 1")]),
    ],
)
async def test_a_whole_answer_is_judged_before_its_end_is_told(
    manager: SessionManager, gateway: ScriptedGateway, text: str, valid: bool, errors: list[tuple[str, str]] | None
) -> None:
    stream, end = await answered(manager, gateway, text[:7], text[7:])
    assert (end.status, end.format_valid, found(end)) == ("completed", valid, errors)
    whole = chat_response(stream)
    assert (whole.format_valid, whole.format_errors) == (end.format_valid, end.format_errors)


async def test_an_answer_that_met_its_limit_completed_and_is_not_valid(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    _, end = await answered(manager, gateway, '{"people": ', reason="length")
    assert (end.status, end.finish_reason, end.format_valid) == ("completed", "length", False)


async def test_what_was_cancelled_is_not_judged(manager: SessionManager, gateway: ScriptedGateway) -> None:
    stream, call = await asked(manager, gateway)
    call.say('{"people": 5}')
    stream.cancel("client")
    end = await ended(stream)
    assert (end.status, end.format_valid) == ("cancelled", None)


async def test_what_broke_off_is_not_judged(manager: SessionManager, gateway: ScriptedGateway) -> None:
    stream, call = await asked(manager, gateway)
    call.say('{"people": 5}')
    call.fail(UpstreamTruncated("it stopped", provider="ollama"))
    end = await ended(stream)
    assert (end.status, end.format_valid) == ("incomplete", None)


async def test_calls_are_no_answer_yet(manager: SessionManager, gateway: ScriptedGateway) -> None:
    _, end = await answered(manager, gateway, *INTERLEAVED, reason="tool_calls", tools=TOOLS)
    assert (end.finish_reason, end.format_valid) == ("tool_calls", None)


class Waiting(FormatJudge):
    """Judges for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.given_up = asyncio.Event(), asyncio.Event()

    async def judge(self, *_: object) -> None:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.given_up.set()


@pytest.fixture
async def waiting() -> AsyncIterator[Waiting]:
    judge = Waiting()
    yield judge
    await judge.aclose()


@pytest.mark.parametrize("reason", ["client", "disconnected", "draining"])
async def test_a_cancel_ends_the_wait_for_a_judgement_and_the_answer_is_whole(
    make_manager: MakeManager, gateway: ScriptedGateway, waiting: Waiting, reason: CancelReason
) -> None:
    stream, call = await asked(make_manager(judge=waiting), gateway)
    call.say('{"people": 5}')
    call.finish("stop")
    await soon(waiting.asked.wait())
    assert stream.cancel(reason) == "already_ended"
    end = await ended(stream)
    assert (end.status, end.reason, end.format_valid) == ("completed", None, None)
    assert waiting.given_up.is_set()


async def test_a_session_s_next_turn_does_not_wait_for_the_judgement_of_the_one_it_interrupts(
    make_manager: MakeManager, gateway: ScriptedGateway, waiting: Waiting, store: MemoryStore
) -> None:
    manager = make_manager(judge=waiting)
    await store.create("me", "s", None, None)
    stream, call = await asked(manager, gateway, session_id="s")
    call.say('{"people": 5}')
    call.finish("stop")
    await soon(waiting.asked.wait())
    _, following = await asked(manager, gateway, session_id="s", on_busy="interrupt", response_format=None)
    assert (await ended(stream)).status == "completed"
    assert [message.content for message in following.messages] == ["How many?", '{"people": 5}', "How many?"]


class Broken(FormatJudge):
    """Notes that it was asked, and has a defect."""

    was_asked = False

    async def judge(self, *_: object) -> None:
        self.was_asked = True
        raise RuntimeError


@pytest.mark.parametrize("form", [None, {"type": "text"}])
async def test_text_is_never_given_to_the_judge(
    make_manager: MakeManager, gateway: ScriptedGateway, form: dict[str, Any] | None
) -> None:
    judge = Broken()
    _, end = await answered(make_manager(judge=judge), gateway, "five", response_format=form)
    assert (end.status, end.format_valid) == ("completed", None)
    assert not judge.was_asked


async def test_a_defect_of_the_judge_costs_the_judgement_and_not_the_answer(
    make_manager: MakeManager, gateway: ScriptedGateway
) -> None:
    judge = Broken()
    stream, end = await answered(make_manager(judge=judge), gateway, '{"people": 5}')
    assert judge.was_asked
    assert (end.status, end.error, end.format_valid) == ("completed", None, None)
    assert stream.log.text("content") == '{"people": 5}'


async def test_a_refusal_is_told_with_its_reason_and_is_not_what_was_asked_for(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream, end = await answered(manager, gateway, refused(), reason="content_filter")
    assert (end.status, end.finish_reason, end.text_bytes) == ("completed", "content_filter", 0)
    assert (end.refusal, end.format_valid) == (Refusal(text="I can't"), False)
    assert chat_response(stream).refusal == end.refusal


async def said_to(manager: SessionManager, gateway: ScriptedGateway, question: str, *says: str | StreamChunk) -> None:
    messages = [{"role": "user", "content": question}]
    stream, call = await asked(manager, gateway, session_id="talk", messages=messages)
    call.say(*says)
    call.finish("stop")
    await ended(stream)


async def test_a_turn_that_was_refused_is_kept_and_not_sent_again(
    manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore
) -> None:
    # https://platform.claude.com/docs/en/test-and-evaluate/strengthen-guardrails/handle-streaming-refusals
    await store.create("me", "talk", None, None)
    await said_to(manager, gateway, "One?", '{"people": 1}')
    await said_to(manager, gateway, "Bad?", refused())
    await said_to(manager, gateway, "Two?", '{"people": 2}')
    assert [message.content for message in gateway.calls[-1].messages] == ["One?", '{"people": 1}', "Two?"]
    kept = [(message.content, message.refusal) for message in await store.messages("me", "talk")]
    assert ("Bad?", None) in kept
    assert ("", Refusal(text="I can't")) in kept


async def test_a_refused_answer_that_is_given_after_all_is_sent_again(
    manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore
) -> None:
    await store.create("me", "talk", None, None)
    await said_to(manager, gateway, "Bad?", refused())
    answer = (await store.messages("me", "talk"))[-1]
    stream, call = await asked(manager, gateway, session_id="talk", messages=[], replace_from=answer.message_id)
    call.say("Fine.")
    call.finish("stop")
    await ended(stream)
    assert [message.content for message in call.messages] == ["Bad?"]
    await said_to(manager, gateway, "Two?", "2")
    assert [message.content for message in gateway.calls[-1].messages] == ["Bad?", "Fine.", "Two?"]


async def test_a_refused_loop_is_left_out_from_its_question_on_and_system_messages_stay(
    manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore
) -> None:
    await store.create("me", "talk", None, None)
    question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rain?"}]
    first = {"session_id": "talk", "tools": TOOLS, "response_format": None}
    await answered(manager, gateway, *INTERLEAVED, reason="tool_calls", messages=question, **first)
    call_ids = [call.call_id for message in await store.messages("me", "talk") for call in message.tool_calls or ()]
    results = [{"role": "tool", "call_id": call_id, "content": "x"} for call_id in call_ids]
    stream, call = await asked(manager, gateway, messages=results, **first)
    call.say(refused())
    call.finish("stop")
    await ended(stream)
    await said_to(manager, gateway, "Two?", "2")
    told = [(message.role, message.content) for message in gateway.calls[-1].messages]
    assert told == [(MessageRole.SYSTEM, "Be brief."), (MessageRole.USER, "Two?")]


def refused() -> StreamChunk:
    """Of each stream its own: what masks keys may change it."""
    return REFUSAL.model_copy(deep=True)
