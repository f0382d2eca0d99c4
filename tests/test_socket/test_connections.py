"""How many connections and sockets there may be, and who goes first when there are more."""

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import websockets

from archer_ws.api.security.seats import LAST_DESCRIPTORS, Seat, Seats
from archer_ws.core.limits import CONNECTIONS_MAX, RESERVED_DESCRIPTORS
from tests.fakes.raw_websocket import TEXT, raw_websocket, request
from tests.fakes.rpc_peer import RpcError
from tests.test_socket.conftest import Socketed, StartSocketed, assert_quiet, lines, until
from tests.test_socket.test_http_abuse import HOST, TOKEN, connected

LIMIT_S = 30
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


class Transport:
    """What a seat needs of one: it has a descriptor, and can be aborted."""

    def __init__(self, descriptor: int = 3) -> None:
        self.descriptor = descriptor
        self.is_cut = False

    def get_extra_info(self, _name: str) -> "Transport":
        return self

    def fileno(self) -> int:
        return self.descriptor

    def abort(self) -> None:
        self.is_cut = True


def take(seats: Seats, transport: Transport | None = None) -> tuple[Seat | None, Transport]:
    transport = transport or Transport()
    return seats.take(transport, "127.0.0.1"), transport  # type: ignore[arg-type]  # all that is used


def few_places(archer: Socketed, descriptors: int) -> None:
    """From now on the server has as many places as one with so few descriptors."""
    archer.server.seats.resize(descriptors)


def test_there_are_fewer_connections_than_descriptors() -> None:
    assert Seats(20_000).most == 20_000 - RESERVED_DESCRIPTORS
    assert Seats(1024).most == 768
    assert Seats(10**6).most == Seats(None).most == CONNECTIONS_MAX


def test_one_guest_too_many_costs_the_oldest_its_place_and_never_one_who_is_known() -> None:
    seats = Seats(16)  # 12 places, 6 of them for guests
    known = [take(seats) for _ in range(3)]
    for seat, _ in known:
        assert seat is not None
        seat.vouch()
    guests = [take(seats)[1] for _ in range(8)]
    assert [guest.is_cut for guest in guests] == [True, True, *[False] * 6]
    assert not any(transport.is_cut for _, transport in known)
    assert len(seats) == 9


def test_where_all_places_are_taken_by_known_ones_nobody_gets_in_until_one_leaves() -> None:
    seats = Seats(16)
    known = []
    for _ in range(12):
        seat, _ = take(seats)
        assert seat is not None
        seat.vouch()
        known.append(seat)
    assert take(seats)[0] is None
    known[0].leave()
    assert take(seats)[0] is not None


def test_a_guest_that_was_cut_takes_no_place_by_vouching_late() -> None:
    seats = Seats(4)  # 3 places, 1 for a guest
    first, _ = take(seats)
    take(seats)
    assert first is not None
    first.vouch()
    first.leave()
    assert len(seats) == 1


def test_the_last_descriptors_make_one_line(caplog: pytest.LogCaptureFixture) -> None:
    seats = Seats(100)
    take(seats, Transport(100 - LAST_DESCRIPTORS - 1))
    assert not lines(caplog, "descriptors_run_out")
    for _ in range(5):
        take(seats, Transport(100 - LAST_DESCRIPTORS))
    assert len(lines(caplog, "descriptors_run_out")) == 1


