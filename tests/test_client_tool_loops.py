"""The Python client's tools with the real server, on each way that a call can go: what the model gets, what is kept."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from archer_ws.client import Archer, Backoff, ChatStream, File, Image, Step, ToolCall, ToolUpdate, connect, tool
from archer_ws.sessions.models import StreamInfo
from tests.conftest import Archer as Server
from tests.conftest import StartArcher
from tests.fakes.cutting_proxy import CuttingProxy, Fate, cutting_proxy
from tests.fakes.dialects import reply_of
from tests.fakes.ollama_api import ollama_server, ollama_show, ollama_stream, ollama_tags
from tests.fakes.pictures import PNG
from tests.fakes.scripted_server import Exchange, Reply
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tool_loops import playing_tool_loops
from tests.fakes.tools_ollama import OLLAMA, answer

LIMIT_S = 60
HEARD = "I heard: rain in Oslo; rain in Lima"


@pytest.fixture(autouse=True)
async def _nothing_hangs() -> AsyncIterator[None]:
    async with asyncio.timeout(LIMIT_S):
        yield
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("archer-")] == []


@pytest.fixture
def server(archer: Server) -> Server:
    archer.answer(playing_tool_loops)
    return archer


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(server.address) as running:
        yield running


def impatient(url: str, **options: Any) -> Archer:
    return connect(url, backoff=Backoff(0, 0), **options)


class Tools:
    """What the model of tool_loops.py calls; weather takes until the test lets it."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.both_begun = asyncio.Event()
        self.goes_on = asyncio.Event()

    @property
    def offered(self) -> list[Any]:
        return [self.get_weather, self.now]

    async def get_weather(self, city: str) -> str:
        self.begun.append(city)
        if len(self.begun) == 2:
            self.both_begun.set()
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.cancelled.append(city)
            raise
        return f"rain in {city}"

    def now(self) -> str:
        return "noon"


async def read(stream: ChatStream) -> str:
    return "".join([text async for text in stream])


async def messages_of(archer: Archer, stream: ChatStream) -> list[dict[str, Any]]:
    """The stream's messages here, which are those that the server and the session have."""
    ours = [message.model_dump(mode="json", exclude_none=True) for message in stream.messages]
    told = await archer._link.request("stream/get", {"stream_id": stream.stream_id, "messages": True})
    info = StreamInfo.model_validate(told)
    assert [message.model_dump(mode="json", exclude_none=True) for message in info.messages or ()] == ours
    assert info.status == stream.status
    return ours


async def test_two_calls_run_side_by_side_and_the_stream_has_what_the_session_has(server: Server) -> None:
    tools = Tools()
    tools.goes_on.set()
    async with impatient(f"http://{server.address}", tools=tools.offered) as archer:
        session = await archer.sessions.create()
        stream = archer.chat("both", session_id=session.session_id)
        assert await read(stream) == HEARD == stream.text
        ours = await messages_of(archer, stream)
        kept = (await archer.sessions.get(session.session_id)).messages
    assert [(message["role"], message["content"]) for message in ours] == [
        ("assistant", ""),
        ("tool", "rain in Oslo"),
        ("tool", "rain in Lima"),
        ("assistant", HEARD),
    ]
    assert [(message.role.value, message.content) for message in kept[1:]] == [
        (message["role"], message["content"]) for message in ours
    ]
    assert (stream.status, stream.steps) == ("completed", 2)
    assert stream.tool_calls == []


