"""Requests of many megabytes, as photos make them: sent in pieces, over our own connections and httpx2's."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from archer_ws.llm_gateway.transport.connection import SLICE_BYTES
from archer_ws.llm_gateway.transport.json_body import Body, in_one
from archer_ws.llm_gateway.transport.pool import StreamPool
from tests.fakes.raw_http import soon
from tests.test_llm_gateway.test_transport_contract import WHOLE, Asking, asking_by, whole

PHOTO = b"A" * (24 * SLICE_BYTES + 7)
BODY: Body = (b'{"image":"', PHOTO, b'","twice":"', memoryview(PHOTO), b'"}')


@pytest.fixture(params=["own", "httpx2"])
async def asking(request: pytest.FixtureRequest) -> AsyncIterator[Asking]:
    async with asking_by(str(request.param)) as one:
        yield one


@pytest.fixture
async def own() -> AsyncIterator[Asking]:
    async with asking_by("own") as one:
        yield one


async def test_a_large_request_arrives_whole_and_its_connection_is_kept(asking: Asking) -> None:
    sending = asyncio.create_task(asking.carrier.post(asking.url, BODY, {}))
    peer = await asking.server.next_connection()
    head, _, body = (await peer.request()).partition(b"\r\n\r\n")
    assert body == in_one(BODY)
    assert b"chunked" not in head
    peer.send(WHOLE)
    answer = await soon(sending)
    assert await soon(answer.read()) == b"some"
    await answer.aclose()
    assert await asking.exchange(peer) is peer


async def test_others_have_their_turn_while_a_large_request_is_sent(own: Asking) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(others())
    sending = asyncio.create_task(own.carrier.post(own.url, BODY, {}))
    peer = await own.server.next_connection()
    receiving = asyncio.create_task(peer.request())
    await soon(receiving)
    counting.cancel()
    assert turns > 2 * len(PHOTO) // SLICE_BYTES
    peer.send(WHOLE)
    await (await soon(sending)).aclose()


async def test_of_a_large_request_that_its_server_does_not_read_little_is_written(own: Asking) -> None:
    carrier = own.carrier
    assert isinstance(carrier, StreamPool)
    sending = asyncio.create_task(carrier.post(own.url, BODY, {}))
    peer = await own.server.next_connection()
    async with asyncio.timeout(10):
        while not any(each._written for each in carrier._open):  # noqa: ASYNC110 - no event tells that it is full
            await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    (connection,) = carrier._open
    assert connection._transport.get_write_buffer_size() < 2 * SLICE_BYTES
    await soon(peer.request())
    peer.send(WHOLE)
    await (await soon(sending)).aclose()


async def test_an_answer_that_comes_before_all_was_sent_is_the_answer(own: Asking) -> None:
    sending = asyncio.create_task(own.carrier.post(own.url, BODY, {}))
    peer = await own.server.next_connection()
    await soon(peer.reader.readuntil(b"\r\n\r\n"))
    peer.send(whole(b"too large", status="413 Content Too Large"))
    answer = await soon(sending)
    assert answer.status == 413
    assert await soon(answer.read()) == b"too large"
    await answer.aclose()
    # What was not sent would be the beginning of the next request.
    assert await own.exchange() is not peer


async def test_a_request_that_is_cancelled_while_nobody_reads_it_closes_its_connection(own: Asking) -> None:
    sending = asyncio.create_task(own.carrier.post(own.url, BODY, {}))
    peer = await own.server.next_connection()
    await soon(peer.reader.readuntil(b"\r\n\r\n"))
    sending.cancel()
    await asyncio.wait({sending}, timeout=10)
    assert sending.cancelled()
    with pytest.raises(asyncio.IncompleteReadError):
        await soon(peer.reader.readexactly(len(in_one(BODY))))


async def test_a_connection_that_is_lost_while_a_large_request_is_sent_is_told(own: Asking) -> None:
    sending = asyncio.create_task(own.carrier.post(own.url, BODY, {}))
    peer = await own.server.next_connection()
    await soon(peer.reader.readuntil(b"\r\n\r\n"))
    peer.writer.transport.abort()
    with pytest.raises(ConnectionError):
        await soon(sending)