async def test_connections_that_show_nothing_never_keep_out_who_shows_a_token(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer, AsyncExitStack() as idle:
        few_places(archer, 16)
        async with archer.peer(additional_headers=AUTHORIZED) as peer:
            for number in range(30):
                opened = await idle.enter_async_context(connected(archer))
                if number % 2:
                    await opened.send(b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n")
            async with httpx.AsyncClient(base_url=f"http://{archer.address}", trust_env=False) as http:
                assert (await http.get("/api/v1/streams", headers=AUTHORIZED)).status_code == 200
                assert len(archer.server.server_state.connections) <= 12
                # Who was let in stays, whatever comes.
                for _ in range(10):
                    await idle.enter_async_context(connected(archer))
                assert (await http.get("/api/v1/streams", headers=AUTHORIZED)).status_code == 200
            assert await peer.call("ping") == {}
    assert len(lines(caplog, "guest_connection_cut")) == 1
    assert_quiet(caplog)


async def test_where_no_place_is_left_who_comes_is_answered_503(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, AsyncExitStack() as others:
        few_places(archer, 4)
        for _ in range(3):
            await others.enter_async_context(archer.peer())
        async with connected(archer) as client:
            assert (await client.head()).startswith(b"HTTP/1.1 503 ")
            assert b"as many connections as it may" in await client.rest()
    assert len(lines(caplog, "connections_full")) == 1


async def test_a_socket_takes_its_connections_place_and_frees_it(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer:
        seats = archer.server.seats
        await until(lambda: len(seats) == 0)
        async with archer.peer() as peer:
            assert [seat.is_guest for seat in seats._guests] == [True]
            await peer.call("initialize", protocol_version=1, token=TOKEN)
            assert [seat.is_guest for seat in seats._others] == [False]
            assert not seats._guests
        await until(lambda: len(seats) == 0)


async def test_a_connection_that_was_only_refused_is_closed_and_one_that_was_let_in_is_kept(
    start_socketed: StartSocketed,
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer:
        refused = b"GET /api/v1/streams HTTP/1.1\r\n" + HOST
        for fields in (b"", b"Authorization: Bearer wrong\r\n", b"Origin: https://evil.example\r\n"):
            async with connected(archer) as client:
                await client.send(refused + fields + b"\r\n")
                assert b"connection: close" in (await client.head()).lower()
                await client.rest()
        async with connected(archer) as client:
            for fields, status in ((f"Authorization: Bearer {TOKEN}\r\n".encode(), b"200"), (b"", b"401")):
                await client.send(refused + fields + b"\r\n")
                head = await client.answer()
                assert head[9:12] == status
                assert b"connection: close" not in head.lower()


async def closing(archer: Socketed, **options: Any) -> tuple[int | None, str | None]:
    """The code and the reason of a socket that is accepted and then closed."""
    async with websockets.connect(archer.url, proxy=None, **options) as client:
        await client.wait_closed()
        return client.close_code, client.close_reason


async def test_one_socket_too_many_of_a_principal_is_closed_4505_and_told_why(start_socketed: StartSocketed) -> None:
    settings = {"auth_tokens": {"alice": "token-a", "bob": "token-b"}, "max_sockets_per_principal": 2}
    alice, bob = ({"Authorization": f"Bearer token-{who}"} for who in "ab")
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed(**settings) as archer,
        archer.peer(additional_headers=alice),
        archer.peer(additional_headers=alice) as second,
    ):
        code, reason = await closing(archer, additional_headers=alice)
        assert code == 4505
        assert reason is not None
        assert reason.startswith("connection_limit: 2 sockets of yours are open")
        assert "ARCHER_MAX_SOCKETS_PER_PRINCIPAL" in reason
        # Over a message as well, which is answered first.
        async with archer.peer() as late:
            with pytest.raises(RpcError) as refused:
                await late.call("initialize", protocol_version=1, token="token-a")
            assert refused.value.kind == "overloaded"
            await late.closed.wait()
            assert late.transport.close_code == 4505  # type: ignore[attr-defined]  # a socket's
        async with archer.peer(additional_headers=bob) as other:
            assert await other.call("ping") == {}
        await second.close()
        await until(lambda: archer.app.state.services.sockets.count == 1)
        async with archer.peer(additional_headers=alice) as again:
            assert await again.call("ping") == {}


@pytest.mark.parametrize("who", ["a", "b"])
async def test_a_socket_whose_handshake_and_initialize_both_have_a_token_counts_once(
    start_socketed: StartSocketed, who: str
) -> None:
    settings = {"auth_tokens": {"alice": "token-a", "bob": "token-b"}, "max_sockets_per_principal": 2}
    async with asyncio.timeout(LIMIT_S), start_socketed(**settings) as archer:
        sockets = archer.app.state.services.sockets
        for _ in range(3):
            async with archer.peer(additional_headers={"Authorization": "Bearer token-a"}) as peer:
                await peer.call("initialize", protocol_version=1, token=f"token-{who}")
                assert sockets.quota._by_principal == {{"a": "alice", "b": "bob"}[who]: 1}
            await until(lambda: sockets.count == 0)
        assert sockets.quota._by_principal == {}


async def test_one_socket_too_many_in_all_is_closed_4505(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(max_sockets=2) as archer, archer.peer(), archer.peer():
        code, reason = await closing(archer)
        assert (code, reason) == (
            4505,
            "connection_limit: 2 sockets are open, the most there may be (ARCHER_MAX_SOCKETS)",
        )


async def test_sockets_without_a_credential_take_no_place_of_those_that_have_one(start_socketed: StartSocketed) -> None:
    alice = {"Authorization": "Bearer token-a"}
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed(auth_tokens={"alice": "token-a"}, max_sockets=1) as archer,
        archer.peer() as guest,
        archer.peer(),
    ):
        async with archer.peer(additional_headers=alice) as peer:
            assert await peer.call("ping") == {}
            code, reason = await closing(archer, additional_headers=alice)
            assert (code, (reason or "").partition(":")[0]) == (4505, "connection_limit")
        await until(lambda: archer.app.state.services.sockets.count == 2)
        await guest.call("initialize", protocol_version=1, token="token-a")
        assert await guest.call("ping") == {}


async def test_a_failed_requests_id_names_a_line_of_the_log_and_so_does_a_streams(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        async with archer.peer() as peer:
            with pytest.raises(RpcError) as unknown:
                await peer.call("stream/get", stream_id="never")
            await peer.call("chat/send", stream_id="s", messages=[{"role": "user", "content": "x"}])
            await peer.ended("s")
        async with raw_websocket(archer.address) as raw:
            await raw.head()
            await raw.send(request("no/such/method", 1) + b"\x81\x82\x00\x00\x00\x00[]")
            answers = [json.loads((await raw.frame())[1])["error"]["data"]["request_id"] for _ in range(2)]
        await until(lambda: bool(lines(caplog, "stream_ended")))
    told = {line.msg["request_id"]: line.msg for line in lines(caplog, "call_failed") if isinstance(line.msg, dict)}
    assert set(told) == {unknown.value.data["request_id"], *answers}
    assert told[unknown.value.data["request_id"]]["method"] == "stream/get"
    assert told[unknown.value.data["request_id"]]["level"] == "info"
    (line,) = lines(caplog, "stream_ended")
    assert isinstance(line.msg, dict)
    connection_id, _, number = line.msg["request_id"].partition(".")
    assert (connection_id.startswith("con_"), number) == (True, "2")


async def test_failures_without_end_do_not_flood_the_log(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_websocket(archer.address) as raw:
        await raw.head()
        for number in range(300):
            await raw.send(request("stream/get", number, stream_id="never"))
            while (await raw.frame())[0] != TEXT:
                pass
    assert len(lines(caplog, "call_failed")) == 100


async def test_no_write_waits_until_the_client_has_acknowledged_the_one_before(start_socketed: StartSocketed) -> None:
    async with start_socketed() as archer, connected(archer) as client, archer.peer() as peer:
        await client.send(b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n")
        await client.head()
        await peer.call("ping")
        (over_http,), (over_socket,) = archer.http_connections, archer.protocols
        for connection in (over_http, over_socket):
            ours: socket.socket = connection.transport.get_extra_info("socket")
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
