"""Cancels at every moment, and races between cancels and ends (protocol section 6)."""

from archer_ws.conformance.bench import Bench, new_id
from archer_ws.conformance.failing import Skipped, expect
from archer_ws.conformance.methods import CHAT_SEND, STREAM_CANCEL, STREAM_GET
from archer_ws.conformance.peer import Peer
from archer_ws.conformance.registry import check
from archer_ws.conformance.told import Told
from archer_ws.sessions.models import CancelResult

_TOO_SHORT = "the answer was over before it could be cancelled"


@check(section="6")
async def the_next_frame_cancels(bench: Bench) -> None:
    """A cancel in the very next frame finds the stream."""
    peer = await bench.connect()
    params = bench.long()
    sent = await peer.request(CHAT_SEND, **params)
    cancelled = await peer.call(STREAM_CANCEL, stream_id=params["stream_id"])
    told = await peer.accepted(sent)
    expect(cancelled.outcome != "not_found", "the outcome cancelling", cancelled.outcome)
    await _ends_cancelled(peer, told, cancelled)


@check(section="6")
async def a_cancel_in_mid_stream_keeps_the_text(bench: Bench) -> None:
    """A cancel in mid-stream ends it as cancelled; its text stays."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.long())
    await peer.deltas(told, 2, "be cancelled in its middle")
    cancelled = await peer.call(STREAM_CANCEL, stream_id=told.stream_id)
    await _ends_cancelled(peer, told, cancelled)
    assert told.ended is not None
    expect(told.ended.error is None, "no error: cancelled is a status", told.ended.status)
    expect(told.ended.text_bytes == len(told.content.encode()), "text_bytes of what came", told.ended.text_bytes)
    replay = await other.subscribe(told.stream_id)
    await other.ended(replay)
    expect(replay.content == told.content, f"the text {told.content!r} in a replay", replay.content)


@check(section="6")
async def cancelling_twice_is_harmless(bench: Bench) -> None:
    """Cancelling twice is harmless."""
    peer = await bench.connect()
    told = await peer.chat(bench.long())
    await peer.deltas(told, 1, "be cancelled in its middle")
    requests = [await peer.request(STREAM_CANCEL, stream_id=told.stream_id) for _ in range(2)]
    first, second = [await peer.result(request) for request in requests]
    await _ends_cancelled(peer, told, first)
    expect(second.outcome in {"cancelling", "already_ended"}, "cancelling or already_ended", second.outcome)
    third = await peer.call(STREAM_CANCEL, stream_id=told.stream_id)
    came = (third.outcome, third.status)
    expect(came == ("already_ended", "cancelled"), "already_ended and cancelled behind the end", came)


@check(section="6")
async def a_late_cancel_changes_nothing(bench: Bench) -> None:
    """A cancel behind the end changes nothing."""
    peer = await bench.connect()
    told = await peer.chat(bench.short())
    end = await peer.ended(told)
    cancelled = await peer.call(STREAM_CANCEL, stream_id=told.stream_id)
    came = (cancelled.outcome, cancelled.status)
    expect(came == ("already_ended", end.status), f"already_ended and {end.status}", came)
    info = await peer.call(STREAM_GET, stream_id=told.stream_id)
    expect(info.status == end.status, f"the status {end.status} still", info.status)


@check(section="6")
async def unknown_ids_are_not_found(bench: Bench) -> None:
    """Cancelling what nobody knows is not_found."""
    peer = await bench.connect()
    cancelled = await peer.call(STREAM_CANCEL, stream_id=new_id("none"))
    expect(cancelled.outcome == "not_found", "not_found", cancelled.outcome)


@check(section="6")
async def a_cancel_may_come_first(bench: Bench) -> None:
    """A send behind its own cancel is born cancelled."""
    peer, other = await bench.connect(), await bench.connect()
    params = bench.long()
    cancelled = await other.call(STREAM_CANCEL, stream_id=params["stream_id"])
    expect(cancelled.outcome == "not_found", "not_found", cancelled.outcome)
    told = await peer.chat(params)
    end = await peer.ended(told)
    expect((end.status, end.reason) == ("cancelled", "client"), "cancelled by the client", (end.status, end.reason))
    expect(not told.content and told.started is None, "nothing asked of the provider", told.kinds)


@check(section="6")
async def any_connection_cancels(bench: Bench) -> None:
    """Another connection cancels as well."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.long())
    await peer.deltas(told, 1, "be cancelled from another connection")
    cancelled = await other.call(STREAM_CANCEL, stream_id=told.stream_id)
    await _ends_cancelled(peer, told, cancelled)


@check(section="6")
async def a_cancel_ends_one_stream(bench: Bench) -> None:
    """A cancel leaves the socket's other streams alone."""
    peer = await bench.connect()
    kept, dropped = [await peer.chat(bench.long()) for _ in range(2)]
    await peer.deltas(kept, 1, "outlive another stream's cancel")
    cancelled = await peer.call(STREAM_CANCEL, stream_id=dropped.stream_id)
    await _ends_cancelled(peer, dropped, cancelled)
    await peer.deltas(kept, kept.deltas + 1, "outlive another stream's cancel")


@check(section="6")
async def cancels_and_ends_agree(bench: Bench) -> None:
    """Whatever the moment, a cancel and the end agree."""
    peer = await bench.connect()
    for moment in range(8):
        told = await peer.chat(bench.short())
        # One frame later each time: before the start, at it, between tokens, beside the end, behind it.
        await peer.events(told, moment)
        cancelled = await peer.call(STREAM_CANCEL, stream_id=told.stream_id)
        end = await peer.ended(told)
        if cancelled.outcome == "cancelling":
            expect(
                end.status == "cancelled", f"cancelled, since the cancel {moment} events in was accepted", end.status
            )
        else:
            came = (cancelled.outcome, cancelled.status)
            expect(came == ("already_ended", end.status), f"already_ended and {end.status}", came)


@check(section="6")
async def many_cancels_at_once(bench: Bench) -> None:
    """Cancels of many streams at once end each of them once."""
    peer = await bench.connect()
    count = min(6, bench.target.limits.max_streams)
    streams = [await peer.chat(bench.long()) for _ in range(count)]
    requests = [await peer.request(STREAM_CANCEL, stream_id=told.stream_id) for told in streams]
    for told, request in zip(streams, requests, strict=True):
        cancelled = await peer.result(request)
        end = await peer.ended(told)
        wanted = "cancelled" if cancelled.outcome == "cancelling" else cancelled.status
        expect(end.status == wanted, f"{wanted}", end.status)


async def _ends_cancelled(peer: Peer, told: Told, cancelled: CancelResult) -> None:
    end = await peer.ended(told)
    if cancelled.outcome == "already_ended" and end.status != "cancelled":
        raise Skipped(_TOO_SHORT)
    came = (cancelled.outcome, end.status, end.reason)
    expect(came == ("cancelling", "cancelled", "client"), "cancelling, then cancelled by the client", came)
