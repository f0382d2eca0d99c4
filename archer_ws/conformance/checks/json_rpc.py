"""Frames that are requests, and frames that are not (protocol sections 1 to 3). No model is asked."""

import json
from typing import Any

from archer_ws.conformance.bench import Bench
from archer_ws.conformance.failing import Failed, Skipped, expect
from archer_ws.conformance.inbox import Request
from archer_ws.conformance.methods import (
    CHAT_SEND,
    DISCOVER,
    METHODS,
    MODEL_LIST,
    PING,
    PROVIDER_STATUS,
    STREAM_GET,
    STREAM_SUBSCRIBE,
    ExpectedMethod,
    ResultShape,
)
from archer_ws.conformance.peer import Peer
from archer_ws.conformance.registry import check
from archer_ws.core.exceptions import ErrorInfo
from archer_ws.rpc.messages import NOTIFICATIONS

#: How many invalid frames per minute a server accepts.
_BORNE_MAX = 10
#: The largest frame that a check sends, in bytes: a server with a higher limit is not checked.
_FRAME_BYTES_MAX = 32 * 1024 * 1024

_NO_SUCH_METHOD: ExpectedMethod[Any] = ExpectedMethod("conformance/none", ResultShape(Any))


@check(section="3")
async def ping_is_answered(bench: Bench) -> None:
    """ping is answered."""
    peer = await bench.connect()
    for _ in range(3):
        await peer.call(PING)


@check(section="3")
async def unknown_methods_are_refused(bench: Bench) -> None:
    """An unknown method gets -32601."""
    peer = await bench.connect()
    await peer.refused(_NO_SUCH_METHOD, "method_not_found")
    await peer.still_serves()


@check(section="3")
async def bad_params_are_told_by_path(bench: Bench) -> None:
    """Bad params get -32602, with the path of each."""
    peer = await bench.connect()
    hello = [{"role": "user", "content": "hello"}]
    bad: list[tuple[ExpectedMethod[Any], dict[str, Any], str]] = [
        (STREAM_GET, {}, "stream_id"),
        (STREAM_SUBSCRIBE, {"stream_id": "x", "after": -1}, "after"),
        (CHAT_SEND, {}, "messages"),
        (CHAT_SEND, {"messages": []}, "messages"),
        (CHAT_SEND, {"messages": [{"role": "user"}]}, "messages.0.content"),
        (CHAT_SEND, {"messages": [*hello, {"role": "nobody", "content": "x"}]}, "messages.1.role"),
        (CHAT_SEND, {"messages": hello, "temperature": 9}, "temperature"),
        (CHAT_SEND, {"messages": hello, "on_busy": "shrug"}, "on_busy"),
    ]
    for method, params, path in bad:
        info = await peer.refused(method, "invalid_params", **params)
        _names(info, path)


@check(section="1")
async def stream_ids_have_a_form(bench: Bench) -> None:
    """A stream_id is 1 to 64 of A-Z a-z 0-9 . _ -."""
    peer = await bench.connect()
    for stream_id in ("", "x" * 65, "a b", "a/b", "ä"):
        info = await peer.refused(STREAM_GET, "invalid_params", stream_id=stream_id)
        _names(info, "stream_id")
    await peer.refused(STREAM_GET, "stream_not_found", stream_id="Az09._-" + "x" * 57)


@check(section="1")
async def lone_surrogates_are_refused(bench: Bench) -> None:
    """A lone surrogate in a text is refused by its path."""
    peer = await bench.connect()
    params = bench.short(messages=[{"role": "user", "content": "half \ud83d"}])
    _names(await peer.refused(CHAT_SEND, "invalid_params", **params), "messages.0.content")


@check(section="1")
async def null_is_missing(bench: Bench) -> None:
    """null and missing mean the same in params."""
    peer = await bench.connect()
    await peer.call(MODEL_LIST, provider=None)
    await peer.refused(STREAM_SUBSCRIBE, "stream_not_found", stream_id="conformance-none", after=None)


@check(section="3")
async def bad_json_is_told(bench: Bench) -> None:
    """Bad JSON gets -32700 with id null, and the socket lives on."""
    peer = await bench.connect()
    for frame in ("{", '{"jsonrpc": "2.0", "id": 1, "method": "ping"', "NaN", ""):
        await peer.send(frame)
        await peer.complaint("parse_error", f"the frame {frame!r}")
    await peer.still_serves()


