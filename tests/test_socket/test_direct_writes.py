"""Events that are written past ASGI, to a connection that can end at any time."""

import httpx
import pytest

from archer_ws.server.http_direct import DirectCycle
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.scripted_server import forever
from tests.fakes.sse_reader import read_events
from tests.test_socket.conftest import HELLO, StartSocketed


async def test_nothing_is_written_to_a_connection_that_is_being_closed(
    start_socketed: StartSocketed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        start_socketed() as archer,
        httpx.AsyncClient(base_url=f"http://{archer.address}", trust_env=False, verify=False) as http,
    ):
        archer.answer(ollama_stream("one ", forever()))
        request = {"messages": HELLO, "stream_id": "s"}
        async with http.stream("POST", "/api/v1/chat/completions/stream", json=request) as response:
            events = read_events(response)
            while (await anext(events)).event is not None:
                pass
            written: list[bytes] = []
            monkeypatch.setattr(DirectCycle, "write", lambda _, block: written.append(block))
            (connection,) = archer.http_connections
            # What follows runs in one loop iteration: no task learns of the close before the token comes.
            archer.stream("s").log.append_text("content", b"two ")
            assert b"two" in b"".join(written)
            connection.transport.close()
            archer.stream("s").log.append_text("content", b"three ")
            assert b"three" not in b"".join(written)


async def test_a_socket_that_stays_open_holds_no_stream_that_has_ended(start_socketed: StartSocketed) -> None:
    async with start_socketed() as archer, archer.peer() as peer:
        archer.answer(ollama_stream("one"))
        for number in range(5):
            await peer.call("chat/send", messages=HELLO, stream_id=f"s{number}")
            await peer.ended(f"s{number}")
            assert not archer.stream(f"s{number}")._holds
