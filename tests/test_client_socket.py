"""The Python client against the real server: what it promises while all goes well, and how it ends."""

import asyncio

import pytest

from archer_ws.client import (
    Backoff,
    ChatStream,
    ClientError,
    Delta,
    Ended,
    Refused,
    Started,
    StreamFailed,
    StreamForgotten,
    StreamIncomplete,
    connect,
)
from tests.conftest import Archer as Server
from tests.conftest import StartArcher
from tests.fakes.ollama_api import ollama_error_line, ollama_line, ollama_stream
from tests.fakes.scripted_server import Exchange, Reply, Wait, forever

LIMIT_S = 20

pytestmark = pytest.mark.usefixtures("no_client_task_left")


async def text_of(stream: ChatStream) -> str:
    return "".join([delta async for delta in stream])


async def test_an_answer_is_iterated_as_it_comes(archer: Server) -> None:
    more = asyncio.Event()
    archer.answer(ollama_stream("Blue", Wait(more), " sky", "."))
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        stream = client.chat("Why?", temperature=0.5)
        assert await anext(stream) == "Blue"
        more.set()
        assert await text_of(stream) == " sky."
        assert stream.text == "Blue sky."
        assert stream.ended is not None
        assert stream.ended.usage is not None
        assert (stream.ended.status, stream.ended.finish_reason) == ("completed", "stop")
        assert stream.ended.usage.completion_tokens == 3
        assert await text_of(stream) == ""


async def test_events_are_typed_and_in_order(archer: Server) -> None:
    archer.answer(ollama_stream(ollama_line("", thinking="Hm"), "Blue"))
    async with asyncio.timeout(LIMIT_S), connect(f"ws://{archer.address}/api/v1/ws") as client:
        messages = [{"role": "user", "content": "Why?"}]
        events = [event async for event in client.chat(messages, model="ollama/llama3.2").events()]
    started, *texts, ended = events
    assert isinstance(started, Started)
    assert (started.provider, started.model, started.seq) == ("ollama", "llama3.2", 1)
    assert texts == [Delta(reasoning="Hm"), Delta(content="Blue")]
    assert isinstance(ended, Ended)


@pytest.mark.parametrize(
    ("reply", "error", "kind"),
    [
        (ollama_stream("Blu", ollama_error_line("out of memory"), end=False), StreamFailed, "provider_error"),
        (ollama_stream("Blu", end=False), StreamIncomplete, "upstream_truncated"),
    ],
)
async def test_a_bad_end_is_raised_with_the_text_so_far(
    archer: Server, reply: Reply, error: type[StreamFailed | StreamIncomplete], kind: str
) -> None:
    archer.answer(reply)
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        stream = client.chat("Why?")
        with pytest.raises(error) as caught:
            await text_of(stream)
    assert caught.value.info is not None
    assert (caught.value.text, caught.value.info.kind, caught.value.stream_id) == ("Blu", kind, stream.stream_id)


async def test_a_refused_request_is_raised_where_it_is_read_and_harms_no_other(archer: Server) -> None:
    archer.answer(ollama_stream("Blue"))
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        bad, lone = client.chat("Why?", temperature=7), client.chat("\ud800")
        too_large, good = client.chat("x" * 2**20), client.chat("Why?")
        for refused in (bad, lone):
            with pytest.raises(Refused) as caught:
                await text_of(refused)
            assert caught.value.kind == "invalid_params"
        with pytest.raises(ClientError, match="the server's limit is 1048576"):
            await text_of(too_large)
        assert await text_of(good) == "Blue"


async def test_cancel_ends_the_answer_and_keeps_what_came(archer: Server) -> None:
    archer.answer(ollama_stream("Blu", forever()))
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        stream = client.chat("Why?")
        assert await anext(stream) == "Blu"
        assert await stream.cancel() == "cancelling"
        assert await text_of(stream) == ""
        assert stream.ended is not None
        assert (stream.ended.status, stream.ended.reason, stream.text) == ("cancelled", "client", "Blu")
        assert await stream.cancel() == "already_ended"


async def test_a_cancel_right_behind_the_request_finds_it(archer: Server) -> None:
    archer.answer(ollama_stream("Blu", forever()))
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        stream = client.chat("Why?")
        assert await stream.cancel() == "cancelling"
        assert await text_of(stream) == stream.text


async def test_leaving_an_answers_block_early_cancels_it(archer: Server) -> None:
    archer.answer(ollama_stream("Blu", forever()))
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        async with client.chat("Why?") as stream:
            async for _ in stream:
                break
        await (await _chat(archer)).client_left.wait()
        assert await text_of(stream) == ""


async def test_a_cancelled_task_cancels_the_answer_in_whose_block_it_is(archer: Server) -> None:
    archer.answer(ollama_stream("Blu", forever()))
    began = asyncio.Event()

    async def read() -> None:
        async with connect(f"http://{archer.address}") as client, client.chat("Why?") as stream:
            async for _ in stream:
                began.set()

    async with asyncio.timeout(LIMIT_S):
        reading = asyncio.create_task(read())
        await began.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await (await _chat(archer)).client_left.wait()


