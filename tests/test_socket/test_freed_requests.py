"""What a request has in memory is freed at its stream's end, and not by the garbage collector, which is rare here."""

import asyncio
import gc
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest

from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.storage.values import StoredTurn
from tests.fakes.ollama_api import ollama_error, ollama_error_line, ollama_stream
from tests.fakes.rpc_peer import RpcError
from tests.fakes.scripted_server import Abort, Reply, Step, Wait
from tests.test_socket.conftest import HELLO, StartSocketed

LIMIT_S = 20


@pytest.fixture
def _no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def failing(held: asyncio.Event, *how: Step) -> Reply:
    """Some text, and what comes once the event is set."""
    return ollama_stream("some", Wait(held), *how, end=False)


def freeing_of(value: object) -> asyncio.Event:
    """Set once the value is freed."""
    freed = asyncio.Event()
    weakref.finalize(value, freed.set)
    return freed


@pytest.mark.usefixtures("_no_garbage_collection")
@pytest.mark.parametrize("way", ["cancelled", "cancelled early", "refused", "failed", "truncated", "cut"])
async def test_the_request_of_a_stream_that_did_not_complete_is_freed_with_its_end(
    start_socketed: StartSocketed, way: str
) -> None:
    held = asyncio.Event()
    answers = {
        "cancelled early": Reply((), before_headers=(Wait(held),)),
        "refused": replace(ollama_error("out of memory"), before_headers=(Wait(held),)),
        "failed": failing(held, ollama_error_line("out of memory")),
        "cut": failing(held, Abort()),
    }
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, archer.peer() as peer:
        archer.answer(answers.get(way, failing(held)))
        await peer.call("chat/send", stream_id="s", messages=HELLO)
        await archer.ollama.exchange(path="/api/chat")
        if way not in {"cancelled early", "refused"}:
            await peer.text("s", "some")
        work = archer.stream("s")._work
        freed = [freeing_of(each) for each in (work, work._request.messages[0])]
        del work

        if way.startswith("cancelled"):
            await peer.call("stream/cancel", stream_id="s")
        held.set()

        ended = (await peer.ended("s")).ended
        assert ended is not None
        assert ended["status"] != "completed"
        for each in freed:
            await each.wait()


@pytest.mark.usefixtures("_no_garbage_collection")
@pytest.mark.parametrize("way", ["socket", "REST", "SSE"])
async def test_a_request_that_the_store_refuses_is_freed_with_its_response(
    start_socketed: StartSocketed, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    freed: list[asyncio.Event] = []
    begin_turn = MemoryStore.begin_turn

    async def noting(store: MemoryStore, owner: str, session: str, messages: Sequence[Any], **more: Any) -> StoredTurn:
        freed.extend(map(freeing_of, [*messages, archer.stream("s")]))
        return await begin_turn(store, owner, session, messages, **more)

    monkeypatch.setattr(MemoryStore, "begin_turn", noting)
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, archer.peer() as peer:
        await peer.call("session/create", session_id="talk")
        asked = {"stream_id": "s", "session_id": "talk", "session_version": 99, "messages": HELLO}
        if way == "socket":
            with pytest.raises(RpcError, match="has version 1"):
                await peer.call("chat/send", **asked)
        else:
            async with httpx.AsyncClient(base_url=f"http://{archer.address}", trust_env=False) as http:
                response = await http.post("/api/v1/chat/completions", json={**asked, "stream": way == "SSE"})
            assert response.status_code == 409
        assert freed
        for each in freed:
            await each.wait()
