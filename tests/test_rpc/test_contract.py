"""The contract of archer.v1, over an in-memory channel and a real WebSocket alike."""

import asyncio
from typing import Any

import pytest

from archer_ws.core.exceptions import ProviderUnavailable
from archer_ws.core.limits import MAX_REQUESTS, MAX_STREAMS
from archer_ws.core.logging import configure_logging
from archer_ws.llm_gateway.types import StreamChunk
from archer_ws.rpc import connection
from archer_ws.rpc.codec import Call, decode_call
from tests.fakes.rpc_peer import RpcError, RpcPeer, result_of
from tests.test_rpc.conftest import Server

HELLO = [{"role": "user", "content": "hello"}]


async def send(peer: RpcPeer, stream_id: str = "s", **params: Any) -> Any:
    return await peer.call("chat/send", stream_id=stream_id, messages=params.pop("messages", HELLO), **params)


async def test_promise_1_the_response_comes_before_all_events_of_its_subscription(server: Server) -> None:
    peer = await server.connect()
    accepted = await send(peer)
    assert accepted == {
        "stream_id": "s", "provider": "ollama", "model": "m", "status": "queued", "head_seq": 0, "duplicate": False,
    }  # fmt: skip
    call = await server.gateway.call()
    call.say("text")
    await peer.text("s", "text")
    other = await server.connect()
    result = await other.call("stream/subscribe", stream_id="s")
    assert result["head_seq"] == 2
    await other.text("s", "text")
    # RpcPeer fails on an event of a stream that no response has named.


async def test_promise_2_exactly_one_end_always_last(server: Server) -> None:
    peer = await server.connect()
    await send(peer)
    call = await server.gateway.call()
    call.say("a")
    call.finish()
    seen = await peer.ended("s")
    assert seen.methods[-1] == "stream/ended"
    assert seen.methods.count("stream/ended") == 1
    assert seen.ended is not None
    assert (seen.ended["status"], seen.ended["finish_reason"], seen.ended["text_bytes"]) == ("completed", "stop", 1)
    await peer.call("ping")
    assert seen.methods[-1] == "stream/ended"


async def test_promise_3_nothing_is_lost_doubled_or_reordered(server: Server) -> None:
    peer = await server.connect()
    await send(peer)
    call = await server.gateway.call()
    pieces = [f"{number} " for number in range(500)]
    for number, piece in enumerate(pieces):
        call.say(piece if number % 7 else StreamChunk(content="", reasoning=piece))
        if number % 50 == 0:
            await asyncio.sleep(0)
    call.finish()
    seen = await peer.ended("s")
    assert seen.content == "".join(piece for number, piece in enumerate(pieces) if number % 7)
    assert seen.reasoning == "".join(pieces[::7])


async def test_promise_3_a_newer_subscribe_on_the_same_socket_replaces_the_older(server: Server) -> None:
    peer = await server.connect()
    await send(peer)
    call = await server.gateway.call()
    call.say("one ")
    await peer.text("s", "one ")
    peer.streams["s"].content = ""
    await peer.call("stream/subscribe", stream_id="s", after=0)
    call.say("two")
    call.finish()
    seen = await peer.ended("s")
    assert seen.content == "one two"
    assert seen.methods.count("stream/ended") == 1


async def test_promise_4_streams_do_not_wait_for_each_other(server: Server) -> None:
    peer = await server.connect()
    for name in ("a", "b", "c"):
        await send(peer, name)
    await server.gateway.call(2)
    server.gateway.calls[2].say("third")
    await peer.text("c", "third")
    server.gateway.calls[0].say("first")
    await peer.text("a", "first")
    server.gateway.calls[2].finish()
    await peer.ended("c")
    assert peer.streams["b"].methods == []


async def test_promise_5_the_text_is_the_same_over_every_subscription(server: Server) -> None:
    first = await server.connect()
    await send(first)
    call = await server.gateway.call()
    call.say("ä\ud83d", "\ude00", "\u2028\x00\n")
    call.finish()
    text = (await first.ended("s")).content
    assert text == "ä\U0001f600\u2028\x00\n"
    second = await server.connect()
    await second.call("stream/subscribe", stream_id="s")
    assert (await second.ended("s")).content == text
    whole = await server.connect()
    await whole.call("chat/send", stream_id="s", messages=HELLO, stream=False)
    seen = await whole.ended("s")
    assert seen.ended is not None
    assert (seen.content, seen.ended["content"]) == ("", text)


