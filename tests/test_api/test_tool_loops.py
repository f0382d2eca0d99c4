"""Tools that the client runs inside of a running answer, over HTTP: events come as server-sent events, what is said of
calls goes by POST; and what the providers are asked in later steps."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from archer_ws.llm_gateway.types import StreamChunk, TokenUsage
from tests.conftest import Archer, StartArcher
from tests.fakes import anthropic_api, thinking_anthropic, thinking_responses, tools_anthropic, tools_ollama
from tests.fakes.calls import CALLS_MADE, TOOLS, piece
from tests.fakes.ollama_api import ollama_line
from tests.fakes.pictures import PNG, PNG_URL, image, photo, text
from tests.fakes.scripted_adapter import ScriptedAdapter
from tests.fakes.scripted_server import Exchange, Reply, forever
from tests.fakes.sse_reader import Received, read_events
from tests.fakes.thinking_anthropic import ThinkingAnthropic
from tests.fakes.thinking_responses import ThinkingResponses
from tests.fakes.tool_dialects import MadeCall
from tests.test_api.test_native_turns import TOOLS as NATIVE_TOOLS
from tests.test_api.test_native_turns import in_session, running
from tests.test_api.test_tool_calls import CHAT, play

WEATHER = piece("call1", "get_weather", '{"city": "Oslo"}')
QUESTION = {"role": "user", "content": "What is the weather?"}
ASKED = {"messages": [QUESTION], "tools": TOOLS, "on_tool_call": "wait", "stream_id": "s"}
CALL = "/api/v1/streams/s/tool_calls/call1"


#: Ollama's lines of JSON.
NDJSON = "application/x-ndjson"
PICTURE = b64decode(PNG_URL.partition(",")[2])
ANOTHER_URL = f"data:image/jpeg;base64,{photo(1000)}"


class CallingClaude:
    """An Anthropic whose model calls once, and answers."""

    def __init__(self, calls: int = 1) -> None:
        self._calls = [MadeCall("get_weather", "{}")] * calls
        self.requests: list[dict[str, Any]] = []

    def __call__(self, exchange: Exchange) -> Reply:
        self.requests.append(exchange.json())
        if len(self.requests) > 1:
            return anthropic_api.text_stream(["I see."])
        return anthropic_api.stream(*tools_anthropic.answer(*self._calls))


class Events:
    """A stream's events as they come."""

    def __init__(self, response: httpx.Response) -> None:
        self._events = read_events(response)
        self.seen: list[Received] = []

    async def all(self) -> AsyncIterator[Received]:
        async for event in self._events:
            if event.data != "[DONE]":
                self.seen.append(event)
                yield event

    async def until(self, kind: str) -> dict[str, Any]:
        async for event in self.all():
            if event.event == kind:
                return dict(event.json)
        raise AssertionError(f"no {kind} came")

    @property
    def kinds(self) -> list[str]:
        return [event.event for event in self.seen if event.event is not None]


@asynccontextmanager
async def following(archer: Archer, **fields: Any) -> AsyncIterator[Events]:
    async with archer.http.stream("POST", f"{CHAT}/stream", json={**ASKED, **fields}) as response:
        assert response.status_code == 200, await response.aread()
        yield Events(response)


async def said(archer: Archer, path: str, **body: Any) -> dict[str, Any]:
    answer = await archer.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def looped(archer: Archer) -> ScriptedAdapter:
    """A model that calls once, and answers."""
    return play(archer, ["Let me look.", WEATHER, CALLS_MADE], ["It rains."])


async def test_events_go_on_behind_results_that_come_by_post(archer: Archer) -> None:
    adapter = looped(archer)
    async with following(archer) as events:
        call = await events.until("tool_call")
        assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"city": "Oslo"})
        assert await said(archer, f"{CALL}/claim", claim="mine", ttl_s=30) == {"outcome": "claimed"}
        assert await said(archer, f"{CALL}/result", content="rain") == {"outcome": "taken"}
        assert await said(archer, "/api/v1/streams/s/steer", message_id="m1", content="Briefly") == {
            "outcome": "accepted"
        }
        assert await said(archer, f"{CALL}/result", content="rain", claim="mine") == {"outcome": "accepted"}
        ended = await events.until("ended")
    assert (ended["status"], ended["steps"]) == ("completed", 2)
    assert events.kinds == ["started", "tool_call", "tool_update", "tool_result", "step", "ended"]
    assert await said(archer, f"{CALL}/result", content="sun") == {"outcome": "already_ended"}
    asked = adapter.asked[1]["messages"]
    assert [message.content for message in asked] == ["What is the weather?", "Let me look.", "rain", "Briefly"]


