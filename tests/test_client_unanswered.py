"""The Python client where the connection is lost again and again before a request gets its response."""

import asyncio
from typing import Any

import pytest

from archer_ws.client import Archer, Backoff, ChatStream, ClientClosed, ClientError, Unanswered, connect
from archer_ws.client.requests import LOSSES_MAX, Losses, Request, Requests
from tests.conftest import Archer as Server
from tests.fakes.cutting_proxy import cutting_proxy
from tests.fakes.deadly_server import Blocking, Deadly, Losing, sent
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.scripted_archer import Scripted, listening
from tests.fakes.waiting_server import STARTED, calling, ending, resulting, saying, stepping, waiting_server

LIMIT_S = 60

pytestmark = pytest.mark.usefixtures("no_client_task_left")


async def text_of(stream: ChatStream) -> str:
    return "".join([delta async for delta in stream])


def impatient(url: str, **options: Any) -> Archer:
    """A client that connects again almost without waiting, and gives up soon: later than a busy machine is late."""
    return connect(url, backoff=Backoff(0.02, 0.02), give_up_after_s=3, **options)


async def test_a_request_that_breaks_every_connection_fails_at_last() -> None:
    scripted = Scripted(Deadly("session/delete_all"))
    async with asyncio.timeout(LIMIT_S), listening(scripted) as url, impatient(url) as client:
        with pytest.raises(Unanswered, match=r"lost \d+ times before the response to session/delete_all came"):
            await client.sessions.delete_all(confirm=True)
        await client.ping()
    assert sent(scripted, "session/delete_all") >= LOSSES_MAX


async def test_a_request_that_breaks_every_connection_holds_up_no_other() -> None:
    scripted = Scripted(Deadly("session/delete_all"))
    async with asyncio.timeout(LIMIT_S), listening(scripted) as url, connect(url, backoff=Backoff(0, 0)) as client:
        # It is the first, so that the others have no response when the connection breaks, either.
        deleting = asyncio.create_task(client.sessions.delete_all(confirm=True))
        others = [asyncio.create_task(client.sessions.create(session_id=f"s{number}")) for number in range(4)]
        await asyncio.sleep(0)
        streams = [client.chat("Why?") for _ in range(3)]
        assert [(await other).session_id for other in others] == ["s0", "s1", "s2", "s3"]
        assert [await text_of(stream) for stream in streams] == ["Blue"] * 3
        for _ in range(3):
            await client.ping()
        assert not deleting.done()
        deleting.cancel()
        await asyncio.gather(deleting, return_exceptions=True)


async def test_losses_before_and_after_a_response_do_not_add_up() -> None:
    losing = Losing()
    async with asyncio.timeout(LIMIT_S), listening(Scripted(losing)) as url, impatient(url) as client:
        assert await text_of(client.chat("Why?")) == "Blue"
    assert losing.subscriptions == 2 * LOSSES_MAX


def test_losses_before_a_response_do_not_count_after_it_however_long_they_take() -> None:
    requests, losses, errors = Requests(), Losses(), list[ClientError]()
    seconds = identities = 0

    def subscribe() -> None:
        nonlocal identities
        identities += 1
        requests.put(Request("stream/subscribe", {}, lambda _: None, errors.append, losses=losses))
        assert requests.next_frame() is not None

    def lose() -> None:
        nonlocal seconds
        seconds += 100
        requests.take_back(seconds, give_up_after_s=1)
        requests.fail(ClientClosed("only the losses are kept"))

    for _ in range(2):
        for _ in range(LOSSES_MAX - 1):
            subscribe()
            lose()
        subscribe()
        requests.resolve(identities, {})
    assert {type(error) for error in errors} == {ClientClosed}
    for _ in range(LOSSES_MAX):
        subscribe()
        lose()
    assert type(errors[-1]) is Unanswered


async def test_a_chat_that_breaks_every_connection_fails_if_the_server_has_no_such_stream() -> None:
    scripted = Scripted(Deadly("chat/send", forgets=True))
    async with asyncio.timeout(LIMIT_S), listening(scripted) as url, impatient(url) as client:
        stream = client.chat("Why?")
        with pytest.raises(Unanswered, match="chat/send"):
            await text_of(stream)
        assert not stream.is_accepted
        await client.ping()
    assert sent(scripted, "chat/send") >= LOSSES_MAX
    assert sent(scripted, "stream/subscribe") == 1


