"""The whole thing with its embedded model: the server in its own process, the model in another, real clients."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests.e2e.sidecar import Sidecar, is_running, on_linux, running_sidecar, until_gone, until_idle
from tests.fakes.rpc_peer import Seen, SocketTransport
from tests.fakes.sse_reader import read_events, text_of

TALE = [{"role": "user", "content": "Tell me a very long tale about a ship."}]


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with running_sidecar(tmp_path) as running:
        yield running


@on_linux
async def test_it_answers_plainly_streams_cancels_and_survives_its_model_s_death(sidecar: Sidecar) -> None:
    question = {"messages": [{"role": "user", "content": "What color is the sky?"}], "max_tokens": 12}
    plain = (await sidecar.http.post("/api/v1/chat/completions", json=question)).json()
    assert plain["content"].strip()
    assert (plain["provider"], plain["model"]) == ("local", "SmolLM2-135M-Instruct")
    assert plain["usage"]["completion_tokens"] <= 12

    async with sidecar.http.stream("POST", "/api/v1/chat/completions/stream", json=question) as response:
        events = [event async for event in read_events(response)]
    assert text_of(events).strip()
    assert events[-2].json["status"] == "completed"

    model = sidecar.model_process()
    tale = {"messages": TALE, "max_tokens": 2000, "stream_id": "left"}
    async with sidecar.http.stream("POST", "/api/v1/chat/completions/stream", json=tale) as response:
        of_tale = read_events(response)
        assert [(await anext(of_tale)).event for _ in range(2)] == ["started", None]
    await until_idle(model)
    assert (await sidecar.http.get("/api/v1/streams/left")).json()["status"] == "cancelled"

    async with sidecar.http.stream("POST", "/api/v1/chat/completions/stream", json={**tale, "stream_id": "k"}) as cut:
        of_tale = read_events(cut)
        assert [(await anext(of_tale)).event for _ in range(2)] == ["started", None]
        os.kill(model, signal.SIGKILL)
        rest = [event async for event in of_tale]
    end = rest[-2].json
    assert (end["status"], end["error"]["kind"]) == ("failed", "provider_unavailable")
    assert "crashed" in end["error"]["message"]
    again = await sidecar.http.post("/api/v1/chat/completions", json=question)
    assert again.status_code == 200
    assert again.json()["content"].strip()
    assert sidecar.model_process() != model


async def test_it_is_made_to_call_a_tool_and_goes_on_with_its_result(sidecar: Sidecar) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    }
    messages: list[dict[str, Any]] = [{"role": "user", "content": "How warm is it in Oslo?"}]
    question = {
        "messages": messages,
        "tools": [{"name": "get_weather", "description": "The weather in a city.", "parameters": schema}],
        "tool_choice": {"name": "get_weather"},
        "temperature": 0,
        "max_tokens": 120,
    }
    async with sidecar.http.stream("POST", "/api/v1/chat/completions/stream", json=question) as response:
        events = [event async for event in read_events(response)]
    (call,) = [event.json for event in events if event.event == "tool_call"]
    jsonschema_rs.validate(schema, json.loads(call["arguments"]))
    deltas = [event.json.get("arguments", "") for event in events[:-1] if event.event is None]
    assert "".join(deltas) == call["arguments"]
    assert events[-2].json["finish_reason"] == "tool_calls"

    made = {"call_id": call["call_id"], "name": call["name"], "arguments": call["arguments"]}
    messages += [
        {"role": "assistant", "tool_calls": [made]},
        {"role": "tool", "call_id": call["call_id"], "content": "It is 12 degrees."},
    ]
    answer = await sidecar.http.post("/api/v1/chat/completions", json={**question, "tool_choice": "none"})
    assert "12" in answer.json()["content"]

    refused = await sidecar.http.post("/api/v1/chat/completions", json={**question, "tool_choice": "auto"})
    assert (refused.status_code, refused.json()["error"]["kind"]) == (400, "unsupported")


@on_linux
async def test_three_answers_over_one_socket_one_cancelled_and_the_connection_cut_and_resumed(
    sidecar: Sidecar,
) -> None:
    model = sidecar.model_process()
    peer = await sidecar.connect()
    for name in ("a", "b", "c"):
        await peer.call("chat/send", stream_id=name, messages=TALE, max_tokens=60, temperature=0)
    await peer.until(lambda: all(name in peer.streams and peer.streams[name].content for name in "abc"), timeout_s=60)
    assert (await peer.call("stream/cancel", stream_id="b"))["outcome"] == "cancelling"
    cancelled = await peer.ended("b")
    assert cancelled.ended is not None
    assert cancelled.ended["status"] == "cancelled"

    assert isinstance(peer.transport, SocketTransport)
    peer.transport.connection.transport.abort()  # no close frame: the cable is pulled
    async with asyncio.timeout(10):
        await peer.closed.wait()
    cut = {name: peer.streams[name] for name in "ac"}
    resumed = await sidecar.connect()
    for name, seen in cut.items():
        resumed.streams[name] = Seen(head=seen.head, content=seen.content)
        await resumed.call("stream/subscribe", stream_id=name, after=seen.head)
    for name in cut:
        seen = await resumed.ended(name, timeout_s=60)
        whole = await sidecar.connect()
        await whole.call("stream/subscribe", stream_id=name)
        assert seen.content == (await whole.ended(name)).content
        assert seen.ended is not None
        assert seen.ended["usage"]["completion_tokens"] == 60
        await whole.close()
    await until_idle(model)
    await resumed.close()
    await peer.stop()


@on_linux
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")
async def test_a_killed_sidecar_takes_its_model_with_it(sidecar: Sidecar) -> None:
    model = sidecar.model_process()
    assert is_running(model)
    os.kill(sidecar.pid, signal.SIGKILL)
    await sidecar.program.ended()
    await until_gone(model)