async def test_an_approval_goes_by_post_and_a_denial_is_told_to_the_model(archer: Archer) -> None:
    adapter = play(archer, [piece("call1", "delete_file", "{}"), CALLS_MADE], ["As you like."])
    async with following(archer) as events:
        assert (await events.until("tool_call"))["needs_approval"] is True
        assert (await said(archer, f"{CALL}/result", content="done"))["outcome"] == "needs_approval"
        assert (await said(archer, f"{CALL}/approval", approved=False, reason="not that"))["outcome"] == "accepted"
        assert (await events.until("tool_result"))["status"] == "denied"
        await events.until("ended")
    assert adapter.asked[1]["messages"][-1].content == "The call was denied: not that"


async def test_a_client_that_left_comes_back_to_the_open_call(archer: Archer) -> None:
    looped(archer)
    async with following(archer) as events:
        await events.until("tool_call")
        last = events.seen[-1].id
    headers = {"last-event-id": str(int(last or 0) - 1)}
    async with archer.http.stream("GET", "/api/v1/streams/s/events", headers=headers) as response:
        again = Events(response)
        assert (await again.until("tool_call"))["call_id"] == "call1"
        assert await said(archer, f"{CALL}/result", content="rain") == {"outcome": "accepted"}
        assert (await again.until("ended"))["status"] == "completed"


@pytest.mark.parametrize("path", [CHAT, "/v1/chat/completions"])
async def test_who_waits_for_a_whole_answer_is_told_of_no_calls_and_may_not_ask_for_it(
    archer: Archer, path: str
) -> None:
    body = {**ASKED, "model": "m"} if path == CHAT else {"messages": [QUESTION], "model": "m", "on_tool_call": "wait"}
    play(archer, ["Hello."])
    answer = await archer.http.post(path, json=body)
    if path == CHAT:
        error = answer.json()["error"]
        assert (answer.status_code, error["errors"][0]["path"]) == (422, "on_tool_call")
        assert "tool_calls/{call_id}/result" in error["hint"]
    else:
        assert answer.status_code in {200, 400, 422}, "a field of ours: never a stream that waits for nobody"
        assert (await archer.http.get("/api/v1/streams", params={"active": "true"})).json()["items"] == []


async def test_a_result_may_be_megabytes_and_is_told_in_part(archer: Archer) -> None:
    adapter = looped(archer)
    content = "x" * (4 * 1024 * 1024)
    async with following(archer) as events:
        await events.until("tool_call")
        refused = await archer.http.post(f"{CALL}/result", json={"content": content + "x"})
        assert (refused.status_code, refused.json()["error"]["kind"]) == (413, "content_too_large")
        assert await said(archer, f"{CALL}/result", content=content) == {"outcome": "accepted"}
        told = await events.until("tool_result")
        assert (told["truncated"], len(told["content"])) == (True, 64 * 1024)
        await events.until("ended")
    assert adapter.asked[1]["messages"][-1].content == content