async def test_a_stream_can_be_resumed_after_every_event(server: Server) -> None:
    first = await server.connect()
    await send(first)
    call = await server.gateway.call()
    for piece in ("a", "b", "c"):
        call.say(piece)
    call.finish()
    head = (await first.ended("s")).head
    for after in range(head):
        peer = await server.connect()
        await peer.call("stream/subscribe", stream_id="s", after=after)
        seen = await peer.ended("s")
        assert seen.content == "abc"[max(0, after - 1) :]
    with pytest.raises(RpcError) as refused:
        await first.call("stream/subscribe", stream_id="s", after=head + 1)
    assert refused.value.code == -32602


async def test_a_send_without_a_stream_id_gets_one(server: Server) -> None:
    peer = await server.connect()
    accepted = await peer.call("chat/send", messages=HELLO)
    call = await server.gateway.call()
    call.say("x")
    call.finish()
    assert (await peer.ended(accepted["stream_id"])).content == "x"


async def test_a_cancel_in_the_very_next_frame_finds_the_send(server: Server) -> None:
    peer = await server.connect()
    sending = await peer.request("chat/send", stream_id="s", messages=HELLO)
    cancelling = await peer.request("stream/cancel", stream_id="s")
    async with asyncio.timeout(10):
        assert result_of(await cancelling)["outcome"] == "cancelling"
        assert result_of(await sending)["stream_id"] == "s"
    seen = await peer.ended("s")
    assert seen.ended is not None
    assert (seen.ended["status"], seen.ended["reason"]) == ("cancelled", "client")


async def test_a_cancel_closes_the_provider_and_is_no_error(server: Server) -> None:
    peer = await server.connect()
    await send(peer)
    call = await server.gateway.call()
    call.say("partial")
    await peer.text("s", "partial")
    assert (await peer.call("stream/cancel", stream_id="s"))["outcome"] == "cancelling"
    seen = await peer.ended("s")
    assert seen.ended is not None
    assert "error" not in seen.ended
    assert call.closed.is_set()
    again = await peer.call("stream/cancel", stream_id="s")
    assert again == {"outcome": "already_ended", "status": "cancelled"}
    assert await peer.call("stream/cancel", stream_id="nobody") == {"outcome": "not_found"}


async def test_a_dropped_socket_s_stream_runs_on_and_is_resumed(server: Server) -> None:
    peer = await server.connect()
    await send(peer)
    call = await server.gateway.call()
    call.say("before ")
    await peer.text("s", "before ")
    head = peer.streams["s"].head
    await peer.close()
    call.say("after")
    call.finish()
    again = await server.connect()
    await again.call("stream/subscribe", stream_id="s", after=head)
    seen = await again.ended("s")
    assert seen.content == "after"
    assert seen.ended is not None
    assert seen.ended["status"] == "completed"


async def test_a_dropped_socket_cancels_the_stream_that_asked_for_it(server: Server) -> None:
    peer = await server.connect()
    await send(peer, on_disconnect="cancel")
    call = await server.gateway.call()
    await peer.close()
    async with asyncio.timeout(5):
        await call.closed.wait()


@pytest.mark.parametrize(
    ("method", "params", "kind"),
    [
        ("stream/subscribe", {"after": 999}, "invalid_params"),
        ("chat/send", {"messages": HELLO, "on_disconnect": "cancel"}, "too_many_streams"),
    ],
)
async def test_who_is_refused_a_stream_does_not_keep_it_running(
    server: Server, method: str, params: dict[str, Any], kind: str
) -> None:
    server.limit(max_streams=1)
    peer, other = await server.connect(), await server.connect()
    await send(peer, on_disconnect="cancel")
    call = await server.gateway.call()
    if method == "chat/send":
        await send(other, "its-own")
    with pytest.raises(RpcError) as refused:
        await other.call(method, stream_id="s", **params)
    assert refused.value.kind == kind
    await peer.close()
    async with asyncio.timeout(5):
        await call.closed.wait()
    assert await other.call("ping") == {}


