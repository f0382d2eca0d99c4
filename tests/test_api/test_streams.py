"""Streams over HTTP: list, look, cancel, resume."""

import asyncio
from typing import Any

import pytest
import websockets

from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.streams.stream import Stream
from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.rpc_peer import RpcError, RpcPeer, SocketTransport
from tests.fakes.scripted_server import Wait, forever
from tests.fakes.sse_reader import Received, read_events, text_of

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


async def follow(archer: Archer, stream_id: str, after: int = 0, *, most: int | None = None) -> list[Received]:
    """The events after `after`: all, or the first `most` before hanging up."""
    async with archer.http.stream("GET", f"/api/v1/streams/{stream_id}/events", params={"after": after}) as response:
        assert response.status_code == 200
        received = read_events(response)
        return [event async for event in (received if most is None else _some(received, most))]


async def _some(events: Any, most: int) -> Any:
    for _ in range(most):
        try:
            yield await anext(events)
        except StopAsyncIteration:
            return


async def finished(archer: Archer, stream_id: str, *pieces: str) -> None:
    """An ended stream in which each piece is an event: the next is said only when the one before has come."""
    heard = [asyncio.Event() for _ in pieces]
    archer.answer(
        ollama_stream(*(step for piece, came in zip(pieces, heard, strict=True) for step in (piece, Wait(came))))
    )
    request = {**HELLO, "stream_id": stream_id}
    waiting = iter(heard)
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=request) as response:
        assert response.status_code == 200
        async for event in read_events(response):
            if text_of([event]):
                next(waiting).set()


async def test_an_ended_stream_can_be_read_again_from_anywhere(archer: Archer) -> None:
    await finished(archer, "one", "a", "b", "c")
    whole = await follow(archer, "one")
    assert text_of(whole) == "abc"
    seqs = [int(event.id) for event in whole if event.id]
    for after in range(seqs[-1]):
        rest = await follow(archer, "one", after)
        assert text_of(rest) == "abc"[max(0, after - 1) :]
        assert rest[-2].event == "ended"


async def test_last_event_id_at_the_end_is_204(archer: Archer) -> None:
    await finished(archer, "one", "a")
    info = (await archer.http.get("/api/v1/streams/one")).json()
    response = await archer.http.get("/api/v1/streams/one/events", headers={"last-event-id": str(info["head_seq"])})
    assert response.status_code == 204
    assert response.content == b""


async def test_last_event_id_wins_over_after(archer: Archer) -> None:
    await finished(archer, "one", "a", "b")
    response = await archer.http.get("/api/v1/streams/one/events?after=0", headers={"last-event-id": "2"})
    assert b'"content":"a"' not in response.content
    assert b'"content":"b"' in response.content


@pytest.mark.parametrize(
    ("headers", "after", "where"),
    [
        ({"last-event-id": "x"}, "0", "Last-Event-ID"),
        ({"last-event-id": "99"}, "0", "Last-Event-ID"),
        ({}, "99", "after"),
        ({}, "-1", "query.after"),
        ({}, "1e3", "query.after"),
    ],
)
async def test_a_cursor_that_is_none_is_refused(
    archer: Archer, headers: dict[str, str], after: str, where: str
) -> None:
    archer.answer(ollama_stream("a", forever()))
    body = {**HELLO, "stream_id": "one"}
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=body):
        response = await archer.http.get("/api/v1/streams/one/events", params={"after": after}, headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]["kind"] == "invalid_params"
    assert [each["path"] for each in response.json()["error"]["errors"]] == [where]


async def test_a_dropped_connection_resumes_without_a_lost_or_doubled_character(archer: Archer) -> None:
    pieces = [f"{number} " for number in range(300)]
    steps: list[str | Wait] = []
    gates = [asyncio.Event() for _ in range(10)]
    for number, piece in enumerate(pieces):
        steps.append(piece)
        if number % 30 == 29:
            steps.append(Wait(gates[number // 30]))
    archer.answer(ollama_stream(*steps))
    body = {**HELLO, "stream_id": "drops", "on_disconnect": "continue"}
    received: list[Received] = []
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=body) as response:
        received += [event async for event in _some(read_events(response), 2)]
    drops = 0
    while not any(event.event == "ended" for event in received):
        cursor = max(int(event.id) for event in received if event.id)
        gates[min(drops, 9)].set()
        received += await follow(archer, "drops", cursor, most=1)
        drops += 1
    assert drops > 5
    assert text_of([event for event in received if event.event != "ended"]) == "".join(pieces)


async def test_a_second_reader_keeps_a_stream_alive(archer: Archer) -> None:
    go_on = asyncio.Event()
    archer.answer(ollama_stream("a", Wait(go_on), "b"))
    body = {**HELLO, "stream_id": "two"}
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=body) as first:
        of_first = read_events(first)
        assert [(await anext(of_first)).event for _ in range(2)] == ["started", None]
        async with archer.http.stream("GET", "/api/v1/streams/two/events") as second:
            await first.aclose()
            go_on.set()
            events = [event async for event in read_events(second)]
    assert text_of(events) == "ab"
    assert events[-2].json["status"] == "completed"


async def test_the_only_reader_s_leaving_ends_the_stream(archer: Archer) -> None:
    archer.answer(ollama_stream("a", forever()))
    body = {**HELLO, "stream_id": "left"}
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=body) as response:
        assert [event async for event in _some(read_events(response), 2)]
    async with asyncio.timeout(5):
        await (await archer.ollama.exchange(0)).client_left.wait()
    info = (await archer.http.get("/api/v1/streams/left")).json()
    assert (info["status"], info["text_bytes"]) == ("cancelled", 1)