@check(section="3")
async def bad_ids_are_refused(bench: Bench) -> None:
    """An id that is no string or safe integer gets -32600."""
    peer = await bench.connect()
    for identity in (1.5, {"a": 1}, [1], True, 2**53):
        await peer.send_json({"jsonrpc": "2.0", "id": identity, "method": "ping"})
        await peer.complaint("invalid_request", f"the id {json.dumps(identity)}")
    await peer.still_serves()


@check(section="3")
async def null_ids_get_no_result(bench: Bench) -> None:
    """The id null gets -32600, or counts as missing."""
    peer = await bench.connect()
    # Null is no id; but null also means missing (section 1), and this then is a notification. A result it never gets.
    await peer.send_json({"jsonrpc": "2.0", "id": None, "method": "ping"})
    await peer.still_serves()
    if peer.inbox.unaddressed:
        await peer.complaint("invalid_request", "the id null")


@check(section="3")
async def ids_keep_their_type(bench: Bench) -> None:
    """1 and "1" are two ids, and come back as they were sent."""
    peer = await bench.connect_plain()
    requests = [await peer.request(PROVIDER_STATUS, identity=identity) for identity in (1, "1")]
    for request in requests:
        await peer.result(request)
    await peer.still_serves()


@check(section="3")
async def ids_in_flight_are_refused(bench: Bench) -> None:
    """An id that is in use on this socket gets -32600."""
    peer = await bench.connect()
    # This method asks the providers, which takes a moment; both requests are sent before anything is read.
    first, second = [await peer.request(PROVIDER_STATUS, identity="twin") for _ in range(2)]
    await peer.result(first)
    await peer.until(
        lambda: second.response is not None or bool(peer.inbox.unaddressed), "a response to an id in flight"
    )
    if second.response is not None:
        raise Skipped("the first request was answered before the second came")
    await peer.complaint("invalid_request", "an id in flight")


@check(section="3")
async def batches_are_refused(bench: Bench) -> None:
    """Each request of a batch gets -32600; the socket lives on."""
    peer = await bench.connect()
    requests = [Request(PING, f"b{number}", {}) for number in range(3)]
    for request in requests:
        peer.inbox.expect(request)
    batch: list[Any] = [{"jsonrpc": "2.0", "id": request.id, "method": "ping"} for request in requests]
    await peer.send_json([*batch, {"jsonrpc": "2.0", "method": "ping"}])
    for request in requests:
        await peer.refusal(request, "invalid_request")
    await peer.send_json([])
    await peer.complaint("invalid_request", "an empty batch")
    await peer.still_serves()
    came = [error.info.kind for error in peer.inbox.unaddressed]
    expect(not came, "no response to a batch's notification", came)


@check(section="3")
async def empty_arrays_are_no_params(bench: Bench) -> None:
    """Params that are an empty array are none; others get -32602."""
    peer = await bench.connect()
    for params in ([], [1]):
        request = Request(PING, f"params {params}", {})
        peer.inbox.expect(request)
        await peer.send_json({"jsonrpc": "2.0", "id": request.id, "method": "ping", "params": params})
        if params:
            await peer.refusal(request, "invalid_params")
        else:
            await peer.result(request)


@check(section="3")
async def other_json_is_refused(bench: Bench) -> None:
    """JSON that is not a request gets -32600."""
    peer = await bench.connect()
    for value in (42, "ping", {}, {"jsonrpc": "2.0"}, {"method": "ping"}, {"jsonrpc": "1.0", "method": "ping"}):
        await peer.send_json(value)
        await peer.complaint("invalid_request", json.dumps(value))
    await peer.still_serves()


@check(section="2")
async def binary_is_closed(bench: Bench) -> None:
    """A binary message closes the socket with 1003."""
    peer = await bench.connect()
    await peer.send(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}')
    await peer.closes_with(1003, "a binary message")


@check(section="2")
async def the_largest_frame_is_served(bench: Bench) -> None:
    """A frame of max_frame_bytes is served."""
    peer = await bench.connect()
    await peer.send(_padded(bench, 0))
    await peer.still_serves()


