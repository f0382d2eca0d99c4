"""`archer-ws conformance`: what is printed, and the exit status."""

import asyncio
import json
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from archer_ws.cli import main
from archer_ws.conformance.registry import all_checks
from archer_ws.conformance.report import TITLE_WIDTH, WIDTH
from archer_ws.rpc.messages import SUBPROTOCOL
from tests.processes import program
from tests.test_conformance.conftest import TOKEN, StartServer
from tests.test_conformance.meddling import Honest, Message, meddler

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="another process can't be sent a signal there")

QUICK = ("ping_is_answered", "other_versions_are_refused")


class ForgetsPings(Honest):
    """Answers no ping with a result but the first."""

    def down(self, message: Message) -> list[Message]:
        return [{**message, "result": {"pong": None}}] if message.get("result") == {} else [message]


async def conformance(*arguments: str) -> int:
    """The command's exit status; it runs in a thread, beside the server in this one."""
    return await asyncio.to_thread(main, ["conformance", *arguments])


async def test_all_passed_is_status_0_and_a_table_within_80_columns(
    start_server: StartServer, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("streams_are_limited", "events_come_in_order", "wrong_tokens_are_refused", *QUICK)
    async with start_server() as address:
        assert await conformance("--url", f"ws://{address}/api/v1/ws", "--only", *names) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"ws://{address}/api/v1/ws: ")
    assert lines[-1] == "5 checks: 4 passed, 0 failed, 1 skipped"
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in "".join(lines)
    for check in all_checks():
        rows = [line for line in lines if check.title in line]
        assert [row.startswith(check.section) for row in rows] == [True] * (check.name in names)


@pytest.mark.parametrize("url", ["{}", "http://{}", "http://{}/", "ws://{}", "ws://{}/api/v1/ws"])
async def test_a_url_may_be_of_http_or_of_the_socket(url: str, start_server: StartServer) -> None:
    async with start_server() as address:
        assert await conformance("--url", url.format(address), "--only", "ping_is_answered") == 0


async def test_a_failure_is_status_1_with_what_was_expected_and_what_came(
    start_server: StartServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with start_server() as address, meddler(address, ForgetsPings) as url:
        # A result with null is still a result: the check of the ping passes, and the one of all messages does not.
        assert await conformance("--url", url, "--only", "ping_is_answered", "messages_fit") == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "FAILED" in printed
    assert "expected: messages of archer.v1 came: " in printed
    assert "result.pong is null" in printed
    assert "protocol section 12; again: --only messages_fit" in printed
    assert printed.endswith("2 checks: 1 passed, 1 failed, 0 skipped")


async def test_json_is_for_programs(start_server: StartServer, capsys: pytest.CaptureFixture[str]) -> None:
    async with start_server() as address:
        assert (
            await conformance("--url", address, "--json", "--only", *QUICK, "--only", "wrong_tokens_are_refused") == 0
        )
    report = json.loads(capsys.readouterr().out)
    assert (report["passed"], report["failed"], report["skipped"]) == (2, 0, 1)
    states = {each["name"]: (each["state"], each.get("reason")) for each in report["checks"]}
    assert states == {
        "ping_is_answered": ("ok", None),
        "other_versions_are_refused": ("ok", None),
        "wrong_tokens_are_refused": ("skipped", "this server needs no token"),
    }


async def test_strict_makes_a_skipped_check_fail(start_server: StartServer) -> None:
    async with start_server() as address:
        assert await conformance("--url", address, "--only", "wrong_tokens_are_refused") == 0
        assert await conformance("--url", address, "--only", "wrong_tokens_are_refused", "--strict") == 1


def test_the_checks_are_listed_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--list"]) == 0
    listed = capsys.readouterr().out
    assert main(["conformance", "--list", "--json"]) == 0
    as_json = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in as_json] == [check.name for check in all_checks()]
    for check in all_checks():
        assert check.name in listed
        assert check.title in listed
        assert len(check.title) <= TITLE_WIDTH, check.title
    assert len({check.name for check in all_checks()}) == len(all_checks())


