"""Servers that stop, or are killed, while their streams wait for the results of calls: the next ones go on, and whoever
reads comes back by itself."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from archer_ws.client import Archer, Backoff, ChatStream, connect
from tests.fakes.pictures import PNG, image, text
from tests.fakes.rpc_peer import RpcPeer, SocketTransport
from tests.fakes.scripted_server import scripted_server
from tests.fakes.sse_reader import read_events
from tests.fakes.thinking_anthropic import DONE, STEPS, ThinkingAnthropic
from tests.looping_servers import make_session, until
from tests.lost_servers import LIMIT_S, port_of
from tests.processes import Server, server

TOOLS = [{"name": "get_weather", "parameters": {"type": "object", "properties": {}}, "needs_approval": True}]
ID = "the-stream"


class Loop:
    """A conversation with a model that thinks and calls, and must see its thoughts again."""

    def __init__(self, folder: Path, claude: str) -> None:
        self.folder = folder
        self._claude = claude

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[Server]:
        async with server(
            lambda _: pytest.fail("Ollama was asked"),
            *("--port", str(port)),
            cwd=self.folder,
            ARCHER_DATA_DIR=str(self.folder / "kept"),
            ARCHER_ANTHROPIC_BASE_URL=self._claude,
            ARCHER_ANTHROPIC_API_KEY="sk-ant-test",
        ) as running:
            yield running


@pytest.fixture
def claude() -> ThinkingAnthropic:
    return ThinkingAnthropic()


@pytest.fixture
async def loop(tmp_path: Path, claude: ThinkingAnthropic) -> AsyncIterator[Loop]:
    async with asyncio.timeout(LIMIT_S * 2), scripted_server(responder=claude) as running:
        yield Loop(tmp_path, running.url)


class Events:
    """A reader of server-sent events, who comes back with the last one's id as browsers do."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.last_id = ""
        self.responses = 0

    async def read(self) -> None:
        """To the end."""
        async with httpx.AsyncClient(base_url=self._url, trust_env=False, timeout=LIMIT_S) as http:
            while not self.seen or self.seen[-1][0] != "ended":
                try:
                    await self._read(http)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)

    async def _read(self, http: httpx.AsyncClient) -> None:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        async with http.stream("GET", f"/api/v1/streams/{ID}/events", headers=headers) as response:
            if response.status_code != 200:
                await asyncio.sleep(0.05)
                return
            self.responses += 1
            async for event in read_events(response):
                if event.id is not None:
                    assert int(event.id) > int(self.last_id or 0)
                    self.last_id = event.id
                    self.seen.append((event.event or "", event.json))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.seen]


async def read(stream: ChatStream) -> str:
    return "".join([said async for said in stream])


async def open_calls(running: Server) -> list[str]:
    info = (await running.http.get(f"/api/v1/streams/{ID}", params={"messages": True})).json()
    calls = [call["call_id"] for message in info["messages"] for call in message.get("tool_calls", ())]
    answered = {message["call_id"] for message in info["messages"] if message["role"] == "tool"}
    return [call for call in calls if call not in answered]


async def say(running: Server, call_id: str, what: str, said: dict[str, Any]) -> str:
    answer = await running.http.post(f"/api/v1/streams/{ID}/tool_calls/{call_id}/{what}", json=said)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["outcome"])


async def waiting(running: Server, step: int) -> list[str]:
    """The open calls, once the stream waits in that step."""
    while True:
        calls = await open_calls(running)
        if len(calls) == 2 and (await status(running)) == "waiting":
            messages = (await running.http.get(f"/api/v1/streams/{ID}", params={"messages": True})).json()["messages"]
            if sum(message["role"] == "assistant" for message in messages) == step:
                return calls
        await asyncio.sleep(0.02)


async def status(running: Server) -> str:
    info = (await running.http.get(f"/api/v1/streams/{ID}")).json()
    assert info["status"] in {"queued", "running", "waiting"}, info
    return str(info["status"])


async def peer_of(running: Server) -> RpcPeer:
    url = running.url.replace("http", "ws") + "/api/v1/ws"
    connection = await websockets.connect(url, subprotocols=[websockets.Subprotocol("archer.v1")])
    return RpcPeer(SocketTransport(connection), is_recorded=False)


