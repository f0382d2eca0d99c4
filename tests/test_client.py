"""Chatting in a terminal: how answers are shown, one alone and several side by side."""

import io
import os
from dataclasses import replace
from traceback import format_exception
from typing import Any, cast

import pytest

from archer_ws.client import ArgumentsDelta, ChatStream, Delta, Progress, StreamEvent, ToolCall
from archer_ws.client.errors import Unreachable
from archer_ws.client.link import Link
from archer_ws.terminal.chat import messages, show
from archer_ws.terminal.columns import Columns
from archer_ws.terminal.screen import Terminal


class Screen(io.StringIO):
    """A terminal, or a file."""

    def __init__(self, *, is_tty: bool = True) -> None:
        super().__init__()
        self.tty = is_tty

    def isatty(self) -> bool:
        return self.tty


@pytest.fixture(autouse=True)
def _the_terminal_obeys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


def shown(*shown_events: StreamEvent, is_tty: bool = True) -> tuple[str, str]:
    out, err = Screen(is_tty=is_tty), Screen()
    terminal = Terminal(out, err)
    for each in shown_events:
        terminal.show(each)
    terminal.end_line()
    return out.getvalue(), err.getvalue()


def test_a_traceback_of_an_error_shows_what_to_do() -> None:
    shown = "".join(format_exception(Unreachable("nothing answers", "Start the server.")))
    assert shown.endswith("Unreachable: nothing answers\nStart the server.\n")


def test_a_models_text_cannot_steer_the_terminal() -> None:
    nasty = "a\x1b[2J\x1b]0;title\x07b\r\x08c\x9b31md\te\nf\x7f ä 語"
    assert shown(Delta(nasty))[0] == "a[2J]0;titlebc31md\te\nf ä 語\n"


def test_a_file_gets_the_text_as_it_is() -> None:
    assert shown(Delta("a\x1b[0m\r\n"), is_tty=False)[0] == "a\x1b[0m\r\n"


def test_reasoning_is_dimmed_on_a_terminal_and_left_out_of_a_file() -> None:
    thought = (Delta(reasoning="Hm"), Delta(reasoning="..."), Delta("Blue"))
    assert shown(*thought)[0] == "\x1b[2mHm...\x1b[0m\n\nBlue\n"
    assert shown(*thought, is_tty=False)[0] == "Blue\n"


def test_reasoning_has_no_escape_sequences_on_a_terminal_that_would_print_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert shown(Delta(reasoning="Hm"), Delta("Blue"))[0] == "Hm\n\nBlue\n"


def test_reasoning_that_is_broken_off_leaves_the_terminal_as_it_was() -> None:
    assert shown(Delta(reasoning="Hm"))[0] == "\x1b[2mHm\x1b[0m\n"


def test_progress_and_notices_stay_out_of_the_answer() -> None:
    out, err = shown(Progress(stream_id="s", seq=1, phase="loading", detail="mod\x1bel"), Delta("Blue"))
    assert out == "Blue\n"
    assert err == "[loading: model]\n"


def test_a_call_is_one_line_beside_the_answer_and_its_pieces_are_none() -> None:
    arguments = '{\n  "city": "O\x1bslo"\n}'
    call = ToolCall(stream_id="s", seq=3, call_id="c", name="get_weather", arguments=arguments, by="client")
    assert shown(Delta("Blue"), ArgumentsDelta("{", "c", "get_weather"), call) == (
        "Blue\n",
        '[calls get_weather { "city": "Oslo" }]\n',
    )
    _, told = shown(replace(call, arguments="x" * 500))
    assert told == f"[calls get_weather {'x' * 119}…]\n"


def test_each_piece_is_flushed_as_it_comes() -> None:
    buffer = io.BytesIO()
    terminal = Terminal(io.TextIOWrapper(buffer, encoding="utf-8", write_through=False), Screen())
    terminal.show(Delta("Bl"))
    assert buffer.getvalue() == b"Bl"


def answered(status: str, **fields: Any) -> ChatStream:
    """An answer that said "Blue" and ended so."""
    stream = ChatStream(cast(Link, None), "s", None)
    stream.attached()
    stream.take("stream/delta", {"stream_id": "s", "from": 1, "seq": 1, "content": "Blue"})
    stream.take("stream/ended", {"stream_id": "s", "seq": 2, "status": status, **fields})
    return stream


