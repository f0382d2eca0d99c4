"""One stream and many: acceptance, events, text, and a stream's state (protocol sections 3 to 5)."""

from archer_ws.conformance.bench import Bench, new_id
from archer_ws.conformance.failing import Skipped, expect
from archer_ws.conformance.methods import (
    CHAT_SEND,
    ENDED_STATUSES,
    LIVE_STATUSES,
    STREAM_CANCEL,
    STREAM_GET,
    STREAM_LIST,
    STREAM_SUBSCRIBE,
)
from archer_ws.conformance.registry import check
from archer_ws.sessions.streams.events import as_fields


@check(section="3")
async def a_chat_is_accepted(bench: Bench) -> None:
    """chat/send is accepted under the client's stream_id."""
    peer = await bench.connect()
    params = bench.short()
    told = await peer.chat(params)
    accepted = told.accepted
    expect(accepted.stream_id == params["stream_id"], f"the stream_id {params['stream_id']}", accepted.stream_id)
    expect(not accepted.duplicate, "duplicate false", accepted.duplicate)
    expect(bool(accepted.provider and accepted.model), "the provider and the model", accepted.model_dump())
    await peer.ended(told)


@check(section="1")
async def the_server_mints_ids(bench: Bench) -> None:
    """Without a stream_id the server mints one."""
    peer = await bench.connect()
    params = bench.short()
    del params["stream_id"]
    first, second = [await peer.chat(params) for _ in range(2)]
    expect(first.stream_id != second.stream_id, "an id for each", first.stream_id)
    info = await peer.call(STREAM_GET, stream_id=first.stream_id)
    expect(info.stream_id == first.stream_id, first.stream_id, info.stream_id)
    await peer.ended(first)
    await peer.ended(second)


@check(section="4")
async def an_answer_takes_its_course(bench: Bench) -> None:
    """A stream is started, deltas, ended: completed."""
    peer = await bench.connect()
    told = await peer.chat(bench.short())
    end = await peer.ended(told)
    expect(end.status == "completed", "completed", end.status)
    expect(end.finish_reason is not None, "a finish_reason", end.finish_reason)
    started = told.started
    expect(started is not None, "stream/started", told.kinds)
    assert started is not None
    came, was = (started.provider, started.model), (told.accepted.provider, told.accepted.model)
    expect(came == was, f"stream/started to name {was}", came)
    expect(told.deltas > 0, "text", told.kinds)


@check(section="4")
async def text_bytes_are_those_of_the_text(bench: Bench) -> None:
    """text_bytes is the length of the text in UTF-8."""
    peer = await bench.connect()
    told = await peer.chat(bench.short())
    end = await peer.ended(told)
    came = len(told.content.encode())
    expect(end.text_bytes == came, f"text_bytes {came}", end.text_bytes)
    info = await peer.call(STREAM_GET, stream_id=told.stream_id)
    expect(info.text_bytes == came, f"text_bytes {came} in stream/get", info.text_bytes)


@check(section="4")
async def whole_answers_come_with_the_end(bench: Bench) -> None:
    """stream: false gives the content with the end, no deltas."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.short(stream=False))
    end = await peer.ended(told)
    expect(end.content is not None, "content in stream/ended", as_fields(end))
    expect(told.deltas == 0, "no deltas", told.deltas)
    replay = await other.subscribe(told.stream_id)
    await other.ended(replay)
    expect(end.content == replay.content, f"the text of a replay, {replay.content!r}", end.content)


@check(section="5.4")
async def streams_interleave(bench: Bench) -> None:
    """Streams of one socket do not wait for each other."""
    peer = await bench.connect()
    first = await peer.chat(bench.long())
    await peer.deltas(first, 1, "start another beside it")
    others = [await peer.chat(bench.long()) for _ in range(2)]
    await peer.until(lambda: all(each.deltas for each in others) or first.ended is not None, "text of three streams")
    if first.ended is not None:
        raise Skipped("the first answer ended before the others had text")
    seen = first.deltas
    await peer.deltas(first, seen + 1, "be seen going on beside the others")
    await peer.call(STREAM_CANCEL, stream_id=others[0].stream_id)
    await peer.ended(others[0])
    await peer.deltas(first, first.deltas + 1, "be seen going on behind another's end")


@check(section="3")
async def streams_are_seen_from_outside(bench: Bench) -> None:
    """stream/get and stream/list show a stream's state."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.long())
    await peer.deltas(told, 1, "be looked at while it runs")
    running = await other.call(STREAM_GET, stream_id=told.stream_id)
    listed = {each.stream_id for each in (await other.call(STREAM_LIST, active=True)).items}
    await peer.call(STREAM_CANCEL, stream_id=told.stream_id)
    end = await peer.ended(told)
    if running.status in ENDED_STATUSES:
        raise Skipped("the answer was too short to be looked at while it runs")
    expect(running.status in LIVE_STATUSES and running.ended_at is None, "a live stream", running.model_dump())
    expect(running.head_seq > 0, "head_seq above 0", running.head_seq)
    if end.status == "cancelled":
        expect(told.stream_id in listed, "the running stream in stream/list {active: true}", sorted(listed))
    info = await other.call(STREAM_GET, stream_id=told.stream_id)
    seen = (info.status, info.head_seq, info.text_bytes)
    expect(seen == (end.status, end.seq, end.text_bytes), f"{(end.status, end.seq, end.text_bytes)}", seen)
    expect(info.ended_at is not None, "ended_at", info.model_dump())
    listed = {each.stream_id for each in (await other.call(STREAM_LIST, active=True)).items}
    expect(told.stream_id not in listed, "no ended stream in stream/list {active: true}", told.stream_id)
    listed = {each.stream_id for each in (await other.call(STREAM_LIST)).items}
    expect(told.stream_id in listed, "the ended stream in stream/list", sorted(listed))


@check(section="11")
async def unknown_streams_are_not_found(bench: Bench) -> None:
    """A stream nobody knows is stream_not_found."""
    peer = await bench.connect()
    stream_id = new_id("none")
    await peer.refused(STREAM_GET, "stream_not_found", stream_id=stream_id)
    await peer.refused(STREAM_SUBSCRIBE, "stream_not_found", stream_id=stream_id)


@check(section="3")
async def duplicates_join(bench: Bench) -> None:
    """The same stream_id and params join: duplicate, from 0."""
    peer, other = await bench.connect(), await bench.connect()
    params = bench.short()
    told = await peer.chat(params)
    again = await other.chat(params)
    expect(again.accepted.duplicate, "duplicate true", again.accepted.duplicate)
    await peer.ended(told)
    await other.ended(again)
    expect(again.content == told.content, f"the text {told.content!r}", again.content)
    late = await other.chat(params)
    expect(late.accepted.duplicate, "duplicate true after the end", late.accepted.duplicate)
    await other.ended(late)
    expect(late.content == told.content, f"the text {told.content!r} after the end", late.content)
    expect(late.last == told.last, f"events up to {told.last}", late.last)


@check(section="3")
async def other_params_conflict(bench: Bench) -> None:
    """A stream_id with other params is stream_id_conflict."""
    peer = await bench.connect()
    params = bench.short()
    told = await peer.chat(params)
    other = [{"role": "user", "content": "Say goodbye."}]
    info = await peer.refused(CHAT_SEND, "stream_id_conflict", **{**params, "messages": other})
    expect(info.stream_id == params["stream_id"], f"the error to name {params['stream_id']}", info.stream_id)
    await peer.ended(told)
