"""A stream that waited when its process went waits again in the next one, and goes on (protocol section 26)."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from archer_ws.core.exceptions import (
    ArcherError,
    Draining,
    InvalidParams,
    ProviderNotConfigured,
    SessionBusy,
    SessionNotFound,
    StorageUnavailable,
    StreamNotFound,
)
from archer_ws.llm_gateway.types import ChatRequest, Route
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.sessions.streams import exchange
from archer_ws.sessions.streams.events import StreamEnded
from archer_ws.sessions.streams.gates import ProviderGate
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.streams.tombstones import TOMBSTONE_S, Tombstones
from archer_ws.sessions.tool_models import Approval, Steer, ToolResult
from tests.fakes.manual_clock import ManualClock
from tests.fakes.pictures import image, text
from tests.fakes.scripted_gateway import ScriptedGateway
from tests.test_sessions.looping import (
    DONE,
    ID,
    SOON,
    STEPS,
    Model,
    Reader,
    Said,
    failing_connection,
    open_calls,
    process,
    request,
    result_of,
    until,
    work,
)


class Life:
    """A folder, and one process after another on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gateway = ScriptedGateway()
        self.model: Model | None = None
        self.make_room: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def process(self, **settings: Any) -> AsyncIterator[SessionManager]:
        self.gateway = ScriptedGateway()
        async with process(self.folder, self.gateway, **settings) as (manager, store):
            self.store: SqliteStore = store
            self.model = Model(self.gateway)
            yield manager
            await self.model.aclose()

    async def begin(self, manager: SessionManager, **fields: Any) -> Stream:
        """The stream, once it waits."""
        if not await self.store.principals():
            await self.store.create("me", "s", None, None)
        stream = (await manager.start("me", request(**fields), request_id="req_1", on_disconnect="continue")).stream
        await until(lambda: stream.status == "waiting")
        return stream

    def change(self, sql: str) -> None:
        """Damage the file that no process has."""
        connection = sqlite3.connect(self.folder / "archer.db")
        with connection:
            assert connection.execute(sql).rowcount > 0
        connection.close()


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path)


async def answer(manager: SessionManager, call_id: str, content: str = "", claim: str | None = None) -> str:
    said = ToolResult(content=content or result_of(call_id), claim=claim)
    return (await manager.calls.add_result("me", ID, call_id, said)).outcome


async def claim(manager: SessionManager, call_id: str, claim: str = "mine") -> str:
    return (await manager.calls.claim("me", ID, call_id, claim, holder=None, ttl_s=60)).outcome


async def steer(manager: SessionManager, message_id: str) -> str:
    return (await manager.calls.steer("me", ID, Steer(message_id=message_id, content="Briefly"))).outcome


async def approve(manager: SessionManager, call_id: str) -> str:
    return (await manager.calls.approve("me", ID, call_id, Approval(approved=True))).outcome


def results(stream: Stream) -> dict[str, tuple[str, str | None]]:
    reader = Reader()
    reader.read(stream.log)
    return {call_id: result for step in reader.steps for call_id, result in step["results"].items()}


async def ended(stream: Stream) -> StreamEnded:
    async with asyncio.timeout(20):
        await stream.wait_ended()
    assert stream.log.ended is not None
    return stream.log.ended


async def test_an_approval_asked_in_the_evening_is_given_in_the_morning(life: Life) -> None:
    async with life.process() as manager:
        await life.begin(manager)
        assert await claim(manager, "d1") == "needs_approval"
    async with life.process() as manager:
        stream = manager.find("me", ID)
        assert stream.status == "waiting"
        assert [active.status for active in manager.active_in("me", "s")] == ["waiting"]
        assert await claim(manager, "d1") == "needs_approval"
        assert await approve(manager, "d1") == "accepted"
    async with life.process() as manager:
        assert await approve(manager, "d1") == "accepted", "it holds, and is harmless to repeat"
        assert await claim(manager, "d1") == "claimed"
        assert await answer(manager, "d1", claim="mine") == "accepted"
        stream = await work(manager, Said())
        assert (await ended(stream)).status == "completed"