@pytest.mark.parametrize("is_answered_meanwhile", [True, False])
async def test_a_socket_cut_in_mid_tool_runs_nothing_twice(proxy: CuttingProxy, is_answered_meanwhile: bool) -> None:
    tools = Tools()
    async with impatient(proxy.url, tools=tools.offered) as archer:
        stream = archer.chat("both")
        await tools.both_begun.wait()
        if is_answered_meanwhile:
            proxy.accepts = False
        proxy.cut()
        if is_answered_meanwhile:
            tools.goes_on.set()
            # By then the functions have come to their end, and there was no connection for what they gave.
            await proxy.connected(2)
            proxy.accepts = True
        else:
            await proxy.connected(2)
            await archer.ping()
            tools.goes_on.set()
        assert await read(stream) == HEARD
        await messages_of(archer, stream)
    assert sorted(tools.begun) == ["Lima", "Oslo"]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_cut_at_any_byte_every_call_runs_once_and_the_answer_is_whole(
    proxy: CuttingProxy, direction: str, request: pytest.FixtureRequest
) -> None:
    """The request, each event, claims, results and what is answered to them: every one is cut somewhere."""

    async def ask() -> None:
        tools = Tools()
        tools.goes_on.set()
        async with impatient(proxy.url, tools=tools.offered) as archer:
            stream = archer.chat("both")
            assert await read(stream) == HEARD
            # Behind the end, so that the last bytes that may be cut are those of the answer.
            assert (stream.status, sorted(tools.begun)) == ("completed", ["Lima", "Oslo"])

    await ask()
    total = proxy.up_bytes if direction == "up" else proxy.down_bytes
    for count in range(0, total, 1 if request.config.getoption("--long") else 97):
        proxy.fates.append(Fate(**{direction: count}))
        await ask()
        proxy.fates.clear()
    assert proxy.cuts > 0


async def test_a_cancel_in_mid_tool_ends_at_once_and_cancels_the_functions(server: Server) -> None:
    tools = Tools()
    async with impatient(f"http://{server.address}", tools=tools.offered) as archer:
        async with archer.chat("both") as stream:
            await tools.both_begun.wait()
            assert stream.status == "waiting"
            assert await stream.cancel() == "cancelling"
            assert await read(stream) == ""
        await archer.ping()
        assert sorted(tools.cancelled) == ["Lima", "Oslo"]
        ours = await messages_of(archer, stream)
    assert stream.status == "cancelled"
    assert [message.get("result_status") for message in ours] == [None, "cancelled", "cancelled"]


async def test_an_end_from_elsewhere_cancels_the_functions(server: Server) -> None:
    tools = Tools()
    async with impatient(f"http://{server.address}", tools=tools.offered) as archer:
        stream = archer.chat("both")
        await tools.both_begun.wait()
        await server.http.delete(f"/api/v1/streams/{stream.stream_id}")
        assert await read(stream) == ""
        await archer.ping()
        assert sorted(tools.cancelled) == ["Lima", "Oslo"]


async def test_of_two_windows_with_functions_one_runs_each_call(server: Server) -> None:
    first, second = Tools(), Tools()
    url = f"http://{server.address}"
    async with impatient(url, tools=first.offered) as one, impatient(url, tools=second.offered) as other:
        stream = one.chat("both")
        await first.both_begun.wait()
        shown = other.resume(stream.stream_id)
        while len(shown.tool_calls) < 2:
            await anext(shown.events())
        await other.ping()
        first.goes_on.set()
        assert await read(stream) == await read(shown) == HEARD
        assert shown.messages == stream.messages
    assert (sorted(first.begun), second.begun) == (["Lima", "Oslo"], [])


async def test_a_stream_resumed_with_functions_takes_over_what_nobody_runs(server: Server) -> None:
    tools = Tools()
    tools.goes_on.set()
    declared = [{"name": "get_weather"}, {"name": "now"}]
    async with impatient(f"http://{server.address}") as archer:
        stream = archer.chat("both", tools=declared, on_tool_call="wait")
        async for event in stream.events():
            if isinstance(event, ToolCall) and len(stream.tool_calls) == 2:
                break
    async with impatient(f"http://{server.address}") as archer:
        assert await read(archer.resume(stream.stream_id, tools=tools.offered)) == HEARD


async def test_another_window_approves_what_this_one_runs(server: Server) -> None:
    tools = Tools()
    tools.goes_on.set()
    guarded = [tool(needs_approval=True)(tools.get_weather), tools.now]
    url = f"http://{server.address}"
    async with impatient(url, tools=guarded) as one, impatient(url) as other:
        stream = one.chat("weather")
        async for event in stream.events():
            if isinstance(event, ToolCall):
                assert event.needs_approval
                assert await other.answer(stream.stream_id, event.call_id, "snow") == "needs_approval"
                assert await other.approve(stream.stream_id, event.call_id, True) == "accepted"
            if isinstance(event, ToolUpdate) and event.state == "running":
                assert await other.answer(stream.stream_id, event.call_id, "snow") in {"taken", "already_answered"}
        assert stream.text == "I heard: rain in Oslo"


