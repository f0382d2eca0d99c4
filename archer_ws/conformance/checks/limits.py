"""The limits of one connection, and what is never refused (protocol section 8)."""

from archer_ws.conformance.bench import Bench, new_id
from archer_ws.conformance.failing import Skipped, expect
from archer_ws.conformance.methods import CHAT_SEND, PING, SESSION_GET, STREAM_CANCEL, STREAM_SUBSCRIBE
from archer_ws.conformance.registry import check
from archer_ws.conformance.told import Told

#: A server with a higher limit is not filled: it may cost money.
_STREAMS_MAX = 128
_REQUESTS_MAX = 1024


@check(section="8", when="alone")
async def streams_are_limited(bench: Bench) -> None:
    """One stream too many is too_many_streams; cancel and ping go on."""
    count = bench.target.limits.max_streams
    if count > _STREAMS_MAX:
        raise Skipped(f"this server allows {count} streams a socket, more than are opened here")
    peer, other = await bench.connect(), await bench.connect()
    streams = [await peer.chat(bench.long()) for _ in range(count)]
    elsewhere = await other.chat(bench.long())
    sent = await peer.request(CHAT_SEND, **bench.long())
    response = await peer.response(sent)
    over = sum(told.ended is not None for told in streams)
    if over and response.error is None:
        raise Skipped(f"{over} of {count} answers were over before there were enough")
    info = await peer.refusal(sent, "too_many_streams")
    expect(info.retry_after_ms is not None, "retry_after_ms", info.model_dump(exclude_none=True))
    if elsewhere.ended is None:
        await peer.refused(STREAM_SUBSCRIBE, "too_many_streams", stream_id=elsewhere.stream_id)
    await peer.call(PING)
    await peer.call(STREAM_CANCEL, stream_id=streams[0].stream_id)
    await peer.ended(streams[0])
    streams.append(await peer.chat(bench.long()))
    await _cancel_all(bench, [*streams, elsewhere])


@check(section="8", when="alone")
async def bursts_are_answered(bench: Bench) -> None:
    """A burst of requests is answered; ping is never refused."""
    count = 2 * bench.target.limits.max_requests
    if count > _REQUESTS_MAX:
        raise Skipped(f"this server serves {count // 2} requests of a socket at once, more than are sent here")
    peer = await bench.connect()
    session_id = new_id("none")
    requests = [await peer.request(SESSION_GET, session_id=session_id) for _ in range(count)]
    ping = await peer.request(PING)
    cancel = await peer.request(STREAM_CANCEL, stream_id=new_id("none"))
    await peer.result(ping)
    await peer.result(cancel)
    for request in requests:
        error = (await peer.response(request)).error
        kind = error.info.kind if error else "a result"
        expect(kind in {"session_not_found", "overloaded"}, "session_not_found or overloaded", kind)
        if error is not None and kind == "overloaded":
            expect(error.info.retry_after_ms is not None, "retry_after_ms", error.info.model_dump(exclude_none=True))


async def _cancel_all(bench: Bench, streams: list[Told]) -> None:
    peer = await bench.connect()
    requests = [await peer.request(STREAM_CANCEL, stream_id=told.stream_id) for told in streams]
    for request in requests:
        await peer.result(request)