@pytest.mark.parametrize("is_inline", [True, False], ids=["inline", "by file_id"])
async def test_a_picture_in_a_result_is_a_file_in_events_and_history_and_goes_to_the_model(
    start_archer: StartArcher, is_inline: bool
) -> None:
    provider = CallingClaude()
    async with running(start_archer, provider) as (archer, _):
        session = await in_session(archer)
        if is_inline:
            part = image()
        else:
            headers = {"content-type": "image/png"}
            uploaded = await archer.http.post("/api/v1/files", content=PICTURE, headers=headers)
            part = {"type": "image", "file_id": uploaded.json()["file_id"]}
        fields = {"model": "anthropic/claude-fable-5-1", "tools": NATIVE_TOOLS, **session}
        asked = [{"role": "user", "content": [text("Where is this?"), image(ANOTHER_URL)]}]
        async with following(archer, **fields, messages=asked) as events:
            call = await events.until("tool_call")
            path = f"/api/v1/streams/s/tool_calls/{call['call_id']}/result"
            assert await said(archer, path, content=[text("A map:"), part]) == {"outcome": "accepted"}
            told = await events.until("tool_result")
            assert [each["type"] for each in told["parts"]] == ["text", "image"]
            assert (told["parts"][1].get("url"), bool(told["parts"][1]["file_id"])) == (None, True)
            await events.until("ended")
        (blocks,) = [block["content"] for block in provider.requests[1]["messages"][-1]["content"]]
        assert [block["type"] for block in blocks] == ["text", "image"]
        assert blocks[1]["source"]["data"] == PNG_URL.partition(",")[2]
        for request in provider.requests:  # That of the question goes to the model in each step.
            assert request["messages"][0]["content"][1]["source"]["data"] == ANOTHER_URL.partition(",")[2]
        stored = (await archer.http.get(f"/api/v1/sessions/{session['session_id']}")).json()["messages"]
        assert stored[2]["parts"] == told["parts"]
        file_id = told["parts"][1]["file_id"]
        assert (await archer.http.delete(f"/api/v1/files/{file_id}")).status_code == 409


@pytest.mark.parametrize("is_answered", [False, True], ids=["while it waits", "in the next step"])
async def test_what_a_provider_told_of_finished_steps_counts_where_the_stream_is_cancelled(
    archer: Archer, is_answered: bool
) -> None:
    told = TokenUsage(prompt_tokens=1000, completion_tokens=70, total_tokens=1070)
    play(archer, [WEATHER, StreamChunk(content="", finish_reason="tool_calls", usage=told)], ["It rains", forever()])
    async with asyncio.timeout(10), following(archer) as events:
        await events.until("tool_call")
        if is_answered:
            await said(archer, f"{CALL}/result", content="rain")
            await events.until("step")
        await archer.http.delete("/api/v1/streams/s")
        usage = (await events.until("ended"))["usage"]
    if is_answered:
        # With or without "It rains".
        assert usage["completion_tokens"] in (70, 72)
        assert usage["prompt_tokens"] > 1000
        assert usage["estimated"] is True
    else:
        assert (usage["prompt_tokens"], usage["completion_tokens"], usage.get("estimated")) == (1000, 70, None)


@pytest.mark.parametrize("told_in", [(True, False), (False, True), (False, False), (True, True)])
async def test_the_tokens_of_a_step_of_which_the_provider_told_none_are_estimated_and_count(
    archer: Archer, told_in: tuple[bool, bool]
) -> None:
    told = TokenUsage(prompt_tokens=1000, completion_tokens=70, total_tokens=1070)
    first, second = (told if is_told else None for is_told in told_in)
    made = StreamChunk(content="", finish_reason="tool_calls", usage=first)
    play(archer, [WEATHER, made], ["It rains", StreamChunk(content="", finish_reason="stop", usage=second)])
    async with asyncio.timeout(10), following(archer) as events:
        await events.until("tool_call")
        await said(archer, f"{CALL}/result", content="rain")
        usage = (await events.until("ended"))["usage"]
    # 16 bytes of arguments, and 8 of text.
    asked, made_in_all = sum(1000 for is_told in told_in if is_told), sum(70 for is_told in told_in if is_told)
    assert usage["completion_tokens"] == made_in_all + (0 if told_in[0] else 4) + (0 if told_in[1] else 2)
    untold = usage["prompt_tokens"] - asked
    assert (untold > 0, usage.get("estimated")) == ((False, None) if all(told_in) else (True, True))
    assert untold < 200


