"""Calls over HTTP, whole and as server-sent events; the model is an adapter whose answers are scripts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.conftest import Archer, StartArcher
from tests.fakes.calls import CALLS_MADE, INTERLEAVED, TOOLS, WHOLE, piece
from tests.fakes.scripted_adapter import ScriptedAdapter, Step
from tests.fakes.scripted_server import Wait
from tests.fakes.sse_reader import Received, read_events

CHAT = "/api/v1/chat/completions"
QUESTION = {"role": "user", "content": "What is the weather?"}
ASKED = {"messages": [QUESTION], "tools": TOOLS}
CALLS = [call.model_dump() for call in WHOLE]


@pytest.fixture
async def archer(start_archer: StartArcher) -> AsyncIterator[Archer]:
    async with start_archer() as running:
        yield running


def play(archer: Archer, *scripts: Sequence[Step]) -> ScriptedAdapter:
    """What the default provider says from now on, request by request."""
    adapter = ScriptedAdapter(*scripts)
    archer.app.state.services.router._instances["ollama"] = adapter
    return adapter


async def followed(archer: Archer, stream_id: str, after: int) -> list[Received]:
    headers = {"last-event-id": str(after)} if after else {}
    async with archer.http.stream("GET", f"/api/v1/streams/{stream_id}/events", headers=headers) as response:
        assert response.status_code == 200
        return [event async for event in read_events(response)]


async def test_a_whole_answer_has_its_calls(archer: Archer) -> None:
    play(archer, ["Let me look.", *INTERLEAVED, CALLS_MADE])
    answer = (await archer.http.post(CHAT, json=ASKED)).json()
    assert (answer["content"], answer["finish_reason"], answer["status"]) == ("Let me look.", "tool_calls", "completed")
    assert answer["tool_calls"] == CALLS


@pytest.mark.parametrize("finish_reason", ["length", "content_filter"])
async def test_a_whole_answer_that_stopped_for_another_reason_has_none(archer: Archer, finish_reason: str) -> None:
    play(archer, ["Let me", *INTERLEAVED, CALLS_MADE.model_copy(update={"finish_reason": finish_reason})])
    answer = (await archer.http.post(CHAT, json=ASKED)).json()
    assert answer["finish_reason"] == finish_reason
    assert "tool_calls" not in answer


async def test_events_bring_arguments_as_plain_messages_and_calls_by_their_name(archer: Archer) -> None:
    play(archer, ["Let me look.", *INTERLEAVED, CALLS_MADE])
    async with archer.http.stream("POST", f"{CHAT}/stream", json={**ASKED, "stream_id": "s"}) as response:
        events = [event async for event in read_events(response)]
    arguments: dict[str, str] = {}
    for event in events:
        if event.event is None and event.data != "[DONE]" and "arguments" in event.json:
            assert {**event.json, "content": "", "finish_reason": None} == event.json
            call_id = event.json["call_id"]
            arguments[call_id] = arguments.get(call_id, "") + event.json["arguments"]
    assert arguments == {call.call_id: call.arguments for call in WHOLE}
    assert [event.event for event in events][-4:] == ["tool_call", "tool_call", "ended", None]
    beside = {"content": "", "finish_reason": None, "stream_id": "s", "by": "client"}
    assert [event.json for event in events[-4:-2]] == [
        {**beside, "seq": 8, **CALLS[0]},
        {**beside, "seq": 9, **CALLS[1], "needs_approval": True},
    ]
    assert events[-2].json["finish_reason"] == "tool_calls"


async def test_events_are_resumed_behind_every_number_around_arguments_and_calls(archer: Archer) -> None:
    play(archer, ["Let me look.", *INTERLEAVED, CALLS_MADE])
    await archer.http.post(CHAT, json={**ASKED, "stream_id": "s"})
    whole = await followed(archer, "s", 0)
    said = [chunk.arguments for chunk in INTERLEAVED]
    for after in range(10):
        rest = await followed(archer, "s", after)
        texts = [event.json["arguments"] for event in rest if event.event is None and "arguments" in event.data]
        assert "".join(texts) == "".join(text for text in said[max(0, after - 2) :] if text)
        named = [event for event in whole if event.event in {"tool_call", "ended"} and int(event.id or 0) > after]
        assert [event for event in rest if event.event in {"tool_call", "ended"}] == named


async def test_who_leaves_in_mid_arguments_ends_the_stream_without_a_call(archer: Archer) -> None:
    never = asyncio.Event()
    adapter = play(archer, [*INTERLEAVED[:2], Wait(never)])
    async with archer.http.stream("POST", f"{CHAT}/stream", json={**ASKED, "stream_id": "s"}) as response:
        async for event in read_events(response):
            if "arguments" in event.data:
                break
    stream = archer.app.state.services.manager.find("local", "s")
    async with asyncio.timeout(10):
        await stream.wait_ended()
    assert (stream.status, stream.log.tool_calls(), adapter.closed) == ("cancelled", [], 1)


async def test_a_session_s_whole_loop_of_two_steps_with_parallel_calls(archer: Archer) -> None:
    adapter = play(
        archer,
        ["Let me look.", *INTERLEAVED, CALLS_MADE],
        [piece("call3", "get_weather", "{}"), CALLS_MADE],
        ["Sun, then rain."],
    )
    await archer.http.post("/api/v1/sessions", json={"session_id": "talk"})

    async def turn(*messages: dict[str, Any], **fields: Any) -> Any:
        body = {"session_id": "talk", "messages": list(messages), "tools": TOOLS, **fields}
        return (await archer.http.post(CHAT, json=body)).json()

    first = await turn({**QUESTION, "message_id": "mine"}, instructions="Be brief.")
    assert first["tool_calls"] == CALLS
    # The results in the order in which they were ready.
    second = await turn(
        {"role": "tool", "call_id": "call2", "content": "not allowed", "status": "denied"},
        {"role": "tool", "call_id": "call1", "content": "sunny"},
    )
    assert (second["content"], [call["call_id"] for call in second["tool_calls"]]) == ("", ["call3"])
    third = await turn({"role": "tool", "call_id": "call3", "content": [{"type": "text", "text": "rain"}]})
    assert (third["content"], "tool_calls" in third) == ("Sun, then rain.", False)

    roles = ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant"]
    stored = (await archer.http.get("/api/v1/sessions/talk")).json()["messages"]
    assert [message["role"] for message in stored] == roles
    assert stored[0]["message_id"] == "mine"
    assert [message.get("result_status") for message in stored if message["role"] == "tool"] == ["denied", "ok", "ok"]
    assert [message.role for message in adapter.asked[0]["messages"]] == ["system", "user"]
    last = adapter.asked[2]["messages"]
    assert [message.role for message in last] == roles[:-1]
    assert [message.content for message in last] == [message["content"] for message in stored[:-1]]
    assert [tool.name for tool in adapter.asked[2]["options"].tools] == ["get_weather", "delete_file"]


async def test_an_id_of_a_message_that_is_taken_is_a_conflict(archer: Archer) -> None:
    play(archer, ["Fine."], ["Fine."])
    await archer.http.post("/api/v1/sessions", json={"session_id": "talk"})
    body = {"session_id": "talk", "messages": [{**QUESTION, "message_id": "mine"}]}
    assert (await archer.http.post(CHAT, json=body)).status_code == 200
    refused = await archer.http.post(CHAT, json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["kind"], error["errors"][0]["path"]) == (
        409, "conflict", "messages.0.message_id",
    )  # fmt: skip


@pytest.mark.parametrize(("path", "named"), [(CHAT, "errors"), ("/v1/chat/completions", "param")])
async def test_a_request_that_asks_nothing_is_refused_with_the_field(archer: Archer, path: str, named: str) -> None:
    refused = await archer.http.post(path, json={"model": "m", "messages": []})
    error = refused.json()["error"]
    assert refused.status_code in {400, 422}
    assert "messages" in str(error[named])


async def test_an_answer_is_asked_for_again(archer: Archer) -> None:
    play(archer, ["Rain."], ["Sun."])
    await archer.http.post("/api/v1/sessions", json={"session_id": "talk"})
    await archer.http.post(CHAT, json={"session_id": "talk", "messages": [QUESTION]})
    stored = (await archer.http.get("/api/v1/sessions/talk")).json()["messages"]
    again = {"session_id": "talk", "messages": [], "replace_from": stored[1]["message_id"]}
    assert (await archer.http.post(CHAT, json=again)).json()["content"] == "Sun."
    messages = (await archer.http.get("/api/v1/sessions/talk")).json()["messages"]
    assert [message["content"] for message in messages] == ["What is the weather?", "Sun."]
