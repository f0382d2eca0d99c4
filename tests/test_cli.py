"""The command line: options, what is printed, exit statuses, and chatting through the real server."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from archer_ws import __version__, serve_command
from archer_ws.cli import main
from archer_ws.server.announcement import Ready, ready_json, ready_text
from tests.fakes.cutting_proxy import cutting_proxy
from tests.fakes.ollama_api import ollama_error, ollama_stream
from tests.fakes.scripted_server import Exchange, Reply, Wait, forever
from tests.processes import ROOT, WAIT_LIMIT_S, program, server
from tests.terminals import on_terminal
from tests.test_client_uploads import PIXEL

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="another process can't be sent a signal there")

READY = Ready(
    name="Archer AI Engine",
    url="http://127.0.0.1:8000",
    host="0.0.0.0",
    port=8000,
    provider="ollama",
    model="llama3.2",
)


@pytest.fixture(autouse=True)
def _own_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a `.env`."""
    monkeypatch.chdir(tmp_path)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"archer-ws {__version__}\n"


@pytest.mark.parametrize(
    "command", [(), ("serve",), ("chat",), ("sessions",), ("doctor",), ("conformance",), ("schema",)]
)
def test_help_shows_examples(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert "examples:\n  archer-ws " in capsys.readouterr().out


def test_the_help_of_chat_names_the_efforts_and_others_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["chat", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--effort LEVEL" in shown
    assert "none, minimal, low, medium, high, xhigh or max" in shown
    with pytest.raises(SystemExit) as caught:
        main(["chat", "--effort", "ultra", "Why?"])
    assert caught.value.code == 2
    assert "'xhigh'" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "archer-ws serve" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--port", "99999"), "port=99999"),
        (("--port", "many"), "port=many"),
        (("--provider", "olama"), "llm_provider=olama"),
    ],
)
def test_a_wrong_option_is_one_line_and_status_2(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"archer-ws: {named} can't be used.")


async def test_a_wrong_variable_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    async with program("serve", cwd=tmp_path, environment={"ARCHER_LOG_LEVEL": "loud"}) as running:
        assert await running.ended(limit_s=60) == 2
        errors = await running.errors()
        assert errors.startswith("archer-ws: ARCHER_LOG_LEVEL=loud can't be used.")
        assert errors.count("\n") == 1


def test_a_port_in_use_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--host", "127.0.0.1", "--port", port]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"archer-ws: 127.0.0.1:{port} is in use")
    assert "--port" in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
@pytest.mark.parametrize("limit", [16, 31])
async def test_too_few_open_files_for_any_server_are_one_line_and_status_1(limit: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'ulimit -n "$0" && exec "$@"', str(limit)),
        *(sys.executable, "-m", "archer_ws", "serve", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(WAIT_LIMIT_S):
        out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert err.startswith(f"archer-ws: this process may have only {limit} files".encode())
    assert err.count(b"\n") == 1
    assert b"ulimit" in err


@pytest.mark.skipif(sys.platform == "win32", reason="pipes differ there")
async def test_an_output_that_another_program_made_non_blocking_loses_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # There is room for one byte, and only its reader makes more.
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(writing, b"x" * 4096)
    os.read(reading, 1)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "archer_ws", "conformance", "--list"),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=writing,
    )
    os.close(writing)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):  # as long as it would take to drop its output, and end
            await process.wait()
    with os.fdopen(reading, "rb") as pipe:
        out = (await asyncio.to_thread(pipe.read))[filled - 1 :].decode()
    async with asyncio.timeout(WAIT_LIMIT_S):
        assert await process.wait() == 0
    assert main(["conformance", "--list"]) == 0
    assert out == capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="a folder that is in use can't be removed there")
