"""Sessions in memory expire where nobody uses them, and not while a stream runs in them."""

import pytest

from archer_ws.core.exceptions import SessionNotFound
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.storage.memory import MemoryStore
from tests.fakes.manual_clock import ManualClock
from tests.fakes.scripted_gateway import ScriptedGateway
from tests.test_sessions.test_manager import ask, ended, start

IDLE_S = 100.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(idle_ttl_s=IDLE_S, clock=clock)


async def listed(store: MemoryStore) -> list[str]:
    """The sessions that are there; the others have expired."""
    return [session.session_id for session in (await store.page("me", 10, None)).items]


async def test_a_session_does_not_expire_while_a_stream_runs_in_it_and_has_its_answer(
    manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore, clock: ManualClock
) -> None:
    for session_id in ("idle", "s"):
        await store.create("me", session_id, None, None)
    stream = (await start(manager, ask(session_id="s"))).stream
    call = await gateway.call()
    clock.advance(3 * IDLE_S)

    assert await listed(store) == ["s"]
    clock.advance(3 * IDLE_S)
    call.say("answer")
    call.finish()

    assert (await ended(stream)).stored is None
    assert [message.content for message in await store.messages("me", "s")] == ["hello", "answer"]


async def test_when_its_stream_has_ended_a_session_expires_as_before(
    manager: SessionManager, gateway: ScriptedGateway, store: MemoryStore, clock: ManualClock
) -> None:
    await store.create("me", "s", None, None)
    stream = (await start(manager, ask(session_id="s"))).stream
    call = await gateway.call()
    clock.advance(3 * IDLE_S)
    call.finish()
    await ended(stream)

    clock.advance(IDLE_S)

    assert await listed(store) == []


async def test_a_turn_does_not_revive_a_session_that_has_expired(
    manager: SessionManager, store: MemoryStore, clock: ManualClock
) -> None:
    await store.create("me", "s", None, None)
    clock.advance(IDLE_S)

    with pytest.raises(SessionNotFound):
        await start(manager, ask(session_id="s"))
