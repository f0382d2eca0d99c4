"""`archer-ws serve` as a process: getting ready, draining, and what its wire allows."""

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from structlog.testing import capture_logs

from archer_ws.core.limits import MAX_HEAD_BYTES, Limits
from archer_ws.core.rare_line import RareLine
from archer_ws.server import server as api_server
from archer_ws.server.http_protocol import BoundedHeadProtocol
from archer_ws.server.listening import AddressUnavailable, bind, client_url, raise_file_limit
from archer_ws.server.server import _stop_signals
from archer_ws.sessions.storage.sqlite.folder import Folder
from tests.fakes.ollama_api import ollama_end, ollama_line, ollama_server, ollama_stream, ollama_tags
from tests.fakes.prompt_server import PromptServer, served
from tests.fakes.scripted_server import Wait, forever, scripted_server
from tests.fakes.still_disk import is_noticed, stand_still
from tests.processes import ROOT, START_LIMIT_S, WAIT_LIMIT_S, Server, program, server

QUESTION = {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="another process can't be sent a signal there")


class Answer:
    """An answer that is being streamed, event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def event(self, name: str = "") -> dict[str, Any]:
        """The next event of that name; plain messages have none."""
        found = ""
        async with asyncio.timeout(WAIT_LIMIT_S):
            async for line in self._lines:
                if line.startswith("event: "):
                    found = line.removeprefix("event: ")
                elif line.startswith("data: ") and found == name:
                    value: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    return value
                elif not line:
                    found = ""
        raise AssertionError(f"the stream ended without a {name!r} event")

    async def rest(self) -> list[str]:
        """The lines that are left, once the server has ended the response."""
        async with asyncio.timeout(WAIT_LIMIT_S):
            return [line async for line in self._lines]


@asynccontextmanager
async def asking(running: Server) -> AsyncIterator[Answer]:
    async with running.http.stream("POST", "/api/v1/chat/completions/stream", json=QUESTION) as response:
        assert response.status_code == 200
        yield Answer(response)


async def until_noticed(folder: Path) -> None:
    """Return when the server waits for the disk that stands still."""
    async with asyncio.timeout(START_LIMIT_S):
        while not is_noticed(folder):  # noqa: ASYNC110 - it is another process that does
            await asyncio.sleep(0.01)


async def until_draining(running: Server) -> dict[str, Any]:
    """What readiness says, once it says no."""
    async with asyncio.timeout(WAIT_LIMIT_S):
        while (answer := await running.http.get("/health/ready")).status_code == 200:
            pass
    assert answer.status_code == 503
    report: dict[str, Any] = answer.json()
    return report


async def test_ready_json_is_the_one_line_and_tells_where_the_server_is(tmp_path: Path) -> None:
    async with server(ollama_stream("Blue."), cwd=tmp_path) as running:
        port = int(running.url.rpartition(":")[2])
        assert running.ready == {
            "event": "ready",
            "url": f"http://127.0.0.1:{port}",
            "host": "127.0.0.1",
            "port": port,
            "pid": running.program.process.pid,
            "provider": "ollama",
            "model": "llama3.2",
            "provider_ready": True,
        }
        assert port > 0
        answer = await running.http.post("/api/v1/chat/completions", json=QUESTION)
        assert answer.json()["content"] == "Blue."
        assert "server" not in answer.headers
        running.program.process.terminate()
        await running.program.ended()
        assert await running.program.stdout.read() == b""


async def test_a_provider_that_is_not_there_is_told_and_the_server_serves_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0")
    async with program(*arguments, cwd=tmp_path, environment={"ARCHER_OLLAMA_HOST": nobody}) as running:
        first = await running.line()
        assert "listens at http://127.0.0.1:" in first
        reason = await running.line()
        assert nobody in reason
        assert "/health/ready" in await running.line()
        assert "archer-ws chat --url http://127.0.0.1:" in await running.line()
        url = first.split(" listens at ")[1].split(",")[0]
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{url}/health")).status_code == 200


async def test_the_ready_lines_for_a_person_name_the_address_and_a_line_to_try(tmp_path: Path) -> None:
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--model", "mine")
    async with (
        scripted_server(responder=ollama_server({"/api/tags": ollama_tags("mine")})) as ollama,
        program(*arguments, cwd=tmp_path, environment={"ARCHER_OLLAMA_HOST": ollama.url}) as running,
    ):
        first = await running.line()
        assert first.startswith("Archer AI Engine is ready at http://127.0.0.1:")
        assert first.endswith(" (provider ollama, model mine)")
        url = first.split(" ready at ")[1].split(" ")[0]
        assert await running.line() == f'Try, in a second terminal: archer-ws chat --url {url} "Why is the sky blue?"'


@needs_signals
@pytest.mark.parametrize(("name", "options"), [("SIGTERM", ("--exit-with-parent",)), ("SIGINT", ()), ("SIGHUP", ())])
async def test_a_signal_with_nothing_running_ends_the_server_at_once_with_status_0(
    tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    async with server(ollama_stream("Blue."), *options, cwd=tmp_path, stdin=asyncio.subprocess.PIPE) as running:
        # Leaves an idle connection behind, which must not hold it up; nor may the thread that reads standard input.
        await running.http.get("/health")
        running.program.send_signal(signal.Signals[name])
        # DRAIN_S is 30.
        assert await running.program.ended(limit_s=10) == 0
        errors = await running.program.errors()
        assert "Traceback" not in errors
        assert "Fatal" not in errors
        assert "Application shutdown complete" in errors


@needs_signals
async def test_a_terminals_end_lets_a_running_stream_end(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with server(ollama_stream("Because ", Wait(more), "it is."), cwd=tmp_path) as running:
        async with asking(running) as answer:
            assert (await answer.event())["content"] == "Because "
            running.program.send_signal(signal.Signals["SIGHUP"])
            assert (await until_draining(running))["status"] == "draining"
            more.set()
            assert (await answer.event("ended"))["status"] == "completed"
        assert await running.program.ended(limit_s=10) == 0


@needs_signals
def test_a_terminals_end_is_ignored_where_whoever_started_us_wants_that() -> None:
    sighup = signal.Signals["SIGHUP"]
    assert sighup in _stop_signals()
    previous = signal.signal(sighup, signal.SIG_IGN)
    try:
        assert sighup not in _stop_signals()
    finally:
        signal.signal(sighup, previous)


async def test_names_of_one_label_are_not_ours_unless_they_are_set(tmp_path: Path) -> None:
    async with server(ollama_stream("Blue."), cwd=tmp_path) as running:
        for host in ("localhost", "127.0.0.1", "testserver", "test", "ai-engine"):
            answer = await running.http.get("/api/v1/streams", headers={"Host": host})
            assert answer.status_code == (200 if host.startswith(("localhost", "127.")) else 403), host
    async with server(ollama_stream("Blue."), cwd=tmp_path, ALLOWED_HOSTS="testserver") as running:
        assert (await running.http.get("/api/v1/streams", headers={"Host": "testserver"})).status_code == 200
        assert (await running.http.get("/api/v1/streams", headers={"Host": "localhost"})).status_code == 403


@needs_signals
async def test_sigterm_lets_a_running_stream_end_and_refuses_new_ones(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with server(ollama_stream("Because ", Wait(more), "it is."), cwd=tmp_path) as running:
        async with asking(running) as answer:
            assert (await answer.event())["content"] == "Because "
            running.program.send_signal(signal.SIGTERM)
            assert (await until_draining(running))["status"] == "draining"
            refused = await running.http.post("/api/v1/chat/completions", json=QUESTION)
            assert (refused.status_code, refused.json()["error"]["kind"]) == (503, "draining")
            assert "retry-after" in refused.headers
            more.set()
            assert (await answer.event())["content"] == "it is."
            assert (await answer.event("ended"))["status"] == "completed"
            assert "data: [DONE]" in await answer.rest()
        assert await running.program.ended(limit_s=10) == 0
        assert "Traceback" not in await running.program.errors()


@needs_signals
async def test_at_the_drain_deadline_streams_end_as_cancelled_and_their_ends_are_delivered(tmp_path: Path) -> None:
    async with server(ollama_stream("Because ", forever()), cwd=tmp_path, ARCHER_DRAIN_S="0.3") as running:
        async with asking(running) as answer:
            assert (await answer.event())["content"] == "Because "
            exchange = await running.next_chat()
            running.program.send_signal(signal.SIGTERM)
            ended = await answer.event("ended")
            assert (ended["status"], ended["reason"], ended["text_bytes"]) == ("cancelled", "draining", 8)
            assert "data: [DONE]" in await answer.rest()
            async with asyncio.timeout(WAIT_LIMIT_S):
                await exchange.client_left.wait()
        assert await running.program.ended(limit_s=10) == 0
        assert "Traceback" not in await running.program.errors()


@needs_signals
async def test_a_second_signal_ends_running_streams_at_once(tmp_path: Path) -> None:
    async with server(ollama_stream("Because ", forever()), cwd=tmp_path) as running:
        async with asking(running) as answer:
            assert (await answer.event())["content"] == "Because "
            running.program.send_signal(signal.SIGTERM)
            await until_draining(running)
            running.program.send_signal(signal.SIGTERM)
            ended = await answer.event("ended")
            assert (ended["status"], ended["reason"]) == ("cancelled", "draining")
        # DRAIN_S is 30.
        assert await running.program.ended(limit_s=10) == 1
        assert "Traceback" not in await running.program.errors()


@needs_signals
@pytest.mark.parametrize(
    ("disk", "path", "kind", "content"),
    [
        ("files", "/api/v1/files", "image/png", b"\x89PNG\r\n\x1a\n" + bytes(1000)),
        ("conversations", "/api/v1/sessions", "application/json", b"{}"),
    ],
)
async def test_a_disk_that_stands_still_does_not_keep_the_server_from_ending(
    tmp_path: Path, disk: str, path: str, kind: str, content: bytes
) -> None:
    async with server(
        ollama_stream("Because "),
        cwd=tmp_path,
        module="tests.fakes.still_disk",
        STANDS_STILL=disk,
        STILL_FOLDER=str(tmp_path),
    ) as running:
        stand_still(tmp_path)
        asking = asyncio.create_task(running.http.post(path, content=content, headers={"Content-Type": kind}))
        await until_noticed(tmp_path)
        running.program.send_signal(signal.SIGTERM)
        assert await running.program.ended(limit_s=60) == 1
        await asyncio.gather(asking, return_exceptions=True)
    assert "exit_forced" in await running.program.errors()


async def test_a_start_that_waits_for_its_disk_ends_with_its_parent(tmp_path: Path) -> None:
    stand_still(tmp_path)
    async with program(
        *("serve", "--host", "127.0.0.1", "--port", "0", "--exit-with-parent"),
        cwd=tmp_path,
        stdin=PIPE,
        module="tests.fakes.still_disk",
        environment={"STANDS_STILL": "streams", "STILL_FOLDER": str(tmp_path)},
    ) as running:
        await until_noticed(tmp_path)
        assert running.process.stdin is not None
        running.process.stdin.close()
        await running.ended()
        errors = await running.errors()
    assert "start_given_up" in errors
    assert "Traceback" not in errors


@needs_signals
async def test_a_second_signal_ends_a_start_that_waits_for_its_disk(tmp_path: Path) -> None:
    stand_still(tmp_path)
    async with program(
        *("serve", "--host", "127.0.0.1", "--port", "0"),
        cwd=tmp_path,
        module="tests.fakes.still_disk",
        environment={"STANDS_STILL": "streams", "STILL_FOLDER": str(tmp_path)},
    ) as running:
        await until_noticed(tmp_path)
        running.send_signal(signal.SIGTERM)
        running.send_signal(signal.SIGINT)
        assert await running.ended() == 1
        errors = await running.errors()
    assert "stopping_at_once" in errors
    assert "Traceback" not in errors


def as_first_process() -> list[str]:
    """The beginning of a command that runs as a container's first process."""
    return ["unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")), "--pid", "--fork", "--kill-child"]


