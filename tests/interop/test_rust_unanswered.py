"""The Rust client where the connection is lost again and again before a request gets its response."""

from typing import Any

import pytest
import websockets

from tests.fakes.deadly_server import Deadly, sent
from tests.fakes.exchange_server import Call, ExchangeServer, exchange_server
from tests.fakes.scripted_archer import Scripted, listening
from tests.interop.test_rust_core import rust_core
from tests.interop.test_rust_tools import NOWHERE, ran, until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

#: As many losses as the client takes, in losses.rs.
LOSSES_MAX = 5
DELETED = {"deleted": {"Ok": True}}
BLUE = {"said": {"Ok": "Blue"}}


@pytest.fixture(autouse=True)
def gives_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gives up soon."""
    monkeypatch.setenv("ARCHER_GIVE_UP_MS", "300")


async def seen_beside_deletion(scripted: Scripted) -> list[dict[str, Any]]:
    async with listening(scripted) as url, rust_core("beside-deletion", url, "Why?") as rust:
        lines = await rust.lines()
    assert lines.pop() == {"ping": True}
    return lines


async def test_a_request_that_breaks_every_connection_fails_at_last_and_holds_up_no_other() -> None:
    scripted = Scripted(Deadly("session/delete_all"))
    deleted, said = await seen_beside_deletion(scripted)
    assert "times before the response to session/delete_all came" in deleted["deleted"]["Err"]
    assert said == BLUE
    assert sent(scripted, "session/delete_all") >= LOSSES_MAX


async def test_losses_that_have_not_taken_long_enough_fail_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHER_GIVE_UP_MS", "60000")
    deadly, mild = Deadly("session/delete_all"), Deadly()

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        has_many = sent(scripted, "session/delete_all") > LOSSES_MAX + 1
        await (mild if has_many else deadly)(connection, request)

    scripted = Scripted(serve)
    assert await seen_beside_deletion(scripted) == [DELETED, BLUE]
    assert sent(scripted, "session/delete_all") > LOSSES_MAX


async def test_a_chat_that_breaks_every_connection_fails_if_the_server_has_no_such_stream() -> None:
    scripted = Scripted(Deadly("chat/send", forgets=True))
    deleted, said = await seen_beside_deletion(scripted)
    assert deleted == DELETED
    assert "times before the response to chat/send came" in said["said"]["Err"]
    assert sent(scripted, "chat/send") >= LOSSES_MAX
    assert (sent(scripted, "stream/subscribe"), sent(scripted, "stream/cancel")) == (1, 0)


@pytest.mark.parametrize("postponements", [0, 2])
async def test_a_chat_that_has_begun_is_read_though_its_request_never_got_a_response(postponements: int) -> None:
    deadly = Deadly("chat/send")
    deadly.postponements = postponements
    assert await seen_beside_deletion(Scripted(deadly)) == [DELETED, BLUE]


async def test_a_stream_that_cannot_be_requested_again_fails() -> None:
    scripted = Scripted(Deadly("stream/subscribe", cuts=True))
    deleted, said = await seen_beside_deletion(scripted)
    assert deleted == DELETED
    assert "times before the response to stream/subscribe came" in said["said"]["Err"]
    assert sent(scripted, "stream/subscribe") >= LOSSES_MAX


@pytest.mark.parametrize("method", ["tool/approve", "tool/claim"])
async def test_an_approval_or_a_claim_that_breaks_every_connection_is_sent_no_more(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHER_GIVE_UP_MS", "0")
    async with exchange_server(Call("c1", needs_approval=True)) as server:
        server.is_deadly = lambda asked, _: asked == method
        async with rust_core("run", server.url, "Rain?", "yes") as rust:
            await attached_again(server, LOSSES_MAX)
            await server.end("cancelled", reason="client")
            lines = await rust.lines()
    assert len(server.asked_of(method)) == LOSSES_MAX
    assert ran(lines) == []


async def test_a_renewed_claim_that_breaks_every_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHER_GIVE_UP_MS", "0")
    async with (
        exchange_server(Call("c1", arguments=NOWHERE)) as server,
        rust_core("run", server.url, "Rain?") as rust,
    ):
        await until(rust, "ran")
        server.is_deadly = lambda asked, _: asked == "tool/claim"
        await server.close_all()
        await attached_again(server, 1 + LOSSES_MAX)
        await server.settle("c1", "timeout")
        await rust.lines()
    assert len(server.asked_of("tool/claim")) == 1 + LOSSES_MAX


async def attached_again(server: ExchangeServer, times: int) -> None:
    """The stream was attached again so often; then its connection is lost twice more."""
    for more in range(3):
        await server.until("stream/subscribe", times + more)
        if more < 2:
            await server.close_all()


async def test_a_tool_result_that_breaks_every_connection_is_replaced_by_an_error() -> None:
    async with exchange_server(Call("c1")) as server:
        server.is_deadly = lambda asked, params: asked == "tool/result" and params["status"] == "ok"
        async with rust_core("run", server.url, "Rain?") as rust:
            lines = await rust.lines()
        results = server.asked_of("tool/result")
    assert lines[-1]["text"] == "c1 error"
    assert len(results) >= LOSSES_MAX + 1
    assert "the connection was lost" in results[-1]["content"]
