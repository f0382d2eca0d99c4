"""Streams that wait for results, over a store in a file: acknowledged is kept, and a later process goes on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.agents.tool_loop import ToolLoopAgent
from archer_ws.core.exceptions import (
    Conflict,
    ContentTooLarge,
    Draining,
    InvalidParams,
    Overloaded,
    SessionNotFound,
    StorageUnavailable,
    StreamNotFound,
)
from archer_ws.core.limits import Limits
from archer_ws.llm_gateway.types import ChatRequest, Route, StreamChunk, TokenUsage
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import HeldStream, SessionManager
from archer_ws.sessions.storage.journal import LogPart
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.sessions.storage.values import StoredTurn
from archer_ws.sessions.streams.events import StreamEnded, StreamToolResult
from archer_ws.sessions.streams.gates import ManagerLimits, ProviderGate, StreamQuota
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.tool_models import Approval, Steer, ToolOutcome, ToolResult
from archer_ws.sessions.views import stream_messages
from tests.fakes.calls import CALLS_MADE, TOOLS, piece
from tests.fakes.pictures import image
from tests.fakes.scripted_gateway import Call, ScriptedGateway
from tests.fakes.sqlite_files import sqlite_store
from tests.test_sessions.test_manager import ended, events

WEATHER = piece("call1", "get_weather", '{"city": "Oslo"}')
SECOND = piece("call2", "get_weather", '{"city": "Lima"}')
DELETE = piece("call3", "delete_file", "{}")
LIMIT_S = 20


class Disk:
    """The journal's disk: it is slow, or fails, where what a stream goes on with is to be kept before it is answered.

    The write that the journal makes by itself may bring some of that again, in any moment: it has no trouble.
    """

    def __init__(self, store: SqliteStore) -> None:
        self.fails: list[Exception] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.is_asked = asyncio.Event()
        #: What was kept for a restart, one after another.
        self.loops: list[str] = []
        put = store.journal.put

        async def troubled(parts: Any, forgotten: Any = None) -> None:
            is_by_itself = forgotten is not None  # What is kept before an answer never comes with what is forgotten.
            if not is_by_itself and any(part.loop is not None or _said_in(part) for part in parts):
                self.loops += [part.loop for part in parts if part.loop is not None]
                self.is_asked.set()
                await self.may_go_on.wait()
                if self.fails:
                    raise self.fails.pop(0)
            await put(parts, forgotten or ())

        store.journal.put = troubled  # type: ignore[method-assign]

    def hold(self) -> None:
        self.may_go_on.clear()
        self.is_asked.clear()


def _said_in(part: LogPart) -> bool:
    return any(each.kind in {"tool_update", "tool_result"} for each in part.pieces)


class Process:
    """A server of these objects."""

    def __init__(
        self,
        folder: Path,
        gateway: ScriptedGateway,
        concurrency: int,
        grace_s: float | None = None,
        retention_s: float = 600.0,
    ) -> None:
        self.gateway = gateway
        self.store = sqlite_store(folder)
        judge = FormatJudge()
        self.gate = ProviderGate("ollama", concurrency=concurrency, queue=100)
        self.quota = StreamQuota(max_streams=100, max_per_principal=100)
        self.disk = Disk(self.store)
        self.manager = SessionManager(
            new_log=MemoryLog,
            judge=judge,
            gateway=gateway,
            orchestrator=Orchestrator(gateway, [ToolLoopAgent(gateway, judge.judge_by)]),
            store=self.store,
            quota=self.quota,
            gates={"ollama": self.gate},
            limits=ManagerLimits(grace_s=grace_s, retention_s=retention_s),
            bounds=Limits(journal_every_s=0.01, settle_pauses_s=(0.0, 0.05)),
        )

    async def waiting(self, *calls: Any, **fields: Any) -> Stream:
        """A stream that waits for the results of these calls."""
        call, stream = await self.asked(**fields)
        call.say("Let me look.", *calls, CALLS_MADE)
        call.finish("tool_calls")
        await until(stream, "waiting")
        return stream

    async def asked(self, **fields: Any) -> tuple[Call, Stream]:
        number = len(self.gateway.calls)
        request = ChatRequest.model_validate(
            {
                "session_id": "talk",
                "stream_id": "s",
                "messages": [{"role": "user", "content": "What is the weather?"}],
                "tools": TOOLS,
                "on_tool_call": "wait",
                **fields,
            }
        )
        held = await self.manager.start("me", request, request_id="req_1", on_disconnect="cancel")
        return await self.gateway.call(number), held.stream

    def result(self, call_id: str, content: str = "rain", **fields: Any) -> Awaitable[ToolOutcome]:
        return self.manager.calls.add_result("me", "s", call_id, ToolResult(content=content, **fields))

    def claim(self, call_id: str, claim: str) -> Awaitable[ToolOutcome]:
        return self.manager.calls.claim("me", "s", call_id, claim, holder=None, ttl_s=60)

    def steer(self, message_id: str, content: str) -> Awaitable[ToolOutcome]:
        return self.manager.calls.steer("me", "s", Steer(message_id=message_id, content=content))


@asynccontextmanager
async def process(
    folder: Path, gateway: ScriptedGateway, *, concurrency: int = 100, grace_s: float | None = None
) -> AsyncIterator[Process]:
    """A process from its start on; at the end it is left as a kill leaves it."""
    running = Process(folder, gateway, concurrency, grace_s)
    await running.store.open()
    await running.manager.recover()
    if await running.store.principals() == []:
        await running.store.create("me", "talk", None, None)
    try:
        yield running
    finally:
        await running.store.aclose()
        running.disk.may_go_on.set()
        await running.manager.aclose()


@asynccontextmanager
async def unrecovered(folder: Path, gateway: ScriptedGateway, *, retention_s: float = 600.0) -> AsyncIterator[Process]:
    """A process that has not looked for earlier streams yet, as where the disk was full at its start; it stops in
    order."""
    at = Process(folder, gateway, concurrency=100, retention_s=retention_s)
    await at.store.open()
    try:
        yield at
    finally:
        await at.manager.aclose()
        await at.store.aclose()


async def begun_anew(at: Process) -> HeldStream:
    """Another stream with the id of the one that waited, and without a session."""
    request = asking("Two.", session_id=None, stream_id="s")
    return await at.manager.start("me", request, request_id="r", on_disconnect="continue")


async def until(stream: Stream, status: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while stream.status != status:  # noqa: ASYNC110 - the store's thread brings it about
            await asyncio.sleep(0.002)


async def drained(manager: SessionManager, limit_s: float = LIMIT_S) -> None:
    async with asyncio.timeout(LIMIT_S):
        await manager.drain(limit_s)


def kinds(stream: Stream) -> list[str]:
    return [event.kind for event in events(stream) if event.kind not in {"content", "arguments"}]


async def test_a_result_that_is_repeated_while_it_is_being_kept_is_taken_where_the_first_could_not_be(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER)
        at.disk.hold()
        at.disk.fails.append(StorageUnavailable("slow", hint="wait"))
        first = asyncio.ensure_future(at.result("call1"))
        await at.disk.is_asked.wait()
        again = asyncio.ensure_future(at.result("call1"))
        await asyncio.sleep(0)
        assert not again.done(), "whether it is answered is not known yet"
        at.disk.may_go_on.set()
        with pytest.raises(StorageUnavailable):
            await first
        assert (await again).outcome == "accepted"
        assert (await gateway.call(1)).messages[-1].content == "rain"


async def test_what_is_repeated_while_it_is_being_kept_gets_the_same_answer(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER)
        for say in (partial(at.claim, "call1", "mine"), partial(at.steer, "m1", "In French")):
            at.disk.hold()
            twice = [asyncio.ensure_future(say()) for _ in range(2)]
            await at.disk.is_asked.wait()
            at.disk.may_go_on.set()
            first, second = await asyncio.gather(*twice)
            assert first == second


async def test_a_claim_behind_an_approval_that_could_not_be_kept_is_refused(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(DELETE)
        at.disk.fails.append(StorageUnavailable("slow", hint="wait"))
        approved = asyncio.ensure_future(at.manager.calls.approve("me", "s", "call3", Approval(approved=True)))
        claimed = asyncio.ensure_future(at.claim("call3", "mine"))
        with pytest.raises(StorageUnavailable):
            await approved
        assert (await claimed).outcome == "needs_approval"


async def test_a_message_whose_steering_could_not_be_kept_is_not_said_and_may_come_again(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        call, _ = await at.asked()
        at.disk.fails.append(StorageUnavailable("slow", hint="wait"))
        with pytest.raises(StorageUnavailable):
            await at.steer("m1", "In French")
        assert (await at.steer("m2", "Briefly")).outcome == "accepted"
        call.say("Rain")
        call.finish()
        again = await gateway.call(1)
        assert [message.content for message in again.messages[-2:]] == ["Rain", "Briefly"]


async def test_a_message_whose_steering_could_not_be_kept_is_not_said_behind_a_restart_either(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER, SECOND)
        at.disk.fails.append(StorageUnavailable("slow", hint="wait"))
        with pytest.raises(StorageUnavailable):
            await at.steer("m1", "Briefly")
        assert (await at.result("call2", "sun")).outcome == "accepted"
    async with process(tmp_path, gateway) as at:
        assert (await at.result("call1")).outcome == "accepted"
        assert [message.content for message in (await gateway.call(1)).messages[-2:]] == ["rain", "sun"]


async def test_a_defect_while_something_is_being_kept_is_an_error_and_nothing_stays_blocked(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER)
        at.disk.fails.append(RuntimeError("a defect"))
        with pytest.raises(RuntimeError, match="a defect"):
            await asyncio.wait_for(at.result("call1"), LIMIT_S)
        assert (await at.result("call1")).outcome == "accepted"


async def test_a_result_that_is_being_kept_as_its_claim_lapses_stays_the_result(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        stream = await at.waiting(WEATHER)
        assert (await at.claim("call1", "mine")).outcome == "claimed"
        at.disk.hold()
        accepting = asyncio.ensure_future(at.result("call1", claim="mine"))
        async with asyncio.timeout(LIMIT_S):
            await at.disk.is_asked.wait()
        stream.exchange.calls.open[0].lapse()  # As its timer does.
        at.disk.may_go_on.set()
        assert (await accepting).outcome == "accepted"
        step = await gateway.call(1)
        assert (step.messages[-1].content, kinds(stream).count("tool_result")) == ("rain", 1)


async def test_a_claim_that_is_renewed_as_it_lapses_is_not_lost(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with process(tmp_path, gateway) as at:
        stream = await at.waiting(WEATHER, SECOND)
        assert (await at.claim("call1", "mine")).outcome == "claimed"
        at.disk.hold()
        accepting = asyncio.ensure_future(at.result("call2"))
        async with asyncio.timeout(LIMIT_S):
            await at.disk.is_asked.wait()
        renewing = asyncio.ensure_future(at.claim("call1", "mine"))
        stream.exchange.calls.open[0].lapse()  # As its timer does.
        at.disk.may_go_on.set()
        assert [(await each).outcome for each in (accepting, renewing)] == ["accepted", "claimed"]
        assert (await at.result("call1", claim="mine")).outcome == "accepted"
        assert [message.content for message in (await gateway.call(1)).messages[-2:]] == ["rain", "rain"]


async def test_a_lost_call_that_the_disk_does_not_take_is_told_as_lost_later(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.streams.step_calls._LAPSE_AGAIN_S", 0.01)
    async with process(tmp_path, gateway) as at:
        stream = await at.waiting(WEATHER)
        assert (await at.claim("call1", "mine")).outcome == "claimed"
        at.disk.fails = [StorageUnavailable("full", hint="wait")] * 2
        stream.exchange.calls.open[0].lapse()  # As its timer does.
        await gateway.call(1)
        told = [event for event in events(stream) if isinstance(event, StreamToolResult)]
        assert ([each.status for each in told], at.disk.fails) == (["lost"], [])


async def test_a_call_that_was_approved_can_t_be_denied_any_more(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(DELETE)
        decide = partial(at.manager.calls.approve, "me", "s", "call3")
        outcomes = [(await decide(Approval(approved=approved))).outcome for approved in (True, False, True)]
        assert outcomes == ["accepted", "too_late", "accepted"]
        assert (await at.result("call3", "gone")).outcome == "accepted"
        assert (await gateway.call(1)).messages[-1].content == "gone"


@pytest.mark.parametrize(("reason", "told"), [(None, "The call was denied."), ("No!", "The call was denied: No!")])
async def test_a_model_hears_that_its_call_was_denied_and_the_reason_if_there_is_one(
    tmp_path: Path, gateway: ScriptedGateway, reason: str | None, told: str
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(DELETE)
        denial = Approval(approved=False, reason=reason)
        assert (await at.manager.calls.approve("me", "s", "call3", denial)).outcome == "accepted"
        assert (await gateway.call(1)).messages[-1].content == told


async def test_the_request_is_kept_once_for_all_that_is_said_in_a_step(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER, SECOND, messages=[{"role": "user", "content": "x" * 100_000}])
        assert (await at.claim("call1", "mine")).outcome == "claimed"
        assert (await at.result("call1", claim="mine")).outcome == "accepted"
        assert [len(loop) > 100_000 for loop in at.disk.loops] == [True]
        assert (await at.steer("m1", "Briefly")).outcome == "accepted"
        assert (await at.result("call2")).outcome == "accepted"
        await gateway.call(1)
        assert [("Briefly" in loop) for loop in at.disk.loops] == [False, True]
    async with process(tmp_path, gateway) as at:
        assert at.manager.find("me", "s").status == "incomplete"


async def test_room_that_a_refused_result_took_is_given_back(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.streams.acts.EXCHANGED_BYTES_MAX", 1000)
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER, SECOND)
        for _ in range(3):
            at.disk.fails.append(StorageUnavailable("slow", hint="wait"))
            with pytest.raises(StorageUnavailable):
                await at.result("call1", "x" * 600)
        assert (await at.result("call1", "x" * 600)).outcome == "accepted"


async def test_room_that_a_result_whose_picture_was_not_stored_took_is_given_back(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.streams.acts.EXCHANGED_BYTES_MAX", 1000)

    async def fails(*_: Any) -> Any:
        raise StorageUnavailable("slow", hint="wait")

    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER, SECOND)
        pictured = ToolResult.model_validate({"content": [{"type": "text", "text": "x" * 600}, image()]})
        with monkeypatch.context() as troubled:
            troubled.setattr(at.manager._attachments, "with_files", fails)
            for _ in range(3):
                with pytest.raises(StorageUnavailable):
                    await at.manager.calls.add_result("me", "s", "call1", pictured)
        assert (await at.manager.calls.add_result("me", "s", "call1", pictured)).outcome == "accepted"


async def test_a_stream_is_cancelled_though_who_sent_a_picture_that_is_being_stored_has_gone(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        stream = await at.waiting(WEATHER)
        begun, may_store = slow_to_store_files(at.manager, monkeypatch)
        pictured = ToolResult.model_validate({"content": [image()]})
        sending = asyncio.ensure_future(at.manager.calls.add_result("me", "s", "call1", pictured))
        async with asyncio.timeout(LIMIT_S):
            await begun.wait()
        sending.cancel()
        at.manager.cancel("me", "s")
        end = await ended(stream)
        may_store.set()
        assert (end.status, end.reason, end.error) == ("cancelled", "client", None)


async def test_what_is_repeated_is_harmless_though_there_is_no_room_for_more(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.streams.acts.EXCHANGED_BYTES_MAX", 1000)
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER, SECOND)
        for _ in range(2):
            assert (await at.steer("m1", "x" * 500)).outcome == "accepted"
        assert (await at.result("call1", "x" * 500)).outcome == "accepted"
        assert (await at.steer("m1", "x" * 500)).outcome == "accepted"
        assert (await at.result("call1", "x" * 500)).outcome == "already_answered"
        with pytest.raises(ContentTooLarge):
            await at.steer("m2", "x")
        assert (await at.result("call2", "")).outcome == "accepted"
        await gateway.call(1)  # The next step, in which neither call is open any more.
        assert (await at.result("call1", "x" * 500)).outcome == "already_answered"


async def test_calls_that_were_being_kept_as_a_cancel_came_are_nowhere_afterwards(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        call, stream = await at.asked()
        at.disk.hold()
        call.say("Let me look.", WEATHER, SECOND, CALLS_MADE)
        call.finish("tool_calls")
        await at.disk.is_asked.wait()
        at.disk.may_go_on.set()
        await asyncio.sleep(0)  # It is handed to the store's thread.
        at.manager.cancel("me", "s")
        await ended(stream)
        before = events(stream)
        assert "tool_call" not in kinds(stream)
    async with process(tmp_path, gateway) as at:
        again = at.manager.find("me", "s")
        await again.wait_admitted()
        assert events(again) == before
        assert list(again.log.events()) == list(stream.log.events())


def slow_to_answer(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """The first turn is stored, which is told when the second event is set; the first one is set when it is there."""
    is_there, may_go_on = asyncio.Event(), asyncio.Event()
    begin_turn = store.begin_turn

    async def slow(*args: Any, **fields: Any) -> StoredTurn:
        is_first = not is_there.is_set()
        turn = await begin_turn(*args, **fields)
        is_there.set()
        if is_first:
            await may_go_on.wait()
        return turn

    monkeypatch.setattr(store, "begin_turn", slow)
    return is_there, may_go_on


def slow_to_store_files(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> tuple[asyncio.Event, asyncio.Event]:
    """Inline data is stored when the second event is set; the first one is set when that is to begin."""
    begun, may_store = asyncio.Event(), asyncio.Event()
    with_files = manager._attachments.with_files

    async def slow(*args: Any) -> Any:
        begun.set()
        await may_store.wait()
        return await with_files(*args)

    monkeypatch.setattr(manager._attachments, "with_files", slow)
    return begun, may_store


def asking(text: str | list[Any], **fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": text}]
    return ChatRequest.model_validate({"session_id": "talk", "messages": messages, **fields})


async def cancelled_while_stored(at: Process, request: ChatRequest, monkeypatch: pytest.MonkeyPatch) -> StreamEnded:
    """The end of a turn that is cancelled while the store has it, and has not said so; what undoes it is over."""
    is_there, _ = slow_to_answer(at.store, monkeypatch)
    stream = at.manager.register("me", request, request_id="r", on_disconnect="continue").stream
    async with asyncio.timeout(LIMIT_S):
        await is_there.wait()
    stream.cancel("client")
    end = await ended(stream)
    await at.store.update("me", "talk", "a write behind the withdrawal", None)
    return end


def interrupting(at: Process, *, at_once: bool = False) -> Stream:
    """A turn that interrupts what runs in the session."""
    request = asking("Two.", on_busy="interrupt")
    return at.manager.register("me", request, request_id="r", on_disconnect="continue", at_once=at_once).stream


async def test_nothing_is_stored_of_a_turn_that_is_cancelled_before_it_is_accepted(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        end = await cancelled_while_stored(at, asking("No!"), monkeypatch)
        assert (end.status, end.message_ids) == ("cancelled", None)
        assert await at.store.messages("me", "talk") == []
        held = await at.manager.start("me", asking("Yes."), request_id="r", on_disconnect="continue")
        (await gateway.call()).finish()
        await ended(held.stream)
        assert [message.content for message in await at.store.messages("me", "talk")] == ["Yes."]


@pytest.mark.parametrize("iterations", range(8))
async def test_what_is_told_of_a_turn_is_what_is_stored_though_its_cancel_comes_in_the_moment_of_its_storing(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, iterations: int
) -> None:
    async with process(tmp_path, gateway) as at:
        is_there, may_go_on = slow_to_answer(at.store, monkeypatch)
        stream = at.manager.register("me", asking("Perhaps."), request_id="r", on_disconnect="continue").stream
        async with asyncio.timeout(LIMIT_S):
            await is_there.wait()
        may_go_on.set()
        for _ in range(iterations):
            await asyncio.sleep(0)
        stream.cancel("client")
        end = await ended(stream)
        await at.store.update("me", "talk", "a write behind a withdrawal", None)
        stored = await at.store.messages("me", "talk")
        assert (end.message_ids or []) == [message.message_id for message in stored]


async def test_nothing_is_stored_of_a_turn_that_is_cancelled_in_a_conversation_that_was_longer_before_an_edit(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def say(at: Process, text: str, **fields: Any) -> str:
        held = await at.manager.start("me", asking(text, **fields), request_id="r", on_disconnect="continue")
        (await gateway.call(len(gateway.calls) - 1)).finish()
        return ((await ended(held.stream)).message_ids or [])[0]

    async with process(tmp_path, gateway) as at:
        first = await say(at, "One.")
        for text in ("Two.", "Three."):
            await say(at, text)
        await say(at, "Other.", replace_from=first)
        assert (await cancelled_while_stored(at, asking("No!"), monkeypatch)).message_ids is None
        assert [message.content for message in await at.store.messages("me", "talk")] == ["Other."]


async def test_a_turn_that_has_replaced_others_stays_when_it_is_cancelled_before_it_is_accepted(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        held = await at.manager.start("me", asking("One."), request_id="r", on_disconnect="continue")
        (await gateway.call()).finish()
        first = ((await ended(held.stream)).message_ids or [])[0]
        await cancelled_while_stored(at, asking("Other.", replace_from=first), monkeypatch)
        assert [message.content for message in await at.store.messages("me", "talk")] == ["Other."]


async def test_a_turn_that_is_cancelled_before_it_is_accepted_is_gone_when_its_end_is_told(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        is_there, _ = slow_to_answer(at.store, monkeypatch)
        withdraw, is_asked, may_go_on = at.store.journal.withdraw, asyncio.Event(), asyncio.Event()

        async def slow(*args: Any, **fields: Any) -> bool:
            is_asked.set()
            await may_go_on.wait()
            return await withdraw(*args, **fields)

        monkeypatch.setattr(at.store.journal, "withdraw", slow)
        stream = at.manager.register("me", asking("No!"), request_id="r", on_disconnect="continue").stream
        async with asyncio.timeout(LIMIT_S):
            await is_there.wait()
            stream.cancel("client")
            await is_asked.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert stream.is_live
        may_go_on.set()
        await ended(stream)
        assert await at.store.messages("me", "talk") == []


async def test_a_turn_that_is_cancelled_is_gone_before_what_is_sent_right_behind_the_cancel_is_stored(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        is_there, _ = slow_to_answer(at.store, monkeypatch)
        first = at.manager.register("me", asking("No!"), request_id="r", on_disconnect="continue").stream
        async with asyncio.timeout(LIMIT_S):
            await is_there.wait()
        first.cancel("client")
        second = at.manager.register(
            "me", asking("Yes.", on_busy="interrupt"), request_id="r", on_disconnect="continue"
        ).stream
        assert (await ended(first)).message_ids is None
        (await gateway.call()).finish()
        await ended(second)
        assert [message.content for message in await at.store.messages("me", "talk")] == ["Yes."]


async def test_a_turn_behind_which_another_is_stored_that_interrupts_it_is_told_as_stored(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        is_there, may_go_on = slow_to_answer(at.store, monkeypatch)
        first = at.manager.register("me", asking("One."), request_id="r", on_disconnect="continue").stream
        async with asyncio.timeout(LIMIT_S):
            await is_there.wait()
        second = await at.manager.start(
            "me", asking("Two.", on_busy="interrupt"), request_id="r", on_disconnect="continue"
        )
        assert first.status == "cancelling"
        may_go_on.set()
        end = await ended(first)
        (await gateway.call()).finish()
        await ended(second.stream)
        stored = await at.store.messages("me", "talk")
        assert [message.content for message in stored] == ["One.", "Two."]
        assert (end.reason, end.message_ids) == ("interrupted", [stored[0].message_id])


@pytest.mark.parametrize("is_there_first", [True, False], ids=["it would be stored first", "it would interrupt first"])
async def test_a_turn_that_interrupts_one_whose_pictures_are_being_stored_is_stored_behind_it(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, *, is_there_first: bool
) -> None:
    async with process(tmp_path, gateway) as at:
        is_there, may_go_on = slow_to_answer(at.store, monkeypatch)
        if not is_there_first:
            may_go_on.set()
        begun, may_store = slow_to_store_files(at.manager, monkeypatch)
        first = at.manager.register("me", asking([image()]), request_id="r", on_disconnect="continue").stream
        async with asyncio.timeout(LIMIT_S):
            await begun.wait()
        second = interrupting(at)
        await at.store.update("me", "talk", "a write behind the second turn's", None)
        await asyncio.sleep(0)
        may_store.set()
        async with asyncio.timeout(LIMIT_S):
            await is_there.wait()
        may_go_on.set()
        end = await ended(first)
        await second.wait_admitted()
        second.cancel("client")
        await ended(second)
        stored = await at.store.messages("me", "talk")
        assert [message.content for message in stored] == ["", "Two."]
        assert (end.reason, end.message_ids) == ("interrupted", [stored[0].message_id])


async def test_a_turn_that_interrupts_one_that_is_cancelled_while_its_pictures_are_stored_goes_on_at_once(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        begun, _ = slow_to_store_files(at.manager, monkeypatch)
        first = at.manager.register("me", asking([image()]), request_id="r", on_disconnect="continue").stream
        async with asyncio.timeout(LIMIT_S):
            await begun.wait()
        second = interrupting(at)
        await asyncio.sleep(0)
        first.cancel("client")
        async with asyncio.timeout(LIMIT_S):
            await second.wait_admitted()
        (await gateway.call()).finish()
        await ended(second)
        assert [message.content for message in await at.store.messages("me", "talk")] == ["Two."]
        assert (first.cancel_reason, first.message_ids) == ("client", [])


async def test_a_turn_that_interrupts_one_that_has_not_begun_yet_is_stored_behind_it(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        # Over a socket, and over HTTP within the same iteration of the event loop.
        first = at.manager.register("me", asking("One."), request_id="r", on_disconnect="continue").stream
        second = interrupting(at, at_once=True)
        end = await ended(first)
        await second.wait_admitted()
        second.cancel("client")
        await ended(second)
        stored = await at.store.messages("me", "talk")
        assert [message.content for message in stored] == ["One.", "Two."]
        assert (end.reason, end.message_ids) == ("interrupted", [stored[0].message_id])


async def test_pictures_of_a_turn_that_is_refused_are_not_left_on_the_disk(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        refused = asking([image()], session_version=7)
        with pytest.raises(Conflict):
            await at.manager.start("me", refused, request_id="r", on_disconnect="continue")
        async with asyncio.timeout(LIMIT_S):
            while at.manager._attachments.files.all():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.002)


async def test_no_picture_is_stored_for_a_session_that_does_not_exist(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        begun, may_store = slow_to_store_files(at.manager, monkeypatch)
        may_store.set()
        with pytest.raises(SessionNotFound):
            await at.manager.start(
                "me", asking([image()], session_id="nowhere"), request_id="r", on_disconnect="continue"
            )
        assert not begun.is_set()


async def test_a_parked_streams_place_in_the_queue_of_its_provider_is_given_to_others(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway, concurrency=1) as at:
        stream = await at.waiting(WEATHER)
        other, running = await at.asked(session_id=None, stream_id="other", on_tool_call="end")
        queued = at.manager.register(
            "me", asking("Next.", session_id=None), request_id="r", on_disconnect="continue"
        ).stream
        assert (await at.result("call1")).outcome == "accepted"
        await until(stream, "queued")
        draining = asyncio.create_task(at.manager.drain(LIMIT_S))
        async with asyncio.timeout(LIMIT_S):
            while not stream.is_parked:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.002)
        other.finish()
        await ended(running)
        (await gateway.call(2)).finish()
        assert (await ended(queued)).status == "completed"
        await draining


async def test_a_turn_that_interrupts_one_that_ends_while_its_own_pictures_are_stored_goes_on(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        call, first = await at.asked()
        begun, may_store = slow_to_store_files(at.manager, monkeypatch)
        pictured = asking([image()], on_busy="interrupt")
        second = at.manager.register("me", pictured, request_id="r", on_disconnect="continue").stream
        async with asyncio.timeout(LIMIT_S):
            await begun.wait()
        call.say("All of it.")
        call.finish()
        assert (await ended(first)).status == "completed"
        may_store.set()
        (await gateway.call(1)).finish()
        assert (await ended(second)).status == "completed"


async def test_a_turn_that_interrupts_one_that_is_refused_once_its_pictures_are_stored_goes_on(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        begun, may_store = slow_to_store_files(at.manager, monkeypatch)
        refused = asking([image()], session_version=7)
        first = at.manager.register("me", refused, request_id="r", on_disconnect="continue").stream
        async with asyncio.timeout(LIMIT_S):
            await begun.wait()
        second = interrupting(at)
        await asyncio.sleep(0)
        may_store.set()
        with pytest.raises(Conflict):
            await first.wait_admitted()
        (await gateway.call()).finish()
        assert (await ended(second)).status == "completed"


async def test_a_server_that_stops_parks_what_waits_and_the_next_one_goes_on(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        stream = await at.waiting(WEATHER, SECOND)
        assert (await at.result("call2", "sun in Lima")).outcome == "accepted"
        await drained(at.manager)
        assert stream.log.ended is None
        assert (at.manager.running, at.gate.free, at.quota._waiting) == (0, 100, {})
        for say in (partial(at.result, "call1"), partial(at.steer, "m1", "Briefly")):
            with pytest.raises(Draining):
                await say()
        with pytest.raises(Draining):
            at.manager.cancel("me", "s")
        with pytest.raises(Draining):
            at.manager.find("me", "s")
        told = events(stream)
    async with process(tmp_path, gateway) as at:
        again = at.manager.find("me", "s")
        assert again.status == "waiting"
        assert events(again) == told
        assert (await at.result("call1", "rain in Oslo")).outcome == "accepted"
        call = await gateway.call(1)
        assert [message.content for message in call.messages[-2:]] == ["rain in Oslo", "sun in Lima"]
        call.say("Rain there, sun here.")
        call.finish()
        await ended(again)
        stored = await at.store.messages("me", "talk")
        assert [message.role.value for message in stored] == ["user", "assistant", "tool", "tool", "assistant"]


async def test_a_parked_stream_takes_results_until_its_process_is_gone_and_begins_no_step(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        stream = await at.waiting(WEATHER)
        other, running = await at.asked(session_id=None, stream_id="other", on_tool_call="end")
        draining = asyncio.create_task(at.manager.drain(LIMIT_S))
        async with asyncio.timeout(LIMIT_S):
            while not stream.is_parked:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.002)
        assert (stream.status, at.manager.find("me", "s")) == ("waiting", stream)
        assert (await at.result("call1")).outcome == "accepted"
        assert (await at.result("call1")).outcome == "already_answered"
        other.finish()
        await ended(running)
        await draining
        assert len(gateway.calls) == 2
        assert kinds(stream)[-1] == "tool_result"
    async with process(tmp_path, gateway) as at:
        assert (await gateway.call(2)).messages[-1].content == "rain"


async def test_a_server_that_stops_ends_a_stream_whose_next_step_is_just_being_stored(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        stream = await at.waiting(WEATHER)
        assert (await at.result("call1")).outcome == "accepted"
        at.disk.hold()
        async with asyncio.timeout(LIMIT_S):
            await at.disk.is_asked.wait()
            stopping = asyncio.create_task(at.manager.aclose())
            await asyncio.sleep(0)
            at.disk.may_go_on.set()
            asked = asyncio.ensure_future(gateway.call(1))
            await asyncio.wait((asked, stopping), return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                asked.result().finish()  # Too late: the stream is cancelled.
            asked.cancel()
            await stopping
        end = await ended(stream)
        assert (end.status, end.reason, stream.is_parked) == ("cancelled", "draining", False)


async def storing_a_step(at: Process) -> Stream:
    """A stream whose call has its result, and whose next step the disk is about to take."""
    stream = await at.waiting(WEATHER)
    at.disk.hold()
    accepting = asyncio.ensure_future(at.result("call1"))
    async with asyncio.timeout(LIMIT_S):
        await at.disk.is_asked.wait()
        at.disk.may_go_on.set()
        await accepting
        at.disk.hold()
        await at.disk.is_asked.wait()
    return stream


async def test_a_step_that_the_disk_does_not_take_is_left_to_the_next_process_where_the_server_stops(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        stream = await storing_a_step(at)
        async with asyncio.timeout(LIMIT_S):
            at.disk.fails = [StorageUnavailable("full", hint="wait")]
            at.disk.may_go_on.set()
            while at.disk.fails:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.002)
            await at.manager.drain(LIMIT_S)
        assert (stream.is_parked, stream.log.ended, len(gateway.calls)) == (True, None, 1)
    async with process(tmp_path, gateway) as at:
        again = at.manager.find("me", "s")
        step = await gateway.call(1)
        assert step.messages[-1].content == "rain"
        step.finish()
        assert (await ended(again)).status == "completed"


async def test_a_message_for_a_step_that_began_as_the_server_was_told_to_stop_is_said_in_the_next_one(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        stream = await storing_a_step(at)
        async with asyncio.timeout(LIMIT_S):
            draining = asyncio.create_task(at.manager.drain(LIMIT_S))
            await asyncio.sleep(0)
            at.disk.may_go_on.set()
            second = await gateway.call(1)
            assert (await at.steer("m1", "Briefly")).outcome == "accepted"
            second.finish()
            third = await gateway.call(2)
            assert third.messages[-1].content == "Briefly"
            third.finish()
            assert (await ended(stream)).status == "completed"
            await draining


async def test_a_cancel_of_a_stream_that_waits_for_its_providers_slot_leaves_no_task(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway, concurrency=1) as at:
        stream = await at.waiting(WEATHER)
        other, running = await at.asked(session_id=None, stream_id="other", on_tool_call="end")
        before = asyncio.all_tasks()
        assert (await at.result("call1")).outcome == "accepted"
        await until(stream, "queued")
        async with asyncio.timeout(LIMIT_S):
            while kinds(stream)[-1] != "progress":  # noqa: ASYNC110 - the store's thread brings it about
                await asyncio.sleep(0.002)
        at.manager.cancel("me", "s")
        await ended(stream)
        assert {task.get_name() for task in asyncio.all_tasks() - before} <= {"journal"}
        other.finish()
        await ended(running)


async def test_a_cancel_ends_a_parked_stream(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with process(tmp_path, gateway) as at:
        stream = await at.waiting(WEATHER)
        _, running = await at.asked(session_id=None, stream_id="other", on_tool_call="end")
        draining = asyncio.create_task(at.manager.drain(LIMIT_S))
        async with asyncio.timeout(LIMIT_S):
            while not stream.is_parked:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.002)
        assert at.manager.cancel("me", "s").outcome == "cancelling"
        assert at.manager.cancel("me", "s").outcome == "cancelling"
        await ended(stream)
        assert (stream.status, kinds(stream)[-2:]) == ("cancelled", ["tool_result", "ended"])
        at.manager.cancel("me", "other")
        await ended(running)
        await draining
        assert at.manager.running == 0
    async with process(tmp_path, gateway) as at:
        assert at.manager.find("me", "s").status == "cancelled"
        stored = await at.store.messages("me", "talk")
        assert [message.result_status for message in stored if message.call_id] == ["cancelled"]


@pytest.mark.parametrize("then", ["nothing", "a cancel", "a cancel right behind it"])
async def test_a_result_that_is_being_stored_as_the_server_stops_is_waited_for(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    async with process(tmp_path, gateway) as at:
        stream = await at.waiting(WEATHER)
        other, running = await at.asked(session_id=None, stream_id="other", on_tool_call="end")
        draining = asyncio.create_task(at.manager.drain(LIMIT_S))
        async with asyncio.timeout(LIMIT_S):
            while not stream.is_parked:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.002)
        at.disk.hold()
        accepting = asyncio.ensure_future(at.result("call1"))
        is_left, quiet = asyncio.Event(), stream.exchange.quiet

        async def noted() -> None:
            is_left.set()
            await quiet()
            if then == "a cancel right behind it":
                at.manager.cancel("me", "s")

        monkeypatch.setattr(stream.exchange, "quiet", noted)
        async with asyncio.timeout(LIMIT_S):
            await at.disk.is_asked.wait()
            other.finish()
            await ended(running)
            await is_left.wait()
            if then == "a cancel":
                at.manager.cancel("me", "s")
                await ended(stream)
            at.disk.may_go_on.set()
            outcome = (await accepting).outcome
            await draining
        assert outcome == ("already_ended" if then == "a cancel" else "accepted")
        if then == "nothing":
            assert stream.log.ended is None
        else:
            await ended(stream)
    async with process(tmp_path, gateway) as at:
        again = at.manager.find("me", "s")
        if then == "nothing":
            (await gateway.call(2)).finish()
        assert (await ended(again)).status == ("completed" if then == "nothing" else "cancelled")


async def test_a_stream_that_is_cancelled_while_it_waits_behind_a_restart_costs_what_its_provider_told(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    told = TokenUsage(prompt_tokens=1000, completion_tokens=70, total_tokens=1070)
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER, StreamChunk(content="", usage=told))
        await drained(at.manager)
    async with process(tmp_path, gateway) as at:
        stream = at.manager.find("me", "s")
        at.manager.cancel("me", "s")
        await ended(stream)
        assert (stream.status, stream.usage) == ("cancelled", told)


async def test_a_step_whose_tokens_were_not_told_is_estimated_behind_a_restart_too(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    told = TokenUsage(prompt_tokens=1000, completion_tokens=70, total_tokens=1070)
    async with process(tmp_path, gateway) as at:
        stream = await at.waiting(WEATHER, StreamChunk(content="", usage=told))
        await at.result("call1")
        second = await gateway.call(1)
        second.say("x" * 400, SECOND, CALLS_MADE)
        second.finish("tool_calls")
        await until(stream, "waiting")
        before = stream.usage
        await drained(at.manager)
    async with process(tmp_path, gateway) as at:
        usage = at.manager.find("me", "s").usage
        assert usage is not None
        assert usage == before
        assert usage.estimated
        assert usage.prompt_tokens > 1000
        assert usage.completion_tokens >= 170


async def test_what_a_step_cost_is_kept_though_a_message_was_steered_in_while_it_ran(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    told = TokenUsage(prompt_tokens=1000, completion_tokens=70, total_tokens=1070)
    async with process(tmp_path, gateway) as at:
        call, stream = await at.asked()
        assert (await at.steer("m1", "Briefly")).outcome == "accepted"
        call.say("Let me look.", WEATHER, StreamChunk(content="", usage=told), CALLS_MADE)
        call.finish("tool_calls")
        await until(stream, "waiting")
    async with process(tmp_path, gateway) as at:
        assert at.manager.find("me", "s").usage == told


async def test_a_server_that_stops_waits_for_who_runs_a_call(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with process(tmp_path, gateway) as at:
        stream = await at.waiting(WEATHER)
        assert (await at.claim("call1", "mine")).outcome == "claimed"
        draining = asyncio.create_task(at.manager.drain(LIMIT_S))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not stream.is_parked
        assert (await at.result("call1", claim="mine")).outcome == "accepted"
        async with asyncio.timeout(LIMIT_S):
            await draining
        assert len(gateway.calls) == 1
    async with process(tmp_path, gateway) as at:
        assert (await gateway.call(1)).messages[-1].content == "rain"


async def test_a_claim_of_a_process_that_is_gone_is_lost_and_an_idempotent_call_open_again(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    tools = [{**TOOLS[0], "name": name, "idempotent": name == "read"} for name in ("read", "write")]
    calls = [piece(f"c-{name}", name, "{}") for name in ("read", "write")]
    async with process(tmp_path, gateway) as at:
        await at.waiting(*calls, tools=tools)
        assert (await at.claim("c-read", "mine")).outcome == "claimed"
        assert (await at.claim("c-write", "mine")).outcome == "claimed"
    async with process(tmp_path, gateway) as at:
        stream = at.manager.find("me", "s")
        async with asyncio.timeout(LIMIT_S):
            while kinds(stream)[-2:] != ["tool_update", "tool_result"]:  # noqa: ASYNC110 - the store's thread
                await asyncio.sleep(0.002)
        assert (await at.result("c-write")).status == "lost"
        assert (await at.claim("c-read", "other")).outcome == "claimed"
        assert (await at.result("c-read", claim="other")).outcome == "accepted"
        call = await gateway.call(1)
        assert [message.status for message in call.messages[-2:]] == ["ok", "lost"]


async def test_what_must_be_kept_of_a_stream_waits_for_the_write_of_its_text_that_goes_on(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        put, is_asked, may_go_on = at.store.journal.put, asyncio.Event(), asyncio.Event()
        at_once = most = 0

        async def slow(*given: Any) -> None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            is_asked.set()
            await may_go_on.wait()
            await put(*given)
            at_once -= 1

        call, stream = await at.asked()
        monkeypatch.setattr(at.store.journal, "put", slow)
        call.say("Let me look.")
        async with asyncio.timeout(LIMIT_S):
            await is_asked.wait()
        call.say(WEATHER, CALLS_MADE)
        call.finish("tool_calls")
        for _ in range(20):
            await asyncio.sleep(0)
        may_go_on.set()
        await until(stream, "waiting")
        assert most == 1


async def test_a_waiting_stream_that_is_not_stored_is_cancelled_as_the_server_stops(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        stream = await at.waiting(WEATHER, session_id=None)
        await drained(at.manager)
        end = await ended(stream)
        assert (end.status, end.reason) == ("cancelled", "draining")


async def test_a_deadline_that_passed_while_no_process_was_there_ends_the_stream_at_once(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER, tool_timeout_s=0.3)
        await drained(at.manager)
    await asyncio.sleep(0.3)  # It is the clock's.
    async with process(tmp_path, gateway) as at:
        stream = at.manager.find("me", "s")
        await ended(stream)
        assert stream.log.ended is not None
        assert stream.log.ended.error is not None
        assert (stream.status, stream.log.ended.error.kind) == ("incomplete", "tool_timeout")


def no_provider(request: ChatRequest, *, with_defaults: bool = True) -> Route:
    raise InvalidParams("there is no provider 'ollama'", hint="Name another one.")


async def test_a_stream_whose_provider_is_gone_is_named_as_such_and_goes_on_where_there_is_one_again(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER)

    with monkeypatch.context() as gone:
        gone.setattr(gateway, "resolve", no_provider)
        async with process(tmp_path, gateway) as at:
            with pytest.raises(StreamNotFound, match="stream 's' can't go on: there is no provider 'ollama'") as told:
                at.manager.find("me", "s")
            assert "stays stored" in str(told.value.hint)
            with pytest.raises(StreamNotFound, match="there is no stream 's'"):
                at.manager.find("somebody else", "s")
            at.manager.session_gone("me", "another")
            at.manager.session_gone("somebody else", "talk")
            with pytest.raises(StreamNotFound, match="can't go on"):
                at.manager.find("me", "s")
            at.manager.session_gone("me", "talk")
            with pytest.raises(StreamNotFound, match="there is no stream 's'"):
                at.manager.find("me", "s")
    async with process(tmp_path, gateway) as at:
        assert (await at.result("call1")).outcome == "accepted"
        (await gateway.call(1)).finish()
        assert (await ended(at.manager.find("me", "s"))).status == "completed"


async def test_a_stream_that_had_the_id_of_one_that_could_not_go_on_is_forgotten_as_any_other(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER)
    async with unrecovered(tmp_path, gateway, retention_s=0.0) as at:
        with monkeypatch.context() as gone:
            gone.setattr(gateway, "resolve", no_provider)
            await at.manager.recover()
        held = await begun_anew(at)
        (await gateway.call(1)).finish()
        await ended(held.stream)
        held.hold.release()
        with pytest.raises(StreamNotFound, match="there is no stream 's'"):
            at.manager.find("me", "s")


async def test_a_stream_that_came_first_keeps_its_id_though_one_from_before_has_it_too(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER)
    async with unrecovered(tmp_path, gateway) as at:
        held = await begun_anew(at)
        await at.manager.recover()
        assert at.manager.find("me", "s") is held.stream
        (await gateway.call(1)).finish()
        assert (await ended(held.stream)).status == "completed"
        assert at.manager.running == 0


async def test_reading_the_messages_of_a_stream_that_nobody_follows_yet_after_a_restart_does_not_end_it(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER, on_disconnect="cancel")
    async with process(tmp_path, gateway) as at:
        stream = at.manager.find("me", "s")
        read = await stream_messages(stream, None)
        assert [message.content for message in read.messages or ()] == ["Let me look."]
        await asyncio.sleep(0)  # A release without another hold would cancel it in the next iteration.
        assert stream.status == "waiting"
        assert (await at.result("call1")).outcome == "accepted"
        (await gateway.call(1)).finish()
        assert (await ended(stream)).status == "completed"


async def test_reading_the_messages_of_a_stream_from_before_a_restart_does_not_keep_them_in_memory(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        call, stream = await at.asked()
        call.say("Let me look.")
        call.finish()
        await ended(stream)
    async with process(tmp_path, gateway) as at:
        stream = at.manager.find("me", "s")
        read = await stream_messages(stream, None)
        assert [message.content for message in read.messages or ()] == ["Let me look."]
        await asyncio.sleep(0)
        assert not stream.is_admitted  # Its log is loaded anew for whoever reads it next.


async def test_the_grace_bounds_a_stream_that_nobody_follows_after_a_restart_too(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER)
    async with process(tmp_path, gateway, grace_s=0.05) as at:
        end = await ended(at.manager.find("me", "s"))
        assert (end.status, end.reason) == ("cancelled", "disconnected")


async def test_a_waiting_stream_goes_on_also_where_new_streams_have_taken_all_room(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as at:
        await at.waiting(WEATHER)
    async with unrecovered(tmp_path, gateway) as at:
        for _ in range(100):
            at.quota.enter("me")
        await at.manager.recover()
        assert (await at.result("call1")).outcome == "accepted"
        (await gateway.call(1)).finish()
        assert (await ended(at.manager.find("me", "s"))).status == "completed"
        with pytest.raises(Overloaded):
            at.quota.enter("me")
