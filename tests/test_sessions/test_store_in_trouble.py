"""Streams and conversations over a store that is slow, hangs or fails: everything ends and is given back."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from itertools import product
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import SessionNotFound, StorageUnavailable
from archer_ws.core.limits import Limits
from archer_ws.core.standstill import STANDSTILL_S
from archer_ws.sessions.changes import Watch
from archer_ws.sessions.conversations import Conversations
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.models import ExportedSession, SessionChanged, SessionCreate, SessionFork, SessionUpdate
from archer_ws.sessions.storage.bounded import bounded
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.streams.gates import ProviderGate, StreamQuota
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.views import chat_response
from tests.fakes.scripted_gateway import ScriptedGateway
from tests.fakes.troubled_store import TroubledStore
from tests.test_sessions.test_manager import ask, ended, start

SHORT_S = 0.05
#: All budgets are over soon.
SHORT = Limits(
    store_limit_s=SHORT_S,
    store_work_limit_s=SHORT_S,
    admit_limit_s=SHORT_S,
    settle_limit_s=SHORT_S,
    settle_pauses_s=(0.0, 0.0),
)
IMPORTED = ExportedSession(
    session_id="imported", created_at=utc_now(), updated_at=utc_now(), message_count=0, version=1, messages=[]
)
short_budgets = pytest.mark.parametrize("bounds", [SHORT], indirect=True, ids=["short"])
at_once_again = pytest.mark.parametrize("bounds", [Limits(settle_pauses_s=(0.0, 0.0))], indirect=True, ids=["at once"])
TROUBLED_ADMISSIONS = list(product(["begin_turn"], [False, True]))


@pytest.fixture
async def store() -> TroubledStore:
    made = TroubledStore()
    await made.create("me", "s", None, None)
    return made


@pytest.fixture
def gate() -> ProviderGate:
    return ProviderGate("ollama", concurrency=1, queue=0)


@pytest.fixture
def bounds(request: pytest.FixtureRequest) -> Limits:
    return getattr(request, "param", Limits())


@pytest.fixture
async def manager(
    store: TroubledStore, gateway: ScriptedGateway, gate: ProviderGate, bounds: Limits
) -> AsyncIterator[SessionManager]:
    """It has room for one stream and one call: what is not given back is missed at once."""
    made = SessionManager(
        new_log=MemoryLog,
        judge=FormatJudge(),
        gateway=gateway,
        orchestrator=Orchestrator(gateway),
        store=cast(SessionStore, store),
        quota=StreamQuota(max_streams=1, max_per_principal=1),
        gates={"ollama": gate},
        bounds=bounds,
    )
    yield made
    store.may_go_on.set()
    await made.aclose()


async def assert_all_given_back(manager: SessionManager, gateway: ScriptedGateway, store: TroubledStore) -> None:
    """The next request of the same session runs and ends as any."""
    store.may_go_on.set()
    store.hangs.clear()
    store.fails.clear()
    assert manager.running == 0
    number = len(gateway.calls)
    held = await start(manager, ask("again", session_id="s"))
    call = await gateway.call(number)
    call.say("fine")
    call.finish()
    assert (await ended(held.stream)).status == "completed"


async def test_a_request_that_was_cancelled_before_it_came_ends_without_the_store(
    manager: SessionManager, gateway: ScriptedGateway, store: TroubledStore
) -> None:
    store.hangs = {"get"}
    assert manager.cancel("me", "x").outcome == "not_found"
    stream = (await start(manager, ask(session_id="s", stream_id="x"))).stream
    end = await ended(stream)
    assert (end.status, end.reason, gateway.calls) == ("cancelled", "client", [])
    await assert_all_given_back(manager, gateway, store)


@pytest.mark.parametrize(("operation", "ignores_cancel"), TROUBLED_ADMISSIONS)
async def test_a_cancel_reaches_a_stream_whose_question_is_being_stored(
    operation: str,
    ignores_cancel: bool,
    manager: SessionManager,
    gateway: ScriptedGateway,
    store: TroubledStore,
) -> None:
    store.hangs, store.ignores_cancel = {operation}, ignores_cancel
    starting = asyncio.create_task(start(manager, ask(session_id="s", stream_id="x")))
    async with asyncio.timeout(10):
        await store.is_hanging.wait()

    assert manager.cancel("me", "x").outcome == "cancelling"

    stream = (await starting).stream
    end = await ended(stream)
    assert (end.status, end.reason) == ("cancelled", "client")
    assert gateway.calls == []
    await assert_all_given_back(manager, gateway, store)


@pytest.mark.parametrize(("operation", "ignores_cancel"), TROUBLED_ADMISSIONS)
@short_budgets
async def test_a_question_that_the_store_does_not_take_in_time_is_refused(
    operation: str,
    ignores_cancel: bool,
    manager: SessionManager,
    gateway: ScriptedGateway,
    store: TroubledStore,
) -> None:
    store.hangs, store.ignores_cancel = {operation}, ignores_cancel

    with pytest.raises(StorageUnavailable) as refused:
        await start(manager, ask(session_id="s"))

    assert refused.value.retryable
    assert refused.value.hint
    assert gateway.calls == []
    await assert_all_given_back(manager, gateway, store)


@pytest.mark.parametrize("operation", ["begin_turn"])
async def test_a_store_that_fails_at_the_question_refuses_it_and_says_so_in_the_log(
    operation: str,
    manager: SessionManager,
    gateway: ScriptedGateway,
    store: TroubledStore,
) -> None:
    store.fails = {operation: [OSError("disk on fire at /secret/place")]}

    with capture_logs() as lines, pytest.raises(StorageUnavailable) as refused:
        await start(manager, ask(session_id="s"))

    assert "secret" not in refused.value.message
    assert ("store_failed", operation) in [(line["event"], line.get("operation")) for line in lines]
    await assert_all_given_back(manager, gateway, store)


@short_budgets
@pytest.mark.parametrize("trouble", ["hangs", "fails"])
async def test_a_history_that_can_t_be_read_ends_the_stream_with_that_error(
    trouble: str,
    manager: SessionManager,
    gateway: ScriptedGateway,
    store: TroubledStore,
) -> None:
    if trouble == "hangs":
        store.hangs = {"history"}
    else:
        store.fails = {"history": [ValueError("broken row")]}
    # What was read with the turn does not fit the model: it is read again.
    await store.inner.begin_turn("me", "s", ask("long " * 100).messages, stream_id="str_0")
    gateway.window = 100

    stream = (await start(manager, ask(session_id="s"))).stream

    end = await ended(stream)
    assert end.status == "failed"
    assert end.error is not None
    assert (end.error.kind, end.error.retryable) == ("storage_unavailable", True)
    await assert_all_given_back(manager, gateway, store)


async def answered(manager: SessionManager, gateway: ScriptedGateway) -> Any:
    """A stream of the session whose answer is said."""
    stream = (await start(manager, ask("q", session_id="s"))).stream
    call = await gateway.call(len(gateway.calls) - 1 if gateway.calls else 0)
    call.say("a")
    call.finish()
    return stream


async def contents(store: TroubledStore) -> list[str]:
    return [message.content for message in await store.inner.messages("me", "s")]


@pytest.mark.parametrize("bounds", [Limits(settle_limit_s=SHORT_S)], indirect=True, ids=["short"])
async def test_an_answer_that_is_stored_late_is_told_as_not_stored_and_stored_once(
    manager: SessionManager, gateway: ScriptedGateway, store: TroubledStore
) -> None:
    store.hangs = {"append_completion"}

    stream = await answered(manager, gateway)

    end = await ended(stream)
    assert (end.status, end.stored) == ("completed", False)
    assert chat_response(stream).stored is False
    assert await contents(store) == ["q"]
    store.may_go_on.set()
    await manager.aclose()
    assert await contents(store) == ["q", "a"]


@short_budgets
async def test_what_the_store_did_while_the_process_stood_still_was_in_time(
    manager: SessionManager, gateway: ScriptedGateway, store: TroubledStore
) -> None:
    store.hangs = {"begin_turn", "append_completion", "get"}
    loop = asyncio.get_running_loop()

    def stand_still() -> None:
        store.is_hanging.clear()
        store.may_go_on.clear()
        # Read only after the limit's timer, as with uvloop.
        loop.call_later(1.5 * SHORT_S, store.may_go_on.set)
        time.sleep(2 * SHORT_S + STANDSTILL_S)

    loop.call_soon(stand_still)
    held = await start(manager, ask("q", session_id="s"))
    call = await gateway.call()
    call.say("a")
    call.finish()
    store.may_go_on.clear()
    store.is_hanging.clear()
    async with asyncio.timeout(10):
        await store.is_hanging.wait()
    loop.call_soon(stand_still)
    end = await ended(held.stream)
    assert (end.status, end.stored) == ("completed", None)
    assert await contents(store) == ["q", "a"]
    loop.call_soon(stand_still)
    assert (await bounded(cast(SessionStore, store), SHORT_S).get("me", "s")).message_count == 2


@at_once_again
async def test_an_answer_is_tried_again_where_the_store_fails_for_a_moment(
    manager: SessionManager, gateway: ScriptedGateway, store: TroubledStore
) -> None:
    store.fails = {"append_completion": [OSError("busy"), OSError("busy")]}

    end = await ended(await answered(manager, gateway))

    assert (end.status, end.stored) == ("completed", False)
    await manager.aclose()
    assert await contents(store) == ["q", "a"]


@at_once_again
async def test_an_answer_that_the_store_never_takes_is_given_up_with_a_line_in_the_log(
    manager: SessionManager, gateway: ScriptedGateway, store: TroubledStore
) -> None:
    store.fails = {"append_completion": [OSError("full") for _ in range(3)]}

    with capture_logs() as lines:
        assert (await ended(await answered(manager, gateway))).stored is False
        await manager.aclose()

    assert [line["event"] for line in lines].count("completion_not_stored") == 1
    assert await contents(store) == ["q"]
    await store.inner.delete("me", "s")


async def test_an_answer_stored_in_time_says_nothing_about_it(
    manager: SessionManager, gateway: ScriptedGateway, store: TroubledStore
) -> None:
    stream = await answered(manager, gateway)

    assert (await ended(stream)).stored is None
    assert await contents(store) == ["q", "a"]


async def test_a_stop_waits_for_an_answer_that_is_being_stored(
    manager: SessionManager, gateway: ScriptedGateway, store: TroubledStore
) -> None:
    store.hangs = {"append_completion"}
    stream = await answered(manager, gateway)
    async with asyncio.timeout(10):
        await store.is_hanging.wait()

    closing = asyncio.create_task(manager.drain(0.01))
    await asyncio.sleep(0.1)
    assert not closing.done()
    store.may_go_on.set()
    async with asyncio.timeout(10):
        await closing

    assert (await ended(stream)).status == "completed"
    assert await contents(store) == ["q", "a"]


@pytest.mark.parametrize("bounds", [Limits(settle_limit_s=SHORT_S)], indirect=True, ids=["short"])
async def test_a_stop_gives_an_answer_up_that_the_store_never_takes_and_says_so(
    manager: SessionManager, gateway: ScriptedGateway, store: TroubledStore
) -> None:
    store.hangs = {"append_completion"}
    assert (await ended(await answered(manager, gateway))).stored is False

    with capture_logs() as lines:
        async with asyncio.timeout(10):
            await manager.aclose()

    assert [line["cause"] for line in lines if line["event"] == "completion_not_stored"] == ["the server stopped first"]
    assert await contents(store) == ["q"]


async def test_nothing_stays_in_memory_of_the_storing_of_an_answer(
    manager: SessionManager, gateway: ScriptedGateway, store: TroubledStore
) -> None:
    await ended(await answered(manager, gateway))

    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    tasks = [each for each in gc.get_objects() if isinstance(each, asyncio.Task)]
    assert not [task for task in tasks if task.get_name() == "completion"]


@short_budgets
@pytest.mark.parametrize("trouble", ["hangs", "fails"])
@pytest.mark.parametrize("operation", ["create", "get", "detail", "page", "update", "delete"])
async def test_every_request_about_conversations_is_answered_whatever_the_store_does(
    trouble: str,
    operation: str,
    manager: SessionManager,
    store: TroubledStore,
    bounds: Limits,
) -> None:
    conversations = Conversations(cast(SessionStore, store), manager, bounds)
    if trouble == "hangs":
        store.hangs = {operation}
    else:
        store.fails = {operation: [RuntimeError("no")]}
    requests = {
        "create": lambda: conversations.create("me", SessionCreate(session_id="t")),
        "get": lambda: conversations.delete("me", "s"),
        "detail": lambda: conversations.get("me", "s"),
        "page": lambda: conversations.page("me", 10, None),
        "update": lambda: conversations.update("me", "s", SessionUpdate(title="t")),
        "delete": lambda: conversations.delete("me", "s"),
    }

    with pytest.raises(StorageUnavailable):
        async with asyncio.timeout(10):
            await cast(Any, requests[operation])()


async def test_a_send_that_comes_while_its_session_is_deleted_is_refused_and_leaves_nothing(
    manager: SessionManager, gateway: ScriptedGateway, store: TroubledStore
) -> None:
    conversations = Conversations(cast(SessionStore, store), manager)
    store.hangs = {"delete"}
    deleting = asyncio.create_task(conversations.delete("me", "s"))
    async with asyncio.timeout(10):
        await store.is_hanging.wait()

    with pytest.raises(SessionNotFound, match="being deleted"):
        await start(manager, ask(session_id="s"))
    making = asyncio.create_task(conversations.create("me", SessionCreate(session_id="s", title="new")))
    await asyncio.sleep(0)
    store.may_go_on.set()
    await deleting

    # One of the same name that is made meanwhile is made afterwards, and lives.
    session, is_new = await making
    assert is_new
    assert (await conversations.get("me", "s")).title == session.title == "new"
    assert gateway.calls == []


#: Work that takes longer, the longer the conversation is.
WORK: dict[str, Callable[[Conversations], Awaitable[Any]]] = {
    "fork": lambda conversations: conversations.fork("me", "s", SessionFork()),
    "delete": lambda conversations: conversations.delete("me", "s"),
    "import_session": lambda conversations: conversations.import_session("me", IMPORTED),
}
CHANGES: dict[str, Callable[[Conversations], Awaitable[Any]]] = {
    **WORK,
    "create": lambda conversations: conversations.create("me", SessionCreate()),
    "update": lambda conversations: conversations.update("me", "s", SessionUpdate(title="new")),
}


@pytest.mark.parametrize("work", WORK)
async def test_a_long_conversation_is_copied_deleted_and_imported_in_its_own_time(
    work: str, manager: SessionManager, store: TroubledStore
) -> None:
    conversations = Conversations(cast(SessionStore, store), manager, replace(SHORT, store_work_limit_s=60.0))
    store.hangs = {work, "page"}
    working = asyncio.ensure_future(WORK[work](conversations))
    async with asyncio.timeout(10):
        await store.is_hanging.wait()
    # What began after it has had its time.
    with pytest.raises(StorageUnavailable, match="did not respond") as refused:
        await conversations.page("me", 10, None)
    assert "may still happen" not in refused.value.message
    assert not working.done()
    store.may_go_on.set()
    await working


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_that_takes_too_long_is_said_to_happen_perhaps_with_how_to_find_out(
    change: str, manager: SessionManager, store: TroubledStore
) -> None:
    conversations = Conversations(cast(SessionStore, store), manager, SHORT)
    store.hangs = {change}
    with pytest.raises(StorageUnavailable, match=r"did not respond within .* may still happen") as refused:
        await CHANGES[change](conversations)
    assert "List the sessions" in (refused.value.hint or "")


async def test_a_conversation_that_is_made_while_all_are_deleted_is_made_afterwards_and_lives(
    manager: SessionManager, store: TroubledStore
) -> None:
    conversations = Conversations(cast(SessionStore, store), manager)
    store.hangs = {"delete_all"}
    deleting = asyncio.create_task(conversations.delete_all("me"))
    async with asyncio.timeout(10):
        await store.is_hanging.wait()

    making = asyncio.create_task(conversations.create("me", SessionCreate(title="new")))
    copying = asyncio.create_task(conversations.fork("me", "s", SessionFork()))
    theirs, _ = await conversations.create("somebody else", SessionCreate())
    assert (making.done(), copying.done()) == (False, False)
    store.may_go_on.set()
    assert await deleting == 1

    session, is_new = await making
    assert is_new
    assert [each.session_id for each in (await conversations.page("me", 10, None)).items] == [session.session_id]
    with pytest.raises(SessionNotFound):
        await copying
    assert (await conversations.get("somebody else", theirs.session_id)).message_count == 0


async def test_a_deletion_of_all_finds_what_is_being_made_and_tells_of_it(
    manager: SessionManager, store: TroubledStore
) -> None:
    told: dict[str, bool] = {}
    all_told = asyncio.Event()

    def tell(state: SessionChanged) -> None:
        told[state.session_id] = bool(state.deleted)
        if len(told) == 2 and all(told.values()):
            all_told.set()

    watch = Watch("me", tell)
    watch.wants_all = True
    manager.changes.add(watch)
    conversations = Conversations(cast(SessionStore, store), manager)
    store.hangs = {"create"}
    making = asyncio.create_task(conversations.create("me", SessionCreate(title="new")))
    async with asyncio.timeout(10):
        await store.is_hanging.wait()
    deleting = asyncio.create_task(conversations.delete_all("me"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert "named_files" not in store.calls
    store.may_go_on.set()

    session, _ = await making
    assert await deleting == 2
    async with asyncio.timeout(10):
        await all_told.wait()
    assert told == {"s": True, session.session_id: True}


async def test_a_refusal_that_comes_together_with_the_cancel_of_its_request_is_no_unhandled_exception() -> None:
    may_refuse = asyncio.Event()
    asking: list[asyncio.Future[Any]] = []

    class RefusingStore(TroubledStore):
        async def _operation(self, name: str, *args: Any, **kwargs: Any) -> Any:
            await may_refuse.wait()
            asking[0].cancel()
            raise SessionNotFound("no")

    unhandled: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    asking.append(asyncio.ensure_future(bounded(cast(SessionStore, RefusingStore()), 5.0).get("me", "s")))
    await asyncio.sleep(0)
    may_refuse.set()
    with pytest.raises(asyncio.CancelledError):
        await asking[0]
    asking.clear()
    await asyncio.sleep(0)
    gc.collect()
    assert unhandled == []
