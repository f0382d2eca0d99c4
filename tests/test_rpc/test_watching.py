"""Watching conversations: what other windows of a principal are told, how often, and in what state slow ones are left
(protocol section 26)."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from archer_ws.rpc.watching import WATCHED_MAX
from archer_ws.sessions.models import SessionCreate
from tests.fakes.rpc_peer import RpcError, RpcPeer
from tests.test_rpc.conftest import Server

QUESTION = [{"role": "user", "content": "Why?"}]


def told_to(peer: RpcPeer, session_id: str | None = None) -> list[dict[str, Any]]:
    """The states that a window was told, of one conversation or of all."""
    states = [frame["params"] for frame in peer.others if frame["method"] == "session/changed"]
    return [state for state in states if session_id in {None, state["session_id"]}]


async def until_told(peer: RpcPeer, **fields: Any) -> dict[str, Any]:
    """The first state that has these fields, once it has come."""

    def found() -> list[dict[str, Any]]:
        return [state for state in told_to(peer) if fields.items() <= state.items()]

    await peer.until(lambda: bool(found()))
    return found()[0]


async def test_two_windows_see_each_others_chats_move(server: Server) -> None:
    first, second = await server.connect(), await server.connect()
    await first.call("session/watch")
    await second.call("session/watch")
    await first.call("session/create", session_id="sky", title="Sky")
    assert await until_told(second, session_id="sky", version=1) == await until_told(first, session_id="sky")

    await second.call("chat/send", session_id="sky", stream_id="s1", messages=QUESTION)
    running = await until_told(first, session_id="sky", active=[{"stream_id": "s1", "status": "running"}])
    assert running["version"] >= 2
    call = await server.gateway.call()
    call.say("Because")
    call.finish()
    await second.ended("s1")
    at_rest = await until_told(first, session_id="sky", version=3, active=[])
    assert at_rest["title"] == "Sky"
    assert at_rest["updated_at"] == (await second.call("session/get", session_id="sky"))["updated_at"]

    await second.call("session/delete", session_id="sky")
    gone = await until_told(first, session_id="sky", deleted=True)
    assert (gone["version"], gone["active"]) == (3, [])


async def test_a_thousand_changes_in_a_burst_are_told_at_most_ten_times_a_second(server: Server) -> None:
    writer, watcher = await server.connect(), await server.connect()
    await writer.call("session/create", session_id="sky")
    await watcher.call("session/watch", session_id="sky")
    begun = time.monotonic()
    for number in range(1000):
        await writer.call("session/update", session_id="sky", title=f"title {number}")
    await until_told(watcher, title="title 999")
    seconds = time.monotonic() - begun

    states = told_to(watcher)
    assert len(states) <= 10 * seconds + 1
    versions = [state["version"] for state in states]
    assert versions == sorted(set(versions))
    assert states[-1]["version"] == 1001
    assert states[-1]["title"] == "title 999"


async def test_another_principals_conversations_are_not_told(server: Server) -> None:
    mine = await server.connect()
    server.principal = "somebody else"
    theirs = await server.connect()
    for window in (mine, theirs):
        await window.call("session/watch")
    await theirs.call("session/create", session_id="sky", title="theirs")
    await mine.call("session/create", session_id="sky", title="mine")
    await until_told(theirs, title="theirs")
    await until_told(mine, title="mine")
    assert {state["title"] for state in told_to(mine)} == {"mine"}
    assert {state["title"] for state in told_to(theirs)} == {"theirs"}


async def test_one_conversation_is_watched_alone(server: Server) -> None:
    peer = await server.connect()
    for session_id in ("sky", "sea"):
        await peer.call("session/create", session_id=session_id)
    await peer.call("session/watch", session_id="sea")
    await peer.call("session/update", session_id="sky", title="not this")
    await peer.call("session/update", session_id="sea", title="this")
    await until_told(peer, title="this")
    assert {state["session_id"] for state in told_to(peer)} == {"sea"}


async def test_after_unwatch_nothing_is_told(server: Server) -> None:
    peer, other = await server.connect(), await server.connect()
    await other.call("session/watch")
    await peer.call("session/watch")
    await peer.call("session/create", session_id="sky")
    await until_told(peer, session_id="sky")
    await peer.call("session/unwatch")
    before = len(told_to(peer))
    await peer.call("session/update", session_id="sky", title="later")
    await until_told(other, title="later")
    await peer.call("ping")
    assert len(told_to(peer)) == before
    # And again, which is harmless.
    await peer.call("session/unwatch", session_id="sky")


async def test_a_session_nobody_knows_is_not_watched(server: Server) -> None:
    peer = await server.connect()
    with pytest.raises(RpcError) as refused:
        await peer.call("session/watch", session_id="nobody")
    assert refused.value.kind == "session_not_found"


async def test_so_many_conversations_are_watched_one_by_one(memory_server: Server) -> None:
    peer = await memory_server.connect()
    for number in range(WATCHED_MAX):
        await peer.call("session/create", session_id=f"s{number}")
        await peer.call("session/watch", session_id=f"s{number}")
    await peer.call("session/create", session_id="one-more")
    with pytest.raises(RpcError) as refused:
        await peer.call("session/watch", session_id="one-more")
    assert refused.value.kind == "overloaded"
    assert "all" in refused.value.data["hint"]
    await peer.call("session/watch", session_id="s0")
    await peer.call("session/watch")
    await peer.call("session/update", session_id="one-more", title="seen")
    await until_told(peer, title="seen")


async def test_a_window_that_does_not_read_stalls_nobody_and_keeps_one_state_of_each(memory_server: Server) -> None:
    memory_server.capacity = 1
    slow = await memory_server.connect()
    await slow.call("session/watch")
    memory_server.capacity = 16
    quick = await memory_server.connect()
    await quick.call("session/watch")
    slow._reading.cancel()
    for session_id in ("sky", "sea"):
        await quick.call("session/create", session_id=session_id)
        for number in range(3):
            await quick.call("session/update", session_id=session_id, title=str(number))
            await until_told(quick, session_id=session_id, title=str(number))
    writer = memory_server.connections[0].context.writer
    assert len(writer._states) <= 2
    slow._reading = asyncio.create_task(slow._read())
    await until_told(slow, session_id="sky", version=4)
    await until_told(slow, session_id="sea", version=4)
    assert len(told_to(slow)) < 8


async def test_forgetting_all_is_told_of_each(server: Server) -> None:
    peer = await server.connect()
    for number in range(3):
        await peer.call("session/create", session_id=f"s{number}")
    await peer.call("session/watch")
    assert await peer.call("session/delete_all", confirm=True) == {"deleted": 3}
    for number in range(3):
        await until_told(peer, session_id=f"s{number}", deleted=True)


async def test_others_have_turns_while_it_is_told_that_all_are_forgotten(memory_server: Server) -> None:
    peer = await memory_server.connect()
    for number in range(1000):
        await memory_server.services.conversations.create("me", SessionCreate(session_id=f"s{number}"))
    await peer.call("session/watch")
    turn, told_in_turn = 0, Counter[int]()
    deleted = memory_server.manager.changes.deleted

    def counted(*args: Any, **kwargs: Any) -> None:
        told_in_turn[turn] += 1
        deleted(*args, **kwargs)

    memory_server.manager.changes.deleted = counted  # type: ignore[method-assign]
    deleting = asyncio.create_task(peer.call("session/delete_all", confirm=True))
    while not deleting.done():
        turn += 1
        await asyncio.sleep(0)
    await peer.until(lambda: len(told_to(peer)) == 1000)
    assert sum(told_in_turn.values()) == 1000
    assert max(told_in_turn.values()) <= 250


async def test_who_leaves_while_all_are_forgotten_leaves_no_watcher_untold(memory_server: Server) -> None:
    peer = await memory_server.connect()
    for number in range(1000):
        await memory_server.services.conversations.create("me", SessionCreate(session_id=f"s{number}"))
    await peer.call("session/watch")
    deleted, is_told = memory_server.manager.changes.deleted, asyncio.Event()

    def noticed(*args: Any, **kwargs: Any) -> None:
        is_told.set()
        deleted(*args, **kwargs)

    memory_server.manager.changes.deleted = noticed  # type: ignore[method-assign]
    deleting = asyncio.create_task(memory_server.services.conversations.delete_all("me"))
    await is_told.wait()
    deleting.cancel()
    await peer.until(lambda: len(told_to(peer)) == 1000)


async def test_a_conversation_made_anew_at_once_is_told_as_it_is(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="sky", title="old")
    await peer.call("session/watch")
    await peer.call("session/update", session_id="sky", title="older")
    await peer.call("session/delete", session_id="sky")
    await peer.call("session/create", session_id="sky", title="new")
    await until_told(peer, title="new", version=1)
    assert "deleted" not in told_to(peer)[-1]


async def test_a_stream_that_is_refused_leaves_nothing_active(server: Server) -> None:
    peer = await server.connect()
    await peer.call("session/create", session_id="sky")
    await peer.call("session/watch")
    with pytest.raises(RpcError):
        await peer.call("chat/send", session_id="sky", messages=QUESTION, replace_from="nobody")
    await peer.call("session/update", session_id="sky", title="t")
    assert (await until_told(peer, title="t"))["active"] == []


async def test_a_closed_window_is_kept_nowhere(memory_server: Server) -> None:
    peer = await memory_server.connect()
    await peer.call("session/watch")
    assert memory_server.manager.changes.has_watchers("me")
    await peer.close()
    async with asyncio.timeout(10):
        await asyncio.gather(*memory_server._tasks)
    assert not memory_server.manager.changes.has_watchers("me")
