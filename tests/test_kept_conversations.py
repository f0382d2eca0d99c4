"""`archer-ws serve` with conversations in a file: they outlive it, and whoever starts it learns where they are."""

import json
import signal
import sqlite3
from pathlib import Path

import pytest
import websockets

from tests.conftest import StartArcher
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.recorded import RecordedSocket
from tests.fakes.rpc_peer import RpcPeer
from tests.processes import WAIT_LIMIT_S, Server, program, server

ANSWER = ollama_stream("It ", "scatters.")


async def ask(running: Server, text: str, session_id: str = "sky") -> dict[str, object]:
    asked = {"messages": [{"role": "user", "content": text}], "session_id": session_id}
    answered = await running.http.post("/api/v1/chat/completions", json=asked)
    assert answered.status_code == 200, answered.text
    return dict(answered.json())


async def test_a_conversation_goes_on_after_a_restart(tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")
    async with server(ANSWER, cwd=tmp_path, ARCHER_DATA_DIR=folder) as first:
        await first.http.post("/api/v1/sessions", json={"session_id": "sky"})
        await ask(first, "Why is it blue?")
        first.program.send_signal(signal.SIGTERM)
        assert await first.program.ended() == 0
        assert folder in await first.program.errors()

    async with server(ANSWER, cwd=tmp_path, ARCHER_DATA_DIR=folder) as second:
        kept = (await second.http.get("/api/v1/sessions/sky")).json()
        assert [message["content"] for message in kept["messages"]] == ["Why is it blue?", "It scatters."]
        answered = kept["messages"][1]
        assert (answered["provider"], answered["parent_id"]) == ("ollama", kept["messages"][0]["message_id"])
        assert answered["usage"]
        await ask(second, "And red?")
        sent = json.loads((await second.next_chat()).body)["messages"]
        assert [message["content"] for message in sent] == ["Why is it blue?", "It scatters.", "And red?"]


async def test_what_was_accepted_is_there_after_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    async with server(ANSWER, cwd=tmp_path, ARCHER_DATA_DIR=str(folder)) as first:
        await first.http.post("/api/v1/sessions", json={"session_id": "sky"})
        await ask(first, "Why is it blue?")
        first.program.send_signal(signal.SIGKILL)
        await first.program.ended()
    connection = sqlite3.connect(folder / "archer.db")
    found = connection.execute("SELECT content FROM message ORDER BY position").fetchall()
    connection.close()
    assert found == [("Why is it blue?",), ("It scatters.",)]


async def test_a_second_server_in_the_same_folder_says_who_has_it_and_what_to_set(tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")
    async with server(ANSWER, cwd=tmp_path, ARCHER_DATA_DIR=folder) as first:
        environment = {"ARCHER_DATA_DIR": folder, "ARCHER_DRAIN_S": "0.2"}
        arguments = ("serve", "--host", "127.0.0.1", "--port", "0")
        async with program(*arguments, cwd=tmp_path, environment=environment) as second:
            assert await second.ended(WAIT_LIMIT_S * 2) == 1
            told = await second.errors()
        assert str(first.program.process.pid) in told
        assert "ARCHER_DATA_DIR" in told
        assert "ARCHER_STORE=memory" in told
        assert "Traceback" not in told


async def test_a_send_that_is_repeated_over_a_socket_after_a_restart_joins_its_stream(
    tmp_path: Path, start_archer: StartArcher
) -> None:
    question = {"stream_id": "s1", "session_id": "sky", "messages": [{"role": "user", "content": "Why?"}]}
    async with start_archer(store="sqlite", data_dir=str(tmp_path)) as archer:
        archer.answer(ANSWER)
        await archer.http.post("/api/v1/sessions", json={"session_id": "sky"})
        assert (await archer.http.post("/api/v1/chat/completions", json=question)).status_code == 200

    async with start_archer(store="sqlite", data_dir=str(tmp_path)) as archer:
        # Nobody reads in between: its text is not in memory, for the second one either.
        for _ in range(2):
            async with websockets.connect(f"ws://{archer.address}/api/v1/ws") as socket:
                peer = RpcPeer(RecordedSocket(socket))
                joined = await peer.call("chat/send", **question)
                assert (joined["duplicate"], joined["status"]) == (True, "completed")
                assert (await peer.ended("s1")).content == "It scatters."
                await peer.close()


@pytest.mark.parametrize("store", ["sqlite", "memory"])
async def test_clients_are_told_whether_streams_outlive_the_server(
    tmp_path: Path, start_archer: StartArcher, store: str
) -> None:
    async with (
        start_archer(store=store, data_dir=str(tmp_path / "kept")) as archer,
        websockets.connect(f"ws://{archer.address}/api/v1/ws") as socket,
    ):
        peer = RpcPeer(RecordedSocket(socket))
        told = await peer.call("initialize", protocol_version=1)
        assert ("durable" in told["capabilities"]) == (store == "sqlite")
        await peer.close()


async def test_conversations_can_be_kept_in_memory_alone(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    async with server(ANSWER, cwd=tmp_path, ARCHER_DATA_DIR=str(folder), ARCHER_STORE="memory") as running:
        await running.http.post("/api/v1/sessions", json={"session_id": "sky"})
        await ask(running, "Why?")
    assert not folder.exists()


async def test_a_store_in_trouble_keeps_no_other_request_and_readiness_tells(
    tmp_path: Path, start_archer: StartArcher
) -> None:
    place = tmp_path / "in the way"
    place.write_text("no folder")
    async with start_archer(store="sqlite", data_dir=str(place)) as archer:
        archer.answer(ANSWER)
        asked = {"messages": [{"role": "user", "content": "Why?"}]}
        assert (await archer.http.post("/api/v1/chat/completions", json=asked)).status_code == 200
        refused = await archer.http.post("/api/v1/chat/completions", json={**asked, "session_id": "sky"})
        assert (refused.status_code, refused.json()["error"]["kind"]) == (503, "storage_unavailable")
        ready = await archer.http.get("/health/ready")
        assert ready.status_code == 503
        assert "conversation store" in ready.json()["reason"]
        uploaded = await archer.http.post("/api/v1/files", content=b"text", headers={"Content-Type": "text/plain"})
        assert (uploaded.status_code, uploaded.json()["error"]["kind"]) == (503, "storage_unavailable")
        place.unlink()
        made = await archer.http.post("/api/v1/sessions", json={"session_id": "sky"})
        while made.status_code == 503:
            made = await archer.http.post("/api/v1/sessions", json={"session_id": "sky"})
        assert made.status_code == 201
        assert (await archer.http.get("/health/ready")).status_code == 200


async def test_a_full_store_is_507_and_what_is_stored_can_be_read(tmp_path: Path, start_archer: StartArcher) -> None:
    async with start_archer(store="sqlite", data_dir=str(tmp_path / "kept"), session_bytes_max=100_000) as archer:
        archer.answer(ANSWER)
        await archer.http.post("/api/v1/sessions", json={"session_id": "sky"})
        asked = {"messages": [{"role": "user", "content": "x" * 60_000}], "session_id": "sky"}
        refused = await archer.http.post("/api/v1/chat/completions", json=asked)
        assert (refused.status_code, refused.json()["error"]["kind"]) == (507, "storage_full")
        assert not refused.json()["error"]["retryable"]
        assert (await archer.http.get("/api/v1/sessions/sky")).json()["messages"] == []
        short = {**asked, "messages": [{"role": "user", "content": "short"}]}
        assert (await archer.http.post("/api/v1/chat/completions", json=short)).status_code == 200
