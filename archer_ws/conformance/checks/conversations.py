"""Conversations, if the server has the capability: orders, versions, copies, searches and watches (section 26).

`session/delete_all` is never sent with confirm: the conversations may be somebody's.
"""

from collections.abc import Callable

from archer_ws.conformance.bench import Bench, new_id
from archer_ws.conformance.failing import Skipped, expect
from archer_ws.conformance.methods import (
    SESSION_DELETE,
    SESSION_DELETE_ALL,
    SESSION_FORK,
    SESSION_GET,
    SESSION_LIST,
    SESSION_SEARCH,
    SESSION_UNWATCH,
    SESSION_UPDATE,
    SESSION_WATCH,
    STREAM_CANCEL,
)
from archer_ws.conformance.peer import Peer
from archer_ws.conformance.registry import check
from archer_ws.sessions.models import SessionChanged


def _needs(bench: Bench, capability: str) -> None:
    if capability not in (bench.target.greeting.capabilities or ()):
        raise Skipped(f"initialize does not name the capability {capability}")


@check(section="26")
async def lists_have_two_orders(bench: Bench) -> None:
    """session/list sorts by the last change, or by creation."""
    _needs(bench, "sessions")
    peer = await bench.connect()
    made = [(await bench.session(peer)).session_id for _ in range(2)]
    await peer.call(SESSION_UPDATE, session_id=made[0], title="Moved")
    for params, wanted in (({}, made), ({"order": "updated"}, made), ({"order": "created"}, made[::-1])):
        page = await peer.call(SESSION_LIST, limit=200, **params)
        came = [each.session_id for each in page.items if each.session_id in made]
        expect(came in (wanted, []), f"{wanted} with {params}", came)
    page = await peer.call(SESSION_LIST, limit=1, order="created")
    if page.next_cursor is not None:
        await peer.refused(SESSION_LIST, "invalid_params", order="updated", cursor=page.next_cursor)


@check(section="26")
async def stale_versions_conflict(bench: Bench) -> None:
    """A stale version is conflict, and changes nothing."""
    _needs(bench, "sessions")
    peer = await bench.connect()
    made = await bench.session(peer, title="First")
    changed = await peer.call(SESSION_UPDATE, session_id=made.session_id, title="Second", version=made.version)
    expect((changed.version or 0) > (made.version or 0), f"a version above {made.version}", changed.version)
    stale = {"session_id": made.session_id, "version": made.version}
    await peer.refused(SESSION_UPDATE, "conflict", **stale, title="Third")
    await peer.refused(SESSION_DELETE, "conflict", **stale)
    found = await peer.call(SESSION_GET, session_id=made.session_id)
    expect(found.title == "Second", "the title unchanged", found.title)


@check(section="26")
async def sessions_are_put_aside(bench: Bench) -> None:
    """archived archives a session, and restores it."""
    _needs(bench, "sessions")
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    for archived in (True, False):
        await peer.call(SESSION_UPDATE, session_id=session_id, archived=archived)
        page = await peer.call(SESSION_LIST, archived=not archived, limit=200)
        came = [each.session_id for each in page.items]
        expect(session_id not in came, f"not among archived: {not archived}", came)


@check(section="26")
async def sessions_are_forked(bench: Bench) -> None:
    """session/fork copies the messages before one, with their ids."""
    _needs(bench, "sessions")
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    end = await peer.ended(await peer.chat(bench.short(session_id=session_id)))
    messages = (await peer.call(SESSION_GET, session_id=session_id)).messages
    ids = [each.message_id for each in messages]
    expect(end.message_ids == ids, f"message_ids {ids} in the end", end.message_ids)
    copy_id = new_id("s")
    bench.trial.sessions.add(copy_id)
    copy = await peer.call(SESSION_FORK, session_id=session_id, before=ids[-1], new_session_id=copy_id)
    expect(copy.session_id == copy_id, copy_id, copy.session_id)
    kept = [each.message_id for each in (await peer.call(SESSION_GET, session_id=copy_id)).messages]
    expect(kept == ids[:-1], f"the messages {ids[:-1]}", kept)
    await peer.refused(SESSION_FORK, "conflict", session_id=session_id, new_session_id=copy_id)