async def test_leaving_the_loop_alone_lets_the_answer_go_on(archer: Server) -> None:
    more = asyncio.Event()
    archer.answer(ollama_stream("Blu", Wait(more), "e sky"))
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        stream = client.chat("Why?")
        async for _ in stream:
            break
        more.set()
        assert await text_of(stream) == "e sky"


async def test_closing_the_client_leaves_the_answer_to_be_resumed_by_another(archer: Server) -> None:
    more = asyncio.Event()
    archer.answer(ollama_stream("Blu", Wait(more), "e sky"))
    async with asyncio.timeout(LIMIT_S):
        async with connect(f"http://{archer.address}") as client:
            stream = client.chat("Why?")
            assert await anext(stream) == "Blu"
        with pytest.raises(ClientError, match="is closed"):
            await text_of(stream)
        more.set()
        async with connect(f"http://{archer.address}") as other:
            assert await text_of(other.resume(stream.stream_id, after=stream.last_seq)) == "e sky"
            assert await text_of(other.resume(stream.stream_id)) == "Blue sky"
            assert [each.stream_id for each in await other.streams()] == [stream.stream_id]


async def test_a_stream_that_the_server_does_not_know_is_told_to_be_forgotten(archer: Server) -> None:
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        with pytest.raises(StreamForgotten):
            await text_of(client.resume("unknown"))


async def test_the_same_id_is_the_same_answer_and_open_once(archer: Server) -> None:
    archer.answer(ollama_stream("Blue"))
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        first = client.chat("Why?", stream_id="mine")
        with pytest.raises(ValueError, match="open already"):
            client.chat("Why?", stream_id="mine")
        assert await text_of(first) == "Blue"
        assert await text_of(client.chat("Why?", stream_id="mine")) == "Blue"
    assert len([each for each in archer.ollama.exchanges if each.path == "/api/chat"]) == 1


async def test_a_reader_that_does_not_read_holds_up_nobody_and_costs_its_text_alone(archer: Server) -> None:
    pieces = ["0123456789abcdef" * 64] * 512  # half a MiB
    archer.answer(ollama_stream(*pieces))
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        idle = [client.chat("Why?") for _ in range(4)]
        assert await text_of(client.chat("Why?")) == "".join(pieces)
        for stream in idle:
            while stream.ended is None:
                await client.ping()
            assert len(stream._unread) <= 3  # started, text, ended: adjacent pieces are merged
            events = [event async for event in stream.events()]
            assert [type(event) for event in events] == [Started, Delta, Ended]
            assert stream.text == "".join(pieces)


async def test_sessions_models_and_ping(archer: Server) -> None:
    archer.answer(ollama_stream("Blue"))
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        await client.ping()
        assert "llama3.2:latest" in [each.id for each in (await client.models("ollama")).items]
        session = await client.sessions.create(title="Sky")
        assert (await client.sessions.create(session_id=session.session_id)).title == "Sky"
        assert await text_of(client.chat("Why?", session_id=session.session_id)) == "Blue"
        assert [each.content for each in (await client.sessions.get(session.session_id)).messages] == ["Why?", "Blue"]
        assert [each.session_id for each in (await client.sessions.list(limit=5)).items] == [session.session_id]
        await client.sessions.delete(session.session_id)
        with pytest.raises(Refused) as caught:
            await client.sessions.get(session.session_id)
        assert caught.value.kind == "session_not_found"
        with pytest.raises(Refused):
            await client.sessions.delete(session.session_id)


async def test_more_requests_than_the_server_takes_at_once_wait_their_turn(archer: Server) -> None:
    async with asyncio.timeout(LIMIT_S), connect(f"http://{archer.address}") as client:
        made = await asyncio.gather(*(client.sessions.create() for _ in range(300)))
    assert len({each.session_id for each in made}) == 300


async def test_the_token_is_told_within_the_connection(start_archer: StartArcher) -> None:
    async with asyncio.timeout(LIMIT_S), start_archer(auth_token="s3cret") as server:
        server.answer(ollama_stream("Blue"))
        async with connect(f"http://{server.address}", token="s3cret") as client:
            assert await text_of(client.chat("Why?")) == "Blue"
        with pytest.raises(Refused) as caught:
            async with connect(f"http://{server.address}", token="wr0ng", backoff=Backoff(0, 0)):
                pass
        assert caught.value.kind == "unauthenticated"
        assert "wr0ng" not in str(caught.value)
        async with connect(f"http://{server.address}") as client:
            with pytest.raises(Refused) as caught:
                await text_of(client.chat("Why?"))
            assert caught.value.kind == "not_initialized"


async def test_a_token_that_cannot_be_sent_is_not_shown() -> None:
    with pytest.raises(ClientError, match="token") as caught:
        connect("http://localhost", token="s3cret" * 1000)
    assert "s3cret" not in str(caught.value)


async def _chat(archer: Server) -> Exchange:
    return next(each for each in archer.ollama.exchanges if each.path == "/api/chat")
