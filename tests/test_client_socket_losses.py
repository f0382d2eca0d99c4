"""The Python client over bad networks: whatever breaks, the text is the provider's, or the error says what happened."""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
import websockets

from archer_ws.client import (
    Archer,
    Backoff,
    ChatStream,
    StreamForgotten,
    Unreachable,
    connect,
)
from archer_ws.core.limits import Limits
from archer_ws.core.standstill import STANDSTILL_S
from tests.conftest import Archer as Server
from tests.conftest import StartArcher
from tests.fakes.cutting_proxy import CuttingProxy, Fate, cutting_proxy
from tests.fakes.ollama_api import ollama_line, ollama_stream
from tests.fakes.scripted_server import Exchange, Reply, Step, Wait, forever, scripted_server

LIMIT_S = 60
TEXT = ["Blue", ": because\u2028", "Rayleigh ", "scatters\r\n", "short waves 語"]

pytestmark = pytest.mark.usefixtures("no_client_task_left")


async def text_of(stream: ChatStream) -> str:
    return "".join([delta async for delta in stream])


def impatient(url: str, **options: Any) -> Archer:
    """A client that connects again without waiting."""
    return connect(url, backoff=Backoff(0, 0), **options)


async def bytes_of_an_answer(server: Server) -> tuple[int, int]:
    """How many bytes go up and down for one."""
    async with cutting_proxy(server.address) as proxy:
        async with connect(proxy.url) as client:
            assert await text_of(client.chat("Why?")) == "".join(TEXT)
        return proxy.up_bytes, proxy.down_bytes


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_cut_at_any_byte_the_answer_is_whole(
    archer: Server, direction: str, request: pytest.FixtureRequest
) -> None:
    """The handshake, `initialize`, the request, its response, each event, the end: every one is cut somewhere."""
    archer.answer(ollama_stream(*TEXT))
    async with asyncio.timeout(100 * LIMIT_S):
        total = (await bytes_of_an_answer(archer))[direction == "down"]
        step = 1 if request.config.getoption("--long") else 13
        async with cutting_proxy(archer.address) as proxy:
            for count in range(0, total, step):
                proxy.fates.append(Fate(**{direction: count}))
                before = proxy.connections
                async with impatient(proxy.url) as client:
                    stream = client.chat("Why?")
                    assert await text_of(stream) == "".join(TEXT) == stream.text, count
                    assert stream.ended is not None
                    assert stream.ended.status == "completed"
                assert proxy.connections > before
            assert proxy.cuts >= total // step // 2


@pytest.mark.timeout(3600)
async def test_hundreds_of_random_drops_lose_double_and_reorder_nothing(
    archer: Server, request: pytest.FixtureRequest
) -> None:
    wanted = 10_000 if request.config.getoption("--long") else 300
    chance = random.Random(20)
    texts: dict[str, list[str]] = {}

    def pieces() -> list[str]:
        return ["".join(chance.choices("ab cé語😀\n\r\u2028", k=chance.randint(1, 40))) for _ in range(150)]

    def paced(said: list[str]) -> Iterator[Step]:
        for piece in said:
            if chance.random() < 0.5:
                pause = asyncio.Event()
                asyncio.get_running_loop().call_later(chance.random() * 0.005, pause.set)
                yield Wait(pause)
            yield ollama_line(piece, thinking="Hm" if chance.random() < 0.1 else None)

    def answer(exchange: Exchange) -> Reply:
        said = texts[exchange.json()["messages"][0]["content"]]
        return _followed_by(paced(said), ollama_stream())

    archer.answer(answer)
    async with asyncio.timeout(wanted / 5), cutting_proxy(archer.address) as proxy:
        # Some die in the handshake, most among the deltas, a few live long enough for the largest frame.
        proxy.fate = lambda: Fate(
            up=int(2 ** chance.uniform(6, 12)), down=int(2 ** chance.uniform(6, 15)) if chance.random() < 0.9 else None
        )
        rounds = 0
        async with impatient(proxy.url) as client:
            while proxy.cuts < wanted:
                rounds += 1
                asked = {f"{rounds}.{number}": pieces() for number in range(4)}
                texts.update(asked)
                streams = {name: client.chat(name) for name in asked}
                read = await asyncio.gather(*(text_of(stream) for stream in streams.values()))
                for name, text, stream in zip(asked, read, streams.values(), strict=True):
                    assert text == stream.text == "".join(asked[name])
                    assert stream.ended is not None
                    assert stream.ended.status == "completed"
    chats = [each for each in archer.ollama.exchanges if each.path == "/api/chat"]
    assert len(chats) == 4 * rounds, "a request was served twice"


def _followed_by(steps: Iterator[Step], end: Reply) -> Reply:
    def all_steps() -> Iterator[Step]:
        yield from steps
        yield from end.steps

    return Reply(all_steps(), content_type=end.content_type)