@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("sessions", "list", "--data-dir", "here"), ("doctor",)])
async def test_a_current_folder_that_no_longer_exists_is_told(command: tuple[str, ...], tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"', str(tmp_path / "removed")),
        *(sys.executable, "-m", "archer_ws", *command),
        env={**os.environ, "PYTHONPATH": str(ROOT), "ARCHER_HOST": "127.0.0.1", "ARCHER_DATA_DIR": "here"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(WAIT_LIMIT_S):
        out, _ = await process.communicate()
    lines = [line for line in out.decode().splitlines() if "current folder no longer exists" in line]
    assert process.returncode == 1
    assert len(lines) == (1 if command[0] != "doctor" else 2)
    assert "Traceback" not in out.decode()


def test_another_missing_file_without_a_name_is_not_taken_for_the_current_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lack_certificates(_: object) -> int:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")  # as ssl does for SSL_CERT_FILE

    monkeypatch.setattr("archer_ws.cli._conformance", lack_certificates)
    with pytest.raises(FileNotFoundError):
        main(["conformance"])


def test_too_few_threads_for_any_server_are_one_line_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_as_permitted(thread: threading.Thread) -> None:
        if len(started) == 5:
            raise RuntimeError("can't start new thread")
        start(thread)
        started.append(thread)

    monkeypatch.setattr(threading.Thread, "start", start_as_permitted)
    assert main(["serve", "--host", "127.0.0.1", "--port", "0"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("archer-ws: this process may start only 5 threads")
    assert err.count("\n") == 1
    assert "ulimit -u" in err
    assert not [thread for thread in started if thread.is_alive()]


def test_reloading_is_not_for_a_parent_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--reload", "--ready-json"]) == 2
    assert "--reload" in capsys.readouterr().err


def test_the_ready_text_leaves_out_the_url_that_chat_uses_anyway() -> None:
    assert ready_text(READY).splitlines() == [
        "Archer AI Engine is ready at http://127.0.0.1:8000 (provider ollama, model llama3.2)",
        'Try, in a second terminal: archer-ws chat "Why is the sky blue?"',
        "Or open http://127.0.0.1:8000 in a browser: a page to chat with it. Ctrl-C stops the server.",
    ]


def test_the_ready_text_says_what_else_is_needed() -> None:
    ready = Ready(
        name="A",
        url="http://192.168.1.5:80",
        host="192.168.1.5",
        port=80,
        provider="local",
        model="SmolLM2",
        reason="it is not there. Install it.",
        is_demo=True,
        needs_token=True,
        has_console=False,
        host_is_allowed=False,
    )
    text = ready_text(ready)
    assert "in a browser: it says what is where." in text
    assert "can't answer yet:\n  it is not there. Install it.\n" in text
    assert "--url http://192.168.1.5:80 " in text
    for told in ("ARCHER_TOKEN", "demo model", "ALLOWED_HOSTS", "archer-ws doctor"):
        assert told in text


@pytest.mark.parametrize(
    ("host", "url", "named"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000", "127.0.0.1"),
        ("::", "http://[::1]:8000", "[::1]"),
        ("box", "http://box:8000", "box"),
    ],
)
def test_the_ready_text_names_the_host_that_requests_to_its_url_are_refused_for(
    host: str, url: str, named: str
) -> None:
    text = ready_text(replace(READY, host=host, url=url, host_is_allowed=False))
    assert text.endswith(f"\nRequests that name {named} are refused until the setting ALLOWED_HOSTS has it.")


@pytest.mark.skipif(sys.platform == "win32", reason="programs are found otherwise there")
def test_what_is_told_to_be_typed_has_the_path_where_the_program_is_not_on_the_search_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "bin" / "archer-ws"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", ["bin/archer-ws", "serve"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert serve_command._own_name() == "bin/archer-ws"
    monkeypatch.setenv("PATH", str(script.parent))
    assert serve_command._own_name() == "archer-ws"
    monkeypatch.setattr(sys, "argv", ["/my models/bin/archer-ws"])
    assert serve_command._own_name() == "'/my models/bin/archer-ws'"
    monkeypatch.setattr(sys, "argv", ["/x/archer_ws/__main__.py"])
    assert serve_command._own_name() == "archer-ws"


async def test_what_does_not_work_although_the_provider_can_answer_is_told_when_ready(tmp_path: Path) -> None:
    place = tmp_path / "in the way"
    place.write_text("no folder")
    environment = {
        "ARCHER_DATA_DIR": str(place),
        "ARCHER_LLM_PROVIDER": "local",
        "ARCHER_LLM_DEFAULT_MODEL": "llama3.2",
    }
    command = ("serve", "--host", "127.0.0.1", "--port", "0")
    async with program(*command, cwd=tmp_path, environment=environment) as running:
        headline, *notes = [await running.line() for _ in range(3)]
        assert " is ready at " in headline
        assert notes[0].startswith("Requests that name no model will fail: the local model is SmolLM2-135M-Instruct, ")
        assert notes[1].startswith(f"Conversations can't be stored in {place / 'archer.db'}: ")
        running.process.terminate()
        await running.ended(limit_s=60)
        logged = await running.errors()
    assert "conversations_not_kept" in logged
    assert "conversations_kept" not in logged


def test_the_ready_json_is_one_line_and_has_the_reason_only_where_there_is_one() -> None:
    event = json.loads(ready_json(READY))
    assert (event["event"], event["pid"], event["provider_ready"]) == ("ready", os.getpid(), True)
    assert "reason" not in event
    unready = Ready("A", "http://[::1]:1", "::1", 1, "openai", "gpt", reason="two\nlines")
    assert "\n" not in ready_json(unready)
    event = json.loads(ready_json(unready))
    assert (event["provider_ready"], event["reason"]) == (False, "two\nlines")


@needs_signals
async def test_reload_starts_anew_when_the_code_changes_and_keeps_the_options(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("")
    arguments = ("serve", "--reload", "--host", "127.0.0.1", "--port", "0", "--provider", "openai", "--model", "mine")
    async with program(*arguments, cwd=tmp_path, environment={}) as running:
        first = await running.line()
        assert "provider openai can't answer yet" in first
        url = first.split(" listens at ")[1].split(",")[0]
        source.write_text("changed = True\n")
        while url not in (again := await running.line()) or "can't answer yet" not in again:
            pass
        assert again == first
        running.send_signal(signal.SIGTERM)
        assert await running.ended(limit_s=30) == 0
        assert "Traceback" not in await running.errors()


@pytest.mark.parametrize("given", ["", "  \n"])
async def test_an_empty_question_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", given]) == 2
    assert "no question" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("chat", "Why", "is", "the", "sky", "blue?"),
            "is the sky blue? (a question of several words goes in quotes; ",
        ),
        (("chat", "Why?", "--modell", "x"), "unrecognized arguments: --modell x\n"),
        (("serve", "here"), "unrecognized arguments: here\n"),
        (("chat", "--max-tokens", "0", "Why?"), "--max-tokens: '0' is not a whole number, 1 or more\n"),
        (("chat", "--temperature", "nan", "Why?"), "--temperature: 'nan' is not a number from 0 to 2\n"),
        (("sessions", "list", "--limit", "many"), "--limit: 'many' is not a whole number, 1 or more\n"),
        (("conformance", "--timeout", "inf"), "--timeout: 'inf' is not a number of seconds above 0\n"),
    ],
)
def test_what_is_wrong_with_arguments_is_told_with_what_is_allowed(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no such device")
@pytest.mark.parametrize("command", [("conformance", "--list"), ("chat", "Why?")])
async def test_an_output_that_has_no_room_is_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    async with (
        server(ollama_stream("Blue."), cwd=tmp_path) as running,
        program(*command, cwd=ROOT, environment={"ARCHER_URL": running.url}, stdout=full) as asking,
    ):
        os.close(full)
        assert await asking.ended(limit_s=60) == 1
        assert await asking.errors() == "archer-ws: standard output: No space left on device\n"


async def test_chat_without_a_server_says_how_to_start_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with program("chat", "Why?", cwd=tmp_path, environment={"ARCHER_URL": url}) as running:
        assert await running.ended(limit_s=60) == 1
        assert await running.errors() == (
            f"archer-ws: nothing answers at {url}\n"
            f"  Start one in another terminal: archer-ws serve --host 127.0.0.1 --port {url[17:]} --provider local\n"
            "  (the demo model; others: archer-ws serve --help). If it does not start, archer-ws doctor says why.\n"
        )


async def test_chat_sends_what_it_was_told_and_prints_the_answer(tmp_path: Path) -> None:
    async with server(ollama_stream("Because\u2028it ", "is."), cwd=tmp_path, ARCHER_AUTH_TOKEN="s3cret") as running:
        numbers = ("--temperature", "0.1", "--max-tokens", "7")
        options = ("--system", "Be brief.", *numbers, "--effort", "high", "--model", "mine")
        environment = {"ARCHER_URL": running.url, "ARCHER_TOKEN": "s3cret"}
        async with program(
            "chat", *options, cwd=tmp_path, stdin=asyncio.subprocess.PIPE, environment=environment
        ) as chat:
            assert await chat.given("Why is the sky blue?\n") == "Because\u2028it is.\n"
            assert await chat.ended() == 0
            assert await chat.errors() == ""
        sent = (await running.next_chat()).json()
        assert [(each["role"], each["content"]) for each in sent["messages"]] == [
            ("system", "Be brief."),
            ("user", "Why is the sky blue?\n"),
        ]
        assert (sent["model"], sent["options"]["temperature"], sent["options"]["num_predict"]) == ("mine", 0.1, 7)
        assert sent["think"] is True
        async with program("chat", "Why?", cwd=tmp_path, environment={"ARCHER_URL": running.url}) as chat:
            assert await chat.ended(limit_s=60) == 1
            assert "ARCHER_TOKEN" in await chat.errors()


@pytest.mark.parametrize(
    ("option", "content", "told"),
    [
        ("--file", PIXEL, "is a picture: give it with --image"),
        ("--image", b"# Cat", "is not a picture: give it with --file"),
    ],
)
def test_chat_says_which_option_takes_a_file(
    option: str, content: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "cat"
    given.write_bytes(content)
    assert main(["chat", option, str(given), "Why?"]) == 2
    assert capsys.readouterr().err.startswith(f"archer-ws: {given} {told}")


@pytest.mark.parametrize(
    ("model", "effort", "capabilities", "told"),
    [
        ("llama3.2", "low", ["completion"], "Leave --effort out"),
        ("gpt-oss", "none", ["completion", "thinking"], "Send low, its lowest"),
    ],
)
async def test_what_to_do_about_an_effort_that_the_model_does_not_take_is_told(
    model: str, effort: str, capabilities: list[str], told: str, tmp_path: Path
) -> None:
    arguments = ("chat", "--model", model, "--effort", effort, "Why?", "--url")
    async with (
        server(ollama_stream("Because."), cwd=tmp_path, capabilities=capabilities) as running,
        program(*arguments, running.url, cwd=tmp_path, environment={}) as chat,
    ):
        assert await chat.ended(limit_s=60) == 1
        assert told in await chat.errors()


async def test_a_providers_error_goes_to_standard_error_with_its_hint(tmp_path: Path) -> None:
    missing = ollama_error('model "llama3.2" not found, try pulling it first', status=404)
    async with (
        server(missing, cwd=tmp_path) as running,
        program("chat", "Why?", "--url", running.url, cwd=tmp_path, environment={}) as chat,
    ):
        assert await chat.ended(limit_s=60) == 1
        assert "ollama pull llama3.2" in await chat.errors()
        assert await chat.stdout.read() == b""


@needs_signals
async def test_ctrl_c_ends_the_generation_and_keeps_what_came(tmp_path: Path) -> None:
    async with (
        server(ollama_stream("Because ", forever()), cwd=tmp_path) as running,
        program("chat", "Why?", "--url", running.url, cwd=tmp_path, environment={}) as chat,
    ):
        await chat.expect("Because ")
        exchange = await running.next_chat()
        chat.send_signal(signal.SIGINT)
        assert await chat.ended() == 130
        assert await chat.stdout.read() == b"\n"
        assert await chat.errors() == ""
        async with asyncio.timeout(WAIT_LIMIT_S):
            await exchange.client_left.wait()
        streams = (await running.http.get("/api/v1/streams")).json()["items"]
        assert [each["status"] for each in streams] == ["cancelled"]


@pytest.mark.parametrize(
    ("arguments", "lacking"),
    [(("--compare", "a", "Why?"), "another model"), (("--compare", "a", "--compare", "b"), "a question")],
)
def test_comparing_needs_a_question_and_two_models(
    arguments: tuple[str, ...], lacking: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert main(["chat", *arguments]) == 2
    assert lacking in capsys.readouterr().err


def by_model(**replies: Reply) -> Callable[[Exchange], Reply]:
    """What Ollama answers, by the model's name."""
    return lambda exchange: replies[exchange.json()["model"]]


async def test_two_models_answers_come_one_after_the_other_into_a_file(tmp_path: Path) -> None:
    replies = by_model(one=ollama_stream("Blue."), two=ollama_error("the disk is full", status=500))
    options = ("--model", "ollama/one", "--compare", "ollama/two", "Why?")
    async with (
        server(replies, cwd=tmp_path, ARCHER_MAX_RETRIES="0") as running,
        program("chat", *options, "--url", running.url, cwd=tmp_path, environment={}) as chat,
    ):
        assert (await chat.stdout.read()).decode() == "## ollama/one\n\nBlue.\n\n## ollama/two\n\n"
        assert await chat.ended() == 1
        assert "the disk is full" in await chat.errors()


@needs_signals
async def test_two_models_are_shown_side_by_side_and_ctrl_c_cancels_both(tmp_path: Path) -> None:
    replies = by_model(one=ollama_stream("Blue", forever()), two=ollama_stream("Red", forever()))
    options = ("--compare", "ollama/one", "--compare", "ollama/two", "Why?")
    environment = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    async with (
        server(replies, cwd=tmp_path) as running,
        on_terminal("chat", *options, "--url", running.url, cwd=tmp_path, **environment) as (chat, screen),
    ):
        await screen.expect(f"Blue{' ' * 34} │ Red")
        exchanges = [await running.next_chat(), await running.next_chat()]
        chat.send_signal(signal.SIGINT)
        assert await chat.ended() == 130
        async with asyncio.timeout(WAIT_LIMIT_S):
            for exchange in exchanges:
                await exchange.client_left.wait()
        streams = (await running.http.get("/api/v1/streams")).json()["items"]
        assert [each["status"] for each in streams] == ["cancelled", "cancelled"]


@needs_signals
async def test_a_killed_chat_ends_the_generation(tmp_path: Path) -> None:
    async with (
        server(ollama_stream("Because ", forever()), cwd=tmp_path) as running,
        program("chat", "Why?", "--url", running.url, cwd=tmp_path, environment={}) as chat,
    ):
        await chat.expect("Because ")
        exchange = await running.next_chat()
        chat.process.kill()
        async with asyncio.timeout(WAIT_LIMIT_S):
            await exchange.client_left.wait()


@needs_signals
async def test_a_conversations_answer_goes_on_over_a_lost_connection(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with (
        server(ollama_stream("Blue", Wait(more), " sky."), cwd=tmp_path) as running,
        cutting_proxy(running.url.removeprefix("http://")) as proxy,
        on_terminal("chat", "--url", proxy.url, cwd=tmp_path) as (chat, screen),
    ):
        await screen.expect("> ")
        screen.type("Sky?\n")
        await screen.expect("Blue")
        proxy.cut()
        await screen.expect("[the connection broke off: connecting again]")
        await screen.expect("[connected again]")
        more.set()
        await screen.expect(" sky.")
        await screen.expect("> ")
        screen.type("\x04")
        assert await chat.ended() == 0


@needs_signals
async def test_a_conversation_is_remembered_and_ctrl_c_ends_an_answer_only(tmp_path: Path) -> None:
    replies = iter([ollama_stream("Blue."), ollama_stream("Well", forever()), ollama_stream("Red.")])

    def next_reply(_: Exchange) -> Reply:
        return next(replies)

    async with (
        server(next_reply, cwd=tmp_path) as running,
        on_terminal("chat", "--url", running.url, "--system", "Be brief.", cwd=tmp_path) as (chat, screen),
    ):
        await screen.expect("> ")
        screen.type("Sky?\n")
        await screen.expect("Blue.")
        await screen.expect("> ")
        screen.type("And at sea?\n")
        await screen.expect("Well")
        await running.next_chat()
        exchange = await running.next_chat()
        chat.send_signal(signal.SIGINT)
        await screen.expect("[cancelled]")
        async with asyncio.timeout(WAIT_LIMIT_S):
            await exchange.client_left.wait()
        await screen.expect("> ")
        screen.type("And at sunset?\n")
        await screen.expect("Red.")
        said = (await running.next_chat()).json()["messages"]
        assert [each["content"] for each in said] == [
            *("Be brief.", "Sky?", "Blue."),
            *("And at sea?", "Well", "And at sunset?"),
        ]
        await screen.expect("> ")
        screen.type("\x04")
        assert await chat.ended() == 0


@needs_signals
async def test_the_system_message_is_sent_once_even_if_ctrl_c_ends_the_first_answer(tmp_path: Path) -> None:
    replies = iter([ollama_stream("Well", forever()), ollama_stream("Red.")])

    def next_reply(_: Exchange) -> Reply:
        return next(replies)

    async with (
        server(next_reply, cwd=tmp_path) as running,
        on_terminal("chat", "--url", running.url, "--system", "Be brief.", cwd=tmp_path) as (chat, screen),
    ):
        await screen.expect("> ")
        screen.type("Sky?\n")
        await screen.expect("Well")
        await running.next_chat()
        chat.send_signal(signal.SIGINT)
        await screen.expect("[cancelled]")
        await screen.expect("> ")
        screen.type("And at sunset?\n")
        await screen.expect("Red.")
        said = (await running.next_chat()).json()["messages"]
        assert [each["content"] for each in said] == ["Be brief.", "Sky?", "Well", "And at sunset?"]
        await screen.expect("> ")
        screen.type("\x04")
        assert await chat.ended() == 0


async def test_a_conversation_has_the_first_line_as_its_title_and_none_is_stored_before(tmp_path: Path) -> None:
    async with (
        server(ollama_stream("Blue."), cwd=tmp_path) as running,
        on_terminal("chat", "--url", running.url, cwd=tmp_path) as (chat, screen),
    ):
        await screen.expect("> ")
        assert (await running.http.get("/api/v1/sessions")).json()["items"] == []
        screen.type(f"Why is the  sky {'very ' * 20}blue?\n")
        await screen.expect("Blue.")
        await screen.expect("> ")
        (stored,) = (await running.http.get("/api/v1/sessions")).json()["items"]
        assert stored["title"] == f"Why is the sky {'very ' * 9}…".replace(" …", "…")
        screen.type("\x04")
        assert await chat.ended() == 0


#: What a terminal sends for the arrow that points up.
UP = "\x1b[A"


@needs_signals
@pytest.mark.parametrize("has_prompt_toolkit", [True, False])
async def test_an_earlier_conversations_lines_come_back_with_the_arrow_and_answers_are_styled(
    tmp_path: Path, *, has_prompt_toolkit: bool
) -> None:
    (tmp_path / "hidden").mkdir()
    if not has_prompt_toolkit:
        (tmp_path / "hidden" / "sitecustomize.py").write_text(
            "import importlib.util as util\nfind = util.find_spec\n"
            "util.find_spec = lambda name, *rest: None if name == 'prompt_toolkit' else find(name, *rest)\n"
        )
    environment = {
        "TERM": "xterm",
        "PROMPT_TOOLKIT_NO_CPR": "1",
        "ARCHER_CHAT_HISTORY": str(tmp_path / "lines" / "history"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "hidden"), str(ROOT)]),
    }
    async with server(ollama_stream("It is **blue", "**.\n"), cwd=tmp_path) as running:
        arguments = ("chat", "--url", running.url)
        async with on_terminal(*arguments, cwd=tmp_path, **environment) as (chat, screen):
            await screen.expect("Up: earlier lines, Ctrl-C: stop an answer, Ctrl-D: leave.")
            await screen.expect(">")
            screen.type("Sky?\r")
            await screen.expect("It is \x1b[1mblue\x1b[0m.")
            await running.next_chat()
            await screen.expect(">")
            screen.type("\x04")
            assert await chat.ended() == 0
        async with on_terminal(*arguments, cwd=tmp_path, **environment) as (chat, screen):
            await screen.expect(">")
            screen.type(UP)
            await screen.expect("Sky?")
            screen.type("\r")
            await screen.expect("It is \x1b[1mblue\x1b[0m.")
            assert (await running.next_chat()).json()["messages"][-1]["content"] == "Sky?"
            await screen.expect(">")
            screen.type("\x04")
            assert await chat.ended() == 0
    assert (tmp_path / "lines" / "history").stat().st_mode & 0o077 == 0


@needs_signals
async def test_plain_answers_keep_their_marks_on_a_terminal(tmp_path: Path) -> None:
    async with (
        server(ollama_stream("It is **blue**."), cwd=tmp_path) as running,
        on_terminal("chat", "--plain", "Sky?", "--url", running.url, cwd=tmp_path, TERM="xterm") as (chat, screen),
    ):
        await screen.expect("It is **blue**.")
        assert await chat.ended() == 0