async def test_unsubscribing_is_not_leaving(server: Server) -> None:
    peer = await server.connect()
    await send(peer, on_disconnect="cancel")
    call = await server.gateway.call()
    call.say("heard")
    await peer.text("s", "heard")
    assert await peer.call("stream/unsubscribe", stream_id="s") == {}
    call.say(" not heard")
    call.finish()
    stream = server.manager.find("me", "s")
    async with asyncio.timeout(5):
        await stream.wait_ended()
    await peer.call("ping")
    assert stream.status == "completed"
    assert peer.streams["s"].content == "heard"


async def test_the_same_send_again_joins_and_another_conflicts(server: Server) -> None:
    peer, other = await server.connect(), await server.connect()
    await send(peer)
    joined = await send(other)
    assert joined["duplicate"] is True
    call = await server.gateway.call()
    call.say("both")
    call.finish()
    assert (await peer.ended("s")).content == (await other.ended("s")).content == "both"
    assert len(server.gateway.calls) == 1
    with pytest.raises(RpcError) as refused:
        await send(peer, max_tokens=1)
    assert (refused.value.code, refused.value.kind) == (-32021, "stream_id_conflict")


async def test_stream_false_gets_the_text_with_the_end(server: Server) -> None:
    peer = await server.connect()
    await send(peer, stream=False)
    call = await server.gateway.call()
    call.say("a", "b")
    call.finish()
    seen = await peer.ended("s")
    assert seen.methods == ["stream/started", "stream/ended"]
    assert seen.ended is not None
    assert seen.ended["content"] == "ab"


async def test_deltas_are_gathered_when_asked(server: Server) -> None:
    peer = await server.connect()
    await peer.call("initialize", protocol_version=1, coalesce_ms=50)
    await send(peer)
    call = await server.gateway.call()
    call.say("first")
    await peer.text("s", "first")
    for piece in range(10):
        call.say(f" {piece}")
        await asyncio.sleep(0)
    call.finish()
    seen = await peer.ended("s")
    assert seen.content == "first 0 1 2 3 4 5 6 7 8 9"
    assert seen.methods.count("stream/delta") <= 3


async def test_initialize_tells_the_limits_and_comes_first(server: Server) -> None:
    peer = await server.connect()
    result = await peer.call("initialize", protocol_version=1, client={"name": "test", "version": "1"})
    assert result["protocol_version"] == 1
    assert result["limits"]["max_streams"] == MAX_STREAMS
    assert result["heartbeat_ms"] == 15000
    assert len(result["schema_hash"]) == 16
    with pytest.raises(RpcError) as refused:
        await peer.call("initialize", protocol_version=1)
    assert refused.value.code == -32003
    late = await server.connect()
    await late.call("ping")
    with pytest.raises(RpcError) as refused:
        await late.call("initialize", protocol_version=1)
    assert refused.value.code == -32003
    with pytest.raises(RpcError) as refused:
        await (await server.connect()).call("initialize", protocol_version=2)
    assert refused.value.code == -32004


async def test_without_a_credential_only_initialize_is_answered(server: Server) -> None:
    server.principal = None
    peer = await server.connect()
    with pytest.raises(RpcError) as refused:
        await peer.call("ping")
    assert (refused.value.code, refused.value.kind) == (-32002, "not_initialized")
    await peer.call("initialize", protocol_version=1, token="right")
    assert await peer.call("ping") == {}


async def test_a_wrong_token_is_told_and_closes(server: Server) -> None:
    server.principal = None
    peer = await server.connect()
    with pytest.raises(RpcError) as refused:
        await peer.call("initialize", protocol_version=1, token="wrong")
    assert refused.value.code == -32010
    async with asyncio.timeout(5):
        await peer.closed.wait()
    assert peer.transport.close_code == 4501  # type: ignore[attr-defined]  # both transports have it