async def test_a_request_whose_answer_was_lost_is_repeated_and_served_once(archer: Server) -> None:
    more = asyncio.Event()
    archer.answer(ollama_stream("Blue", Wait(more), " sky"))
    async with asyncio.timeout(LIMIT_S), cutting_proxy(archer.address) as proxy, impatient(proxy.url) as client:
        proxy.passes.clear()
        # The request is in the proxy: nothing of it was accepted yet, as far as the client can know.
        stream, creating = client.chat("Why?"), asyncio.create_task(client.sessions.create(title="Sky"))
        proxy.passes.set()
        await archer.ollama.exchange(0)
        proxy.cut()
        assert (await creating).title == "Sky"
        more.set()
        assert await text_of(stream) == "Blue sky"
        assert len((await client.sessions.list()).items) == 1
    assert len([each for each in archer.ollama.exchanges if each.path == "/api/chat"]) == 1


async def test_a_drain_lets_the_answer_end_and_the_next_server_is_used(start_archer: StartArcher) -> None:
    more = asyncio.Event()
    changes: list[str] = []
    async with (
        asyncio.timeout(LIMIT_S),
        start_archer() as old,
        start_archer() as new,
        cutting_proxy(old.address) as proxy,
        impatient(proxy.url, on_connection=changes.append) as client,
    ):
        old.answer(ollama_stream("Blue", Wait(more), " sky"))
        new.answer(ollama_stream("Red"))
        stream, other = client.chat("Why?"), client.chat("And?")
        assert await anext(stream) == await anext(other) == "Blue"
        old.app.state.services.sockets.notify_draining(1000)
        # Cut while it drains; the server takes connections as long as it has streams.
        proxy.cut()
        more.set()
        assert await text_of(stream) == await text_of(other) == " sky"
        proxy.move_to(new.address)
        await old.app.state.services.sockets.close_all("draining", limit_s=5)
        assert await text_of(client.chat("Why?")) == "Red"
    assert changes == ["connected", "lost"] * 2 + ["connected"]


async def lost_for_now(proxy: CuttingProxy) -> None:
    """The connection is lost, and trying again is in vain until the proxy accepts one."""
    proxy.accepts = False
    proxy.cut()
    await proxy.connected(3)


async def test_a_program_that_stood_still_without_a_connection_tries_again_before_it_gives_up(archer: Server) -> None:
    limit_s = 1.0
    loop = asyncio.get_running_loop()

    def stand_still(state: str) -> None:
        if state == "lost":
            loop.call_soon(time.sleep, limit_s + STANDSTILL_S + 0.1)

    async with asyncio.timeout(LIMIT_S), cutting_proxy(archer.address) as proxy:
        pause = Backoff(0.05, 0.05)
        async with connect(proxy.url, backoff=pause, give_up_after_s=limit_s, on_connection=stand_still) as client:
            proxy.cut()
            assert (await client.sessions.create(title="Sky")).title == "Sky"


async def test_a_cancel_made_while_there_is_no_connection_arrives(archer: Server) -> None:
    archer.answer(ollama_stream("Blu", forever()))
    async with asyncio.timeout(LIMIT_S), cutting_proxy(archer.address) as proxy, impatient(proxy.url) as client:
        stream = client.chat("Why?")
        assert await anext(stream) == "Blu"
        await lost_for_now(proxy)
        cancelling = asyncio.create_task(stream.cancel())
        proxy.accepts = True
        assert await cancelling == "cancelling"
        assert await text_of(stream) == ""
        assert stream.ended is not None
        assert stream.ended.status == "cancelled"


@pytest.mark.parametrize("is_sent", [False, True])
async def test_a_request_that_was_given_up_without_a_connection_is_not_sent_on_the_next(
    archer: Server, is_sent: bool
) -> None:
    async with asyncio.timeout(LIMIT_S), cutting_proxy(archer.address) as proxy, impatient(proxy.url) as client:
        await client.sessions.create(session_id="talk")
        proxy.accepts = False
        if is_sent:
            # It is on its way when the connection breaks, and does not arrive.
            proxy.passes.clear()
            deleting = asyncio.create_task(client.sessions.delete("talk"))
            await asyncio.sleep(0)
            deleting.cancel()
            proxy.cut()
            proxy.passes.set()
        else:
            proxy.cut()
            await proxy.connected(3)
            deleting = asyncio.create_task(client.sessions.delete("talk"))
            await asyncio.sleep(0)
            deleting.cancel()
        await asyncio.gather(deleting, return_exceptions=True)
        proxy.accepts = True
        assert (await client.sessions.get("talk")).session_id == "talk"


