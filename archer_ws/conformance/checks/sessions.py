"""Conversations: what is stored, what is replaced, one stream at a time (protocol section 10)."""

from archer_ws.conformance.bench import Bench, new_id
from archer_ws.conformance.failing import Failed, Skipped, expect
from archer_ws.conformance.methods import (
    CHAT_SEND,
    SESSION_DELETE,
    SESSION_GET,
    SESSION_LIST,
    SESSION_UPDATE,
    STREAM_CANCEL,
    STREAM_GET,
    STREAM_LIST,
)
from archer_ws.conformance.registry import check

#: How many pages are searched for sessions that were just created: others may create some meanwhile.
_PAGES_MAX = 50


@check(section="10")
async def sessions_are_made(bench: Bench) -> None:
    """session/create takes the client's id, title and metadata."""
    peer = await bench.connect()
    session_id = new_id("s")
    made = await bench.session(peer, session_id=session_id, title="Conformance", metadata={"a": [1, {"bC": "ä"}]})
    expect(made.session_id == session_id, session_id, made.session_id)
    expect(made.message_count == 0, "no messages", made.message_count)
    found = await peer.call(SESSION_GET, session_id=session_id)
    expect(found.title == "Conformance", "the title", found.title)
    expect(found.metadata == {"a": [1, {"bC": "ä"}]}, "the metadata as it was sent", found.metadata)
    expect(not found.messages and not found.active_streams, "an empty conversation", found.model_dump())


@check(section="10")
async def turns_are_stored(bench: Bench) -> None:
    """A turn is stored: the question, the completion, its stream."""
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    told = await peer.chat(bench.short(session_id=session_id))
    expect(told.accepted.session_id == session_id, f"the session_id {session_id}", told.accepted.session_id)
    end = await peer.ended(told)
    found = await peer.call(SESSION_GET, session_id=session_id)
    came = [(each.role.value, each.status) for each in found.messages]
    expect(came == [("user", "completed"), ("assistant", end.status)], "the question and the completion", came)
    expect(found.message_count == 2, "message_count 2", found.message_count)
    question, completion = found.messages
    expect(question.content == bench.short()["messages"][0]["content"], "the question as it was sent", question.content)
    expect(completion.content == told.content, f"the completion {told.content!r}", completion.content)
    expect(completion.stream_id == told.stream_id, f"the stream_id {told.stream_id}", completion.stream_id)
    expect(question.message_id != completion.message_id, "an id for each message", completion.message_id)


@check(section="20")
async def text_parts_are_one_text(bench: Bench) -> None:
    """Parts of text are stored as their text, joined by line breaks."""
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    texts = ["Say hello", "", "in one short sentence. 🌍"]
    parts = [{"type": "text", "text": text} for text in texts]
    params = bench.short(session_id=session_id, messages=[{"role": "user", "content": parts}])
    await peer.ended(await peer.chat(params))
    found = await peer.call(SESSION_GET, session_id=session_id)
    came = found.messages[0].content if found.messages else None
    expect(came == "\n".join(texts), repr("\n".join(texts)), came)


@check(section="10")
async def partial_answers_are_stored(bench: Bench) -> None:
    """A cancelled completion is stored with its text and status."""
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    told = await peer.chat(bench.long(session_id=session_id))
    await peer.text(told, "be cancelled in its middle")
    await peer.call(STREAM_CANCEL, stream_id=told.stream_id)
    end = await peer.ended(told)
    found = await peer.call(SESSION_GET, session_id=session_id)
    came = [(each.status, each.content) for each in found.messages if each.role.value == "assistant"]
    expect(came == [(end.status, told.content)], f"{end.status} with {told.content!r}", came)


@check(section="10")
async def busy_sessions_refuse(bench: Bench) -> None:
    """A busy session refuses: session_busy, naming its stream."""
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    told = await peer.chat(bench.long(session_id=session_id))
    request = await peer.request(CHAT_SEND, **bench.short(session_id=session_id))
    response = await peer.response(request)
    if response.error is None and (await peer.call(STREAM_GET, stream_id=told.stream_id)).ended_at is not None:
        raise Skipped("the answer was too short to keep its session busy")
    info = await peer.refusal(request, "session_busy")
    expect(info.stream_id == told.stream_id, f"the error to name {told.stream_id}", info.stream_id)
    found = await peer.call(SESSION_GET, session_id=session_id)
    expect(found.active_streams in ([told.stream_id], []), f"active_streams [{told.stream_id}]", found.active_streams)
    listed = [each.stream_id for each in (await peer.call(STREAM_LIST, session_id=session_id)).items]
    expect(listed == [told.stream_id], "the session's one stream in stream/list", listed)