async def test_a_claimed_call_is_lost_an_idempotent_one_open_and_an_answered_one_keeps_its_result(life: Life) -> None:
    async with life.process() as manager:
        await life.begin(manager)
        assert await claim(manager, "w1") == "claimed"
        assert await claim(manager, "i1") == "claimed"
        assert await approve(manager, "d1") == "accepted"
        assert await answer(manager, "d1", "deleted") == "accepted"
    async with life.process() as manager:
        stream = manager.find("me", ID)
        await until(lambda: set(results(stream)) == {"w1", "d1"})
        found = results(stream)
        assert found["w1"][0] == "lost"
        assert "may or may not have taken effect" in (found["w1"][1] or "")
        assert found["d1"] == ("ok", "deleted")
        assert [call.call_id for call in open_calls(stream.log.events())] == ["i1"]
        assert await answer(manager, "w1", claim="mine") == "already_answered"
        assert await answer(manager, "i1", claim="mine") == "accepted", "it is open: the old claim holds nothing"
        assert life.model is not None
        stream = await work(manager, Said())
        assert life.model.steps == [2, 3]


#: Of a process whose stream ignores that it ends.
SOON_GIVEN_UP = replace(SOON, settle_limit_s=0.1)


def never_steps(stream: Stream) -> None:
    """It gets no further than before its next step: there the test kills it."""
    stream.exchange._begin_step = asyncio.Event().wait  # type: ignore[method-assign, assignment]


async def test_the_next_step_starts_once_where_all_results_were_there(life: Life) -> None:
    async with life.process(bounds=SOON_GIVEN_UP) as manager:
        never_steps(await life.begin(manager))
        assert await approve(manager, "d1") == "accepted"
        for call_id in ("i1", "d1", "w1"):
            assert await answer(manager, call_id) == "accepted"
    async with life.process() as manager:
        assert life.model is not None
        stream = await work(manager, Said())
        assert life.model.steps == [2, 3]
        assert (await ended(stream)).status == "completed"


async def test_a_message_steered_in_before_is_said_in_the_next_step_and_may_be_repeated(life: Life) -> None:
    steer = Steer(message_id="m1", content="In Celsius.")
    async with life.process() as manager:
        await life.begin(manager)
        assert (await manager.calls.steer("me", ID, steer)).outcome == "accepted"
    async with life.process() as manager:
        assert (await manager.calls.steer("me", ID, steer)).outcome == "accepted"
        await work(manager, Said())
        messages = await life.store.messages("me", "s")
        assert [message.content for message in messages].count("In Celsius.") == 1
        assert [message.role for message in messages][:6] == ["user", "assistant", "tool", "tool", "tool", "user"]


async def test_what_was_steered_into_a_stream_that_was_lost_is_told_as_unsteered(life: Life) -> None:
    async with life.process() as manager:
        await life.store.create("me", "s", None, None)
        asked = request(on_tool_call="end")
        await manager.start("me", asked, request_id="r", on_disconnect="continue")
        steer = Steer(message_id="m1", content="In Celsius.")
        assert (await manager.calls.steer("me", ID, steer)).outcome == "accepted"
    async with life.process() as manager:
        found = (await ended(manager.find("me", ID))).unsteered
        assert found is not None
        assert [(each.message_id, each.content) for each in found] == [("m1", "In Celsius.")]


async def test_what_was_steered_into_a_stream_before_its_turn_was_stored_outlives_the_server_as_well(
    life: Life,
) -> None:
    async with life.process() as manager:
        await life.store.create("me", "s", None, None)
        question = {"role": "user", "content": [text("Where is this?"), image()]}
        # The picture is stored first, so the turn comes behind whatever is said meanwhile.
        asked = request(on_tool_call="end", messages=[question])
        stream = manager.register("me", asked, request_id="r", on_disconnect="continue").stream
        steer = Steer(message_id="m1", content="In Celsius.")
        assert (await manager.calls.steer("me", ID, steer)).outcome == "accepted"
        assert stream.is_admitted
    async with life.process() as manager:
        found = (await ended(manager.find("me", ID))).unsteered
        assert [each.message_id for each in found or ()] == ["m1"]


async def test_what_is_steered_into_a_stream_that_is_refused_comes_too_late(life: Life) -> None:
    async with life.process() as manager:
        stream = manager.register("me", request(), request_id="r", on_disconnect="continue").stream
        steering = manager.calls.steer("me", ID, Steer(message_id="m1", content="In Celsius."))
        with pytest.raises(SessionNotFound):
            await stream.wait_admitted()
        assert (await steering).outcome == "too_late"