def test_a_check_that_does_not_exist_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--only", "sing"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "archer-ws: there is no check sing\n  --list shows them all.\n"


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "soon"])
def test_a_time_limit_is_a_number_of_seconds(timeout: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["conformance", "--timeout", timeout])
    assert caught.value.code == 2


async def test_a_token_comes_from_the_environment(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with start_server(auth_token=TOKEN) as address:
        assert await conformance("--url", address, "--only", "ping_is_answered") == 2
        assert "ARCHER_TOKEN" in capsys.readouterr().err
        monkeypatch.setenv("ARCHER_TOKEN", "wrong")
        assert await conformance("--url", address, "--only", "ping_is_answered") == 2
        assert "ARCHER_TOKEN" in capsys.readouterr().err
        monkeypatch.setenv("ARCHER_TOKEN", TOKEN)
        assert await conformance("--url", address, "--only", "ping_is_answered") == 0


async def test_the_chats_name_the_model_that_was_asked_for(
    start_server: StartServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with start_server() as address:
        named = ("--provider", "ollama", "--model", "llama3.2:latest")
        assert await conformance("--url", address, *named, "--only", "a_chat_is_accepted") == 0
        assert await conformance("--url", address, "--provider", "nobody", "--only", "a_chat_is_accepted") == 2
    assert "gives no answers" in capsys.readouterr().err


def test_nobody_there_is_one_message_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert main(["conformance", "--url", f"http://127.0.0.1:{port}"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"archer-ws: nothing answers at http://127.0.0.1:{port}\n")


@pytest.mark.parametrize("url", ["ftp://example.com", "http://", "http://user@example.com"])
def test_what_is_no_url_is_status_2(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--url", url]) == 2
    assert "is not the URL of a server" in capsys.readouterr().err


async def test_a_host_that_is_not_allowed_is_status_2(
    start_server: StartServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with start_server(allowed_hosts=["example.com"]) as address:
        assert await conformance("--url", address) == 2
    assert "refused the connection: this server does not answer to 127.0.0.1" in capsys.readouterr().err


@asynccontextmanager
async def _saying(answer: str | None, subprotocol: bool) -> AsyncIterator[str]:
    """A WebSocket server that says this to whatever it is told; None: it closes."""

    async def accept(connection: ServerConnection) -> None:
        async for _ in connection:
            if answer is None:
                return
            await connection.send(answer)

    names = [Subprotocol(SUBPROTOCOL)] if subprotocol else None
    # Our program shares this process's standard error.
    silent = logging.Logger("another server", logging.CRITICAL)
    async with serve(accept, "127.0.0.1", 0, subprotocols=names, compression=None, logger=silent) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "subprotocol"),
    [
        ("hello", False),
        ("hello", True),
        ('{"jsonrpc":"2.0","id":7,"result":{}}{', True),
        ('{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}', True),
        ('{"jsonrpc":"2.0","id":1,"result":{}}', True),
        (None, True),
    ],
)
async def test_another_kind_of_server_is_status_2(
    answer: str | None, subprotocol: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    async with _saying(answer, subprotocol) as url:
        assert await conformance("--url", url) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("archer-ws: ")
    message, *hint = captured.err.splitlines()
    assert url in message
    assert len(hint) <= 1


@needs_signals
async def test_ctrl_c_is_status_130(start_server: StartServer, tmp_path: Path) -> None:
    async with (
        start_server() as address,
        program("conformance", "--url", address, cwd=tmp_path, environment={}) as running,
    ):
        await running.expect("ping is answered")
        running.send_signal(signal.SIGINT)
        assert await running.ended() == 130
        assert await running.errors() == ""


class Tty:
    """A terminal's standard output."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


async def test_only_a_terminal_gets_colours(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def shown(**environment: str) -> str:
        for name, value in {"TERM": "xterm", "WT_SESSION": "1", "NO_COLOR": "", **environment}.items():
            monkeypatch.setenv(name, value)
        terminal: Any = Tty()
        monkeypatch.setattr(sys, "stdout", terminal)
        assert await conformance("--url", address, "--only", "ping_is_answered") == 0
        return str(terminal.text)

    async with start_server() as address:
        assert "\x1b[32mok" in await shown()
        assert "\x1b" not in await shown(NO_COLOR="1")
        assert "\x1b" not in await shown(TERM="dumb")