@pytest.mark.parametrize("is_left", [False, True], ids=["cancelled", "left"])
async def test_a_chat_that_is_cancelled_while_its_request_waits_behind_another_does_not_begin(is_left: bool) -> None:
    blocking = Blocking()
    scripted = Scripted(blocking)
    async with asyncio.timeout(LIMIT_S), listening(scripted) as url, impatient(url) as client:
        deleting = asyncio.create_task(client.sessions.delete_all(confirm=True))
        await asyncio.sleep(0)
        async with client.chat("Why?") as stream:
            await blocking.chat_waits.wait()
            if not is_left:
                assert await stream.cancel() == "cancelling"
        await deleting
        await client.ping()
        assert await text_of(stream) == ""
        assert stream.ended is not None
        assert (stream.ended.status, stream.ended.reason) == ("cancelled", "client")
    assert sent(scripted, "chat/send") == 2


@pytest.mark.parametrize("postponements", [0, 2])
async def test_a_chat_that_has_begun_is_read_though_its_request_never_got_a_response(postponements: int) -> None:
    deadly = Deadly("chat/send")
    deadly.postponements = postponements
    async with asyncio.timeout(LIMIT_S), listening(Scripted(deadly)) as url, impatient(url) as client:
        stream = client.chat("Why?")
        assert await text_of(stream) == "Blue"
        assert stream.is_accepted


async def test_a_stream_that_cannot_be_requested_again_fails_with_its_text_and_can_be_resumed() -> None:
    scripted = Scripted(Deadly("stream/subscribe", cuts=True))
    async with asyncio.timeout(LIMIT_S), listening(scripted) as url, impatient(url) as client:
        stream = client.chat("Why?")
        with pytest.raises(Unanswered, match="stream/subscribe"):
            await text_of(stream)
        assert (stream.text, stream.last_seq) == ("Bl", 1)
        await client.ping()
        assert sent(scripted, "stream/subscribe") >= LOSSES_MAX
        with pytest.raises(Unanswered):
            await text_of(client.resume(stream.stream_id, after=stream.last_seq))


@pytest.mark.parametrize("method", ["session/watch", "session/list"])
async def test_a_watch_that_breaks_every_connection_fails_and_is_not_made_again(method: str) -> None:
    scripted = Scripted(Deadly(method))
    async with asyncio.timeout(LIMIT_S), listening(scripted) as url, impatient(url) as client:
        watch = client.sessions.watch()
        with pytest.raises(Unanswered, match=method):
            await anext(watch)
        times = sent(scripted, method)
        connections = sent(scripted, "initialize")
        await client.ping()
        assert sent(scripted, "initialize") > connections
        assert sent(scripted, method) == times >= LOSSES_MAX
        await watch.aclose()


async def test_a_tool_result_that_breaks_every_connection_is_replaced_by_an_error() -> None:
    async with asyncio.timeout(LIMIT_S), waiting_server([STARTED, calling("c1", "read")]) as server:
        breaks = 0

        def break_off(method: str, params: dict[str, Any]) -> None:
            nonlocal breaks
            if method == "tool/result" and params["status"] == "ok":
                breaks += 1
                raise ConnectionError("the server closes with 1011")

        def read() -> str:
            return "a text that a proxy lets nobody send"

        server.on_request = break_off
        async with impatient(server.url, tools=[read]) as client:
            stream = client.chat("What does it say?")
            told = await server.hears("tool/result")
            assert (told["status"], breaks >= LOSSES_MAX) == ("error", True)
            assert "the connection was lost" in told["content"]
            await server.say(resulting("c1", told["content"], "error"), stepping(), saying("I see."), ending(steps=2))
            assert await text_of(stream) == "I see."


async def test_what_was_requested_before_a_chat_without_a_connection_is_sent_before_it(archer: Server) -> None:
    archer.answer(ollama_stream("Blue"))
    async with (
        asyncio.timeout(LIMIT_S),
        cutting_proxy(archer.address) as proxy,
        connect(proxy.url, backoff=Backoff(0, 0)) as client,
    ):
        proxy.accepts = False
        proxy.cut()
        await proxy.connected(3)
        creating = asyncio.create_task(client.sessions.create(session_id="talk"))
        await asyncio.sleep(0)
        stream = client.chat("Why?", session_id="talk")
        proxy.accepts = True
        assert await text_of(stream) == "Blue"
        await creating