@pytest.mark.parametrize(
    ("stream", "is_whole", "told"),
    [
        (answered("completed"), True, ""),
        (
            answered("completed", finish_reason="length"),
            True,
            "[the answer was cut off: --max-tokens allows more]\n",
        ),
        (answered("cancelled", reason="draining"), False, "[cancelled: the server is stopping]\n"),
        (answered("cancelled", reason="disconnected"), False, "[cancelled: the connection broke off]\n"),
        (
            answered("incomplete", error={"kind": "upstream_truncated", "message": "it just stopped"}),
            False,
            "[the answer is incomplete]\narcher-ws: it just stopped\n",
        ),
        (
            answered("failed", error={"kind": "provider_auth", "message": "wrong key", "hint": "Set it."}),
            False,
            "archer-ws: wrong key\n  Set it.\n",
        ),
        (answered("applauded"), False, "[applauded]\n"),
    ],
)
async def test_how_an_answer_ended_is_told(stream: ChatStream, is_whole: bool, told: str) -> None:
    out, err = Screen(is_tty=False), Screen()
    assert await show(stream, Terminal(out, err)) is is_whole
    assert out.getvalue() == "Blue\n"
    assert err.getvalue() == told


def on_screen(written: str) -> list[str]:
    """What an endlessly high terminal shows after these sequences."""
    rows: list[str] = []
    at = 0
    while written:
        if written.startswith("\x1b["):
            end = next(index for index, character in enumerate(written) if index > 1 and character.isalpha())
            sequence, written = written[2 : end + 1], written[end + 1 :]
            if sequence.endswith("A"):
                at -= int(sequence[:-1])
            else:
                assert sequence == "2K"
                rows[at : at + 1] = [""]
            continue
        line, _, written = written.partition("\n")
        rows[at : at + 1] = [line]
        at += 1
    return rows


@pytest.fixture
def small_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((64, 8)))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("WT_SESSION", "1")


@pytest.mark.usefixtures("small_terminal")
def test_columns_fill_side_by_side_and_all_of_both_is_shown_whichever_is_faster() -> None:
    screen = Screen()
    terminal = Terminal(screen, Screen())
    width = terminal.column_width(2)
    assert width == 30
    columns = Columns(["fast", "slow"], width)
    said = [" ".join(f"fast{number}" for number in range(60)), "slow 語 text"]
    for number in range(0, len(said[0]), 7):
        columns.add(0, said[0][number : number + 7])
        columns.add(1, said[1][number // 7 : number // 7 + 1])
        terminal.redraw(columns)
    assert len(on_screen(screen.getvalue())) <= 8, "a row that scrolled away could not be filled"
    columns.end(0)
    columns.end(1)
    terminal.leave(columns)
    rows = [[cell.strip() for cell in row.split("│")] for row in on_screen(screen.getvalue())]
    assert rows[0] == ["fast", "slow"]
    assert " ".join(row[0] for row in rows[2:]) == said[0]
    assert rows[2][1] == said[1]
    assert screen.getvalue().endswith("\n")


@pytest.mark.usefixtures("small_terminal")
def test_columns_are_for_terminals_that_are_wide_enough() -> None:
    assert Terminal(Screen(is_tty=False), Screen()).column_width(2) is None
    assert Terminal(Screen(), Screen()).column_width(3) is None


def test_words_are_wrapped_where_they_fit_and_cut_where_they_do_not() -> None:
    columns = Columns(["a"], 8)
    columns.add(0, "one two three\n" + "x" * 20 + "\n語語語語語")
    rows = [columns.row(number) for number in range(2, columns.height)]
    assert rows == ["one two", "three", "x" * 8, "x" * 8, "x" * 4, "語語語語", "語"]


def test_what_a_shell_passed_on_that_is_not_unicode_becomes_question_marks() -> None:
    assert messages("a\udcffb", "sys\udc80") == [
        {"role": "system", "content": "sys?"},
        {"role": "user", "content": "a?b"},
    ]