@check(section="10")
async def interrupts_take_over(bench: Bench) -> None:
    """on_busy interrupt ends the running stream for the new one."""
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    old = await peer.chat(bench.long(session_id=session_id))
    await peer.deltas(old, 1, "be interrupted")
    new = await peer.chat(bench.short(session_id=session_id, on_busy="interrupt"))
    end = await peer.ended(old)
    if end.status == "completed":
        raise Skipped("the answer was too short to be interrupted")
    came = (end.status, end.reason)
    expect(came == ("cancelled", "interrupted"), "cancelled for interrupted", came)
    end = await peer.ended(new)
    expect(end.status == "completed", "the new stream completed", end.status)


@check(section="10")
async def turns_are_replaced(bench: Bench) -> None:
    """replace_from removes that message and all that follow."""
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    for _ in range(2):
        await peer.ended(await peer.chat(bench.short(session_id=session_id)))
    before = (await peer.call(SESSION_GET, session_id=session_id)).messages
    expect(len(before) == 4, "two turns of two messages", len(before))
    other = [{"role": "user", "content": "Say goodbye in one short sentence."}]
    params = bench.short(session_id=session_id, messages=other, replace_from=before[2].message_id)
    await peer.ended(await peer.chat(params))
    after = (await peer.call(SESSION_GET, session_id=session_id)).messages
    kept = [each.message_id for each in after[:2]]
    expect(kept == [each.message_id for each in before[:2]], "the first turn kept", kept)
    came = [(each.role.value, each.content) for each in after[2:3]]
    expect(len(after) == 4 and came == [("user", other[0]["content"])], "the second turn replaced", came)
    unknown = bench.short(session_id=session_id, replace_from="conformance-none")
    await peer.refused(CHAT_SEND, "invalid_params", **unknown)


@check(section="10")
async def history_is_the_servers(bench: Bench) -> None:
    """With session_id, an assistant message is invalid_params."""
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    info = await peer.refused(CHAT_SEND, "invalid_params", **bench.short(session_id=session_id, messages=said))
    expect(bool(info.hint), "a hint", info.model_dump(exclude_none=True))
    found = await peer.call(SESSION_GET, session_id=session_id)
    expect(not found.messages, "nothing stored", len(found.messages))


@check(section="10")
async def sessions_are_changed(bench: Bench) -> None:
    """session/update changes what it names, nothing else."""
    peer = await bench.connect()
    made = await bench.session(peer, title="Before", metadata={"kept": True})
    changed = await peer.call(SESSION_UPDATE, session_id=made.session_id, title="After")
    expect(changed.title == "After", "the new title", changed.title)
    found = await peer.call(SESSION_GET, session_id=made.session_id)
    expect((found.title, found.metadata) == ("After", {"kept": True}), "the metadata kept", found.metadata)
    expect(found.updated_at >= made.updated_at, "updated_at not before the change", found.updated_at)


@check(section="10")
async def sessions_are_listed_by_page(bench: Bench) -> None:
    """session/list returns every session once, page by page."""
    peer = await bench.connect()
    made = {(await bench.session(peer)).session_id for _ in range(5)}
    seen: list[str] = []
    params: dict[str, str] = {}
    for _ in range(_PAGES_MAX):
        page = await peer.call(SESSION_LIST, limit=2, **params)
        expect(len(page.items) <= 2, "at most 2 of a page", len(page.items))
        seen += [each.session_id for each in page.items if each.session_id in made]
        if page.next_cursor is None or len(seen) >= len(made):
            break
        params = {"cursor": page.next_cursor}
    expect(len(seen) == len(set(seen)), "each session once", seen)
    expect(set(seen) == made, f"the {len(made)} sessions just made", seen)


@check(section="10")
async def sessions_are_deleted(bench: Bench) -> None:
    """session/delete ends its streams and deletes it."""
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    told = await peer.chat(bench.long(session_id=session_id))
    await peer.call(SESSION_DELETE, session_id=session_id)
    end = await peer.ended(told)
    expect(end.status in {"cancelled", "completed"}, "its stream ended", end.status)
    await peer.refused(SESSION_GET, "session_not_found", session_id=session_id)


@check(section="11")
async def unknown_sessions_are_not_found(bench: Bench) -> None:
    """A session nobody knows is session_not_found."""
    peer = await bench.connect()
    session_id = new_id("none")
    await peer.refused(SESSION_GET, "session_not_found", session_id=session_id)
    await peer.refused(SESSION_UPDATE, "session_not_found", session_id=session_id, title="x")
    await peer.refused(SESSION_DELETE, "session_not_found", session_id=session_id)
    params = bench.short(session_id=session_id)
    await peer.refused(CHAT_SEND, "session_not_found", **params)
    # What was never accepted is no stream either.
    response = await peer.response(await peer.request(STREAM_GET, stream_id=params["stream_id"]))
    if response.error is None:
        raise Failed("no stream of a refused send", "stream/get knows it")
