"""What holds for every frame of the whole run: these checks look at the frames of all others (protocol sections 1, 3,
5).

Each also runs a stream of its own, so that it has something to check when it runs alone.
"""

from typing import Any

from archer_ws.conformance.bench import Bench, new_id
from archer_ws.conformance.failing import Failed
from archer_ws.conformance.inbox import Request
from archer_ws.conformance.ledger import Rule
from archer_ws.conformance.methods import (
    CHAT_SEND,
    PING,
    SESSION_GET,
    SESSION_LIST,
    STREAM_CANCEL,
    STREAM_GET,
    STREAM_LIST,
    STREAM_SUBSCRIBE,
)
from archer_ws.conformance.registry import check


@check(section="12", when="last")
async def messages_fit(bench: Bench) -> None:
    """Every message fits its schema; snake_case, and never null."""
    peer = await bench.connect()
    told = await peer.chat(bench.short())
    await peer.ended(told)
    await peer.call(STREAM_LIST)
    await peer.call(SESSION_LIST)
    _look_back(bench, Rule.FORM, "messages of archer.v1")


@check(section="11", when="last")
async def errors_fit(bench: Bench) -> None:
    """Every error has the code and retryable of its kind."""
    peer = await bench.connect()
    await peer.refused(STREAM_GET, "stream_not_found", stream_id=new_id("none"))
    await peer.refused(SESSION_GET, "session_not_found", session_id=new_id("none"))
    _look_back(bench, Rule.ERRORS, "errors as in the protocol's table")


@check(section="3", when="last")
async def one_response_each(bench: Bench) -> None:
    """Every request gets exactly one response."""
    peer = await bench.connect()
    requests: list[Request[Any]] = []
    for _ in range(10):
        requests.append(await peer.request(PING))
        requests.append(await peer.request(STREAM_LIST))
        requests.append(await peer.request(STREAM_GET, stream_id=new_id("none")))
    for request in requests:
        await peer.response(request)
    await peer.still_serves()
    _look_back(bench, Rule.ONE_RESPONSE, "one response to each request")


@check(section="5.1", when="last")
async def responses_come_first(bench: Bench) -> None:
    """A response comes before the notifications it causes."""
    peer, other = await bench.connect(), await bench.connect()
    sent = [await peer.request(CHAT_SEND, **bench.short()) for _ in range(2)]
    streams = [await peer.accepted(request) for request in sent]
    for told in streams:
        await peer.ended(told)
        # Everything is there to be sent at once: the response must be faster all the same.
        await other.ended(await other.subscribe(told.stream_id))
    _look_back(bench, Rule.RESPONSE_FIRST, "the response first")


@check(section="5.3", when="last")
async def events_come_in_order(bench: Bench) -> None:
    """A stream's events come in order, none lost, none twice."""
    peer, other = await bench.connect(), await bench.connect()
    told = await peer.chat(bench.short())
    follower = await other.subscribe(told.stream_id)
    await peer.ended(told)
    await other.ended(follower)
    await other.ended(await other.subscribe(told.stream_id))
    _look_back(bench, Rule.ORDER, "each event's seq one above the last")


@check(section="5.2", when="last")
async def streams_end_once(bench: Bench) -> None:
    """Every stream has one end, and it comes last."""
    peer = await bench.connect()
    done, cancelled = await peer.chat(bench.short()), await peer.chat(bench.long())
    await peer.call(STREAM_CANCEL, stream_id=cancelled.stream_id)
    await peer.ended(cancelled)
    await peer.ended(done)
    for told in (done, cancelled):
        # Behind the end there is nothing: neither now nor on asking again.
        await peer.call(STREAM_SUBSCRIBE, stream_id=told.stream_id, after=told.last)
    await peer.still_serves()
    _look_back(bench, Rule.ENDS, "one stream/ended, behind everything else")


@check(section="22", when="last")
async def calls_are_whole(bench: Bench) -> None:
    """A call's deltas are its arguments; calls come last and end it."""
    peer, other = await bench.connect(), await bench.connect()
    request = await peer.request(CHAT_SEND, **bench.short(tools=[_CLOCK]))
    if (await peer.response(request)).error is not None:
        # Not every model knows tools. Whatever other streams have told of calls counts all the same.
        await peer.refusal(request, "unsupported")
        request = await peer.request(CHAT_SEND, **bench.short())
    told = await peer.accepted(request)
    follower = await other.subscribe(told.stream_id)
    await peer.ended(told)
    await other.ended(follower)
    await other.ended(await other.subscribe(told.stream_id))
    _look_back(bench, Rule.CALLS, "calls that are whole, behind all text, in a stream that ended with tool_calls")


_CLOCK = {
    "name": "get_time",
    "description": "What time it is in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def _look_back(bench: Bench, rule: Rule, expected: str) -> None:
    count, breaches = bench.trial.ledger.breaches(rule)
    if count:
        times = "once" if count == 1 else f"{count} times"
        raise Failed(expected, f"{times}: {'; '.join(breaches)}")
