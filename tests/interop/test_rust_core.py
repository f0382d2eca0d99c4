"""The Rust client and its types, against a running sidecar: multiplexing, cancelling, resuming, REST and events."""

import asyncio
import json
import os
import random
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
import websockets

from archer_ws.core.limits import MAX_FRAME_BYTES
from tests.e2e.sidecar import running_sidecar
from tests.fakes.cutting_proxy import CuttingProxy, Fate
from tests.fakes.rewriting_proxy import Head, rewriting_proxy
from tests.fakes.scripted_archer import ACCEPTED, Postponing, Scripted, answer, listening, tell
from tests.fakes.scripted_server import Exchange, Reply, scripted_server
from tests.interop.cargo import built, cargo
from tests.interop.scripted_chat import HALF, PIECES, TEXT, Answers
from tests.processes import Server, server

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

CRATE = Path(__file__).parent / "rust_core"
BUILD_LIMIT_S, LIMIT_S = 500, 60.0


@cache
def program() -> Path:
    """The crate's program, built."""
    run([cargo(), "build", "--quiet"], cwd=CRATE, check=True, timeout=BUILD_LIMIT_S)
    return built(CRATE)


class RustCore:
    """The running program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> dict[str, Any]:
        """The next line it prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            line = await self._process.stdout.readline()
        assert line, await self.errors()
        decoded: dict[str, Any] = json.loads(line)
        return decoded

    async def lines(self) -> list[dict[str, Any]]:
        """Whatever it still prints, once it has ended well."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            printed = await self._process.stdout.read()
            assert await self._process.wait() == 0, await self.errors()
        return [json.loads(line) for line in printed.splitlines()]

    async def complains(self, text: str) -> None:
        """Wait until it, or what it has started, writes this to standard error."""
        assert self._process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            await self._process.stderr.readuntil(text.encode())

    def leave(self) -> None:
        """End its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def errors(self) -> str:
        """What it complains of, once it has ended."""
        assert self._process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            return (await self._process.stderr.read()).decode()


