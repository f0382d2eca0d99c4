"""Streams as transports see them: start, cancel, hold, repeat, refuse, drain."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import structlog

from archer_ws.core.exceptions import (
    ContentTooLarge,
    ContextTooLong,
    Draining,
    InvalidParams,
    Overloaded,
    ProviderUnavailable,
    SessionBusy,
    SessionNotFound,
    StreamIdConflict,
    StreamNotFound,
    UpstreamTruncated,
)
from archer_ws.core.standstill import STANDSTILL_S
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, MessageRole, Refusal, StreamChunk, TokenUsage
from archer_ws.sessions.manager import HeldStream, SessionManager
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.streams.events import (
    Delta,
    Event,
    MakeEvent,
    StreamEnded,
    StreamProgress,
    StreamStarted,
    TextKind,
)
from archer_ws.sessions.streams.gates import ManagerLimits
from archer_ws.sessions.streams.log import LOG_BYTES_MAX
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.turn import Turn
from archer_ws.sessions.views import chat_response, stream_info, stream_messages
from tests.fakes.scripted_gateway import Call, ScriptedGateway
from tests.test_sessions.conftest import MakeManager


def ask(text: str = "hello", **fields: Any) -> ChatRequest:
    return ChatRequest(messages=[ChatMessage(role=MessageRole.USER, content=text)], **fields)


async def start(manager: SessionManager, request: ChatRequest | None = None, principal: str = "me") -> HeldStream:
    return await manager.start(principal, request or ask(), request_id="req_1", on_disconnect="cancel")


async def ended(stream: Stream) -> StreamEnded:
    async with asyncio.timeout(10):
        await stream.wait_ended()
    assert stream.log.ended is not None
    return stream.log.ended


async def until(stream: Stream, seq: int) -> None:
    """Wait until the log has that event."""
    grown = asyncio.Event()
    unwatch = stream.log.watch(grown.set)
    async with asyncio.timeout(10):
        while stream.log.head_seq < seq:
            grown.clear()
            await grown.wait()
    unwatch()


def events(stream: Stream) -> list[Event]:
    found: list[Event] = []
    while (event := stream.log.read(found[-1].seq if found else 0)) is not None:
        found.append(event)
    return found


class UnreadLog(MemoryLog):
    """A log whose text nobody may ask for as a whole."""

    def text(self, kind: TextKind) -> str:
        raise AssertionError(f"the {kind} was decoded for nobody")


async def test_without_a_session_a_stream_ends_by_itself_alone(
    make_manager: MakeManager, gateway: ScriptedGateway
) -> None:
    stream = (await start(make_manager(new_log=UnreadLog))).stream
    assert isinstance(stream.log, UnreadLog)
    call = await gateway.call()
    call.say("Hello")
    before = asyncio.all_tasks()
    call.finish()
    end = await ended(stream)
    assert (end.status, end.error, end.stored) == ("completed", None, None)
    assert asyncio.all_tasks() <= before


async def test_a_completed_stream_tells_start_text_and_end(manager: SessionManager, gateway: ScriptedGateway) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    usage = TokenUsage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
    call.say("Hel", "lo", StreamChunk(content="", usage=usage))
    call.finish()
    end = await ended(stream)
    first, text, last = events(stream)
    assert isinstance(first, StreamStarted)
    assert (first.provider, first.model) == ("ollama", "m")
    assert isinstance(text, Delta)
    assert (text.from_seq, text.text) == (2, b"Hello")
    assert last == end
    assert (end.status, end.finish_reason, end.text_bytes, end.usage) == ("completed", "stop", 5, usage)
    assert stream_info(stream).status == "completed"
    assert chat_response(stream).content == "Hello"


async def test_started_comes_once_however_many_attempts(manager: SessionManager, gateway: ScriptedGateway) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say("")
    await until(stream, 1)
    call.options.progress("retrying", "try 2")
    call.say("", "text")
    call.finish()
    await ended(stream)
    assert [type(event) for event in events(stream)] == [StreamStarted, StreamProgress, Delta, StreamEnded]


async def test_what_a_failed_attempt_reported_is_not_the_completions(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    usage = TokenUsage(prompt_tokens=300, completion_tokens=200, total_tokens=500)
    call.say(StreamChunk(content="", usage=usage, finish_reason="content_filter", refusal=Refusal(text="No.")))
    await until(stream, 1)
    call.options.progress("retrying", "try 2")
    call.say("text")
    call.finish()
    end = await ended(stream)
    assert (end.status, end.finish_reason, end.refusal) == ("completed", "stop", None)
    assert end.usage is not None
    assert (end.usage.estimated, end.usage.completion_tokens) == (True, 1)


async def test_a_cancel_closes_the_provider_and_keeps_the_text(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say("partial answer")
    await until(stream, 2)
    result = manager.cancel("me", stream.stream_id)
    assert (result.outcome, result.status) == ("cancelling", "cancelling")
    end = await ended(stream)
    assert call.closed.is_set()
    assert (end.status, end.reason, end.error) == ("cancelled", "client", None)
    assert stream.log.text("content") == "partial answer"
    assert end.usage is not None
    assert end.usage.estimated
    assert manager.cancel("me", stream.stream_id).outcome == "already_ended"


async def test_a_cancelled_stream_keeps_the_prompt_tokens_that_the_provider_told(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream = (await start(manager)).stream
    told = TokenUsage(prompt_tokens=77, completion_tokens=1, total_tokens=78)
    (await gateway.call()).say(StreamChunk(content="", usage=told), "12345678")
    await until(stream, 2)
    stream.cancel("client")
    usage = (await ended(stream)).usage
    assert usage == TokenUsage(prompt_tokens=77, completion_tokens=2, total_tokens=79, estimated=True)


async def test_a_cancel_right_after_register_sends_nothing_upstream(
    manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore
) -> None:
    await store.create("me", "s", None, None)
    held = manager.register("me", ask(session_id="s"), request_id="r", on_disconnect="cancel")
    manager.cancel("me", held.stream.stream_id)
    await held.stream.wait_admitted()
    end = await ended(held.stream)
    assert (end.status, end.reason) == ("cancelled", "client")
    assert gateway.calls == []
    assert await store.messages("me", "s") == []


async def test_a_send_after_its_cancel_is_born_cancelled(manager: SessionManager, gateway: ScriptedGateway) -> None:
    assert manager.cancel("me", "early").outcome == "not_found"
    stream = (await start(manager, ask(stream_id="early"))).stream
    assert (await ended(stream)).status == "cancelled"
    assert gateway.calls == []


async def test_a_cancel_wins_over_a_finish_that_nobody_has_seen(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say("all of it")
    await until(stream, 2)
    call.finish()
    assert stream.cancel("client") == "cancelling"
    end = await ended(stream)
    assert (end.status, stream.log.text("content")) == ("cancelled", "all of it")


async def test_a_reader_that_fails_when_it_is_cancelled_is_no_unhandled_exception(
    manager: SessionManager, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(call: Call) -> AsyncGenerator[StreamChunk, None]:
        yield StreamChunk(content="half")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ProviderUnavailable("lost", hint="again") from None

    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    monkeypatch.setattr(Call, "chunks", failing)
    stream = (await start(manager)).stream
    await until(stream, 2)
    stream.cancel("client")
    end = await ended(stream)
    assert (end.status, end.error, stream.log.text("content")) == ("cancelled", None, "half")
    await asyncio.sleep(0)
    gc.collect()
    assert unhandled == []


async def test_a_reader_that_ignores_cancel_delays_the_end_by_two_seconds_at_most(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    gateway.ignores_cancel = True
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say("text")
    await until(stream, 2)
    stream.cancel("client")
    async with asyncio.timeout(5):
        assert (await ended(stream)).status == "cancelled"
    assert manager.orphans == 1
    call.say("too late")
    call.finish()
    async with asyncio.timeout(10):
        await call.closed.wait()
    for _ in range(5):  # the loop steps in which the task ends and its callbacks run
        await asyncio.sleep(0)
    assert manager.orphans == 0
    assert stream.log.text("content") == "text"


async def test_a_cancel_while_queued_gives_the_place_to_the_next(
    make_manager: MakeManager, gateway: ScriptedGateway
) -> None:
    manager = make_manager(concurrency=1)
    first = (await start(manager)).stream
    await gateway.call(0)
    second, third = (await start(manager)).stream, (await start(manager)).stream
    await until(third, 1)
    assert isinstance(events(second)[0], StreamProgress)
    assert second.status == "queued"
    second.cancel("client")
    assert (await ended(second)).status == "cancelled"
    first.cancel("client")
    (await gateway.call(1)).finish()
    assert (await ended(third)).status == "completed"
    assert len(gateway.calls) == 2


async def test_a_full_queue_refuses_with_a_time_to_come_back(
    make_manager: MakeManager, gateway: ScriptedGateway
) -> None:
    manager = make_manager(concurrency=1, queue=1)
    await start(manager)
    await start(manager)
    with pytest.raises(Overloaded) as refused:
        await start(manager)
    assert refused.value.retry_after_ms
    assert manager.running == 2
    (await gateway.call(0)).finish()
    await gateway.call(1)
    await start(manager)


async def test_what_a_busy_provider_refuses_counts_as_none_of_the_principals_streams(make_manager: MakeManager) -> None:
    manager = make_manager(concurrency=1, queue=0, per_principal=2)
    held = await start(manager)
    for _ in range(3):
        with pytest.raises(Overloaded, match="ollama is busy"):
            await start(manager)
    held.stream.cancel("client")
    await ended(held.stream)
    await start(manager)


async def test_streams_are_limited_over_all_and_per_principal(make_manager: MakeManager) -> None:
    manager = make_manager(max_streams=3, per_principal=2)
    await start(manager)
    held = await start(manager)
    with pytest.raises(Overloaded, match="your streams"):
        await start(manager)
    await start(manager, principal="you")
    with pytest.raises(Overloaded, match="3 streams are running"):
        await start(manager, principal="you")
    held.stream.cancel("client")
    await ended(held.stream)
    await start(manager, principal="you")


async def test_failures_of_the_provider_end_as_failed_with_their_kind(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say("some")
    call.fail(ProviderUnavailable("it went away", hint="restart it", provider="ollama"))
    end = await ended(stream)
    assert end.status == "failed"
    assert end.error is not None
    assert (end.error.kind, end.error.request_id, end.error.stream_id) == (
        "provider_unavailable",
        "req_1",
        stream.stream_id,
    )
    assert chat_response(stream).content == "some"


async def asked_again(manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore) -> Stream:
    """The second stream of a conversation with history; the gateway's second call is its."""
    await store.create("me", "talk", None, None)
    before = (await start(manager, ask("old " * 200, session_id="talk"))).stream
    (await gateway.call(0)).finish()
    await ended(before)
    return (await start(manager, ask(session_id="talk"))).stream