@check(section="2")
async def larger_frames_are_closed(bench: Bench) -> None:
    """A frame over max_frame_bytes closes the socket with 1009."""
    peer = await bench.connect()
    await peer.send(_padded(bench, 1))
    await peer.closes_with(1009, f"a frame of {bench.target.limits.max_frame_bytes + 1} bytes")


@check(section="3")
async def too_many_bad_frames_are_closed(bench: Bench) -> None:
    """Ten bad frames are accepted, the eleventh closes with 4504."""
    peer = await bench.connect()
    for number in range(_BORNE_MAX):
        await peer.send("{")
        await peer.complaint("parse_error", f"bad frame {number + 1}")
    await peer.still_serves()
    await peer.send("{")
    await peer.closes_with(4504, f"{_BORNE_MAX + 1} bad frames within a minute")


@check(section="3")
async def unknown_notifications_are_ignored(bench: Bench) -> None:
    """Unknown notifications are ignored."""
    peer = await bench.connect()
    await peer.send_json({"jsonrpc": "2.0", "method": "conformance/none", "params": {"a": 1}})
    await peer.send_json({"jsonrpc": "2.0", "method": "$/conformance"})
    await _nothing_but_a_pong(peer)


@check(section="3")
async def notifications_are_not_answered(bench: Bench) -> None:
    """A request without an id gets no response."""
    peer = await bench.connect()
    await peer.send_json({"jsonrpc": "2.0", "method": "ping"})
    await peer.send_json({"jsonrpc": "2.0", "method": "stream/get", "params": {"stream_id": "conformance-none"}})
    await _nothing_but_a_pong(peer)


@check(section="12")
async def discover_lists_everything(bench: Bench) -> None:
    """rpc.discover lists every method and every notification."""
    peer = await bench.connect()
    document = await peer.call(DISCOVER)
    try:
        listed = {each["name"]: each.get("x-direction") for each in document["methods"]}
        expect(isinstance(document["openrpc"], str), "an OpenRPC document", document["openrpc"])
    except (KeyError, TypeError, AttributeError):
        raise Failed("an OpenRPC document with methods that have names", f"the keys {sorted(document)}") from None
    missing = sorted({method.name for method in METHODS} - set(listed) - {"rpc.discover"})
    expect(not missing, "every method", f"none of {', '.join(missing)}")
    unmarked = sorted(name for name in NOTIFICATIONS if listed.get(name) != "server-to-client")
    expect(not unmarked, "every notification with x-direction server-to-client", f"not {', '.join(unmarked)}")


@check(section="3")
async def models_are_listed(bench: Bench) -> None:
    """model/list returns the default and the models."""
    peer = await bench.connect()
    listing = await peer.call(MODEL_LIST)
    expect(bool(listing.default.provider and listing.default.model), "a default", listing.default.model_dump())
    provider = listing.default.provider
    only = await peer.call(MODEL_LIST, provider=provider)
    others = sorted({model.provider for model in only.items} - {provider})
    expect(not others, f"models of {provider} alone", others)


@check(section="3")
async def providers_tell_their_state(bench: Bench) -> None:
    """provider/status returns each provider's state by name."""
    peer = await bench.connect()
    states = await peer.call(PROVIDER_STATUS)
    expect(bool(states), "at least one provider", sorted(states))
    wrong = [name for name, state in states.items() if state.provider != name]
    expect(not wrong, "each under its own name", wrong)


async def _nothing_but_a_pong(peer: Peer) -> None:
    await peer.still_serves()
    came = [error.info.kind for error in peer.inbox.unaddressed]
    expect(not came, "no response", came)


def _names(info: ErrorInfo, path: str) -> None:
    paths = [each.path for each in info.errors or ()]
    expect(path in paths, f"`errors` to name {path}", paths)


def _padded(bench: Bench, more: int) -> str:
    """A `ping` notification whose frame is `more` bytes above the server's limit."""
    size = bench.target.limits.max_frame_bytes + more
    if size > _FRAME_BYTES_MAX:
        raise Skipped(f"this server takes frames of {size - more} bytes, more than are sent here")
    start, end = '{"jsonrpc":"2.0","method":"ping","params":{"padding":"', '"}}'
    return f"{start}{'x' * (size - len(start) - len(end))}{end}"
