"""Disconnecting, reconnecting, and reading on (protocol section 7)."""

import asyncio

from archer_ws.conformance.bench import Bench
from archer_ws.conformance.failing import Skipped, expect
from archer_ws.conformance.methods import (
    ENDED_STATUSES,
    LIVE_STATUSES,
    STREAM_CANCEL,
    STREAM_GET,
    STREAM_SUBSCRIBE,
    STREAM_UNSUBSCRIBE,
)
from archer_ws.conformance.peer import Peer
from archer_ws.conformance.registry import check
from archer_ws.conformance.told import REPLAYED_BYTES_MAX, Told
from archer_ws.sessions.models import StreamInfo
from archer_ws.sessions.streams.events import as_fields, as_json

#: How often a stream is polled that nobody may hold meanwhile, in seconds.
_LOOK_EVERY_S = 0.05
#: After this many polls a server has had time to notice that a connection was reset.
_LOOKS_TO_NOTICE = 10
_CUTS = 3


@check(section="7")
async def cuts_lose_nothing(bench: Bench) -> None:
    """After broken connections, the text equals that of a replay."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.long())
    content, reasoning = "", ""
    for _ in range(_CUTS):
        await peer.deltas(told, 2, "be read over broken connections")
        # What was received and not read yet may still be sent to this subscription: it counts for nothing.
        content, reasoning, last = content + told.content, reasoning + told.reasoning, told.last
        peer.drop()
        peer = await bench.connect()
        told = await peer.subscribe(told.stream_id, last)
    await peer.deltas(told, 1, "be read over broken connections")
    await peer.call(STREAM_CANCEL, stream_id=told.stream_id)
    end = await peer.ended(told)
    expect(end.reason != "disconnected", "a stream that goes on while nobody listens", f"{end.status}, {end.reason}")
    replay = await other.subscribe(told.stream_id)
    await other.ended(replay)
    expect(content + told.content == replay.content, f"the text {replay.content!r}", content + told.content)
    expect(reasoning + told.reasoning == replay.reasoning, "the same reasoning", reasoning + told.reasoning)


@check(section="7")
async def replays_are_whole(bench: Bench) -> None:
    """A replay has everything that was sent, from start to end."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.short())
    end = await peer.ended(told)
    replay = await other.subscribe(told.stream_id)
    again = await other.ended(replay)
    expect(replay.content == told.content, f"the text {told.content!r}", replay.content)
    expect(replay.started == told.started, "the same stream/started", replay.kinds)
    expect(replay.progress == told.progress, "the same stream/progress", replay.progress)
    expect(replay.landmarks == told.landmarks, f"the same events, {told.landmarks}", replay.landmarks)
    expect(again == end, f"the same end, {as_json(end).decode()}", as_fields(again))
    longest = max(replay.longest_delta_bytes, told.longest_delta_bytes)
    expect(longest <= REPLAYED_BYTES_MAX, f"deltas of at most {REPLAYED_BYTES_MAX} bytes", longest)


@check(section="7")
async def any_event_is_a_place_to_go_on(bench: Bench) -> None:
    """A subscribe after each event returns the rest of the text."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.short())
    # What was known after each event, while it was told one by one.
    texts: dict[int, str] = {}
    while told.ended is None:
        texts[told.last] = told.content
        await peer.events(told, told.events + 1)
    for after, text in texts.items():
        rest = await other.subscribe(told.stream_id, after)
        await other.ended(rest)
        expect(text + rest.content == told.content, f"{told.content!r} after {after}", text + rest.content)


@check(section="5.6")
async def whatever_has_a_number_is_an_event(bench: Bench) -> None:
    """What follows an event is the same, whether known here or not."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.short())
    end = await peer.ended(told)
    for name, after in told.landmarks:
        if after < end.seq:
            rest = await other.subscribe(told.stream_id, after)
            await other.ended(rest)
            due = [landmark for landmark in told.landmarks if landmark[1] > after]
            expect(rest.landmarks == due, f"{due} behind {name}", rest.landmarks)


@check(section="3")
async def nobody_is_ahead_of_the_log(bench: Bench) -> None:
    """A subscribe past the newest event gets -32602."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.short())
    end = await peer.ended(told)
    info = await other.refused(STREAM_SUBSCRIBE, "invalid_params", stream_id=told.stream_id, after=end.seq + 1)
    paths = [each.path for each in info.errors or ()]
    expect(paths == ["after"], "`errors` to name after", paths)


@check(section="7")
async def nothing_comes_behind_the_end(bench: Bench) -> None:
    """A subscribe at the last event of an ended stream is silent."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.short())
    end = await peer.ended(told)
    result = await other.call(STREAM_SUBSCRIBE, stream_id=told.stream_id, after=end.seq)
    expect(result.head_seq == end.seq, f"head_seq {end.seq}", result.head_seq)
    await other.still_serves()
    events = other.inbox.events_of(told.stream_id)
    expect(not events, "no event", events)