async def test_a_cancel_that_was_given_up_without_a_connection_arrives(archer: Server) -> None:
    archer.answer(ollama_stream("Blu", forever()))
    async with asyncio.timeout(LIMIT_S), cutting_proxy(archer.address) as proxy, impatient(proxy.url) as client:
        stream = client.chat("Why?")
        assert await anext(stream) == "Blu"
        await lost_for_now(proxy)
        cancelling = asyncio.create_task(stream.cancel())
        await asyncio.sleep(0)
        cancelling.cancel()
        proxy.accepts = True
        assert await text_of(stream) == ""
        assert stream.ended is not None
        assert stream.ended.status == "cancelled"


async def test_a_connection_that_falls_silent_is_replaced(
    start_archer: StartArcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.client.link.INITIALIZE_LIMIT_S", 0.5)
    monkeypatch.setattr("archer_ws.client.link.SILENCE_SLACK_S", 0.5)
    more = asyncio.Event()
    async with (
        asyncio.timeout(LIMIT_S),
        start_archer(limits=Limits(heartbeat_s=0.01)) as archer,
        cutting_proxy(archer.address) as proxy,
        impatient(proxy.url) as client,
    ):
        archer.answer(ollama_stream("Blue", Wait(more), " sky"))
        stream = client.chat("Why?")
        assert await anext(stream) == "Blue"
        proxy.passes.clear()
        more.set()
        await proxy.connected(2)
        proxy.passes.set()
        assert await text_of(stream) == " sky"


async def test_a_server_that_is_gone_for_good_fails_all_that_waits_and_the_client_lives_on(archer: Server) -> None:
    archer.answer(ollama_stream("Blue", forever()))
    async with (
        asyncio.timeout(LIMIT_S),
        cutting_proxy(archer.address) as proxy,
        connect(proxy.url, backoff=Backoff(0.001, 0.001), give_up_after_s=1) as client,
    ):
        stream = client.chat("Why?")
        assert await anext(stream) == "Blue"
        proxy.accepts = False
        proxy.cut()
        with pytest.raises(Unreachable, match="for 1 s"):
            await anext(stream)
        assert stream.text == "Blue"
        with pytest.raises(Unreachable):
            await client.ping()
        proxy.accepts = True
        again = client.resume(stream.stream_id, after=stream.last_seq)
        await client.ping()
        await again.cancel()
        assert await text_of(again) == ""


async def test_a_restarted_server_that_knows_nothing_of_the_stream_is_told_plainly(start_archer: StartArcher) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        start_archer() as old,
        start_archer() as new,
        cutting_proxy(old.address) as proxy,
    ):
        old.answer(ollama_stream("Blue", forever()))
        async with impatient(proxy.url) as client:
            stream = client.chat("Why?")
            assert await anext(stream) == "Blue"
            proxy.move_to(new.address)
            proxy.cut()
            with pytest.raises(StreamForgotten) as caught:
                await text_of(stream)
            assert caught.value.text == "Blue"


async def test_a_server_that_can_take_no_connection_yet_is_asked_again(archer: Server) -> None:
    archer.answer(ollama_stream("Blue"))
    async with (
        asyncio.timeout(LIMIT_S),
        scripted_server(Reply(status=503)) as starting,
        cutting_proxy(starting.url.removeprefix("http://")) as proxy,
    ):

        def turn() -> Fate:
            if proxy.connections > 1:
                proxy.move_to(archer.address)
            return Fate()

        proxy.fate = turn
        async with impatient(proxy.url) as client:
            assert await text_of(client.chat("Why?")) == "Blue"


async def test_the_websockets_librarys_own_reconnecting_iterator_works_with_the_server(archer: Server) -> None:
    archer.answer(ollama_stream(*TEXT))
    seen, text, connections = 0, "", 0

    async def read(connection: websockets.ClientConnection) -> bool:
        """Whether the end has come; the first connections are cut before."""
        nonlocal seen, text
        first = {"stream_id": "mine", "messages": [{"role": "user", "content": "Why?"}]}
        again = {"stream_id": "mine", "after": seen}
        method, params = ("stream/subscribe", again) if seen else ("chat/send", first)
        await connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        while True:
            event = json.loads(await connection.recv()).get("params", {})
            if connections < 4 and text:
                connection.transport.abort()
                await connection.wait_closed()
                raise websockets.ConnectionClosedError(None, None)
            seen = event.get("seq", seen)
            text += event.get("content", "")
            if "text_bytes" in event:
                return True

    async with asyncio.timeout(LIMIT_S):
        async for connection in websockets.connect(f"ws://{archer.address}/api/v1/ws"):
            connections += 1
            try:
                if await read(connection):
                    break
            except websockets.ConnectionClosed:
                continue
        await connection.close()
    assert text == "".join(TEXT)
    assert connections == 4
