"""Tool results longer than the 64 KiB that their events have: the Python client's messages have them whole where the
client ran the tool, and say so where they do not.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from archer_ws.client import Archer, Backoff, ChatStream, ToolResult, connect
from archer_ws.client.link import Link
from archer_ws.llm_gateway.content import ImagePart, text_of
from tests.conftest import Archer as Server
from tests.fakes.tool_loops import playing_tool_loops
from tests.fakes.waiting_server import STARTED, WaitingServer, calling, ending, resulting, saying, waiting_server

LIMIT_S = 60
TOLD_BYTES = 64 * 1024
LONG = "Regen in Tromsø. " * 10_000
OSLO = '{"city": "Oslo"}'


@pytest.fixture(autouse=True)
async def _nothing_hangs() -> AsyncIterator[None]:
    async with asyncio.timeout(LIMIT_S):
        yield


@pytest.fixture
async def waiting() -> AsyncIterator[WaitingServer]:
    async with waiting_server([STARTED]) as running:
        yield running


def get_weather(city: str) -> str:
    return LONG


def now() -> str:
    return "noon"


def impatient(url: str, **options: Any) -> Archer:
    """A client that connects again without waiting."""
    return connect(url, backoff=Backoff(0, 0), **options)


async def read(stream: ChatStream) -> str:
    return "".join([text async for text in stream])


def results_of(stream: ChatStream) -> list[str]:
    return [message.content for message in stream.messages if message.role.value == "tool"]


def shortened(text: str) -> str:
    return text.encode()[:TOLD_BYTES].decode(errors="ignore")


async def test_the_client_that_ran_the_tool_has_the_messages_that_the_session_has(archer: Server) -> None:
    archer.answer(playing_tool_loops)
    async with impatient(f"http://{archer.address}", tools=[get_weather, now]) as client:
        session = await client.sessions.create()
        stream = client.chat("weather", session_id=session.session_id)
        await read(stream)
        assert results_of(stream) == [LONG]
        assert stream.truncated_results == []
        assert await stream.fetch_messages() == stream.messages
        stored = (await client.sessions.get(session.session_id)).messages
    assert [message.content for message in stored[1:]] == [message.content for message in stream.messages]


async def test_a_client_that_only_reads_names_the_shortened_results_and_can_fetch_them_whole(archer: Server) -> None:
    archer.answer(playing_tool_loops)
    url = f"http://{archer.address}"
    async with impatient(url, tools=[get_weather, now]) as runner, impatient(url) as reader:
        ran = runner.chat("weather")
        await read(ran)
        shown = reader.resume(ran.stream_id)
        results = [event async for event in shown.events() if isinstance(event, ToolResult)]
        assert shown.truncated_results == [result.call_id for result in results]
        assert results_of(shown) == [shortened(LONG)]
        assert await shown.fetch_messages() == ran.messages


async def test_a_replay_of_the_log_keeps_the_whole_result(waiting: WaitingServer) -> None:
    async with impatient(waiting.url) as client:
        stream = client.chat("Rain?", tools=[get_weather])
        await waiting.hears("chat/send")
        call = calling("c1", "get_weather", OSLO)
        await waiting.say(call)
        assert (await waiting.hears("tool/result"))["content"] == LONG
        result = resulting("c1", shortened(LONG), truncated=True)
        await waiting.say(result)
        await waiting.say(("stream/delta", {"content": "", "reset": True}), call, result, saying("Rain."), ending())
        assert await read(stream) == "Rain."
    assert results_of(stream) == [LONG]
    assert stream.truncated_results == []


async def test_where_the_server_accepted_another_clients_result_it_is_not_replaced(waiting: WaitingServer) -> None:
    other = "Sun in Oslo. " * 10_000
    async with impatient(waiting.url) as client:
        stream = client.chat("Rain?", tools=[get_weather])
        await waiting.hears("chat/send")
        await waiting.say(calling("c1", "get_weather", OSLO))
        await waiting.hears("tool/result")
        await waiting.say(resulting("c1", shortened(other), truncated=True), saying("Sun."), ending())
        assert await read(stream) == "Sun."
    assert results_of(stream) == [shortened(other)]
    assert stream.truncated_results == ["c1"]


async def test_a_result_with_a_picture_is_whole_where_its_function_ran(waiting: WaitingServer) -> None:
    def look() -> list[Any]:
        return [LONG, ImagePart(type="image", file_id="file_1"), "Sonne."]

    async with impatient(waiting.url) as client:
        stream = client.chat("Rain?", tools=[look])
        await waiting.hears("chat/send")
        await waiting.say(calling("c1", "look"))
        assert len((await waiting.hears("tool/result"))["content"]) == 3
        parts = [{"type": "text", "text": shortened(LONG)}, {"type": "image", "file_id": "file_1"}]
        result = resulting("c1", shortened(LONG), parts=parts, truncated=True)
        await waiting.say(result, saying("Rain."), ending())
        assert await read(stream) == "Rain."
    (told,) = [message for message in stream.messages if message.role.value == "tool"]
    assert told.content == f"{LONG}\nSonne."
    assert [part.type for part in told.parts or ()] == ["text", "image", "text"]
    assert text_of(told.parts or ()) == told.content
    assert stream.truncated_results == []


async def test_a_result_with_a_picture_that_ran_elsewhere_is_named_as_shortened() -> None:
    stream = ChatStream(cast(Link, None), "mine", None)
    stream.attached()
    parts = [{"type": "text", "text": shortened(LONG)}, {"type": "image", "file_id": "file_1"}]
    log = [STARTED, calling("c1", "get_weather"), resulting("c1", shortened(LONG), parts=parts, truncated=True)]
    for seq, (method, params) in enumerate(log, 1):
        stream.take(method, {"stream_id": "mine", "seq": seq, **params})
    assert results_of(stream) == [shortened(LONG)]
    assert stream.truncated_results == ["c1"]


async def test_a_result_in_parts_of_an_earlier_server_is_whole_wherever_its_function_ran() -> None:
    stream = ChatStream(cast(Link, None), "mine", None)
    stream.attached()
    parts = [{"type": "text", "text": LONG}, {"type": "image", "file_id": "file_1"}]
    log = [STARTED, calling("c1", "get_weather"), resulting("c1", shortened(LONG), parts=parts, truncated=True)]
    for seq, (method, params) in enumerate(log, 1):
        stream.take(method, {"stream_id": "mine", "seq": seq, **params})
    assert results_of(stream) == [LONG]
    assert stream.truncated_results == []
