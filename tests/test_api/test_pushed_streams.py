"""A stream whose text is pushed, from the provider's socket to a client's: what may happen in that one call."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from archer_ws.api.routes import chat
from archer_ws.server.http_direct import DirectCycle
from tests.conftest import Archer
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.raw_http import soon
from tests.fakes.scripted_server import Wait, forever
from tests.fakes.sse_reader import Received, read_events

HELLO = {"messages": [{"role": "user", "content": "hello"}], "stream_id": "s"}


def stream_of(archer: Archer) -> Any:
    return archer.app.state.services.manager._table.get("local", "s")


def text_of(events: list[Received]) -> str:
    return "".join(event.json["content"] for event in events if event.event is None and event.data != "[DONE]")


async def test_a_cancel_in_the_call_that_brings_a_token_keeps_it_and_closes_the_provider(archer: Archer) -> None:
    go_on = asyncio.Event()
    archer.answer(ollama_stream("one ", Wait(go_on), "two", forever(), "three"))
    events: list[Received] = []
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=HELLO) as response:
        async for event in read_events(response):
            events.append(event)
            if text_of(events) == "one " and not go_on.is_set():
                stream = stream_of(archer)
                stream.log.watch(partial(stream.cancel, "client"))
                go_on.set()
    ended = next(event.json for event in events if event.event == "ended")
    assert text_of(events) == "one two"
    assert (ended["status"], ended["reason"]) == ("cancelled", "client")
    (chat,) = [exchange for exchange in archer.ollama.exchanges if exchange.path == "/api/chat"]
    await soon(chat.client_left.wait())


async def test_a_reader_that_attaches_between_two_tokens_misses_none_and_doubles_none(archer: Archer) -> None:
    gates = [asyncio.Event() for _ in range(5)]
    steps = [step for number, gate in enumerate(gates) for step in (f"{number} ", Wait(gate))]
    archer.answer(ollama_stream(*steps, "end"))

    async def follow(after: int) -> str:
        url = f"/api/v1/streams/s/events?after={after}"
        async with archer.http.stream("GET", url) as response:
            return text_of([event async for event in read_events(response)])

    others: list[asyncio.Task[str]] = []
    events: list[Received] = []
    async with archer.http.stream("POST", "/api/v1/chat/completions/stream", json=HELLO) as response:
        async for event in read_events(response):
            events.append(event)
            if event.event is None and gates:
                others.append(asyncio.create_task(follow(0)))
                gates.pop(0).set()
    assert text_of(events) == "0 1 2 3 4 end"
    assert [await soon(other) for other in others] == ["0 1 2 3 4 end"] * 5


async def test_a_whole_completion_is_written_in_the_call_that_ends_its_stream(
    archer: Archer, monkeypatch: pytest.MonkeyPatch
) -> None:
    respond = DirectCycle.respond
    writers: list[str] = []

    def noting(cycle: DirectCycle, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        task = asyncio.current_task()
        writers.append(task.get_name() if task is not None else "")
        return respond(cycle, status, fields, body)

    monkeypatch.setattr(DirectCycle, "respond", noting)
    archer.answer(ollama_stream("one ", "two"))
    answer = await archer.http.post("/api/v1/chat/completions", json=HELLO)
    assert (answer.status_code, answer.json()["content"]) == (200, "one two")
    assert writers == ["stream s"]


async def test_a_response_that_cannot_be_made_is_a_500_and_leaves_the_stream_as_it_ended(
    archer: Archer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a defect")

    archer.answer(ollama_stream("one ", "two"))
    with monkeypatch.context() as patch:
        patch.setattr(chat, "whole_completion", broken)
        answer = await archer.http.post("/api/v1/chat/completions", json=HELLO)
    assert (answer.status_code, answer.json()["error"]["kind"]) == (500, "internal_error")
    assert stream_of(archer).status == "completed"
    archer.answer(ollama_stream("three"))
    after = await archer.http.post("/api/v1/chat/completions", json={**HELLO, "stream_id": "t"})
    assert after.json()["content"] == "three"


async def test_a_connection_that_takes_nothing_at_the_end_gets_the_response_from_its_task(
    archer: Archer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DirectCycle, "respond", lambda *_: False)
    archer.answer(ollama_stream("one ", "two"))
    answer = await archer.http.post("/api/v1/chat/completions", json=HELLO)
    assert (answer.status_code, answer.json()["content"]) == (200, "one two")