@pytest.mark.parametrize(
    ("frame", "code", "identity"),
    [
        ("{", -32700, None),
        ("[]", -32600, None),
        ('"ping"', -32600, None),
        ('{"jsonrpc": "2.0", "id": true, "method": "ping"}', -32600, None),
        ('{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', -32600, None),
        ('{"jsonrpc": "2.0", "id": 9007199254740992, "method": "ping"}', -32600, None),
        ('{"jsonrpc": "2.0", "id": {"a": 1}, "method": "ping"}', -32600, None),
        ('{"jsonrpc": "2.0", "id": "\\ud800", "method": "ping"}', -32600, None),
        ('"\\ud800"', -32600, None),
        ('{"jsonrpc": "1.0", "id": 5, "method": "ping"}', -32600, 5),
        ('{"jsonrpc": "2.0", "id": 5, "method": 7}', -32600, 5),
        ('{"jsonrpc": "2.0", "id": 5, "result": {}}', -32600, 5),
        ('{"jsonrpc": "2.0", "id": 5, "method": "nothing"}', -32601, 5),
        ('{"jsonrpc": "2.0", "id": 5, "method": "ping", "params": [1]}', -32602, 5),
        ('{"jsonrpc": "2.0", "id": "x", "method": "stream/get", "params": {}}', -32602, "x"),
        ('{"jsonrpc": "2.0", "id": 5, "method": "stream/get", "params": {"stream_id": "\\ud800"}}', -32602, 5),
        ('\ufeff{"jsonrpc": "2.0", "id": 5, "method": "stream/get", "params": {"stream_id": "\\ud800"}}', -32602, 5),
        ('\ufeff"\\udfff"', -32600, None),
        ('\ufeff{"jsonrpc": "2.0", "id": "\\ud800", "method": "ping"}', -32600, None),
        ('\ufeff\ufeff{"jsonrpc": "2.0", "id": 5, "method": "ping"}', -32700, None),
        ("\ufeff", -32700, None),
        ('{"jsonrpc": "2.0", "id": 5, "method": "\\ud800", "params": {"n": NaN}}', -32602, 5),
        ('{"jsonrpc": "2.0", "id": 5, "method": "ping", "params": {"n": NaN}}', -32700, None),
        ('{"jsonrpc": "2.0", "id": 5, "method": "ping", "params": ' + "[" * 5000 + "]" * 5000 + "}", -32700, None),
        ('{"jsonrpc": "2.0", "id": 5, "method": "ping", "params": {"n": ' + "9" * 10_000 + "}}", -32700, None),
    ],
)
async def test_what_is_no_request_is_answered_and_the_socket_lives_on(
    server: Server, frame: str, code: int, identity: object
) -> None:
    peer = await server.connect()
    await peer.transport.send(frame)
    await peer.until(lambda: bool(peer.unmatched))
    answer = peer.unmatched[0]
    assert (answer["error"]["code"], answer["id"]) == (code, identity)
    assert answer["error"]["data"]["kind"]
    assert await peer.call("ping") == {}


def test_a_byte_order_mark_before_a_request_is_no_fault() -> None:
    assert decode_call('\ufeff{"jsonrpc": "2.0", "id": 5, "method": "ping"}') == Call(5, "ping", {})


