"""Batches, which are not supported: whoever sends one learns so of each request by its id, and waits for nothing."""

import asyncio
import json
from typing import Any

import pytest

from archer_ws.core.limits import BAD_MESSAGES_MAX
from archer_ws.rpc.codec import BATCH_MAX
from tests.fakes.rpc_peer import RpcPeer
from tests.test_rpc.conftest import Server

SEND = {"method": "chat/send", "params": {"stream_id": "s", "messages": [{"role": "user", "content": "hello"}]}}


def call(identity: Any, **fields: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": "ping", **fields}


def notification(**fields: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "ping", **fields}


async def answers(peer: RpcPeer, batch: list[Any]) -> list[tuple[Any, int]]:
    """The ids and codes that a batch is answered with, all of them once another request is."""
    peer.unmatched.clear()
    await peer.send(batch)
    await peer.send(call("end"))
    await peer.until(lambda: bool(peer.unmatched) and peer.unmatched[-1]["id"] == "end")
    *told, end = peer.unmatched
    assert end["result"] == {}
    return [(answer["id"], answer["error"]["code"]) for answer in told]


async def test_each_request_is_refused_under_its_id_in_one_array(server: Server) -> None:
    peer = await server.connect()
    await peer.send([call(1), call("1"), call("two", params=[])])
    await peer.until(lambda: len(peer.unmatched) == 3)
    assert [(answer["id"], answer["error"]["code"]) for answer in peer.unmatched] == [
        (1, -32600),
        ("1", -32600),
        ("two", -32600),
    ]
    for answer in peer.unmatched:
        assert answer["error"]["message"] == "batches are not supported: send one request a frame"
        assert answer["error"]["data"]["kind"] == "invalid_request"


async def test_the_answers_come_in_one_frame(server: Server) -> None:
    peer = await server.connect()
    await peer.stop()
    await peer.transport.send(json.dumps([call(1), call(2)]))
    told = json.loads(await peer.transport.recv())
    assert [each["id"] for each in told] == [1, 2]


async def test_nothing_of_a_batch_is_done(server: Server) -> None:
    peer = await server.connect()
    assert await answers(peer, [{**call(7), **SEND}, notification(**SEND)]) == [(7, -32600)]
    assert (await peer.call("stream/list"))["items"] == []
    assert not server.gateway.calls


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        ([notification()], []),
        ([notification(), notification(params=[1]), call(None)], []),
        ([call(1), notification(), call(2)], [(1, -32600), (2, -32600)]),
        ([1, call(2)], [(None, -32600), (2, -32600)]),
        ([1, "x", None, [], {}], [(None, -32600)] * 5),
        ([call(1.5), call(True), call({"a": 1})], [(None, -32600)] * 3),
        ([{"id": 4}, {"jsonrpc": "1.0", "id": 5, "method": "ping"}], [(4, -32600), (5, -32600)]),
        (
            [call(6, params=[1]), call(7, params="x"), call(8, method="nothing")],
            [(6, -32600), (7, -32600), (8, -32600)],
        ),
        ([call(1), call(1)], [(1, -32600), (None, -32600)]),
        ([call(1, params={"text": "\ud800"}), call(2)], [(1, -32600), (2, -32600)]),
        ([], [(None, -32600)]),
        ([[call(1)]], [(None, -32600)]),
        ([call(number) for number in range(BATCH_MAX)], [(number, -32600) for number in range(BATCH_MAX)]),
        ([call(number) for number in range(BATCH_MAX + 1)], [(None, -32600)]),
    ],
)
async def test_what_is_in_a_batch_decides_what_it_is_answered(
    server: Server, batch: list[Any], told: list[tuple[Any, int]]
) -> None:
    peer = await server.connect()
    assert await answers(peer, batch) == told


async def test_a_request_in_flight_is_not_answered_by_a_batch_with_its_id(server: Server) -> None:
    peer = await server.connect()
    server.models.may_answer.clear()
    await peer.send(call(1, method="provider/status"))
    await peer.send([call(1), call("1")])
    await peer.until(lambda: len(peer.unmatched) == 2)
    assert [answer["id"] for answer in peer.unmatched] == [None, "1"]
    server.models.may_answer.set()
    await peer.until(lambda: len(peer.unmatched) == 3)
    assert (peer.unmatched[-1]["id"], "result" in peer.unmatched[-1]) == (1, True)


async def test_a_batch_counts_once_among_the_frames_that_are_no_requests(server: Server) -> None:
    peer = await server.connect()
    for _ in range(BAD_MESSAGES_MAX):
        assert len(await answers(peer, [call(number) for number in range(100, 120)])) == 20
    await peer.send([call(1)])
    async with asyncio.timeout(20):
        await peer.closed.wait()


@pytest.mark.parametrize("method", ["ping", "rpc.discover", "session/list", "provider/status"])
async def test_an_empty_array_of_params_is_none(server: Server, method: str) -> None:
    peer = await server.connect()
    await peer.send(call("x", method=method, params=[]))
    await peer.until(lambda: bool(peer.unmatched))
    assert "result" in peer.unmatched[0]


async def test_params_that_are_missing_are_told_where_they_came_as_an_empty_array(server: Server) -> None:
    peer = await server.connect()
    await peer.send(call("x", method="stream/get", params=[]))
    await peer.until(lambda: bool(peer.unmatched))
    error = peer.unmatched[0]["error"]
    assert (error["code"], error["data"]["errors"][0]["path"]) == (-32602, "stream_id")