@pytest.mark.skipif(sys.platform != "linux", reason="only there the first process of a container is another one")
async def test_sigterm_ends_a_start_that_waits_also_as_the_first_process_of_a_container(tmp_path: Path) -> None:
    alone = as_first_process()
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not create a process namespace")
    folder = Folder(tmp_path)
    folder.hold(0)
    try:
        started = await asyncio.create_subprocess_exec(
            *(*alone, sys.executable, "-m", "archer_ws", "serve", "--host", "127.0.0.1", "--port", "0"),
            cwd=tmp_path,
            # It would wait so long for the folder.
            env={**os.environ, "PYTHONPATH": str(ROOT), "ARCHER_DATA_DIR": str(tmp_path), "DRAIN_S": "300"},
            stdout=DEVNULL,
            stderr=PIPE,
        )
        try:
            assert started.stderr is not None
            async with asyncio.timeout(START_LIMIT_S):
                await started.stderr.readuntil(b"conversations_held")
            first = int(Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text("ascii"))
            os.kill(first, signal.SIGTERM)
            async with asyncio.timeout(WAIT_LIMIT_S):
                assert await started.wait() == 128 + signal.SIGTERM
        finally:
            if started.returncode is None:
                started.kill()
                await started.wait()
    finally:
        folder.release()