@asynccontextmanager
async def rust_core(*arguments: str, token: str | None = None, **more: str) -> AsyncIterator[RustCore]:
    """The program with these arguments, and more variables; killed at the end where it still runs."""
    environment = {**os.environ, **more, **({"ARCHER_TOKEN": token} if token else {})}
    built = await asyncio.to_thread(program)
    process = await asyncio.create_subprocess_exec(
        built, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
    )
    try:
        yield RustCore(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def ends(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {line["ended"]: line for line in lines if "ended" in line}


async def asked_of(sidecar: Server, count: int) -> list[Exchange]:
    return [await sidecar.next_chat() for _ in range(count)]


async def test_many_streams_share_one_socket(sidecar: Server, proxy: CuttingProxy) -> None:
    questions = [f"question {number}" for number in range(12)]
    async with rust_core("ask", proxy.url, *questions) as rust:
        ended = ends(await rust.lines())
    assert ended.keys() == set(questions)
    assert {(end["status"], end["text"]) for end in ended.values()} == {("completed", TEXT)}
    assert proxy.connections == 1


async def test_a_cancel_closes_the_provider_and_keeps_the_text(sidecar: Server) -> None:
    async with rust_core("cancel", sidecar.url, "never") as rust:
        first, end = await rust.lines()
    assert first["outcome"] == "cancelling"
    assert end["status"] == "cancelled"
    assert first["first"] in end["text"]
    assert HALF.startswith(end["text"])
    async with asyncio.timeout(LIMIT_S):
        await (await sidecar.next_chat()).client_left.wait()


async def test_dropping_a_stream_cancels_it(sidecar: Server) -> None:
    async with rust_core("leave", sidecar.url, "never") as rust:
        _, end = await rust.lines()
    assert end["status"] == "cancelled"
    async with asyncio.timeout(LIMIT_S):
        await (await sidecar.next_chat()).client_left.wait()


async def test_a_detached_stream_runs_on_and_is_found_again(sidecar: Server, answers: Answers) -> None:
    async with rust_core("detach", sidecar.url, "hold") as rust:
        await rust.line()
        assert (await rust.line())["status"] == "running"
        answers.go.set()
        (end,) = await rust.lines()
    assert (end["status"], end["text"]) == ("completed", TEXT)
    assert len(await asked_of(sidecar, 1)) == 1


async def test_what_is_refused_or_given_up_harms_neither_the_stream_nor_its_id(
    sidecar: Server, answers: Answers
) -> None:
    async with rust_core("refused", sidecar.url, "hold", "mine") as rust:
        refusals = [(await rust.line())["refused"] for _ in range(3)]
        assert refusals == ["stream_not_found", "invalid_params", "stream_id_conflict"]
        assert (await rust.line())["status"] == "running"
        answers.go.set()
        (end,) = await rust.lines()
    assert (end["status"], end["text"]) == ("completed", TEXT)


async def test_a_request_that_is_too_large_costs_the_other_streams_nothing(sidecar: Server, answers: Answers) -> None:
    async with rust_core("beside", sidecar.url, "hold", str(MAX_FRAME_BYTES)) as rust:
        assert await rust.line() == {"refused": "content_too_large"}
        answers.go.set()
        (end,) = await rust.lines()
    assert (end["status"], end["text"]) == ("completed", TEXT)


@pytest.mark.parametrize("kind", ["storage_unavailable", "too_many_streams"])
async def test_a_stream_that_the_server_cannot_deliver_for_the_moment_is_asked_for_again(kind: str) -> None:
    postponing = Postponing(kind)
    async with listening(Scripted(postponing)) as url, rust_core("ask", url, "Why?") as rust:
        ended = ends(await rust.lines())
    assert ended["Why?"]["text"] == "one two"
    assert postponing.refusals == 0


@pytest.mark.parametrize(("mib", "is_read"), [(20, True), (65, False)])
async def test_a_message_is_read_up_to_the_limit_and_a_larger_one_is_told_and_not_asked_for_again(
    mib: int, is_read: bool
) -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        stream_id = request["params"]["stream_id"]
        await answer(connection, request, {"stream_id": stream_id, **ACCEPTED})
        text_bytes = mib * 1024 * 1024
        await tell(connection, "stream/delta", stream_id=stream_id, from_=1, seq=1, content="x" * text_bytes)
        await tell(connection, "stream/ended", stream_id=stream_id, seq=2, status="completed", text_bytes=text_bytes)

    scripted = Scripted(serve)
    async with listening(scripted) as url, rust_core("ask", url, "Why?") as rust:
        if is_read:
            assert len(ends(await rust.lines())["Why?"]["text"]) == mib * 1024 * 1024
        else:
            assert "Message too long" in await rust.errors()
    assert [each["method"] for each in scripted.asked] == ["initialize", "chat/send"]


async def test_cut_anywhere_again_and_again_no_text_is_lost_or_doubled(sidecar: Server, proxy: CuttingProxy) -> None:
    chance = random.Random(5)
    # Once connected, each time it is cut a little later, from the first response on; the next ones wherever it comes.
    proxy.fate = lambda: Fate(down=int(2 ** chance.uniform(10, 14)) if chance.random() < 0.7 else None)
    questions = [f"question {number}" for number in range(8)]
    for number in range(10):
        proxy.fates.append(Fate(down=800 + number * 200))
        async with rust_core("ask", proxy.url, *questions) as rust:
            ended = ends(await rust.lines())
        assert [ended[question]["text"] for question in questions] == [TEXT] * len(questions)
        assert {end["status"] for end in ended.values()} == {"completed"}
    assert proxy.cuts >= 10
    await asked_of(sidecar, 10 * len(questions))
    assert sidecar.chats.empty(), "a question was asked twice"


async def test_a_connection_lost_in_mid_stream_is_resumed(
    sidecar: Server, proxy: CuttingProxy, answers: Answers
) -> None:
    async with rust_core("ask", proxy.url, "hold") as rust:
        await rust.line()
        proxy.cut()
        await proxy.connected(2)
        answers.go.set()
        (end,) = await rust.lines()
    assert end["text"] == TEXT


async def test_one_process_resumes_what_another_began(sidecar: Server, answers: Answers) -> None:
    question = {"stream_id": "mine", "on_disconnect": "continue", "messages": [{"role": "user", "content": "hold"}]}
    asking = asyncio.create_task(sidecar.http.post("/api/v1/chat/completions", json=question))
    await sidecar.next_chat()
    async with rust_core("resume", sidecar.url, "mine", "1") as rust:
        answers.go.set()
        (end,) = await rust.lines()
    assert end["text"] == TEXT == (await asking).json()["content"]


@pytest.mark.parametrize("slashes", ["", "/", "//"])
async def test_rest_and_events_give_the_same_text(sidecar: Server, slashes: str) -> None:
    async with rust_core("rest", sidecar.url + slashes, "Why?") as rust:
        lines = await rust.lines()
    assert lines[0]["content"] == TEXT
    assert ends(lines)["Why?"]["text"] == TEXT
    assert ends(lines)["Why?"]["text_bytes"] == len("".join(PIECES).encode())
    assert lines[-1] == {"replayed": TEXT, "outcome": "already_ended"}


async def test_rest_asks_no_proxy_for_this_machines_own_addresses(
    sidecar: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with rust_core("rest", sidecar.url, "Why?") as rust:
        assert (await rust.lines())[0]["content"] == TEXT


@pytest.mark.parametrize("status", [413, 502])
async def test_rest_tells_the_status_of_a_response_that_is_a_proxy_s_own(status: int) -> None:
    page = Reply([b"<html><h1>A proxy</h1></html>"], status=status, content_type="text/html")
    async with scripted_server(page) as proxy, rust_core("rest", proxy.url, "Why?") as rust:
        assert str(status) in await rust.errors()


async def test_a_proxy_that_passes_no_websockets_on_is_told_as_a_reason(sidecar: Server) -> None:
    """As nginx does without further settings."""

    def strip(head: Head) -> str:
        head.drop(b"connection", b"upgrade")
        return sidecar.url

    async with rewriting_proxy(strip) as url, rust_core("ask", url, "Why?") as rust:
        assert "a proxy before the server takes the Upgrade header out" in await rust.errors()


@pytest.mark.parametrize(("url", "complaint"), [("http://127.0.0.1:1", "no connection"), (None, "unauthenticated")])
async def test_a_server_that_is_not_there_or_refuses_is_told(
    tmp_path: Path, answers: Answers, url: str | None, complaint: str
) -> None:
    async with server(answers, cwd=tmp_path, ARCHER_AUTH_TOKEN="right-right-right-right") as guarded:
        async with rust_core("ask", url or guarded.url, "Why?", token="wrong") as rust:
            assert complaint in await rust.errors()
        async with rust_core("ask", guarded.url, "Why?", token="right-right-right-right") as rust:
            assert ends(await rust.lines())["Why?"]["text"] == TEXT


async def test_it_chats_with_the_embedded_model(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as sidecar:
        async with rust_core("ask", sidecar.url, "Name a colour.", "Say hello.") as rust:
            ended = ends(await rust.lines())
        assert {end["status"] for end in ended.values()} == {"completed"}
        assert all(end["text"].strip() for end in ended.values())
        async with rust_core("cancel", sidecar.url, "Tell me a very long tale about a ship.") as rust:
            _, end = await rust.lines()
        assert end["status"] == "cancelled"


async def test_more_requests_than_the_server_takes_at_once_wait_for_their_turn(sidecar: Server) -> None:
    async with rust_core("lists", sidecar.url, "500") as rust:
        assert await rust.lines() == [{"lists": 500}]