async def test_what_is_steered_into_a_stream_that_is_cancelled_before_its_turn_is_stored_comes_too_late(
    life: Life,
) -> None:
    async with life.process() as manager:
        await life.store.create("me", "s", None, None)
        stream = manager.register("me", request(), request_id="r", on_disconnect="continue").stream
        steering = manager.calls.steer("me", ID, Steer(message_id="m1", content="In Celsius."))
        stream.cancel("client")
        assert (await steering).outcome == "too_late"
        assert (await ended(stream)).status == "cancelled"


async def test_a_deadline_that_passed_while_no_server_ran_ends_it_at_once(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life.process() as manager:
        await life.begin(manager, tool_timeout_s=3600)
        await answer(manager, "i1")
    move_clock(monkeypatch, hours=2)
    async with life.process() as manager:
        stream = manager.find("me", ID)
        end = await ended(stream)
        assert end.error is not None
        assert (end.status, end.error.kind) == ("incomplete", "tool_timeout")
        assert {name: status for name, (status, _) in results(stream).items()} == {
            "i1": "ok",
            "w1": "timeout",
            "d1": "timeout",
        }
        messages = await life.store.messages("me", "s")
        assert [message.role for message in messages] == ["user", "assistant", "tool", "tool", "tool"]


async def test_results_that_were_all_there_outlive_their_deadline(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    async with life.process(bounds=SOON_GIVEN_UP) as manager:
        never_steps(await life.begin(manager, tool_timeout_s=3600))
        await approve(manager, "d1")
        for call_id in ("i1", "d1", "w1"):
            assert await answer(manager, call_id) == "accepted"
    move_clock(monkeypatch, hours=2)
    async with life.process() as manager:
        assert (await ended(await work(manager, Said()))).status == "completed"


def move_clock(monkeypatch: pytest.MonkeyPatch, **ahead: float) -> None:
    """The clock on the wall goes on; no timer of the loop knows of it."""
    monkeypatch.setattr(exchange, "utc_now", lambda: datetime.now(UTC) + timedelta(**ahead))


async def test_a_deadline_is_the_wall_s_and_not_that_of_a_timer_that_slept(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "CLOCK_LOOK_S", 0.01)
    async with life.process() as manager:
        stream = await life.begin(manager, tool_timeout_s=3600)
        move_clock(monkeypatch, minutes=59)
        await asyncio.sleep(0.05)
        assert stream.status == "waiting"
        move_clock(monkeypatch, minutes=61)
        end = await ended(stream)
        assert end.error is not None
        assert end.error.kind == "tool_timeout"


async def test_a_tool_that_takes_a_day_the_laptop_sleeps_the_server_restarts_the_answer_goes_on(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "CLOCK_LOOK_S", 0.01)
    reader = Reader()
    async with life.process() as manager:
        stream = await life.begin(manager, tool_timeout_s=86_400)
        await answer(manager, "i1")
        await until(lambda: "i1" in results(stream))
        reader.read(stream.log)
        move_clock(monkeypatch, hours=8)  # It sleeps.
        await asyncio.sleep(0.05)
        assert stream.status == "waiting"
        await drained(manager)
    move_clock(monkeypatch, hours=16)
    async with life.process() as manager:
        reader.read(manager.find("me", ID).log)
        assert await approve(manager, "d1") == "accepted"
        assert await answer(manager, "d1", "deleted") == "accepted"
    move_clock(monkeypatch, hours=23, minutes=59)
    async with life.process() as manager:
        stream = manager.find("me", ID)
        assert await answer(manager, "w1", "rain all day") == "accepted"
        stream = await work(manager, Said())
        reader.read(stream.log)
        end = await ended(stream)
        assert (end.status, end.steps) == ("completed", STEPS)
        assert reader.ended == end
        fresh = Reader()
        fresh.read(stream.log)
        assert reader.steps == fresh.steps
        messages = await life.store.messages("me", "s")
        assert messages[-1].content.endswith(DONE)
        assert [message.content for message in messages if message.role == "tool"][:3] == [
            "rain all day",
            "deleted",
            result_of("i1"),
        ]


async def drained(manager: SessionManager, limit_s: float = 10) -> None:
    """The server was told to stop, and has."""
    async with asyncio.timeout(limit_s + 10):
        await manager.drain(limit_s)


async def test_a_server_that_stops_parks_what_waits_and_takes_nothing_more_of_it(life: Life) -> None:
    async with life.process() as manager:
        stream = await life.begin(manager)
        head = stream.log.head_seq
        await drained(manager)
        assert stream.is_parked
        assert stream.log.ended is None
        said: list[Callable[[], Any]] = [
            lambda: approve(manager, "d1"),
            lambda: claim(manager, "w1"),
            lambda: answer(manager, "w1"),
            lambda: manager.calls.steer("me", ID, Steer(message_id="m", content="?")),
        ]
        for say in said:
            with pytest.raises(Draining):
                await say()
        for look in (manager.cancel, manager.find):
            with pytest.raises(Draining):
                look("me", ID)
    async with life.process() as manager:
        assert manager.find("me", ID).log.head_seq == head
        assert await claim(manager, "w1") == "claimed"


async def test_what_is_being_said_while_it_is_parked_is_kept_and_answered(life: Life) -> None:
    async with life.process() as manager:
        stream = await life.begin(manager)
        answering = asyncio.ensure_future(manager.calls.add_result("me", ID, "w1", ToolResult(content="rain")))
        await drained(manager)
        assert stream.is_parked
        assert (await answering).outcome == "accepted"
    async with life.process() as manager:
        assert results(manager.find("me", ID)) == {"w1": ("ok", "rain")}


async def test_a_claimed_call_has_until_the_end_of_the_drain_and_the_step_is_the_next_process_s(life: Life) -> None:
    async with life.process() as manager:
        stream = await life.begin(manager)
        await approve(manager, "d1")
        await answer(manager, "i1")
        await answer(manager, "d1")
        assert await claim(manager, "w1") == "claimed"
        draining = asyncio.create_task(drained(manager))
        await until(lambda: manager.is_draining)
        await asyncio.sleep(0.02)
        assert stream.takes_more
        assert await answer(manager, "w1", claim="mine") == "accepted"
        await draining
        assert stream.is_parked
        assert life.model is not None
        assert life.model.steps == [1]
    async with life.process() as manager:
        stream = await work(manager, Said())
        assert life.model.steps == [2, 3]
        assert (await ended(stream)).status == "completed"


async def test_a_claimed_call_that_brings_nothing_in_the_drain_is_parked_and_lost(life: Life) -> None:
    async with life.process() as manager:
        stream = await life.begin(manager)
        assert await claim(manager, "w1") == "claimed"
        await drained(manager, limit_s=0.05)
        assert stream.is_parked
    async with life.process() as manager:
        stream = manager.find("me", ID)
        await until(lambda: results(stream).get("w1", ("",))[0] == "lost")


async def test_a_provider_that_is_gone_keeps_the_stream_for_a_later_start(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life.process() as manager:
        await life.begin(manager)

    def resolve(self: ScriptedGateway, asked: ChatRequest, *, with_defaults: bool = True) -> Route:
        raise InvalidParams("there is no such provider")

    with monkeypatch.context() as gone:
        gone.setattr(ScriptedGateway, "resolve", resolve)
        async with life.process() as manager:
            with pytest.raises(StreamNotFound):
                manager.find("me", ID)
    async with life.process() as manager:
        assert (await ended(await work(manager, Said()))).status == "completed"


async def test_a_provider_without_its_key_takes_results_and_leaves_the_step_to_a_later_start(life: Life) -> None:
    async with life.process() as manager:
        await life.begin(manager)
    async with life.process() as manager:
        life.gateway.unconfigured = ProviderNotConfigured("there is no API key for ollama")
        await approve(manager, "d1")
        for call_id in ("w1", "d1", "i1"):
            assert await answer(manager, call_id) == "accepted"
        stream = manager.find("me", ID)
        await until(lambda: stream.is_parked)
        assert stream.log.ended is None
        assert life.model is not None
        assert life.model.steps == []
    async with life.process() as manager:
        stream = await work(manager, Said())
        assert (await ended(stream)).status == "completed"
        assert results(stream)["w1"] == ("ok", result_of("w1"))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE stream SET waiting = '{' WHERE stream_id = 'the-stream'",
        "UPDATE stream SET waiting = '{\"request\": {\"messages\": 7}}' WHERE stream_id = 'the-stream'",
        "UPDATE stream SET waiting = json_set(waiting, '$.native[0]', 'AAAA') WHERE stream_id = 'the-stream'",
        "UPDATE stream SET waiting = json_set(waiting, '$.native[0]', 7) WHERE stream_id = 'the-stream'",
        "UPDATE chunk SET kind = 'of_later' WHERE kind = 'tool_result' AND stream_pk = 1",
        "UPDATE chunk SET text = '{' WHERE kind = 'tool_result' AND stream_pk = 1",
        "DELETE FROM chunk WHERE kind = 'content' AND stream_pk = 1",
    ],
)
async def test_what_is_damaged_or_unknown_harms_its_own_stream_alone(life: Life, damage: str) -> None:
    async with life.process() as manager:
        await life.begin(manager)
        await answer(manager, "i1")
        await life.store.create("me", "other", None, None)
        asked = request(stream_id="healthy", session_id="other", messages=[{"role": "user", "content": "And there?"}])
        other = (await manager.start("me", asked, request_id="r", on_disconnect="continue")).stream
        await until(lambda: other.status == "waiting")
    life.change(damage)
    async with life.process() as manager:
        assert manager.find("me", "healthy").status == "waiting"
        end = await ended(manager.find("me", ID))
        assert end.error is not None
        assert (end.status, end.error.kind) == ("incomplete", "worker_lost")
        assert manager.active_in("me", "s") == []
        assert (await life.store.messages("me", "s"))[0].content == "Where is it warmer?"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE stream SET waiting = '{' WHERE stream_id = 'the-stream'",
        "UPDATE chunk SET text = '{' WHERE kind = 'tool_result'",
    ],
)
async def test_a_stream_that_can_not_go_on_leaves_its_step_once_and_with_its_calls(life: Life, damage: str) -> None:
    async with life.process() as manager:
        await life.begin(manager)
        await answer(manager, "i1")
    life.change(damage)
    async with life.process() as manager:
        assert (await ended(manager.find("me", ID))).status == "incomplete"
        _, step, *others = await life.store.messages("me", "s")
        assert [call.call_id for call in step.tool_calls or ()] == ["w1", "d1", "i1"]
        assert [message.call_id for message in others] == ["i1"] * ("waiting" in damage)