@needs_signals
async def test_a_client_that_does_not_read_cannot_hold_up_a_second_signal(tmp_path: Path) -> None:
    # On the wire each of these takes six bytes: more than all socket buffers hold.
    piece = ollama_line("\x01" * 500_000)
    async with server(ollama_stream(*[piece] * 7, ollama_end(), forever(), end=False), cwd=tmp_path) as running:
        host, port = running.url.removeprefix("http://").split(":")
        body = json.dumps(QUESTION)
        head = f"POST /api/v1/chat/completions/stream HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port))) as stuck:
            stuck.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            exchange = await running.next_chat()
            async with asyncio.timeout(WAIT_LIMIT_S):
                # Ollama's connection is closed once the answer was read whole: it is all in the log, and on its way.
                await exchange.client_left.wait()
            running.program.send_signal(signal.SIGTERM)
            running.program.send_signal(signal.SIGINT)
            assert await running.program.ended(limit_s=10) == 1
        assert "Traceback" not in await running.program.errors()


@needs_signals
async def test_a_signal_while_the_provider_is_being_prepared_ends_the_server(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(never, "127.0.0.1", 0)
    address = "127.0.0.1:{1}".format(*silent.sockets[0].getsockname())
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--ready-json")
    async with silent, program(*arguments, cwd=tmp_path, environment={"ARCHER_OLLAMA_HOST": address}) as running:
        async with asyncio.timeout(60):
            await asked.wait()
        running.send_signal(signal.SIGTERM)
        assert await running.ended(limit_s=10) == 0
        assert await running.stdout.read() == b""
        assert "Traceback" not in await running.errors()


async def test_the_end_of_standard_input_drains_where_the_parent_asked_for_it(tmp_path: Path) -> None:
    more = asyncio.Event()
    reply = ollama_stream("Because ", Wait(more), "it is.")
    async with server(reply, "--exit-with-parent", cwd=tmp_path, stdin=asyncio.subprocess.PIPE) as running:
        stdin = running.program.process.stdin
        assert stdin is not None
        stdin.write(b"whatever a parent writes\n")
        await stdin.drain()
        async with asking(running) as answer:
            assert (await answer.event())["content"] == "Because "
            stdin.close()
            await until_draining(running)
            more.set()
            assert (await answer.event("ended"))["status"] == "completed"
        assert await running.program.ended(limit_s=10) == 0
        assert "Traceback" not in await running.program.errors()


async def test_the_end_of_standard_input_ends_a_start_that_waits(tmp_path: Path) -> None:
    kept = Folder(tmp_path / "kept")
    kept.hold(0)
    try:
        async with program(
            *("serve", "--host", "127.0.0.1", "--port", "0", "--ready-json", "--exit-with-parent"),
            cwd=tmp_path,
            stdin=asyncio.subprocess.PIPE,
            # It would wait so long for the folder.
            environment={"ARCHER_DATA_DIR": str(kept.path), "DRAIN_S": "300"},
        ) as running:
            assert await running.given("whatever a parent writes\n") == ""
            assert await running.ended() == 0
            assert "standard input has ended before the server was ready" in await running.errors()
    finally:
        kept.release()


def test_a_free_port_is_the_same_at_all_addresses_of_a_name() -> None:
    sockets = bind("localhost", 0)
    try:
        assert len({each.getsockname()[1] for each in sockets}) == 1
        assert sockets[0].getsockname()[1] > 0
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize(
    ("host", "told"),
    [("127.0.0.1", "is in use"), ("192.0.2.1", "is no address of this machine"), ("no.such.invalid", "no host")],
)
def test_an_address_that_cannot_be_had_is_told_in_one_line(host: str, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnavailable) as caught:
            bind(host, port)
    assert f"{host}:{port}" in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("localhost", "http://localhost:8000"),
        ("192.168.1.5", "http://192.168.1.5:8000"),
    ],
)
def test_the_url_for_clients_is_one_they_can_connect_to(host: str, url: str) -> None:
    assert client_url(host, 8000) == url


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        raise_file_limit()
        raised, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert raised == hard or hard == resource.RLIM_INFINITY < raised
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def bounded_server(bounds: Limits = Limits()) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server that answers 204 to everything."""

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    class Protocol(BoundedHeadProtocol):
        limits = bounds

    server = PromptServer(uvicorn.Config(nothing, log_config=None, lifespan="off", http=Protocol))
    async with served(server) as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        try:
            async with asyncio.timeout(WAIT_LIMIT_S):
                yield reader, writer
        finally:
            writer.close()


async def test_endless_header_fields_are_refused() -> None:
    async with bounded_server() as (reader, writer):
        # Not a byte more than it takes: what is sent after the answer would reset the connection before it is read.
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Endless: ".ljust(MAX_HEAD_BYTES + 1, b"x"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        assert b"too large" in await reader.read()


async def test_a_large_body_is_not_taken_for_header_fields_and_the_connection_lives_on() -> None:
    async with bounded_server() as (reader, writer):
        body = b"x" * (4 * MAX_HEAD_BYTES)
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 204 ")


async def test_a_request_that_does_not_come_closes_the_connection() -> None:
    async with bounded_server(Limits(head_deadline_s=0.1)) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: ")
        assert await reader.read() == b""


async def test_the_second_request_of_a_connection_has_a_deadline_too() -> None:
    async with bounded_server(Limits(head_deadline_s=0.5)) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
        writer.write(b"GET / HTTP/1.1\r\nHost: ")
        assert await reader.read() == b""


async def test_connections_that_cannot_be_accepted_make_one_line_and_no_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(api_server, "_accept_failed", RareLine("accept_failed"))
    failure = {"message": "socket.accept() out of system resource", "exception": OSError(24, "Too many open files")}
    with capture_logs() as lines:
        for _ in range(2000):
            api_server._handle_loop_error(loop, failure)
    assert [line["event"] for line in lines] == ["accept_failed"]
    assert not [record for record in caplog.records if record.exc_info]
    api_server._handle_loop_error(loop, {"message": "anything else", "exception": ValueError("x")})
    assert [record for record in caplog.records if record.exc_info]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has huge pages of this kind")
async def test_once_it_is_ready_a_server_has_its_heap_in_huge_pages(tmp_path: Path) -> None:
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--ready-json")
    environment = {"ARCHER_LOG_LEVEL": "DEBUG", "ARCHER_LOG_FORMAT": "json"}
    reading, writing = os.pipe()
    async with program(*arguments, cwd=tmp_path, environment=environment, stderr=writing) as running:
        os.close(writing)
        pid = json.loads(await running.line())["pid"]
        async with asyncio.timeout(WAIT_LIMIT_S):
            gathered = await asyncio.to_thread(_gathered_of, reading)
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    huge_kib = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("AnonHugePages:"))
    # Both are nothing where the kernel is too old, or has them switched off.
    assert (huge_kib == 0) == (gathered == 0)
    # Some may have been freed meanwhile.
    assert huge_kib * 1024 > gathered / 2 or gathered == 0


def _gathered_of(log: int) -> int:
    """How many bytes a log says are in huge pages. Closes it."""
    with os.fdopen(log, encoding="utf-8") as lines:
        told = (json.loads(line) for line in lines)
        return next(int(line["bytes"]) for line in told if line["event"] == "huge_pages")


@needs_signals
async def test_a_log_that_nobody_reads_neither_stops_the_server_nor_keeps_it_from_stopping(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    if sys.platform == "linux":
        import fcntl

        # As small as the system makes one: a few dozen lines fill it.
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--ready-json")
    try:
        async with program(*arguments, cwd=tmp_path, environment={}, stderr=writing) as running:
            url = json.loads(await running.line())["url"]
            async with httpx.AsyncClient(base_url=url, timeout=WAIT_LIMIT_S, trust_env=False) as http:
                for _ in range(200):
                    assert (await http.post("/api/v1/sessions", json={})).status_code == 201
            running.send_signal(signal.SIGTERM)
            assert await running.ended() == 0
    finally:
        os.close(writing)
        os.close(reading)


async def test_what_kubernetes_sets_for_a_service_called_archer_is_told_and_ignored(tmp_path: Path) -> None:
    environment = {"ARCHER_PORT": "tcp://10.96.0.12:8000", "ARCHER_SERVICE_HOST": "10.96.0.12", "PORT": "0"}
    async with program(
        "serve", "--host", "127.0.0.1", "--ready-json", cwd=tmp_path, environment=environment
    ) as running:
        assert json.loads(await running.line())["port"] not in {0, 8000}
        running.process.kill()
        await running.ended()
        assert "variable=ARCHER_PORT" in await running.errors()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of another kind closes no descriptors")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
async def test_it_serves_and_stops_with_its_standard_streams_closed(tmp_path: Path, closed: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = f"exec {shlex.quote(sys.executable)} -m archer_ws serve --host 127.0.0.1 --port {port} {closed}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ARCHER_DATA_DIR": str(tmp_path / "data")}
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", command, cwd=tmp_path, env=environment)
    try:
        async with asyncio.timeout(START_LIMIT_S), httpx.AsyncClient(trust_env=False) as http:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    assert (await http.get(f"http://127.0.0.1:{port}/health")).status_code == 200
                    break
                assert process.returncode is None
                await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