async def stopped(running: Server, how: signal.Signals) -> None:
    running.program.send_signal(how)
    assert await running.program.ended() == (0 if how is signal.SIGTERM else -how)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_a_server_that_goes_twice_in_a_loop_costs_neither_readers_nor_the_model_anything(
    loop: Loop, claude: ThinkingAnthropic, how: signal.Signals
) -> None:
    async with loop.serving() as first:
        await make_session(first.url, "s")
        archer = await connect(first.url, backoff=Backoff(first_s=0.05, cap_s=0.2)).__aenter__()
        stream = archer.chat(
            "Where is it warmer?",
            model="anthropic/claude-fable-5-1",
            session_id="s",
            stream_id=ID,
            tools=TOOLS,
            on_tool_call="wait",
        )
        reading = asyncio.create_task(read(stream))
        calls = await waiting(first, step=1)
        events = Events(first.url)
        following = asyncio.create_task(events.read())
        peer = await peer_of(first)
        await peer.call("initialize", protocol_version=1)
        await peer.call("stream/subscribe", stream_id=ID, after=0)
        assert await say(first, calls[0], "approval", {"approved": True}) == "accepted"
        picture = {"content": [text("as the picture shows"), image()]}
        assert await say(first, calls[0], "result", picture) == "accepted"
        await stopped(first, how)
        await peer.closed.wait()
        assert peer.transport.close_code == (4000 if how is signal.SIGTERM else 1006)  # type: ignore[attr-defined]
        await peer.stop()

    async with loop.serving(port_of(first)) as second:
        assert await status(second) == "waiting"
        assert await open_calls(second) == [calls[1]]
        assert await say(second, calls[0], "result", {"content": "again"}) == "already_answered"
        assert await say(second, calls[1], "result", {"content": "25 degrees"}) == "needs_approval"
        assert await say(second, calls[1], "approval", {"approved": False, "reason": "not there"}) == "accepted"
        calls = await waiting(second, step=2)
        await stopped(second, how)

    async with loop.serving(port_of(first)) as third:
        for call_id in calls:
            assert await say(third, call_id, "approval", {"approved": True}) == "accepted"
        for call_id in reversed(calls):
            assert await say(third, call_id, "result", {"content": f"for {call_id}"}) == "accepted"
        await reading
        await following
        await assert_whole(third, archer, stream, events)
        await archer.__aexit__(None, None, None)
    assert claude.refusals == []
    assert len(claude.requests) == STEPS
    for request in range(1, STEPS):
        assert claude.thoughts_in(request) == ["thinking", "redacted_thinking", "thinking"] * request
    shown = str(claude.requests[1]["messages"][-1]["content"])
    assert PNG in shown
    assert "not there" in shown


async def assert_whole(running: Server, archer: Archer, stream: ChatStream, events: Events) -> None:
    """All who read have the same, which is what the session has; and every number came once."""
    assert (stream.text, stream.status, stream.steps) == (DONE, "completed", STEPS)
    session = (await running.http.get("/api/v1/sessions/s")).json()
    roles = [message["role"] for message in session["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "tool", "tool", "assistant"]
    assert [message.content for message in stream.messages] == [
        message["content"] for message in session["messages"][1:]
    ]
    controls = [kind for kind in events.kinds if kind not in {"delta", "message", ""}]
    assert controls.count("tool_call") == 4
    assert controls.count("tool_result") == 4
    assert controls.count("step") == 2
    ended = events.seen[-1][1]
    assert ended["message_ids"] == [message["message_id"] for message in session["messages"]]
    assert ended["usage"]["total_tokens"] == STEPS * sum_of_one(ended)
    assert events.responses >= 3
    assert "error" not in ended


def sum_of_one(ended: dict[str, Any]) -> int:
    """What one step costs, which all cost alike."""
    total = int(ended["usage"]["total_tokens"])
    assert total % STEPS == 0
    return total // STEPS


async def test_without_a_store_a_stream_that_waits_ends_at_once_and_one_that_runs_has_its_time(
    loop: Loop,
) -> None:
    async with loop.serving() as running:
        asked = {
            "stream_id": ID,
            "messages": [{"role": "user", "content": "?"}],
            "model": "anthropic/claude-fable-5-1",
            "tools": [{**TOOLS[0], "needs_approval": False}],
            "on_tool_call": "wait",
        }
        peer = await peer_of(running)
        await peer.call("initialize", protocol_version=1)
        await peer.call("chat/send", **asked)
        await until(lambda: len(peer.streams[ID].calls) == 2)
        claim = {"stream_id": ID, "call_id": peer.streams[ID].calls[0]["call_id"], "claim": "mine"}
        assert (await peer.call("tool/claim", **claim))["outcome"] == "claimed"
        running.program.send_signal(signal.SIGTERM)
        await until(lambda: bool(peer.others))
        assert peer.others[0]["method"] == "server/draining"
        assert peer.streams[ID].ended is None, "somebody runs a call"
        assert (await peer.call("tool/result", **claim, content="4 degrees"))["outcome"] == "accepted"
        seen = await peer.ended(ID)
        assert seen.ended is not None
        assert (seen.ended["status"], seen.ended["reason"]) == ("cancelled", "draining")
        assert await running.program.ended() == 0
        await peer.stop()