async def test_a_frame_that_cannot_even_be_judged_is_answered_and_the_socket_lives_on(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    configure_logging()
    peer = await server.connect()

    def broken(text: str) -> Call:
        if "ping" in text:
            return decode_call(text)
        raise RecursionError

    monkeypatch.setattr(connection, "_frame_defect", connection._frame_defect.renewed())
    monkeypatch.setattr(connection, "decode_call", broken)
    for number in range(3):
        await peer.transport.send("whatever")
        await peer.until(lambda expected=number + 1: len(peer.unmatched) == expected)  # type: ignore[misc]  # a default
    told = [(answer["id"], answer["error"]["code"]) for answer in peer.unmatched]
    assert told == [(None, -32603)] * 3
    assert await peer.call("ping") == {}
    (line,) = [record.msg for record in caplog.records if "frame_defect" in str(record.msg)]
    assert isinstance(line, dict)
    assert line["request_id"] == peer.unmatched[0]["error"]["data"]["request_id"]


async def test_a_failed_stream_names_the_request_under_which_the_log_has_it(
    memory_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    configure_logging()
    peer = await memory_server.connect()
    await peer.call("ping")
    await send(peer)
    call = await memory_server.gateway.call()
    call.fail(ProviderUnavailable("gone"))
    seen = await peer.ended("s")
    await peer.call("ping")  # The line is written after the end was sent.
    (line,) = [record.msg for record in caplog.records if "stream_ended" in str(record.msg)]
    assert isinstance(line, dict)
    assert seen.ended is not None
    assert line["request_id"] == seen.ended["error"]["request_id"]


async def test_an_id_in_flight_is_refused_and_1_differs_from_its_text(server: Server) -> None:
    peer = await server.connect()
    server.models.may_answer.clear()
    await peer.send({"jsonrpc": "2.0", "id": 1, "method": "provider/status"})
    await peer.send({"jsonrpc": "2.0", "id": 1, "method": "ping"})
    await peer.send({"jsonrpc": "2.0", "id": "1", "method": "ping"})
    await peer.until(lambda: len(peer.unmatched) == 2)
    server.models.may_answer.set()
    await peer.until(lambda: len(peer.unmatched) == 3)
    by_id = {answer["id"]: answer for answer in peer.unmatched}
    assert by_id[None]["error"]["code"] == -32600
    assert "result" in by_id[1]
    assert by_id["1"]["result"] == {}


@pytest.mark.parametrize(
    "frame",
    ['{"jsonrpc": "1.0", "id": 1, "method": "ping"}', '{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}'],
)
async def test_a_bad_frame_takes_no_response_from_the_request_in_flight_under_its_id(
    server: Server, frame: str
) -> None:
    peer = await server.connect()
    server.models.may_answer.clear()
    await peer.send({"jsonrpc": "2.0", "id": 1, "method": "provider/status"})
    await peer.transport.send(frame)
    await peer.until(lambda: len(peer.unmatched) == 1)
    assert (peer.unmatched[0]["id"], peer.unmatched[0]["error"]["code"]) == (None, -32600)
    server.models.may_answer.set()
    await peer.until(lambda: len(peer.unmatched) == 2)
    assert "result" in peer.unmatched[1]


async def test_more_than_ten_bad_frames_a_minute_close_the_socket(server: Server) -> None:
    peer = await server.connect()
    for _ in range(11):
        await peer.transport.send("junk")
    async with asyncio.timeout(10):
        await peer.closed.wait()
    assert peer.transport.close_code == 4504  # type: ignore[attr-defined]  # both transports have it
    assert len(peer.unmatched) == 11


async def test_notifications_are_never_answered(server: Server) -> None:
    peer = await server.connect()
    await peer.send({"jsonrpc": "2.0", "method": "no/such", "params": {}})
    await peer.send({"jsonrpc": "2.0", "method": "stream/get"})
    await peer.send({"jsonrpc": "2.0", "method": "stream/get", "params": []})
    await peer.transport.send('{"jsonrpc": "2.0", "method": "stream/get", "params": {"stream_id": "\\ud800"}}')
    assert await peer.call("ping") == {}
    assert peer.unmatched == []


async def test_null_is_as_good_as_missing(server: Server) -> None:
    peer = await server.connect()
    await send(peer, temperature=None, stream=None, session_id=None)
    call = await server.gateway.call()
    call.say("x")
    call.finish()
    assert (await peer.ended("s")).content == "x"


@pytest.mark.parametrize(("method", "params"), [("stream/cancel", {"stream_id": "s"}), ("model/list", {})])
async def test_a_defect_in_a_method_shows_no_inside_and_ends_its_request_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch, method: str, params: dict[str, str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(server.manager, "cancel", broken)
    monkeypatch.setattr(server.services.models, "listing", broken)
    server.limit(max_requests=1)
    peer = await server.connect()
    for _ in range(2):
        with pytest.raises(RpcError) as failed:
            await peer.call(method, **params)
        assert failed.value.kind == "internal_error"
        assert "secret" not in str(failed.value.data)
    assert (await peer.call("stream/list"))["items"] == []


async def test_more_running_streams_than_one_socket_may_have_are_refused(server: Server) -> None:
    peer = await server.connect()
    for number in range(MAX_STREAMS):
        await send(peer, f"s{number}")
    with pytest.raises(RpcError) as refused:
        await send(peer, "one-more")
    assert (refused.value.code, refused.value.kind) == (-32006, "too_many_streams")
    assert refused.value.data["retry_after_ms"]
    assert await peer.call("ping") == {}
    (await server.gateway.call(0)).finish()
    await peer.ended("s0")
    await send(peer, "one-more")


async def test_a_second_socket_over_its_limit_can_still_cancel(server: Server) -> None:
    peer = await server.connect()
    for number in range(MAX_STREAMS):
        await send(peer, f"s{number}")
    other = await server.connect()
    for number in range(MAX_STREAMS):
        await other.call("stream/subscribe", stream_id=f"s{number}")
    third = await server.connect()
    assert (await third.call("stream/cancel", stream_id="s7"))["outcome"] == "cancelling"
    assert (await peer.ended("s7")).ended == (await other.ended("s7")).ended


async def test_requests_beyond_the_most_at_once_are_refused_but_never_cancels_and_pings(server: Server) -> None:
    peer = await server.connect()
    await send(peer)
    server.models.may_answer.clear()
    waiting = [await peer.request("provider/status") for _ in range(MAX_REQUESTS)]
    with pytest.raises(RpcError) as refused:
        await peer.call("stream/list")
    assert (refused.value.code, refused.value.kind) == (-32001, "overloaded")
    assert refused.value.data["retry_after_ms"]
    assert await peer.call("ping") == {}
    assert (await peer.call("stream/cancel", stream_id="s"))["outcome"] == "cancelling"
    server.models.may_answer.set()
    async with asyncio.timeout(20):
        assert all("result" in answer for answer in await asyncio.gather(*waiting))
    assert (await peer.call("stream/list"))["items"]


async def test_ten_thousand_requests_at_once_are_all_answered(server: Server) -> None:
    peer = await server.connect()
    answers = [await peer.request("ping" if number % 2 else "session/list") for number in range(10_000)]
    async with asyncio.timeout(60):
        results = await asyncio.gather(*answers)
    refused = {answer["error"]["data"]["kind"] for answer in results if "error" in answer}
    assert refused <= {"overloaded"}
    assert all("result" in answer for answer in results[1::2]), "pings are never refused"


async def test_sessions_live_over_the_socket(server: Server) -> None:
    peer = await server.connect()
    created = await peer.call("session/create", session_id="talk", title="T")
    assert created["message_count"] == 0
    await send(peer, session_id="talk")
    with pytest.raises(RpcError) as busy:
        await send(peer, "t", session_id="talk")
    assert (busy.value.kind, busy.value.data["stream_id"]) == ("session_busy", "s")
    call = await server.gateway.call()
    call.say("hi")
    call.finish()
    await peer.ended("s")
    detail = await peer.call("session/get", session_id="talk")
    assert [message["content"] for message in detail["messages"]] == ["hello", "hi"]
    assert (await peer.call("session/update", session_id="talk", title="U"))["title"] == "U"
    assert [item["session_id"] for item in (await peer.call("session/list"))["items"]] == ["talk"]
    assert await peer.call("session/delete", session_id="talk") == {}
    with pytest.raises(RpcError) as gone:
        await peer.call("session/get", session_id="talk")
    assert gone.value.code == -32023
    with pytest.raises(RpcError) as gone:
        await send(peer, "u", session_id="talk")
    assert gone.value.code == -32023
    assert not [hold for connection in server.connections for hold in connection.context._holds]


async def test_streams_models_and_providers_are_listed(server: Server) -> None:
    peer = await server.connect()
    await send(peer)
    assert (await peer.call("stream/get", stream_id="s"))["stream_id"] == "s"
    assert [item["stream_id"] for item in (await peer.call("stream/list", active=True))["items"]] == ["s"]
    models = await peer.call("model/list")
    assert models["default"] == {"provider": "ollama", "model": "m"}
    assert models["unavailable"][0]["provider"] == "openai"
    assert (await peer.call("provider/status"))["ollama"]["available"] is True
    document = await peer.call("rpc.discover")
    names = {method["name"] for method in document["methods"]}
    assert {"chat/send", "stream/delta", "rpc.discover"} <= names


async def test_silence_is_broken_by_heartbeats_again_and_again(server: Server) -> None:
    server.limit(heartbeat_s=0.02)
    peer = await server.connect()
    await peer.until(lambda: len(peer.others) == 3)
    assert {frame["method"] for frame in peer.others} == {"$/heartbeat"}
    assert await peer.call("ping") == {}


async def test_draining_is_told_and_new_sends_are_refused(server: Server) -> None:
    peer = await server.connect()
    await send(peer)
    call = await server.gateway.call()
    server.manager.begin_drain()
    server.connections[0].notify_draining(30_000)
    await peer.until(lambda: bool(peer.others))
    assert peer.others[0]["method"] == "server/draining"
    assert peer.others[0]["params"] == {"remaining_ms": 30_000}
    with pytest.raises(RpcError) as refused:
        await send(peer, "t")
    assert refused.value.code == -32040
    call.say("to the end")
    call.finish()
    server.connections[0].close("draining", after_streams=True)
    async with asyncio.timeout(5):
        await peer.closed.wait()
    assert peer.transport.close_code == 4000  # type: ignore[attr-defined]  # both transports have it
