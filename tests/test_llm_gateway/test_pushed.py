"""Chunks that are pushed in the call that received them: in order, masked, timed, and with nobody's failure lost."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar

import pytest

from archer_ws.core.exceptions import OutputTooLong, ProviderTimeout, ProviderUnavailable
from archer_ws.core.limits import PROVIDER_SLICE_BYTES
from archer_ws.core.secrets import MASK, forget, remember
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.resilience.retry import RetryPolicy, WaitPolicy, stream_with_retries
from archer_ws.llm_gateway.transport.parsing import HttpResponse, NotHttp
from archer_ws.llm_gateway.types import ChatOptions, Chunk, StreamChunk, TakeChunk
from tests.fakes.raw_http import soon
from tests.fakes.scripted_adapter import ScriptedAdapter, Step
from tests.fakes.scripted_server import Wait

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
KEY = "canary-key-0123456789"


class Idle(asyncio.Transport):
    """A transport that is only asked to pause."""

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """It has nothing to pause."""

    def resume_reading(self) -> None:
        """It has nothing to resume."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def response() -> HttpResponse:
    answer = HttpResponse(Idle(), lambda _: None)
    answer.feed(CHUNKED)
    return answer


class Taken(list[bytes]):
    """What was pushed; more is wanted."""

    def take(self, data: bytes) -> bool:
        self.append(data)
        return False


async def waiting(answer: HttpResponse) -> "asyncio.Task[bytes]":
    """A task that waits for the next bytes."""
    reading = asyncio.create_task(answer.read_some())
    await asyncio.sleep(0)
    return reading


async def test_a_small_read_is_pushed_at_once_and_wakes_nobody() -> None:
    answer, pushed = response(), Taken()
    answer.push_to(pushed.take)
    reading = await waiting(answer)

    answer.feed(chunk(b"one"))
    assert pushed == [b"one"]
    answer.feed(chunk(b"two") + chunk(b"three"))
    assert pushed == [b"one", b"twothree"]
    await asyncio.sleep(0)
    assert not reading.done()

    answer.feed(LAST_CHUNK)
    assert await soon(reading) == b""
    await answer.aclose()


async def test_an_end_that_comes_in_one_read_with_pushed_bytes_is_told() -> None:
    answer, pushed = response(), Taken()
    answer.push_to(pushed.take)
    reading = await waiting(answer)

    answer.feed(chunk(b"last") + LAST_CHUNK)

    assert pushed == [b"last"]
    assert await soon(reading) == b""
    await answer.aclose()


async def test_what_nobody_waits_for_and_large_reads_are_returned_in_order() -> None:
    answer, pushed = response(), Taken()
    answer.push_to(pushed.take)
    answer.feed(chunk(b"before"))
    assert pushed == []
    assert await soon(answer.read_some()) == b"before"

    reading = await waiting(answer)
    large = b"line\n" * PROVIDER_SLICE_BYTES
    answer.feed(chunk(large))
    answer.feed(chunk(b"behind"))
    assert pushed == []
    returned = await soon(reading)
    while len(returned) < len(large) + 6:
        returned += await soon(answer.read_some())
    assert returned == large + b"behind"

    reading = await waiting(answer)
    answer.feed(chunk(b"small again"))
    assert pushed == [b"small again"]
    await answer.aclose()
    with pytest.raises(ConnectionResetError):
        await soon(reading)


@pytest.mark.parametrize("rests", [0, 1, 3], ids=lambda rests: f"{rests} steps between")
async def test_what_is_pushed_and_what_is_returned_are_the_body_wherever_it_is_cut(rests: int) -> None:
    large = b"data: 1\n\n" * PROVIDER_SLICE_BYTES
    wire = CHUNKED + chunk(b"some ") + chunk(b"more ") + chunk(large) + chunk(b" end") + LAST_CHUNK
    ends = [*range(1, 80), *range(len(wire) - 30, len(wire))]
    for at in ends:
        answer, came = HttpResponse(Idle(), lambda _: None), Taken()
        answer.push_to(came.take)

        async def read(answer: HttpResponse = answer, came: Taken = came) -> None:
            while data := await answer.read_some():
                came.append(data)

        reading = asyncio.create_task(read())
        for piece in (wire[:at], wire[at : at + 7], wire[at + 7 :]):
            answer.feed(piece)
            for _ in range(rests):
                await asyncio.sleep(0)
        await soon(reading)
        assert b"".join(came) == b"some more " + large + b" end", at
        await answer.aclose()