@pytest.mark.parametrize("is_stored", [False, True], ids=["without a session", "in a session"])
async def test_a_refused_picture_in_a_result_has_the_path_that_it_was_sent_at(
    start_archer: StartArcher, is_stored: bool
) -> None:
    async with running(start_archer, CallingClaude()) as (archer, _):
        session = await in_session(archer) if is_stored else {}
        fields = {"model": "anthropic/claude-fable-5-1", "tools": NATIVE_TOOLS, **session}
        async with following(archer, **fields) as events:
            call = await events.until("tool_call")
            path = f"/api/v1/streams/s/tool_calls/{call['call_id']}/result"
            picture = {"type": "image", "url": "https://example.com/map.png"}
            assert await said(archer, path, content=[text("A map:"), picture]) == {"outcome": "accepted"}
            error = (await events.until("ended"))["error"]
        assert [each["path"] for each in error["errors"]] == ["content.1"]
        assert error["message"].startswith(f"content.1: a picture or file in the result of call {call['call_id']!r}: ")


async def test_a_picture_in_a_result_is_kept_over_a_restart_for_the_step_that_it_is_for(
    start_archer: StartArcher, tmp_path: Path
) -> None:
    provider = CallingClaude(calls=2)
    kept: dict[str, Any] = {"store": "sqlite", "data_dir": str(tmp_path)}
    async with running(start_archer, provider, **kept) as (archer, _):
        session = await in_session(archer)
        fields = {"model": "anthropic/claude-fable-5-1", "tools": NATIVE_TOOLS, **session}
        async with following(archer, **fields) as events:
            paths = [
                f"/api/v1/streams/s/tool_calls/{(await events.until('tool_call'))['call_id']}/result" for _ in range(2)
            ]
            assert await said(archer, paths[1], content=[text("A map:"), image()]) == {"outcome": "accepted"}
            file_id = (await events.until("tool_result"))["parts"][1]["file_id"]
    async with running(start_archer, provider, **kept) as (archer, _):
        assert (await archer.http.get("/api/v1/streams/s")).json()["status"] == "waiting"
        assert (await archer.http.delete(f"/api/v1/files/{file_id}")).status_code == 409
        assert await said(archer, paths[0], content="rain") == {"outcome": "accepted"}
        async with archer.http.stream("GET", "/api/v1/streams/s/events") as response:
            assert (await Events(response).until("ended"))["status"] == "completed"
        rain, seen = [block["content"] for block in provider.requests[1]["messages"][-1]["content"]]
        assert "rain" in json.dumps(rain)
        assert [block["type"] for block in seen] == ["text", "image"]


async def test_pictures_in_the_results_of_many_steps_take_the_room_of_one_request(archer: Archer) -> None:
    room = archer.app.state.services.attachments._room
    room._total = 3 * len(PNG)  # Of three such requests at once.
    steps = 8
    calls = [[piece(f"call{step}", "get_weather", "{}"), CALLS_MADE] for step in range(steps)]
    adapter = play(archer, *calls, ["I have seen enough."])
    async with asyncio.timeout(20), following(archer, messages=[{"role": "user", "content": [image()]}]) as events:
        for step in range(steps):
            await events.until("tool_call")
            assert room._taken == 0, "nothing is being sent while the tool runs"
            path = f"/api/v1/streams/s/tool_calls/call{step}/result"
            assert await said(archer, path, content=[text("A map:"), image()]) == {"outcome": "accepted"}
        assert (await events.until("ended"))["status"] == "completed"
    assert room._taken == 0
    assert all(asked["options"].media for asked in adapter.asked[1:])


async def looped_to_the_end(archer: Archer, model: str, **fields: Any) -> dict[str, Any]:
    """A whole answer in one stream, each call with its result."""
    async with following(archer, model=model, tools=NATIVE_TOOLS, **fields) as events:
        async for event in events.all():
            if event.event == "tool_call":
                path = f"/api/v1/streams/s/tool_calls/{event.json['call_id']}/result"
                assert await said(archer, path, content="7 degrees") == {"outcome": "accepted"}
        return dict(events.seen[-1].json)