async def test_a_prompt_that_is_called_too_long_behind_text_is_not_asked_again(
    manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore
) -> None:
    stream = await asked_again(manager, gateway, store)
    call = await gateway.call(1)
    call.say("half")
    call.fail(ContextTooLong("too long", hint="less"))
    end = await ended(stream)
    assert (end.status, end.error and end.error.kind) == ("failed", "context_too_long")
    assert (stream.log.text("content"), len(gateway.calls)) == ("half", 2)


@pytest.mark.parametrize("is_by_completion", [True, False])
async def test_history_is_left_out_for_a_prompt_that_is_too_long_and_not_for_a_limit_that_is(
    manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore, *, is_by_completion: bool
) -> None:
    stream = await asked_again(manager, gateway, store)
    failure = ContextTooLong("too long", hint="less")
    failure.is_by_completion = is_by_completion
    (await gateway.call(1)).fail(failure)
    if not is_by_completion:
        (await gateway.call(2)).finish()
    end = await ended(stream)
    assert (end.status, end.history_dropped) == (("failed", None) if is_by_completion else ("completed", 1))


async def test_a_truncated_answer_is_incomplete(manager: SessionManager, gateway: ScriptedGateway) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say("half")
    call.fail(UpstreamTruncated("no end marker"))
    end = await ended(stream)
    assert end.error is not None
    assert (end.status, end.error.kind) == ("incomplete", "upstream_truncated")


