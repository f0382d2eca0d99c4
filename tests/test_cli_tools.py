"""`archer-ws chat --tools FILE.py`: the file's functions, the question before each call, and what is shown of it."""

import io
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from archer_ws.cli import main
from archer_ws.client import ClientError, ToolCall, ToolResult
from archer_ws.terminal.screen import Terminal
from archer_ws.terminal.tool_file import load_tools
from tests.conftest import Archer
from tests.fakes.tool_loops import playing_tool_loops
from tests.processes import program
from tests.terminals import on_terminal

needs_a_terminal = pytest.mark.skipif(sys.platform == "win32", reason="a test can't make a terminal there")

TOOLS = '''
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    print("", end="")
    return f"rain in {city}"


def now() -> str:
    """The time."""
    raise RuntimeError("the clock stands still")
'''
_BESIDE = "from datetime import date\nfrom archer_ws.client import tool\nNAME = 'x'\nclass Look: ...\n"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    path = tmp_path / "weather.py"
    path.write_text(TOOLS, "utf-8")
    return path


def written(folder: Path, text: str) -> Path:
    path = folder / "tools.py"
    path.write_text(text, "utf-8")
    return path


@pytest.fixture(autouse=True)
def _imports_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "archer_tools", raising=False)


# What a file offers.


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (TOOLS, ["get_weather", "now"]),
        (_BESIDE + "def look() -> str: ...\ndef _hidden() -> str: ...", ["look"]),
        (_BESIDE + "@tool(name='see')\ndef look() -> str: ...", ["see"]),
        (_BESIDE + "def look() -> str: ...\ndef other() -> str: ...\nTOOLS = [look]", ["look"]),
        ("from __future__ import annotations\nfrom beside import City\ndef look(city: City) -> str: ...", ["look"]),
    ],
    ids=["functions", "of_its_own", "tool", "listed", "neighbours"],
)
def test_a_file_offers_its_own_public_functions_or_those_that_it_lists(
    tmp_path: Path, text: str, names: Sequence[str]
) -> None:
    (tmp_path / "beside.py").write_text("City = str", "utf-8")
    assert [each.name for each in load_tools(written(tmp_path, text))] == names


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "there is no file "),
        ("def look(:\n", "can't be read: invalid syntax (line 1)"),
        ("import no_such_package_at_all", "ModuleNotFoundError: No module named 'no_such_package_at_all' (line 1)"),
        ("\n1 / 0\n", "ZeroDivisionError: division by zero (line 2)"),
        ("raise SystemExit(3)", "SystemExit: 3 (line 1)"),
        ("NAME = 1", "has no functions"),
        ("TOOLS = []", "has no functions"),
        ("TOOLS = [1]", "is no list of functions"),
        ("TOOLS = 'look'", "is no list of functions"),
        ("def look(*cities: str) -> str: ...", "*cities: str of look can't be passed by name"),
        ("def look() -> str: ...\nTOOLS = [look, look]", "has two tools with the name look"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line_and_what_to_do(
    tmp_path: Path, text: str | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tools.py" if text is None else written(tmp_path, text)
    with pytest.raises(ClientError) as caught:
        load_tools(path)
    assert told in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert main(["chat", "--tools", str(path), "Rain?"]) == 2
    assert told in capsys.readouterr().err


def test_tools_are_for_one_model(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--tools", str(tools), "--compare", "a", "--compare", "b", "Rain?"]) == 2
    assert "leave --compare out" in capsys.readouterr().err


# Chatting.


def url_of(archer: Archer) -> str:
    return f"http://{archer.address}"


async def test_without_a_terminal_a_call_is_denied_and_the_model_is_told_why(archer: Archer, tools: Path) -> None:
    archer.answer(playing_tool_loops)
    options = ("weather", "--tools", str(tools), "--url", url_of(archer))
    async with program("chat", *options, cwd=tools.parent, environment={}) as chat:
        assert await chat.ended() == 0
        printed, told = (await chat.stdout.read()).decode(), await chat.errors()
    assert "there is no terminal" in printed
    assert "rain in Oslo" not in printed
    assert '[calls get_weather {"city":"Oslo"}]' in told
    assert "[get_weather, denied: " in told


@needs_a_terminal
@pytest.mark.parametrize(("typed", "is_run"), [("y\n", True), ("maybe\nYes\n", True), ("n\n", False), ("\x04", False)])
async def test_a_person_is_asked_before_a_call_runs(archer: Archer, tools: Path, typed: str, is_run: bool) -> None:
    archer.answer(playing_tool_loops)
    options = ("weather", "--tools", str(tools), "--url", url_of(archer))
    async with on_terminal("chat", *options, cwd=tools.parent) as (chat, screen):
        await screen.expect('[calls get_weather {"city":"Oslo"}]')
        for line in typed.splitlines(keepends=True):
            await screen.expect("Run get_weather? y(es), n(o), a(lways): ")
            screen.type(line)
        await screen.expect("[get_weather: rain in Oslo]" if is_run else "[get_weather, denied: ")
        await screen.expect("I heard: rain in Oslo" if is_run else "The user said no.")
        assert await chat.ended() == 0


@needs_a_terminal
@pytest.mark.parametrize("term", ["dumb", "xterm"])
async def test_always_is_for_that_tool_and_for_the_whole_conversation(archer: Archer, tools: Path, term: str) -> None:
    archer.answer(playing_tool_loops)
    options = ("--tools", str(tools), "--url", url_of(archer))
    environment = {"TERM": term, "PROMPT_TOOLKIT_NO_CPR": "1", "ARCHER_CHAT_HISTORY": "off"}
    async with on_terminal("chat", *options, cwd=tools.parent, **environment) as (chat, screen):
        await screen.expect(">")
        screen.type("both\r")
        await screen.expect("Run get_weather? ")
        screen.type("a\n")
        await screen.expect("I heard: rain in Oslo; rain in Lima")
        await screen.expect(">")
        screen.type("\x04")
        assert await chat.ended() == 0


@needs_a_terminal
async def test_what_a_tool_raises_is_shown_and_the_talk_goes_on(archer: Archer, tools: Path) -> None:
    archer.answer(playing_tool_loops)
    options = ("time", "--tools", str(tools), "--url", url_of(archer))
    async with on_terminal("chat", *options, cwd=tools.parent) as (chat, screen):
        await screen.expect("Run now? ")
        screen.type("y\n")
        await screen.expect("[now, error: the clock stands still]")
        await screen.expect("I heard: ")
        assert await chat.ended() == 0


@needs_a_terminal
async def test_a_question_that_the_end_of_the_stream_takes_away_takes_no_line_with_it(
    archer: Archer, tools: Path
) -> None:
    archer.answer(playing_tool_loops)
    async with on_terminal("chat", "--tools", str(tools), "--url", url_of(archer), cwd=tools.parent) as (chat, screen):
        await screen.expect("> ")
        screen.type("weather\n")
        await screen.expect("Run get_weather? ")
        (stream,) = (await archer.http.get("/api/v1/streams?active=true")).json()["items"]
        answered = await archer.http.delete(f"/api/v1/streams/{stream['stream_id']}")
        assert answered.json()["outcome"] == "cancelling"
        await screen.expect("[cancelled: ")
        await screen.expect("> ")
        screen.type("weather\n")
        await screen.expect("the call was cancelled")
        await screen.expect("> ")
        screen.type("\x04")
        assert await chat.ended() == 0


@needs_a_terminal
async def test_ctrl_c_at_a_question_ends_the_answer_and_not_the_conversation(archer: Archer, tools: Path) -> None:
    archer.answer(playing_tool_loops)
    async with on_terminal("chat", "--tools", str(tools), "--url", url_of(archer), cwd=tools.parent) as (chat, screen):
        await screen.expect("> ")
        screen.type("weather\n")
        await screen.expect("Run get_weather? ")
        chat.send_signal(signal.SIGINT)
        await screen.expect("[cancelled]")
        await screen.expect("> ")
        screen.type("\x04")
        assert await chat.ended() == 0


@needs_a_terminal
async def test_a_tool_that_hangs_does_not_keep_the_program_from_ending(archer: Archer, tmp_path: Path) -> None:
    text = TOOLS.replace("print(", "import time; print('\\nhanging'); time.sleep(3600); print(")
    path = written(tmp_path, text)
    archer.answer(playing_tool_loops)
    options = ("weather", "--tools", str(path), "--url", url_of(archer))
    async with on_terminal("chat", *options, cwd=tmp_path) as (chat, screen):
        await screen.expect("Run get_weather? ")
        screen.type("y\n")
        await screen.expect("hanging")
        chat.send_signal(signal.SIGINT)
        assert await chat.ended() == 130


# How it looks.


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def call(arguments: str, **more: Any) -> ToolCall:
    return ToolCall(stream_id="s", seq=3, call_id="c", name="delete", arguments=arguments, by="client", **more)


def test_what_is_to_be_approved_is_shown_whole_and_what_is_not_seen_as_its_code() -> None:
    err = _Tty()
    Terminal(_Tty(), err).show(call('{"path": "\u202egpj.exe\u200b' + "x" * 500 + '"}', needs_approval=True))
    assert err.getvalue() == '[calls delete {"path": "\\u202egpj.exe\\u200b' + "x" * 500 + '"}]\n'


def test_a_result_is_one_line_with_its_tools_name() -> None:
    err = _Tty()
    terminal = Terminal(_Tty(), err)
    terminal.show(call("{}"))
    terminal.show(ToolResult(stream_id="s", seq=4, call_id="c", status="ok", content="it\nis\x1b gone"))
    terminal.show(ToolResult(stream_id="s", seq=5, call_id="unknown", status="timeout"))
    assert err.getvalue().splitlines() == ["[calls delete {}]", "[delete: it is gone]", "[unknown, timeout: ]"]