@pytest.mark.parametrize(("reason", "told"), [("not now", "not now"), ("not \ud83d now", "not \ufffd now")])
async def test_what_a_person_denies_is_told_to_the_model(server: Server, reason: str, told: str) -> None:
    guarded = [tool(needs_approval=True)(Tools().get_weather), Tools().now]
    async with impatient(f"http://{server.address}", tools=guarded, approve=lambda _: (False, reason)) as archer:
        stream = archer.chat("weather")
        assert told in await read(stream)
        ours = await messages_of(archer, stream)
    assert ours[1]["result_status"] == "denied"


async def test_what_is_steered_in_comes_in_the_next_step(server: Server) -> None:
    tools = Tools()
    steps: list[Step] = []
    async with impatient(f"http://{server.address}", tools=tools.offered) as archer:
        stream = archer.chat("both")
        await tools.both_begun.wait()
        assert await stream.steer("weather", message_id="mine") == "accepted"
        assert await stream.steer("weather", message_id="mine") == "accepted"
        tools.goes_on.set()
        steps = [event async for event in stream.events() if isinstance(event, Step)]
        ours = await messages_of(archer, stream)
        assert await stream.steer([{"type": "text", "text": "late"}]) == "already_ended"
    assert [[each.content for each in step.messages or ()] for step in steps] == [["weather"]]
    assert ours[3] == {"role": "user", "content": "weather", "message_id": "mine"}


class Reading(BaseModel):
    degrees: float
    sky: str


async def test_pictures_and_documents_are_uploaded_and_the_rest_is_json(
    start_archer: StartArcher, tmp_path: Path
) -> None:
    photo = tmp_path / "sky.png"
    photo.write_bytes(b64decode(PNG))

    def look() -> list[Any]:
        return ["The sky:", Image(photo, detail="low"), File(BytesIO(b"blue"), filename="notes.txt")]

    def measure() -> Reading:
        return Reading(degrees=4, sky="grey")

    def list_all() -> list[Any]:
        return [1, None, {"Å": "語"}]

    def nothing() -> None:
        return None

    calls = [MadeCall("look"), MadeCall("measure"), MadeCall("list_all"), MadeCall("nothing")]

    def reply(exchange: Exchange) -> Reply:
        said = OLLAMA.history(exchange.json())
        return ollama_stream("Grey.") if said else reply_of(OLLAMA.dialect, *answer(*calls))

    async with start_archer() as server:
        show = ollama_show(4096, capabilities=["completion", "tools", "vision"])
        server.ollama.responder = ollama_server(
            {"/api/chat": reply, "/api/show": show, "/api/tags": ollama_tags("llama3.2:latest")}
        )
        async with impatient(f"http://{server.address}", tools=[look, measure, list_all, nothing]) as archer:
            stream = archer.chat("Look.")
            assert await read(stream) == "Grey."
            ours = await messages_of(archer, stream)
    looked, *others = [message for message in ours if message["role"] == "tool"]
    assert [part["type"] for part in looked["parts"]] == ["text", "image", "file"]
    assert (looked["parts"][1]["detail"], looked["parts"][2]["filename"]) == ("low", "notes.txt")
    assert [message["content"] for message in others] == ['{"degrees":4.0,"sky":"grey"}', '[1,null,{"Å":"語"}]', "null"]


async def test_a_file_that_is_not_there_is_an_error_for_the_model(server: Server) -> None:
    async def get_weather(city: str) -> Image:
        return Image(f"/nowhere/{city}.png")

    async with impatient(f"http://{server.address}", tools=[get_weather, Tools().now]) as archer:
        stream = archer.chat("weather")
        assert "No such file" in await read(stream)