async def test_its_session_may_be_deleted_while_it_waits_again(life: Life) -> None:
    async with life.process() as manager:
        await life.begin(manager)
    async with life.process() as manager:
        stream = manager.find("me", ID)
        async with manager.session_at_rest("me", "s"):
            assert stream.status == "cancelled"
        assert {status for status, _ in results(stream).values()} == {"cancelled"}


async def test_a_cancel_after_the_restart_counts_the_tokens_of_its_steps_and_no_more(life: Life) -> None:
    async with life.process() as manager:
        usage = (await life.begin(manager)).usage
        assert usage is not None
    async with life.process() as manager:
        stream = manager.find("me", ID)
        assert stream.usage == usage
        manager.cancel("me", ID)
        assert (await ended(stream)).usage == usage


async def test_a_repeated_send_attaches_to_it_and_another_turn_finds_its_session_busy(life: Life) -> None:
    async with life.process() as manager:
        await life.begin(manager)
    async with life.process() as manager:
        again = await manager.start("me", request(), request_id="req_2", on_disconnect="continue")
        assert again.duplicate
        with pytest.raises(ArcherError) as refused:
            await manager.start("me", request(stream_id="new"), request_id="req_3", on_disconnect="continue")
        assert refused.value.kind == "session_busy"


async def test_the_state_that_could_not_be_written_is_written_with_what_follows(life: Life) -> None:
    failing = failing_connection()
    async with life.process(factory=failing) as manager:
        await life.store.create("me", "s", None, None)
        stream = (await manager.start("me", request(), request_id="r", on_disconnect="continue")).stream
        failing.fails = True
        await until(lambda: stream.status == "waiting")
        failing.fails = False
        head = stream.log.head_seq
        await until(lambda: manager._journaling is not None and manager._journaling._written[stream] == head)
    async with life.process() as manager:
        stream = manager.find("me", ID)
        assert stream.log.head_seq == head
        assert (await ended(await work(manager, Said()))).usage is not None