async def test_streams_are_listed_by_session_and_state(archer: Archer) -> None:
    await archer.http.post("/api/v1/sessions", json={"session_id": "s"})
    await finished(archer, "loose", "a")
    archer.answer(ollama_stream("a", forever()))
    body = {**HELLO, "stream_id": "bound", "session_id": "s"}
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=body):
        listed = (await archer.http.get("/api/v1/streams")).json()["items"]
        of_session = (await archer.http.get("/api/v1/streams?session_id=s")).json()["items"]
        active = (await archer.http.get("/api/v1/streams?active=true")).json()["items"]
    assert [info["stream_id"] for info in listed] == ["bound", "loose"]
    assert [info["stream_id"] for info in of_session] == ["bound"]
    assert [info["stream_id"] for info in active] == ["bound"]


async def test_cancelling_is_harmless_twice_and_for_the_unknown(archer: Archer) -> None:
    await finished(archer, "one", "a")
    answer = (await archer.http.delete("/api/v1/streams/one")).json()
    assert answer == {"outcome": "already_ended", "status": "completed"}
    assert (await archer.http.delete("/api/v1/streams/nobody")).json() == {"outcome": "not_found"}
    response = await archer.http.post("/api/v1/chat/completions", json={**HELLO, "stream_id": "nobody"})
    assert response.json()["status"] == "cancelled"


async def test_an_unknown_stream_is_404(archer: Archer) -> None:
    for path in ("/api/v1/streams/x", "/api/v1/streams/x/events"):
        response = await archer.http.get(path)
        assert (response.status_code, response.json()["error"]["kind"]) == (404, "stream_not_found")


async def test_principals_do_not_see_each_other(start_archer: StartArcher) -> None:
    async with start_archer(auth_tokens={"ann": "token-of-ann", "bob": "token-of-bob"}) as archer:
        archer.answer(ollama_stream("secret"))
        ann, bob = ({"authorization": f"Bearer token-of-{name}"} for name in ("ann", "bob"))
        body = {**HELLO, "stream_id": "hers"}
        assert (await archer.http.post("/api/v1/chat/completions", json=body, headers=ann)).status_code == 200
        assert (await archer.http.get("/api/v1/streams/hers", headers=ann)).status_code == 200
        assert (await archer.http.get("/api/v1/streams/hers", headers=bob)).status_code == 404
        assert (await archer.http.get("/api/v1/streams/hers/events", headers=bob)).status_code == 404
        assert (await archer.http.delete("/api/v1/streams/hers", headers=bob)).json()["outcome"] == "not_found"
        assert (await archer.http.get("/api/v1/streams")).status_code == 401
        assert (await archer.http.get("/health")).status_code == 200


async def test_who_waits_for_a_stream_that_is_refused_gets_the_refusal_on_every_route_and_by_every_method(
    archer: Archer, monkeypatch: pytest.MonkeyPatch
) -> None:
    archer.answer(ollama_stream("Dust"))
    await archer.http.post("/api/v1/sessions", json={"session_id": "sky"})
    question = {"session_id": "sky", "messages": [{"role": "user", "content": "Why?", "message_id": "m1"}]}
    assert (await archer.http.post("/api/v1/chat/completions", json=question)).status_code == 200
    begin_turn, wait_admitted = MemoryStore.begin_turn, Stream.wait_admitted
    may_begin, waiting = asyncio.Event(), asyncio.Semaphore(0)

    async def begin_later(*args: Any, **kwargs: Any) -> Any:
        await may_begin.wait()
        return await begin_turn(*args, **kwargs)

    async def wait_admitted_seen(stream: Stream) -> None:
        waiting.release()
        await wait_admitted(stream)

    monkeypatch.setattr(MemoryStore, "begin_turn", begin_later)
    monkeypatch.setattr(Stream, "wait_admitted", wait_admitted_seen)
    async with websockets.connect(f"ws://{archer.address}/api/v1/ws", proxy=None) as connection:
        peer = RpcPeer(SocketTransport(connection))
        sending = asyncio.create_task(peer.call("chat/send", stream_id="s", **question))
        await waiting.acquire()
        asking = [
            asyncio.create_task(peer.call("stream/subscribe", stream_id="s")),
            asyncio.create_task(peer.call("stream/get", stream_id="s", messages=True)),
        ]
        reading = [
            asyncio.create_task(archer.http.get("/api/v1/streams/s/events")),
            asyncio.create_task(archer.http.get("/api/v1/streams/s?messages=true")),
        ]
        async with asyncio.timeout(10):
            for _ in (*asking, *reading):
                await waiting.acquire()
            may_begin.set()
            refusals = await asyncio.gather(sending, *asking, return_exceptions=True)
            answers = await asyncio.gather(*reading)
        await peer.close()
    assert [isinstance(refusal, RpcError) and refusal.kind for refusal in refusals] == ["conflict"] * 3
    assert [(answer.status_code, answer.json()["error"]["kind"]) for answer in answers] == [(409, "conflict")] * 2
