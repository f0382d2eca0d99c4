"""Who gets a socket, and with which credential (protocol section 2), under our own server."""

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
import websockets

from archer_ws.api.security.tickets import TicketOffice
from archer_ws.core.limits import Limits
from tests.fakes.raw_websocket import BINARY, frame, raw_websocket
from tests.fakes.rpc_peer import RpcError
from tests.test_socket.conftest import Socketed, StartSocketed, assert_quiet, lines, until

LIMIT_S = 20
TOKEN = "the-right-token-0123456789"
PAGE = "https://page.example"


async def refusal(archer: Socketed, **options: Any) -> tuple[int, dict[str, Any], websockets.Headers]:
    """The HTTP answer of a handshake that is refused."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with websockets.connect(archer.url, proxy=None, **options):
            pass
    response = caught.value.response
    error: dict[str, Any] = json.loads(response.body or b"")["error"]
    return response.status_code, error, response.headers


async def close_code(archer: Socketed, **options: Any) -> int | None:
    """The code of a socket that is accepted and then closed."""
    async with asyncio.timeout(LIMIT_S), websockets.connect(archer.url, proxy=None, **options) as client:
        await client.wait_closed()
        return client.close_code


async def ticket(archer: Socketed, origin: str | None = None) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(
            f"http://{archer.address}/api/v1/ws/tickets",
            json={"origin": origin} if origin else {},
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
    assert answer.json()["expires_in_s"] == 30
    token: str = answer.json()["ticket"]
    return token


def offering(token: str) -> list[Any]:
    return ["archer.v1", f"archer.ticket.{token}"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_foreign_origin_is_refused_before_the_upgrade(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        status, error, headers = await refusal(archer, origin="https://evil.example")
        assert (status, error["kind"]) == (403, "forbidden")
        assert "CORS_ORIGINS" in error["hint"]
        assert headers["x-request-id"] == error["request_id"]
    assert lines(caplog, "origin_refused")
    assert not [record for record in caplog.records if record.levelno > logging.WARNING], caplog.text


async def test_a_foreign_host_is_refused_before_the_upgrade(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        host, port = archer.address.split(":")
        url = f"ws://rebound.example:{port}/api/v1/ws"
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with websockets.connect(url, proxy=None, host=host, port=int(port)):
                pass
        assert caught.value.response.status_code == 403
        assert json.loads(caught.value.response.body or b"")["error"]["kind"] == "forbidden"


@pytest.mark.parametrize("origin", [None, "own", PAGE, "tauri://localhost", "https://tauri.localhost"])
async def test_allowed_origins_and_clients_that_are_no_page_get_in(start_socketed: StartSocketed, origin: Any) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(cors_origins=[PAGE]) as archer:
        origin = f"http://{archer.address}" if origin == "own" else origin
        async with archer.peer(origin=origin) as peer:
            assert await peer.call("ping") == {}


@pytest.mark.parametrize(
    ("offered", "chosen"), [(None, None), (["archer.v1"], "archer.v1"), (["other", "archer.v1"], "archer.v1")]
)
async def test_the_subprotocol_is_echoed_where_it_was_offered(
    start_socketed: StartSocketed, offered: Any, chosen: str | None
) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed() as archer,
        websockets.connect(archer.url, subprotocols=offered, proxy=None) as client,
    ):
        assert client.subprotocol == chosen
        assert "Sec-WebSocket-Extensions" not in client.response.headers  # type: ignore[union-attr]  # it is open


async def test_a_handshake_may_be_as_long_as_any_other_head(start_socketed: StartSocketed) -> None:
    # A browser sends the cookies of all servers on this machine: cookies know no ports.
    cookies = "; ".join(f"name{number}={'x' * 1000}" for number in range(50))
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        for path, *fields in (["/api/v1/ws", f"Cookie: {cookies}"], [f"/api/v1/ws?{'x' * 50_000}"]):
            async with raw_websocket(archer.address, path, *fields) as raw:
                assert " 101 " in await raw.head()


async def test_a_ticket_is_good_once_and_never_echoed(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer:
        token = await ticket(archer, PAGE)
        # The page's origin is allowed nowhere: a ticket does not replace that check.
        assert (await refusal(archer, origin=PAGE, subprotocols=offering(token)))[0] == 403
        token = await ticket(archer)
        async with archer.peer(subprotocols=offering(token)) as peer:
            assert (await peer.call("stream/list")) == {"items": []}
            assert peer.transport.connection.subprotocol == "archer.v1"  # type: ignore[attr-defined]  # a socket's
        assert await close_code(archer, subprotocols=offering(token)) == 4003


async def test_an_unknown_ticket_closes_as_expired(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer:
        assert await close_code(archer, subprotocols=offering("x" * 43)) == 4003


async def test_an_expired_ticket_closes_as_expired(
    start_socketed: StartSocketed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer:
        token = await ticket(archer)
        office: TicketOffice = archer.app.state.services.tickets
        clock = office._clock
        monkeypatch.setattr(office, "_clock", lambda: clock() + 30)
        assert await close_code(archer, subprotocols=offering(token)) == 4003


async def test_a_ticket_for_another_origin_closes_as_unauthorized(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN, cors_origins=[PAGE]) as archer:
        options = {"origin": "tauri://localhost", "subprotocols": offering(await ticket(archer, PAGE))}
        assert await close_code(archer, **options) == 4501
        async with archer.peer(origin=PAGE, subprotocols=offering(await ticket(archer, PAGE))) as peer:
            assert (await peer.call("stream/list")) == {"items": []}


async def test_a_good_header_is_enough_and_a_bad_one_is_told_by_a_close(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer:
        async with archer.peer(additional_headers=bearer(TOKEN)) as peer:
            assert (await peer.call("stream/list")) == {"items": []}
        assert await close_code(archer, additional_headers=bearer("wrong")) == 4501


async def test_initialize_may_bring_the_token(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer, archer.peer() as peer:
        with pytest.raises(RpcError) as caught:
            await peer.call("stream/list")
        assert caught.value.code == -32002
        result = await peer.call("initialize", protocol_version=1, token=TOKEN)
        assert result["limits"]["max_frame_bytes"] == 1024 * 1024
        assert (await peer.call("stream/list")) == {"items": []}


async def test_a_wrong_token_is_answered_and_then_closed(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer, archer.peer() as peer:
        with pytest.raises(RpcError) as caught:
            await peer.call("initialize", protocol_version=1, token="wrong")
        assert caught.value.code == -32010
        await peer.closed.wait()
        assert peer.transport.close_code == 4501  # type: ignore[attr-defined]  # a socket's


async def test_a_token_for_a_server_that_has_none_is_told_to_be_left_out(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, archer.peer() as peer:
        with pytest.raises(RpcError) as caught:
            await peer.call("initialize", protocol_version=1, token="any")
        assert caught.value.code == -32010
        assert "send no token" in caught.value.data["hint"]


async def test_without_a_credential_the_socket_is_closed_in_time(start_socketed: StartSocketed) -> None:
    limits = Limits(init_timeout_s=0.2)
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN, limits=limits) as archer:
        assert await close_code(archer) == 4500


async def test_binary_messages_close_with_1003(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_websocket(archer.address) as raw:
        await raw.head()
        await raw.send(frame(BINARY, b"\x00\x01"))
        assert await raw.close_code() == 1003


async def test_a_client_that_leaves_in_mid_handshake_leaves_no_traceback(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        for _ in range(20):
            async with raw_websocket(archer.address):
                pass
        async with archer.peer() as peer:
            await peer.call("ping")
        await until(lambda: not (len(archer.protocols) or archer.app.state.services.sockets.count))
    assert_quiet(caplog)


async def test_secrets_are_in_no_log(start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture) -> None:
    wrong = "a-wrong-token-987"
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN, debug=True) as archer:
        first, second = await ticket(archer), await ticket(archer, PAGE)
        url = f"{archer.url}?token={TOKEN}&ticket={first}"
        async with websockets.connect(url, proxy=None, subprotocols=offering(first)):
            pass
        await close_code(archer, subprotocols=offering(second))
        await close_code(archer, additional_headers=bearer(wrong))
        async with archer.peer() as peer:
            with pytest.raises(RpcError):
                await peer.call("initialize", protocol_version=1, token=wrong)
        await refusal(archer, origin="https://evil.example", additional_headers=bearer(TOKEN))
    logged = [
        f"{record.getMessage()} {vars(record)}"
        for record in caplog.records
        # The client's own side of these connections.
        if not record.name.startswith(("websockets", "httpcore", "httpx"))
    ]
    assert any("socket_refused" in line for line in logged)
    for secret in (TOKEN, wrong, first, second):
        assert not [line for line in logged if secret in line]