@asynccontextmanager
async def on_a_full_disk(life: Life, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SessionManager]:
    """A process whose disk is full as it starts, until `life.make_room`."""
    failing, recover = failing_connection(), SessionManager.recover

    async def recover_without_room(manager: SessionManager) -> None:
        failing.fails = True
        await recover(manager)

    with monkeypatch.context() as full:
        full.setattr(SessionManager, "recover", recover_without_room)
        async with life.process(factory=failing) as manager:
            life.make_room = lambda: setattr(failing, "fails", False)
            yield manager


async def test_on_a_full_disk_what_is_said_of_a_call_is_to_come_again_and_is_not_unknown(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life.process() as manager:
        await life.begin(manager)
    async with on_a_full_disk(life, monkeypatch) as manager:
        for say in (
            partial(answer, manager, "w1"),
            partial(claim, manager, "w1"),
            partial(approve, manager, "d1"),
            partial(steer, manager, "m1"),
        ):
            with pytest.raises(StorageUnavailable, match="before the restart"):
                await say()
        life.make_room()
        await until(lambda: bool(manager.list_streams("me").items))
        assert await answer(manager, "w1") == "accepted"
        assert await answer(manager, "unknown") == "not_found"
        assert (await ended(await work(manager, Said()))).status == "completed"


async def test_no_turn_begins_in_its_session_before_it_is_taken_up(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    another = request(stream_id=None, messages=[{"role": "user", "content": "And in Oslo?"}])
    async with life.process() as manager:
        await life.begin(manager)
    async with on_a_full_disk(life, monkeypatch) as manager:
        life.make_room()
        with pytest.raises(StorageUnavailable, match="before the restart are not loaded yet: there is no room") as full:
            await manager.start("me", another, request_id="req_2", on_disconnect="continue")
        assert "Free space" in str(full.value.hint)
        await until(lambda: bool(manager.list_streams("me").items))
        with pytest.raises(SessionBusy):
            await manager.start("me", another, request_id="req_3", on_disconnect="continue")
        assert (await ended(await work(manager, Said()))).status == "completed"
        assert "And in Oslo?" not in [message.content for message in await life.store.messages("me", "s")]


async def test_a_cancel_that_comes_while_a_stream_of_before_can_not_be_taken_up_is_not_lost(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life.process() as manager:
        await life.begin(manager)
    async with on_a_full_disk(life, monkeypatch) as manager:
        assert manager.cancel("me", ID).outcome == "not_found"
        life.make_room()
        await until(lambda: bool(manager.list_streams("me").items))
        assert (await ended(manager.find("me", ID))).status == "cancelled"


async def test_a_cancel_is_remembered_for_as_long_as_the_streams_of_before_are_not_loaded(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    monkeypatch.setattr("archer_ws.sessions.manager.Tombstones", partial(Tombstones, clock))
    async with life.process() as manager:
        await life.begin(manager)
    async with on_a_full_disk(life, monkeypatch) as manager:
        assert manager.cancel("me", ID).outcome == "not_found"
        assert manager.cancel("me", "unknown").outcome == "not_found"
        clock.advance(TOMBSTONE_S * 100)
        life.make_room()
        await until(lambda: bool(manager.list_streams("me").items))
        assert (await ended(manager.find("me", ID))).status == "cancelled"
        clock.advance(TOMBSTONE_S)
        assert not manager._tombstones.take("me", "unknown")


async def test_a_stream_whose_step_waits_for_a_busy_provider_is_parked_where_the_server_stops(life: Life) -> None:
    gate = ProviderGate("ollama", concurrency=1, queue=10)
    async with life.process(gate=gate) as manager:
        stream = await life.begin(manager)
        slot = gate.reserve("another")
        await approve(manager, "d1")
        for call_id in ("w1", "d1", "i1"):
            assert await answer(manager, call_id) == "accepted"
        await until(lambda: stream.status == "queued")
        await drained(manager)
        assert stream.is_parked
        slot.release()
    async with life.process() as manager:
        stream = await work(manager, Said())
        assert life.model is not None
        assert life.model.steps == [2, 3]
        assert (await ended(stream)).status == "completed"