@check(section="5.3")
async def a_newer_subscribe_replaces(bench: Bench) -> None:
    """A second subscribe on the same socket replaces the first."""
    peer = await bench.connect()
    told = await peer.chat(bench.long())
    await peer.deltas(told, 2, "be subscribed to anew")
    again = await peer.subscribe(told.stream_id)
    seen = told.events
    await peer.deltas(again, 2, "be subscribed to anew")
    await peer.call(STREAM_CANCEL, stream_id=told.stream_id)
    await peer.ended(again)
    await peer.still_serves()
    expect(told.events == seen, "nothing more for the first", told.kinds[seen:])
    ends = peer.inbox.events_of(told.stream_id).count("stream/ended")
    expect(ends == 1, "one stream/ended", ends)


@check(section="7")
async def unsubscribing_is_not_leaving(bench: Bench) -> None:
    """unsubscribe stops delivery, not the stream, nor the hold."""
    peer = await bench.connect()
    told = await peer.chat(bench.long(on_disconnect="cancel"))
    await peer.deltas(told, 1, "be unsubscribed from")
    await peer.call(STREAM_UNSUBSCRIBE, stream_id=told.stream_id)
    seen = len(peer.inbox.events_of(told.stream_id))
    info = before = await peer.call(STREAM_GET, stream_id=told.stream_id)
    if before.status == "completed":
        raise Skipped("the answer was too short to be unsubscribed from")
    while info.status in LIVE_STATUSES and info.head_seq <= before.head_seq:
        await asyncio.sleep(_LOOK_EVERY_S)
        info = await peer.call(STREAM_GET, stream_id=told.stream_id)
    expect(info.status != "cancelled", "the stream to go on", info.status)
    events = peer.inbox.events_of(told.stream_id)[seen:]
    expect(not events, "no event behind the response to stream/unsubscribe", events)
    rest = await peer.subscribe(told.stream_id, told.last)
    await peer.until(lambda: rest.events > 0, "events after subscribing again")


@check(section="7")
async def the_last_holder_cancels(bench: Bench) -> None:
    """on_disconnect cancel: the last holder's disconnect cancels."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.long(on_disconnect="cancel"))
    await peer.deltas(told, 1, "be left")
    peer.drop()
    info, looks = await _over(bench, other, told)
    if info.status == "completed" and looks < _LOOKS_TO_NOTICE:
        raise Skipped("the answer was over before the server could notice")
    replay = await other.subscribe(told.stream_id)
    end = await other.ended(replay)
    came = (end.status, end.reason)
    expect(came == ("cancelled", "disconnected"), "cancelled for disconnected", came)


@check(section="7")
async def another_holder_keeps_it(bench: Bench) -> None:
    """on_disconnect cancel: with another holder it goes on."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.long(on_disconnect="cancel"))
    kept = await other.subscribe(told.stream_id)
    await other.deltas(kept, 1, "be left by one of two")
    peer.drop()
    await other.deltas(kept, kept.deltas + 3, "be left by one of two")
    await other.call(STREAM_CANCEL, stream_id=told.stream_id)
    end = await other.ended(kept)
    expect(end.reason != "disconnected", "no end for disconnected", end.reason)


@check(section="5.5")
async def followers_get_the_same(bench: Bench) -> None:
    """Two sockets that follow a stream get the same text."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.short())
    followed = await other.subscribe(told.stream_id)
    end, same = await peer.ended(told), await other.ended(followed)
    expect(followed.content == told.content, f"the text {told.content!r}", followed.content)
    expect(same == end, "the same end", as_fields(same))


async def _over(bench: Bench, peer: Peer, told: Told) -> tuple[StreamInfo, int]:
    """A stream once it has ended, polled without holding it; and how often it was seen running."""
    looks = 0
    while (info := await peer.call(STREAM_GET, stream_id=told.stream_id)).status not in ENDED_STATUSES:
        looks += 1
        bench.trial.waiting_for = f"the end of {told.stream_id}, of which stream/get says {info.status}"
        await asyncio.sleep(_LOOK_EVERY_S)
    return info, looks
