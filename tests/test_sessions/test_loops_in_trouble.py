"""What clients say of calls, and the store in trouble: acknowledged means kept, and what is refused changed nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from archer_ws.core.exceptions import Draining, SessionNotFound, StorageFull, StorageUnavailable
from archer_ws.core.limits import Limits
from archer_ws.sessions.journaling import Journaling
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.tool_models import Approval, Steer, ToolOutcome, ToolResult
from tests.fakes.pictures import image, text
from tests.fakes.scripted_gateway import ScriptedGateway
from tests.test_sessions.looping import (
    ID,
    FailingConnection,
    Model,
    Said,
    failing_connection,
    process,
    request,
    until,
    work,
)

Say = Callable[[SessionManager], Awaitable[ToolOutcome]]
SAYINGS: dict[str, Say] = {
    "approve": lambda manager: manager.calls.approve("me", ID, "d1", Approval(approved=True)),
    "deny": lambda manager: manager.calls.approve("me", ID, "d1", Approval(approved=False, reason="no")),
    "claim": lambda manager: manager.calls.claim("me", ID, "w1", "mine", holder=None, ttl_s=60),
    "result": lambda manager: manager.calls.add_result("me", ID, "w1", ToolResult(content="rain")),
    "steer": lambda manager: manager.calls.steer("me", ID, Steer(message_id="m1", content="In Celsius.")),
}
#: Once it was acknowledged: what the same word is answered again.
AGAIN = {"approve": "accepted", "deny": "already_answered", "claim": "claimed", "result": "already_answered"}
QUICK = Limits(journal_every_s=0.01, settle_pauses_s=(0.0,))


class Running:
    """A stream that waits, and its disk."""

    def __init__(self, folder: Path, disk: type[FailingConnection]) -> None:
        self.folder = folder
        self.disk = disk
        self.manager: SessionManager
        self.stream: Stream

    @property
    def journaling(self) -> Journaling:
        assert self.manager._journaling is not None
        return self.manager._journaling

    def stand_still(self) -> None:
        """The disk takes nothing for now, and nobody waits long for it."""
        self.disk.may_go_on.clear()
        self.journaling._limit_s = 0.2

    def go_on(self) -> None:
        self.disk.may_go_on.set()
        self.journaling._limit_s = QUICK.store_limit_s


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    found = Running(tmp_path, failing_connection())
    gateway = ScriptedGateway()
    async with process(tmp_path, gateway, factory=found.disk, bounds=QUICK) as (found.manager, store):
        model = Model(gateway)
        await store.create("me", "s", None, None)
        asked = await found.manager.start("me", request(), request_id="r", on_disconnect="continue")
        found.stream = asked.stream
        await until(lambda: found.stream.status == "waiting")
        yield found
        found.disk.may_go_on.set()
        await model.aclose()


def changed(stream: Stream) -> list[object]:
    """All that what is said can change."""
    exchange = stream.exchange
    calls = [(call.call_id, call.approved, call.claim, call.result) for call in exchange.calls._calls.values()]
    return [stream.log.head_seq, calls, list(exchange.steered), list(exchange.steering.accepted), exchange.size_bytes]


@pytest.mark.parametrize("name", SAYINGS)
async def test_on_a_full_disk_it_is_refused_and_changes_nothing_and_may_be_repeated(
    running: Running, name: str
) -> None:
    before = changed(running.stream)
    running.disk.fails = True
    for _ in range(2):
        with pytest.raises(StorageFull):
            await SAYINGS[name](running.manager)
        assert changed(running.stream) == before
    running.disk.fails = False
    assert (await SAYINGS[name](running.manager)).outcome in {"accepted", "claimed"}


@pytest.mark.parametrize("name", SAYINGS)
async def test_on_a_disk_that_stands_still_it_is_refused_in_time_and_changes_nothing(
    running: Running, name: str
) -> None:
    before = changed(running.stream)
    running.stand_still()
    with pytest.raises(StorageUnavailable):
        await SAYINGS[name](running.manager)
    assert changed(running.stream) == before
    running.go_on()
    assert (await SAYINGS[name](running.manager)).outcome in {"accepted", "claimed"}


async def test_on_a_disk_that_stands_still_while_the_journal_writes_it_is_refused_in_time(running: Running) -> None:
    running.stand_still()
    # More to write, which the journal begins with and does not end.
    running.stream.progress("retrying", "something to write")
    await until(lambda: running.stream in running.journaling._in_commit)
    with pytest.raises(StorageUnavailable):
        await SAYINGS["claim"](running.manager)


async def test_what_waits_for_a_picture_when_the_process_stops_is_to_be_sent_to_the_next_one(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_asked = asyncio.Event()

    async def never(*_: object, **__: object) -> None:
        is_asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(running.manager._attachments.files, "keep", never)
    shown = ToolResult.model_validate({"content": [text("rain"), image()]})
    said = [
        asyncio.ensure_future(running.manager.calls.add_result("me", ID, "w1", shown)),
        *(asyncio.ensure_future(say(running.manager)) for say in SAYINGS.values()),
    ]
    await is_asked.wait()
    running.stream.park(at_once=True)
    await until(lambda: running.stream.is_parked)
    await running.stream.leave(0)
    outcomes = await asyncio.wait_for(asyncio.gather(*said, return_exceptions=True), 10)
    assert {type(outcome) for outcome in outcomes} == {Draining}


@pytest.mark.parametrize("name", [name for name in SAYINGS if name != "steer"])
async def test_who_says_the_same_meanwhile_hears_only_what_is_kept(running: Running, name: str) -> None:
    running.disk.may_go_on.clear()
    first, second = (asyncio.ensure_future(SAYINGS[name](running.manager)) for _ in range(2))
    await asyncio.sleep(0.02)
    assert not first.done()
    assert not second.done()
    running.disk.may_go_on.set()
    assert (await first).outcome in {"accepted", "claimed"}
    assert (await second).outcome == AGAIN[name]


async def test_who_comes_second_is_first_where_the_first_could_not_be_kept(running: Running) -> None:
    # The journal has nothing left to write, and so the next write is ours.
    await until(lambda: running.journaling._written[running.stream] == running.stream.log.head_seq)
    running.disk.fails_once = True
    calls = running.manager.calls
    first = calls.add_result("me", ID, "w1", ToolResult(content="rain"))
    second = calls.add_result("me", ID, "w1", ToolResult(content="sun"))
    third = calls.add_result("me", ID, "w1", ToolResult(content="snow"))
    with pytest.raises(StorageFull):
        await first
    assert await second == ToolOutcome(outcome="accepted")
    assert await third == ToolOutcome(outcome="already_answered", status="ok")


async def test_a_step_that_can_t_be_kept_yet_is_begun_when_it_can(running: Running) -> None:
    keep = running.stream.exchange._begin_step
    tries = 0

    async def keep_at_the_third() -> None:
        nonlocal tries
        tries += 1
        running.disk.fails = tries < 3
        await keep()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("archer_ws.sessions.streams.exchange.SETTLE_PAUSES_S", (0.01, 0.01, 0.01))
        patched.setattr(running.stream.exchange, "_begin_step", keep_at_the_third)
        stream = await work(running.manager, Said())
        await stream.wait_ended()
    assert tries >= 3
    assert stream.status == "completed"


async def test_what_is_said_to_a_stream_that_is_being_refused_comes_too_late(tmp_path: Path) -> None:
    async with process(tmp_path, ScriptedGateway(), bounds=QUICK) as (manager, _):
        held = manager.register("me", request(session_id="unknown"), request_id="r", on_disconnect="continue")
        # Each is stored before the next one is decided, so the last ones are decided after the refusal.
        said = [
            manager.calls.steer("me", ID, Steer(message_id=f"m{number}", content="In Celsius.")) for number in range(9)
        ]
        with pytest.raises(SessionNotFound):
            await held.stream.wait_admitted()
        outcomes = [outcome.outcome for outcome in await asyncio.gather(*said)]
        assert set(outcomes) <= {"accepted", "too_late"}
        assert outcomes[-1] == "too_late"
        held.hold.release()