@check(section="26")
async def messages_are_found(bench: Bench) -> None:
    """session/search finds all words, ignoring case."""
    _needs(bench, "sessions")
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    word = new_id("w").replace("-", "")
    said = [{"role": "user", "content": f"Say hello to {word}."}]
    await peer.ended(await peer.chat(bench.short(session_id=session_id, messages=said)))
    found = await peer.call(SESSION_SEARCH, query=f"HELLO {word[:-2]}")
    came = [(each.session_id, each.role.value) for each in found.items]
    expect((session_id, "user") in came, f"the question in {session_id}", came)
    for query in ('"', f"{word}*", f"NEAR({word})", f"-{word}"):
        await peer.call(SESSION_SEARCH, query=query)
    await peer.refused(SESSION_SEARCH, "invalid_params", query=" ")


@check(section="26")
async def forgetting_all_is_confirmed(bench: Bench) -> None:
    """session/delete_all without confirm is refused."""
    _needs(bench, "sessions")
    peer = await bench.connect()
    await peer.refused(SESSION_DELETE_ALL, "invalid_params")
    await peer.refused(SESSION_DELETE_ALL, "invalid_params", confirm=False)


@check(section="26")
async def changes_are_told(bench: Bench) -> None:
    """session/watch notifies other connections of changes."""
    _needs(bench, "watch")
    watcher, writer = await bench.connect(), await bench.connect()
    await watcher.call(SESSION_WATCH)
    made = await bench.session(writer, title="Watched")
    await _until_told(watcher, made.session_id, "that it was made", lambda each: each.version == made.version)
    for number in range(50):
        last = await writer.call(SESSION_UPDATE, session_id=made.session_id, title=str(number))
    await _until_told(watcher, made.session_id, "its last state", lambda each: each.version == last.version)
    versions = [each.version for each in watcher.inbox.changes if each.session_id == made.session_id]
    expect(versions == sorted(versions), "versions that grow", versions)
    await writer.call(SESSION_DELETE, session_id=made.session_id)
    await _until_told(watcher, made.session_id, "that it is gone", lambda each: each.deleted is True)


@check(section="26")
async def streams_are_told_to_watchers(bench: Bench) -> None:
    """A watched session names the streams that run in it."""
    _needs(bench, "watch")
    watcher, writer = await bench.connect(), await bench.connect()
    session_id = (await bench.session(writer)).session_id
    await watcher.call(SESSION_WATCH, session_id=session_id)
    told = await writer.chat(bench.long(session_id=session_id))

    def is_told() -> bool:
        return any(told.stream_id in [stream.stream_id for stream in each.active] for each in watcher.inbox.changes)

    what = f"a session/changed of {session_id}: that its stream runs"
    if not await watcher.until_quiet(is_told, what):
        if told.ended is not None:
            # A notification carries the state, not a log: a stream that begins and ends at once may not appear in it.
            raise Skipped("the answer was too short to be told of while it ran")
        await watcher.until(is_told, what)
    await writer.call(STREAM_CANCEL, stream_id=told.stream_id)
    await writer.ended(told)
    await _until_told(watcher, session_id, "that nothing runs", lambda each: not each.active)


@check(section="26")
async def unwatched_is_silent(bench: Bench) -> None:
    """After session/unwatch there are no more notifications."""
    _needs(bench, "watch")
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    await peer.call(SESSION_WATCH, session_id=session_id)
    await peer.call(SESSION_UNWATCH)
    await peer.call(SESSION_UPDATE, session_id=session_id, title="Later")
    is_told = await peer.until_quiet(lambda: bool(peer.inbox.changes), "a change after unwatch")
    expect(not is_told, "nothing told", peer.inbox.changes)
    await peer.refused(SESSION_WATCH, "session_not_found", session_id=new_id("none"))


async def _until_told(peer: Peer, session_id: str, what: str, holds: Callable[[SessionChanged], bool]) -> None:
    def has_come() -> bool:
        newest = [each for each in peer.inbox.changes if each.session_id == session_id]
        return any(holds(each) for each in newest)

    await peer.until(has_come, f"a session/changed of {session_id}: {what}")