async def test_a_defect_ends_as_failed_and_shows_no_inside(manager: SessionManager, gateway: ScriptedGateway) -> None:
    stream = (await start(manager)).stream
    (await gateway.call()).fail(ZeroDivisionError("secret detail"))
    end = await ended(stream)
    assert end.error is not None
    assert (end.status, end.error.kind) == ("failed", "internal_error")
    assert "secret" not in end.error.model_dump_json()
    assert manager.running == 0


async def test_a_defect_while_the_end_is_built_leaves_no_stream_without_one(
    manager: SessionManager, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(_: Turn) -> int:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(Turn, "estimate_prompt", defect)
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say("Blue.")
    call.finish()
    end = await ended(stream)
    assert end.error is not None
    assert (end.status, end.error.kind, stream.status) == ("failed", "internal_error", "failed")
    assert (end.text_bytes, stream.log.text("content")) == (5, "Blue.")
    assert manager.running == 0


async def test_an_answer_past_the_cap_is_incomplete_and_closes_the_provider(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say("x" * LOG_BYTES_MAX, "y")
    end = await ended(stream)
    assert end.error is not None
    assert (end.status, end.error.kind, end.text_bytes) == ("incomplete", "output_too_long", LOG_BYTES_MAX)
    assert call.closed.is_set()


async def test_surrogate_halves_split_over_chunks_are_joined(manager: SessionManager, gateway: ScriptedGateway) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say("a\ud83d", "\ude00b\ud83d")
    call.finish()
    await ended(stream)
    assert stream.log.text("content") == "a\U0001f600b\ufffd"


async def test_a_half_left_in_the_reasoning_does_not_become_an_answer(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say(StreamChunk(content="", reasoning="hm\ud83d"))
    call.finish()
    await ended(stream)
    assert (stream.log.text("reasoning"), stream.log.text("content")) == ("hm\ufffd", "")


async def test_reasoning_counts_in_an_estimate_of_the_usage(manager: SessionManager, gateway: ScriptedGateway) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say(StreamChunk(content="", reasoning="x" * 400))
    call.finish()
    usage = (await ended(stream)).usage
    assert usage is not None
    assert (usage.completion_tokens, usage.estimated) == (100, True)


async def test_the_last_holder_s_leaving_cancels(manager: SessionManager, gateway: ScriptedGateway) -> None:
    held = await start(manager)
    call = await gateway.call()
    other = held.stream.hold()
    held.hold.release()
    held.hold.release()
    await asyncio.sleep(0)
    assert held.stream.status == "running"
    other.release()
    end = await ended(held.stream)
    assert (end.status, end.reason) == ("cancelled", "disconnected")
    assert call.closed.is_set()


async def test_a_new_holder_within_the_same_step_wins(manager: SessionManager, gateway: ScriptedGateway) -> None:
    held = await start(manager)
    call = await gateway.call()
    held.hold.release()
    held.stream.hold()
    await asyncio.sleep(0)
    call.say("still here")
    call.finish()
    assert (await ended(held.stream)).status == "completed"


async def test_a_stream_that_continues_survives_its_last_holder(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    held = await start(manager, ask(on_disconnect="continue"))
    call = await gateway.call()
    held.hold.release()
    call.say("to the end")
    call.finish()
    assert (await ended(held.stream)).status == "completed"


async def test_no_request_repeats_a_stream_whose_id_the_server_minted(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    first = await start(manager)
    with pytest.raises(StreamIdConflict, match="minted"):
        await start(manager, ask(stream_id=first.stream.stream_id))
    assert len(gateway.calls) == 1


async def test_a_grace_bounds_how_long_a_stream_goes_on_alone(
    make_manager: MakeManager, gateway: ScriptedGateway
) -> None:
    manager = make_manager(limits=ManagerLimits(grace_s=0.01))
    held = await start(manager, ask(on_disconnect="continue"))
    await gateway.call()
    held.hold.release()
    end = await ended(held.stream)
    assert (end.status, end.reason) == ("cancelled", "disconnected")


async def test_a_grace_does_not_run_out_while_the_server_stands_still(
    make_manager: MakeManager, gateway: ScriptedGateway
) -> None:
    manager = make_manager(limits=ManagerLimits(grace_s=0.5))
    held = await start(manager, ask(on_disconnect="continue"))
    await gateway.call()
    held.hold.release()
    time.sleep(0.6 + STANDSTILL_S)  # noqa: ASYNC251 - it is the event loop that stands still
    for _ in range(3):  # The timers run before its client's request is read.
        await asyncio.sleep(0)
    again = held.stream.hold()
    assert held.stream.status == "running"
    again.release()
    assert (await ended(held.stream)).reason == "disconnected"


async def test_who_reads_the_messages_again_and_again_does_not_prolong_the_grace(
    make_manager: MakeManager, gateway: ScriptedGateway
) -> None:
    manager = make_manager(limits=ManagerLimits(grace_s=0.05))
    held = await start(manager, ask(on_disconnect="continue"))
    await gateway.call()
    held.hold.release()
    async with asyncio.timeout(5):
        while held.stream.is_live:  # Never as long as the grace without a read.
            await stream_messages(held.stream, None)
            await asyncio.sleep(0)
    assert (held.stream.status, held.stream.cancel_reason) == ("cancelled", "disconnected")


async def test_who_is_lost_twice_has_the_whole_grace_both_times(
    make_manager: MakeManager, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    grace_s = 3600.0
    timers: list[asyncio.TimerHandle] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def noted(when: float, *rest: Any, **context: Any) -> asyncio.TimerHandle:
        timer = call_at(when, *rest, **context)
        if when > loop.time() + grace_s / 2:
            timers.append(timer)
        return timer

    manager = make_manager(limits=ManagerLimits(grace_s=grace_s))
    held = await start(manager, ask(on_disconnect="continue"))
    await gateway.call()
    monkeypatch.setattr(loop, "call_at", noted)
    held.hold.release()
    held.stream.hold().release()
    assert [timer.cancelled() for timer in timers] == [True, False]
    held.stream.hold()
    assert [timer.cancelled() for timer in timers] == [True, True]


async def test_the_same_request_again_attaches_and_another_one_conflicts(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    first = await start(manager, ask(stream_id="one"))
    again = await start(manager, ask(stream_id="one", stream=True))
    assert (again.duplicate, again.stream) == (True, first.stream)
    with pytest.raises(StreamIdConflict):
        await start(manager, ask("other words", stream_id="one"))
    other = await start(manager, ask("other words", stream_id="one"), principal="you")
    assert other.stream is not first.stream
    (await gateway.call()).finish()
    await ended(first.stream)
    assert (await start(manager, ask(stream_id="one"))).stream is first.stream
    assert len(gateway.calls) == 2


async def test_other_principals_streams_do_not_exist(manager: SessionManager) -> None:
    stream = (await start(manager)).stream
    assert manager.find("me", stream.stream_id) is stream
    with pytest.raises(StreamNotFound):
        manager.find("you", stream.stream_id)
    assert manager.cancel("you", stream.stream_id).outcome == "not_found"
    assert stream.status != "cancelling"
    assert manager.list_streams("you").items == []


async def test_ended_streams_are_listed_until_they_are_forgotten(
    make_manager: MakeManager, gateway: ScriptedGateway
) -> None:
    manager = make_manager(limits=ManagerLimits(retained_bytes_max=100_000))
    held = await start(manager)
    first = held.stream
    call = await gateway.call(0)
    call.say("x" * 60_000)
    call.finish()
    await ended(first)
    held.hold.release()
    assert [info.stream_id for info in manager.list_streams("me").items] == [first.stream_id]
    assert manager.list_streams("me", active=True).items == []
    second = (await start(manager)).stream
    call = await gateway.call(1)
    call.say("x" * 60_000)
    call.finish()
    await ended(second)
    assert [info.stream_id for info in manager.list_streams("me").items] == [second.stream_id]
    with pytest.raises(StreamNotFound):
        manager.find("me", first.stream_id)


async def test_too_much_text_is_refused_before_anything_is_sent(
    make_manager: MakeManager, gateway: ScriptedGateway
) -> None:
    manager = make_manager(limits=ManagerLimits(max_content_bytes=10))
    with pytest.raises(ContentTooLarge):
        await start(manager, ask("ä" * 6))
    await start(manager, ask("ä" * 5))
    assert manager.running == 1


class TestSessions:
    """One conversation, one stream at a time."""

    @pytest.fixture(autouse=True)
    async def session(self, store: MemoryStore) -> None:
        await store.create("me", "s", None, None)

    async def test_the_history_goes_before_the_new_turn(
        self, manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore
    ) -> None:
        for number, (question, answer) in enumerate([("one?", "1"), ("two?", "2")]):
            stream = (await start(manager, ask(question, session_id="s"))).stream
            call = await gateway.call(number)
            call.say(answer)
            call.finish()
            await ended(stream)
        assert [message.content for message in gateway.calls[1].messages] == ["one?", "1", "two?"]
        stored = await store.messages("me", "s")
        assert [(m.role.value, m.content, m.status) for m in stored][-1] == ("assistant", "2", "completed")

    async def test_an_unknown_session_is_refused_and_leaves_nothing(self, manager: SessionManager) -> None:
        with pytest.raises(SessionNotFound):
            await start(manager, ask(session_id="unknown", stream_id="x"))
        assert manager.running == 0
        with pytest.raises(StreamNotFound):
            manager.find("me", "x")

    async def test_a_busy_session_names_its_running_stream(self, manager: SessionManager) -> None:
        running = (await start(manager, ask(session_id="s"))).stream
        with pytest.raises(SessionBusy) as busy:
            await start(manager, ask(session_id="s"))
        assert busy.value.stream_id == running.stream_id

    async def test_an_interrupt_waits_for_the_old_end_and_sees_its_partial_answer(
        self, manager: SessionManager, gateway: ScriptedGateway
    ) -> None:
        old = (await start(manager, ask("first", session_id="s"))).stream
        (await gateway.call(0)).say("partial")
        await until(old, 2)
        new = (await start(manager, ask("second", session_id="s", on_busy="interrupt"))).stream
        assert new.status == "queued"
        assert (await ended(old)).reason == "interrupted"
        call = await gateway.call(1)
        assert [message.content for message in call.messages] == ["first", "partial", "second"]
        call.finish()
        assert (await ended(new)).status == "completed"

    async def test_a_later_interrupt_replaces_the_waiter(
        self, manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore
    ) -> None:
        gateway.ignores_cancel = True  # so that the waiter really waits
        await start(manager, ask("first", session_id="s"))
        await gateway.call(0)
        gateway.ignores_cancel = False
        waiter = (await start(manager, ask("second", session_id="s", on_busy="interrupt"))).stream
        last = (await start(manager, ask("third", session_id="s", on_busy="interrupt"))).stream
        assert (await ended(waiter)).reason == "interrupted"
        call = await gateway.call(1)
        call.say("answer")
        call.finish()
        await ended(last)
        assert [message.content for message in await store.messages("me", "s")] == [
            "first",
            "second",
            "third",
            "answer",
        ]
        gateway.calls[0].finish()

    async def test_a_refused_request_interrupts_nothing(
        self, manager: SessionManager, gateway: ScriptedGateway
    ) -> None:
        running = (await start(manager, ask(session_id="s"))).stream
        await gateway.call()
        with pytest.raises(InvalidParams, match="replace_from"):
            await start(manager, ask(session_id="s", on_busy="interrupt", replace_from="nothing"))
        assert running.status == "running"

    async def test_replace_from_drops_that_message_and_what_follows(
        self, manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore
    ) -> None:
        stream = (await start(manager, ask("wrong", session_id="s"))).stream
        call = await gateway.call(0)
        call.say("answer")
        call.finish()
        await ended(stream)
        first = (await store.messages("me", "s"))[0]
        stream = (await start(manager, ask("right", session_id="s", replace_from=first.message_id))).stream
        call = await gateway.call(1)
        assert [message.content for message in call.messages] == ["right"]
        call.say("better")
        call.finish()
        await ended(stream)
        assert [message.content for message in await store.messages("me", "s")] == ["right", "better"]

    async def test_an_assistant_message_in_a_turn_is_refused(self, manager: SessionManager) -> None:
        request = ChatRequest(messages=[ChatMessage(role=MessageRole.ASSISTANT, content="I said")], session_id="s")
        with pytest.raises(InvalidParams, match="new turn only"):
            await start(manager, request)

    async def test_replace_from_without_a_session_is_refused(self, manager: SessionManager) -> None:
        with pytest.raises(InvalidParams, match="session_id"):
            await start(manager, ask(replace_from="m"))

    async def test_an_empty_answer_is_not_stored(
        self, manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore
    ) -> None:
        stream = (await start(manager, ask("q", session_id="s"))).stream
        (await gateway.call()).finish()
        await ended(stream)
        assert [message.content for message in await store.messages("me", "s")] == ["q"]

    async def test_what_does_not_fit_the_context_is_dropped_and_told(
        self, make_manager: MakeManager, gateway: ScriptedGateway, store: MemoryStore
    ) -> None:
        gateway.window = 200
        manager = make_manager()
        for number in range(3):
            stream = (await start(manager, ask("q" * 160, session_id="s"))).stream
            call = await gateway.call(number)
            call.say("a" * 40)
            call.finish()
            end = await ended(stream)
        assert end.history_dropped == 4
        assert len(gateway.calls[2].messages) == 1
        assert len(await store.messages("me", "s")) == 6

    async def test_what_a_window_had_no_room_for_is_there_again_in_a_larger_one(
        self, make_manager: MakeManager, gateway: ScriptedGateway
    ) -> None:
        manager = make_manager()
        for number, (window, asked, dropped) in enumerate(((200, 1, None), (200, 1, 2), (2000, 5, None))):
            gateway.window = window
            stream = (await start(manager, ask("q" * 320, session_id="s"))).stream
            call = await gateway.call(number)
            call.say("a" * 40)
            call.finish()
            assert (len(call.messages), (await ended(stream)).history_dropped) == (asked, dropped)

    async def test_an_estimate_of_the_usage_counts_the_question_of_an_answer_that_is_generated_again(
        self, manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore
    ) -> None:
        first = (await start(manager, ask("q" * 400, session_id="s"))).stream
        call = await gateway.call(0)
        call.say("a")
        call.finish()
        usage = (await ended(first)).usage
        answer = (await store.messages("me", "s"))[-1].message_id
        again = (await start(manager, ChatRequest(messages=[], session_id="s", replace_from=answer))).stream
        call = await gateway.call(1)
        call.say("a")
        call.finish()
        assert usage is not None
        assert (usage.estimated, usage.prompt_tokens > 100) == (True, True)
        assert (await ended(again)).usage == usage

    async def test_the_next_turn_finds_the_answer_as_soon_as_the_end_is_told(
        self, manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore
    ) -> None:
        stream = (await start(manager, ask("q", session_id="s"))).stream
        seen: list[int] = []

        def look() -> None:
            if stream.log.ended:
                seen.append(len(store._table.use("me", "s").messages))

        stream.log.watch(look)
        call = await gateway.call()
        call.say("a")
        call.finish()
        await ended(stream)
        assert seen == [2]


async def test_a_chunk_with_reasoning_and_text_gives_both_the_reasoning_first(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say(StreamChunk(content="42", reasoning="six times seven"))
    call.finish()
    await ended(stream)

    deltas = [(event.kind, event.text) for event in events(stream) if isinstance(event, Delta)]
    assert deltas == [("reasoning", b"six times seven"), ("content", b"42")]


async def test_draining_refuses_new_requests_and_lets_running_ones_end(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream = (await start(manager, ask(stream_id="old"))).stream
    call = await gateway.call()
    draining = asyncio.create_task(manager.drain(60))
    await asyncio.sleep(0)
    with pytest.raises(Draining):
        await start(manager)
    assert (await start(manager, ask(stream_id="old"))).duplicate
    call.say("whole")
    call.finish()
    async with asyncio.timeout(10):
        await draining
    assert (await ended(stream)).status == "completed"


async def test_what_runs_past_the_drain_ends_as_cancelled(manager: SessionManager, gateway: ScriptedGateway) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    await manager.drain(0.01)
    end = await ended(stream)
    assert (end.status, end.reason) == ("cancelled", "draining")
    assert call.closed.is_set()


async def test_a_closing_loop_still_writes_the_end(make_manager: MakeManager, gateway: ScriptedGateway) -> None:
    manager = make_manager()
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.say("text")
    await until(stream, 2)
    assert stream.task is not None
    stream.task.cancel()
    end = await ended(stream)
    assert (end.status, end.reason) == ("cancelled", "draining")
    async with asyncio.timeout(10):
        await call.closed.wait()


async def test_a_start_has_asked_the_provider_before_anything_else_runs(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    starting = start(manager)
    with pytest.raises(StopIteration) as over:
        starting.send(None)
    assert len(gateway.calls) == 1
    held: HeldStream = over.value.value
    assert held.stream.status == "running"
    manager.cancel("me", held.stream.stream_id)
    assert (await ended(held.stream)).status == "cancelled"


async def test_a_cancel_in_the_streams_own_first_step_ends_it(
    make_manager: MakeManager, gateway: ScriptedGateway
) -> None:
    class CancelsInItsFirstStep(MemoryLog):
        def append(self, make: MakeEvent) -> None:
            super().append(make)
            if self.head_seq == 1:
                manager.cancel("me", "own")

    manager = make_manager(concurrency=1, new_log=CancelsInItsFirstStep)
    await start(make_manager(), ask(stream_id="other"))
    first = (await start(manager, ask(stream_id="first"))).stream
    queued = (await start(manager, ask(stream_id="own"))).stream  # Its first event is that it waits.
    assert queued.status == "cancelling"
    assert (await ended(queued)).status == "cancelled"
    assert first.status == "running"


async def test_a_generation_that_is_cancelled_by_nobody_has_failed(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    stream = (await start(manager)).stream
    call = await gateway.call()
    call.fail(asyncio.CancelledError())
    end = await ended(stream)
    assert (end.status, end.error and end.error.kind) == ("failed", "internal_error")


async def test_the_line_of_a_cancelled_stream_has_the_context_of_its_request_and_not_of_the_cancel(
    manager: SessionManager, gateway: ScriptedGateway
) -> None:
    told: list[dict[str, Any]] = []

    class Watched(asyncio.Event):
        def set(self) -> None:
            told.append(structlog.contextvars.get_contextvars())
            super().set()

    structlog.contextvars.bind_contextvars(request_id="of the request")
    stream = (await start(manager, ask(stream_id="s"))).stream
    (await gateway.call()).closed = Watched()
    structlog.contextvars.bind_contextvars(request_id="of the cancel")
    stream.log.watch(lambda: told.append(structlog.contextvars.get_contextvars()))
    manager.cancel("me", "s")
    await ended(stream)
    assert told == [{"request_id": "of the request", "stream_id": "s"}] * 2  # as it closes the provider, and at the end


async def test_two_deletions_of_all_sessions_of_a_principal_run_one_after_the_other(manager: SessionManager) -> None:
    order: list[str] = []

    async def second() -> None:
        async with manager.sessions_at_rest("me"):
            order.append("second")

    async with manager.sessions_at_rest("me"):
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        async with manager.sessions_at_rest("you"):
            order.append("another principal's")
        order.append("first")
    await asyncio.wait_for(waiting, 5)
    assert order == ["another principal's", "first", "second"]


async def test_two_deletions_of_a_session_run_one_after_the_other(manager: SessionManager) -> None:
    order: list[str] = []

    async def second() -> None:
        async with manager.session_at_rest("me", "s"):
            order.append("second")

    async with manager.session_at_rest("me", "s"):
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        async with manager.session_at_rest("me", "another"), manager.session_at_rest("you", "s"):
            order.append("others")
        order.append("first")
    await asyncio.wait_for(waiting, 5)
    assert order == ["others", "first", "second"]


async def test_where_all_sessions_of_a_principal_are_at_rest_their_streams_have_ended_and_those_of_others_go_on(
    manager: SessionManager, store: MemoryStore
) -> None:
    streams = {}
    for principal in ("me", "you"):
        await store.create(principal, "s", None, None)
        streams[principal] = (await start(manager, ask(session_id="s"), principal)).stream
    async with asyncio.timeout(10), manager.sessions_at_rest("me"):
        assert not streams["me"].is_live
        assert streams["you"].status == "running"
