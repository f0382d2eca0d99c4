"""The recorder that holds every message of the run to its schema (tests/fakes/recorded.py): it sees, and it judges."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import websockets

from archer_ws.api.streaming import responses as following
from archer_ws.api.streaming import sse
from archer_ws.core.exceptions import ProviderQuota
from archer_ws.rpc import writer
from archer_ws.rpc.channel import memory_channel
from archer_ws.rpc.codec import encode_event
from archer_ws.rpc.connection import Connection
from archer_ws.rpc.context import Handshake
from archer_ws.server.http_direct import DirectCycle
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.streams.events import ControlEvent, as_fields
from archer_ws.sessions.views import response_json
from tests.conftest import Archer
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.recorded import Conversation, RecordedSocket, Recorder, recording
from tests.fakes.rpc_peer import MemoryTransport, RpcPeer, SocketTransport
from tests.fakes.scripted_server import Wait
from tests.fakes.sse_reader import read_events

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.fixture
def own() -> Recorder:
    """A recorder for what this test makes up."""
    return Recorder()


@pytest.fixture
def heard(own: Recorder) -> Conversation:
    return Conversation(own)


@pytest.fixture
async def peer(archer: Archer) -> AsyncIterator[RpcPeer]:
    archer.answer(ollama_stream("Blue"))
    async with websockets.connect(f"ws://{archer.address}/api/v1/ws", proxy=None) as connection:
        peer = RpcPeer(SocketTransport(connection))
        yield peer
        await peer.stop()


async def test_a_real_sockets_frames_are_seen(peer: RpcPeer, recorder: Recorder) -> None:
    before = Counter(recorder.seen)
    sent = await peer.call("chat/send", **HELLO)
    await peer.ended(sent["stream_id"])
    with pytest.raises(Exception, match="no stream"):
        await peer.call("stream/get", stream_id="nobody")
    seen = recorder.seen - before
    assert sum(seen.values()) == len(peer.frames)
    assert set(seen) == {"chat/send result", "stream/started", "stream/delta", "stream/ended", "error"}


async def test_a_memory_channels_frames_are_seen(archer: Archer, recorder: Recorder) -> None:
    before = Counter(recorder.seen)
    services = archer.app.state.services
    ours, theirs = memory_channel()
    running = asyncio.create_task(
        Connection(ours, services.rpc, services.dispatcher, Handshake("me", lambda _: None)).run()
    )
    peer = RpcPeer(MemoryTransport(theirs))
    assert await peer.call("ping") == {}
    await peer.close()
    async with asyncio.timeout(10):
        await running
    assert recorder.seen - before == {"ping result": 1}


async def test_http_answers_and_events_are_seen(archer: Archer, recorder: Recorder) -> None:
    archer.answer(ollama_stream("Blue"))
    before = Counter(recorder.seen)
    await archer.http.post("/api/v1/chat/completions", json=HELLO)
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=HELLO) as response:
        events = [event async for event in read_events(response)]
    await archer.http.get("/api/v1/streams/nobody")
    await archer.http.get("/api/v1/nothing")
    assert recorder.seen - before == {
        "POST /api/v1/chat/completions 200": 1,
        "event started": 1,
        "event message": 1,
        "event ended": 1,
        "GET /api/v1/streams/{stream_id} 404": 1,
        "HTTP error": 1,
    }
    assert len(events) == 4  # with [DONE]


async def test_deltas_that_go_past_asgi_are_seen(
    archer: Archer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    plain_write = DirectCycle.write

    def write(self: DirectCycle, block: bytes) -> None:
        written.append(block)
        plain_write(self, block)

    monkeypatch.setattr(DirectCycle, "write", write)
    go_on = asyncio.Event()
    archer.answer(ollama_stream("Blue", Wait(go_on), " as", " can be"))
    before = Counter(recorder.seen)
    deltas: list[str] = []
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=HELLO) as response:
        async for event in read_events(response):
            if event.event is None and event.data != "[DONE]":
                deltas.append(event.json["content"])
                go_on.set()
    assert "".join(deltas) == "Blue as can be"
    assert written
    assert (recorder.seen - before)["event message"] == len(deltas)


async def test_a_server_that_sends_one_field_more_is_caught_on_the_socket(
    peer: RpcPeer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drifted(event: ControlEvent) -> str:
        frame = json.loads(encode_event(event))
        if event.kind == "ended":
            frame["params"]["mood"] = "fine"
        return json.dumps(frame)

    monkeypatch.setattr(writer, "encode_event", drifted)
    sent = await peer.call("chat/send", **HELLO)
    await peer.ended(sent["stream_id"])
    (violation,) = recorder.take()
    assert "stream/ended at its top" in violation
    assert "mood" in violation
    assert '"status": "completed"' in violation  # the message itself


async def test_a_server_that_sends_one_field_more_is_caught_over_http(
    archer: Archer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drifted(fields: Mapping[str, Any]) -> bytes:
        return json.dumps({**json.loads(response_json(fields)), "mood": "fine"}).encode()

    monkeypatch.setattr(following, "response_json", drifted)
    archer.answer(ollama_stream("Blue"))
    await archer.http.post("/api/v1/chat/completions", json=HELLO)
    (violation,) = recorder.take()
    assert "POST /api/v1/chat/completions 200 at its top" in violation
    assert "mood" in violation


async def test_an_answer_that_is_not_described_is_caught(
    archer: Archer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(*_: object) -> None:
        raise ProviderQuota("used up", hint="Pay.")

    monkeypatch.setattr(SessionManager, "find", find)
    assert (await archer.http.get("/api/v1/streams/one")).status_code == 402
    (violation,) = recorder.take()
    assert "GET /api/v1/streams/{stream_id} answers 402, which is not described" in violation


async def test_events_that_drift_are_caught(
    archer: Archer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    archer.answer(ollama_stream("Blue"))

    def drifted(event: ControlEvent) -> dict[str, Any]:
        return {**as_fields(event), **({"text_bytes": "many"} if event.kind == "ended" else {})}

    monkeypatch.setattr(sse, "as_fields", drifted)
    await archer.http.post("/api/v1/chat/completions/stream", json=HELLO)
    (violation,) = recorder.take()
    assert "event ended at text_bytes" in violation


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ({"jsonrpc": "2.0", "id": 1, "result": {"pong": True}}, "ping result at its top"),
        ({"jsonrpc": "2.0", "id": "1", "result": {}}, "a result for nobody"),
        ({"jsonrpc": "2.0", "id": 1, "result": {}, "more": 1}, "neither a response nor a notification"),
        ({"jsonrpc": "1.0", "id": 1, "result": {}}, "neither a response nor a notification"),
        ({"jsonrpc": "2.0", "method": "stream/paused", "params": {}}, "there is no notification stream/paused"),
        ({"jsonrpc": "2.0", "method": "server/draining", "params": {}}, "server/draining at its top"),
        ({"jsonrpc": "2.0", "method": "server/draining", "params": {"remaining_ms": None}}, "at remaining_ms"),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "no"}}, "error at its top"),
        ("pong", "neither a response nor a notification"),
    ],
)
def test_a_frame_that_fits_no_schema_is_caught(
    heard: Conversation, own: Recorder, frame: object, complaint: str
) -> None:
    heard.received(json.dumps(PING))
    heard.sent(json.dumps(frame))
    violations = own.take()
    assert complaint in violations[0]
    assert len(violations[0]) < 5000
    assert own.take() == []


@pytest.mark.parametrize(("kind", "code"), [("moody", -32603), ("internal_error", -32602)])
def test_an_unknown_kind_or_another_kinds_code_is_caught(
    heard: Conversation, own: Recorder, kind: str, code: int
) -> None:
    heard.received(json.dumps(PING))
    data = {"kind": kind, "message": "no", "retryable": False, "request_id": "r"}
    heard.sent(json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no", "data": data}}))
    assert own.take()


def test_a_second_response_is_caught(heard: Conversation, own: Recorder) -> None:
    heard.received(json.dumps(PING))
    for _ in range(2):
        assert own.take() == []
        heard.sent('{"jsonrpc": "2.0", "id": 1, "result": {}}')
    assert "a result for nobody" in own.take()[0]


def test_values_that_clients_must_take_are_caught_where_we_send_them(heard: Conversation, own: Recorder) -> None:
    ended = {"stream_id": "one", "seq": 2, "status": "completed", "text_bytes": 0}
    heard.sent(json.dumps({"jsonrpc": "2.0", "method": "stream/ended", "params": ended}))
    assert own.take() == []
    for field in ("status", "finish_reason"):
        heard.sent(json.dumps({"jsonrpc": "2.0", "method": "stream/ended", "params": {**ended, field: "resting"}}))
        assert f"stream/ended at {field}" in own.take()[0]


async def test_a_server_elsewhere_is_recorded_at_its_client(archer: Archer, own: Recorder) -> None:
    async with websockets.connect(f"ws://{archer.address}/api/v1/ws", proxy=None) as connection:
        peer = RpcPeer(RecordedSocket(connection, own))
        assert await peer.call("ping") == {}
        await peer.stop()
    assert own.seen == {"ping result": 1}
    assert own.take() == []


def test_a_tap_that_came_off_fails_the_run() -> None:
    before = RpcPeer.frames_in_all
    with pytest.raises(AssertionError, match="recorded"), recording() as recorder:
        RpcPeer.frames_in_all = recorder.frames + 1
    RpcPeer.frames_in_all = before