@pytest.mark.parametrize("has_session", [True, False], ids=["session", "stateless"])
async def test_claude_s_thoughts_go_back_byte_for_byte_within_the_stream(
    start_archer: StartArcher, has_session: bool
) -> None:
    claude = ThinkingAnthropic()
    async with running(start_archer, claude) as (archer, _):
        fields = await in_session(archer) if has_session else {}
        ended = await looped_to_the_end(archer, "anthropic/claude-fable-5-1", **fields)
        assert (ended["status"], ended["steps"]) == ("completed", thinking_anthropic.STEPS)
        assert claude.refusals == []
        assert claude.thoughts_in(2) == ["thinking", "redacted_thinking", "thinking"] * 2


async def test_claude_s_thoughts_of_every_step_go_back_when_the_end_of_the_loop_is_generated_again(
    start_archer: StartArcher,
) -> None:
    claude = ThinkingAnthropic()
    async with running(start_archer, claude) as (archer, _):
        session = await in_session(archer)
        ended = await looped_to_the_end(archer, "anthropic/claude-fable-5-1", **session)
        again = {**session, "messages": [], "replace_from": ended["message_ids"][-1]}
        answer = await archer.http.post(
            CHAT, json={**again, "model": "anthropic/claude-fable-5-1", "tools": NATIVE_TOOLS}
        )
        assert (answer.json()["content"], claude.refusals) == (thinking_anthropic.DONE, [])
        assert claude.thoughts_in(3) == ["thinking", "redacted_thinking", "thinking"] * 2


@pytest.mark.parametrize("has_session", [True, False], ids=["session", "stateless"])
async def test_openai_s_sealed_thoughts_go_back_within_the_stream(start_archer: StartArcher, has_session: bool) -> None:
    provider = ThinkingResponses()
    async with running(start_archer, provider, openai_api="responses") as (archer, _):
        fields = await in_session(archer) if has_session else {}
        ended = await looped_to_the_end(archer, "openai/gpt-5.4", reasoning_effort="high", **fields)
        assert (ended["status"], ended["steps"]) == ("completed", thinking_responses.STEPS)
        assert provider.refusals == []
        assert len(provider.thoughts_in(2)) == 2


async def test_the_provider_s_connection_is_closed_while_a_stream_waits_and_by_a_cancel_in_a_later_step(
    archer: Archer,
) -> None:
    asked: list[Exchange] = []
    # It says its end, and keeps the connection: closing that is ours.
    calling = Reply([*tools_ollama.answer(MadeCall("get_weather", '{"city": "Oslo"}')), forever()], content_type=NDJSON)
    speaking = Reply([ollama_line("It"), forever()], content_type=NDJSON)

    def answering(exchange: Exchange) -> Reply:
        asked.append(exchange)
        return calling if len(asked) == 1 else speaking

    archer.answer(answering)
    async with asyncio.timeout(20), following(archer) as events:
        call = await events.until("tool_call")
        await asked[0].client_left.wait()
        result = f"/api/v1/streams/s/tool_calls/{call['call_id']}/result"
        assert await said(archer, result, content="rain") == {"outcome": "accepted"}
        await events.until("step")
        await anext(events.all())
        assert not asked[1].client_left.is_set()
        await archer.http.delete("/api/v1/streams/s")
        await asked[1].client_left.wait()
        assert (await events.until("ended"))["status"] == "cancelled"


async def test_what_is_asked_of_a_parked_stream_is_told_that_the_server_stops(
    start_archer: StartArcher, tmp_path: Path
) -> None:
    async with start_archer(store="sqlite", data_dir=str(tmp_path)) as archer:
        looped(archer)
        await archer.http.post("/api/v1/sessions", json={"session_id": "sky"})
        async with following(archer, session_id="sky") as events:
            await events.until("tool_call")
            await archer.app.state.services.manager.drain(0)
        answers = [
            await archer.http.get("/api/v1/streams/s"),
            await archer.http.get("/api/v1/streams/s/events"),
            await archer.http.delete("/api/v1/streams/s"),
            await archer.http.post(f"{CALL}/result", json={"content": "rain"}),
        ]
    assert [(answer.status_code, answer.json()["error"]["kind"]) for answer in answers] == [(503, "draining")] * 4
    assert all("retry-after" in answer.headers for answer in answers)