async def test_a_packed_body_is_returned_and_not_pushed() -> None:
    answer, pushed = HttpResponse(Idle(), lambda _: None), Taken()
    answer.feed(CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"))
    answer.push_to(pushed.take)
    reading = await waiting(answer)

    answer.feed(chunk(gzip.compress(b"packed")) + LAST_CHUNK)

    assert await soon(reading) == b"packed"
    assert pushed == []
    await answer.aclose()


async def test_who_wants_no_more_gets_no_more() -> None:
    answer, pushed = response(), Taken()

    def take(data: bytes) -> bool:
        return not pushed.take(data)

    answer.push_to(take)
    reading = await waiting(answer)
    answer.feed(chunk(b"[DONE]"))
    answer.feed(chunk(b"more"))

    assert await soon(reading) == b""
    assert await soon(answer.read_some()) == b"more"
    assert pushed == [b"[DONE]"]
    await answer.aclose()


async def test_a_failure_of_the_decoder_is_raised_where_the_reader_waits() -> None:
    answer, tried = response(), list[bytes]()

    def take(data: bytes) -> bool:
        tried.append(data)
        raise KeyError("a defect")

    answer.push_to(take)
    reading = await waiting(answer)
    answer.feed(chunk(b"one"))
    answer.feed(chunk(b"two"))

    with pytest.raises(KeyError):
        await soon(reading)
    assert tried == [b"one"]
    await answer.aclose()


async def test_what_came_in_one_read_with_a_break_is_pushed_before_the_break_is_raised() -> None:
    answer, pushed = response(), Taken()
    answer.push_to(pushed.take)
    reading = await waiting(answer)

    answer.feed(chunk(b"some") + b"no chunk\r\n")

    assert pushed == [b"some"]
    with pytest.raises(NotHttp):
        await soon(reading)
    await answer.aclose()


async def test_nothing_is_pushed_once_the_reader_was_cancelled_also_in_the_same_step() -> None:
    answer, pushed = response(), Taken()
    answer.push_to(pushed.take)
    reading = await waiting(answer)

    reading.cancel()
    answer.feed(chunk(b"too late"))

    await asyncio.wait((reading,))
    assert reading.cancelled()
    assert pushed == []
    await answer.aclose()


async def test_what_is_pushed_runs_in_the_context_of_its_request() -> None:
    name: ContextVar[str] = ContextVar("name", default="the connection's")
    answer, seen = response(), list[str]()

    async def read() -> bytes:
        name.set("the request's")

        def take(_: bytes) -> bool:
            seen.append(name.get())
            return False

        answer.push_to(take)
        return await answer.read_some()

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    answer.feed(chunk(b"one"))
    assert seen == ["the request's"]
    answer.feed(LAST_CHUNK)
    await soon(reading)
    await answer.aclose()


class Pushing(ScriptedAdapter):
    """Also pushes what the test says, while its script waits."""

    def __init__(self, *scripts: list[Step]) -> None:
        super().__init__(*scripts)
        self.takes: list[TakeChunk] = []
        self.begun = asyncio.Event()

    async def opened(self, take: TakeChunk | None) -> AsyncIterator[StreamChunk]:
        assert take is not None
        self.takes.append(take)
        self.begun.set()
        async with aclosing(self.stream_chat([])) as chunks:
            async for each in chunks:
                yield each


@asynccontextmanager
async def told(
    adapter: Pushing, retries: int = 2, **timeouts: float
) -> AsyncIterator[tuple[list[str], asyncio.Task[None]]]:
    """What comes of the adapter's tries, pushed or not, as it comes; and the task that reads."""
    came: list[str] = []

    async def read() -> None:
        chunks = stream_with_retries(
            adapter,
            WaitPolicy(RetryPolicy(max_retries=retries), Timeouts(**timeouts)),
            ChatOptions(),
            adapter.opened,
            lambda error: error,
            on_chunk=lambda chunk: came.append(chunk.content),
        )
        async with aclosing(chunks):
            async for each in chunks:
                came.append(each.content)  # noqa: PERF401 - as it comes

    reading = asyncio.create_task(read())
    await soon(adapter.begun.wait())
    try:
        yield came, reading
    finally:
        reading.cancel()
        await asyncio.wait((reading,))


def text(content: str, finish_reason: str | None = None) -> StreamChunk:
    return StreamChunk(content=content, finish_reason=finish_reason)


def held_back(event: asyncio.Event, *steps: Step) -> list[Step]:
    """A script that waits first."""
    return [Wait(event), *steps]


async def test_after_a_pushed_text_nothing_is_tried_again() -> None:
    event, failure = asyncio.Event(), ProviderUnavailable("busy", retry_after_ms=0)
    adapter = Pushing(held_back(event, failure), ["more"])
    async with told(adapter) as (came, reading):
        adapter.takes[0](text("text"))
        event.set()
        with pytest.raises(ProviderUnavailable):
            await soon(reading)
    assert (came, adapter.tries) == (["text"], 1)


async def test_after_a_pushed_sign_of_life_it_is_tried_again_and_pushed_by_the_next_try() -> None:
    event, failure = asyncio.Event(), ProviderUnavailable("busy", retry_after_ms=0)
    second = asyncio.Event()
    adapter = Pushing(held_back(event, failure), held_back(second, " end"))
    async with told(adapter) as (came, reading):
        adapter.takes[0](text(""))
        adapter.begun.clear()
        event.set()
        await soon(adapter.begun.wait())
        await asyncio.sleep(0)
        adapter.takes[1](text("text"))
        second.set()
        await soon(reading)
    assert came == ["", "text", " end"]


async def test_pushed_text_moves_the_limit_of_silence_and_silence_behind_it_is_cut() -> None:
    adapter = Pushing(held_back(asyncio.Event()))
    async with told(adapter, retries=0, first_token_s=1.0, idle_s=1.0) as (came, reading):
        for _ in range(6):
            adapter.takes[0](text("text"))
            await asyncio.wait((reading,), timeout=0.2)
        assert not reading.done()
        with pytest.raises(ProviderTimeout, match="fell silent"):
            await soon(reading)
    assert came == ["text"] * 6
    assert adapter.closed == 1


async def test_pushed_signs_of_life_do_not_move_the_limit_of_the_first_text() -> None:
    adapter = Pushing(held_back(asyncio.Event()))
    async with told(adapter, retries=0, first_token_s=0.1) as (_, reading):
        async with asyncio.timeout(10):
            while not reading.done():
                adapter.takes[0](text(""))
                await asyncio.sleep(0.01)
        with pytest.raises(ProviderTimeout, match="sent no text"):
            await reading


async def test_a_key_that_is_split_over_pushed_and_yielded_chunks_is_masked() -> None:
    remember(KEY)
    event = asyncio.Event()
    adapter = Pushing(held_back(event, f"{KEY[8:]} again", text(" end", "stop")))
    try:
        async with told(adapter) as (came, reading):
            adapter.takes[0](text("it is "))
            adapter.takes[0](text(KEY[:8]))
            event.set()
            await soon(reading)
    finally:
        forget(KEY)
    assert "".join(came) == f"it is {MASK} again end"


async def test_what_the_log_refuses_of_a_pushed_chunk_reaches_the_one_who_pushes() -> None:
    adapter = Pushing(held_back(asyncio.Event()))

    def refuse(chunk: Chunk) -> None:
        raise OutputTooLong("full")

    chunks = stream_with_retries(
        adapter,
        WaitPolicy(RetryPolicy(), Timeouts()),
        ChatOptions(),
        adapter.opened,
        lambda error: error,
        on_chunk=refuse,
    )
    reading = asyncio.create_task(anext(chunks))
    await soon(adapter.begun.wait())
    with pytest.raises(OutputTooLong):
        adapter.takes[0](text("text"))
    reading.cancel()
    await asyncio.wait((reading,))
