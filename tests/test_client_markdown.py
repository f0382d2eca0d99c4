"""Markdown on a terminal: what gets a look, what stays as it is, and that it does not matter how the text comes."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.terminal.markdown import HELD_MAX, Markdown

BOLD, DIM, ITALIC, CODE, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[3m", "\x1b[36m", "\x1b[0m"


def shown(*pieces: str) -> str:
    markdown = Markdown()
    return "".join(map(markdown.feed, pieces)) + markdown.end()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a **b** c", f"a {BOLD}b{PLAIN} c"),
        ("__b__ and _i_ and *i*", f"{BOLD}b{PLAIN} and {ITALIC}i{PLAIN} and {ITALIC}i{PLAIN}"),
        ("***both***", f"{BOLD}{ITALIC}both{PLAIN}"),
        ("call `f(*a)` now", f"call {CODE}f(*a){PLAIN} now"),
        ("``a ` b``", f"{CODE}a ` b{PLAIN}"),
        ("**bold `x` on**", f"{BOLD}bold {CODE}x{PLAIN}{BOLD} on{PLAIN}"),
        ("# Head **line**\nx", f"{BOLD}Head {BOLD}line{PLAIN}{BOLD}{PLAIN}\nx"),
        ("- a\n* b\n  + c\n1. d\n", "• a\n• b\n  • c\n1. d\n"),
        ("> said\n", f"{DIM}│ said{PLAIN}\n"),
        ("---\n", f"{DIM}{'─' * 24}{PLAIN}\n"),
        ("```py\na = **b\n```\nc\n", f"{DIM}  py{PLAIN}\n{CODE}  a = **b{PLAIN}\n{CODE}{PLAIN}\nc\n"),
        ("~~~\n```\n~~~\nc\n", f"{DIM}  {PLAIN}\n{CODE}  ```{PLAIN}\n{CODE}{PLAIN}\nc\n"),
    ],
)
def test_marks_become_a_look(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2 * 3 * 4",
        "snake_case_name and __init__x",
        "a ** b ** c",
        "never **closed",
        "never `closed\nnext",
        r"\*escaped\*",
        "#hashtag and -5 and >",
        "| a | b |\n|---|---|",
        "*\n",
        "** not bold **",
    ],
)
def test_what_is_no_markup_stays_as_it_is(text: str) -> None:
    assert shown(text) == text


def test_text_is_shown_as_it_comes_and_waits_only_where_it_may_become_markup() -> None:
    markdown = Markdown()
    assert markdown.feed("Blue ") == "Blue "
    assert markdown.feed("is **a ") == "is "
    assert markdown.feed("colour**, ") == f"{BOLD}a colour{PLAIN}, "
    assert markdown.feed("\n#") == "\n"
    assert markdown.feed("# Why") == f"{BOLD}Why"
    assert markdown.feed("?\n") == f"?{PLAIN}\n"


def test_markup_that_does_not_end_is_not_waited_for_long() -> None:
    markdown = Markdown()
    text = "**" + "x" * HELD_MAX
    assert markdown.feed(text) == text


def test_a_broken_off_answer_leaves_the_terminal_as_it_was() -> None:
    markdown = Markdown()
    markdown.feed("# He")
    assert markdown.end() == PLAIN
    assert markdown.feed("next") == "next"
    markdown.end()
    markdown.feed("```\ncode")
    assert markdown.end() == PLAIN
    assert markdown.feed("- x") == "• x"


@pytest.mark.parametrize("word", ["__a ", "*a", "**a ", "_a ", "a_b ", "a `", "*a* ", "a\n"])
def test_a_text_of_nothing_but_marks_is_read_once(word: str) -> None:
    # If each mark were followed to the end of its line, or the rest copied for each, this would take minutes.
    looks = re.sub(r"\x1b\[\d+m", "", shown(word * 200_000))
    assert looks.count("a") == 200_000


@pytest.mark.parametrize("mark", ["**", "__", "*", "_", "***"])
def test_a_span_with_nothing_but_backticks_is_read_once(mark: str) -> None:
    row = "`" * 200_000
    assert re.sub(r"\x1b\[\d+m", "", shown(f"{mark}a{row} b{mark}\n")) == f"a{row} b\n"


#: Letters that mean something, and some that don't.
TEXTS = st.text(alphabet="ab *_`#->\n\\~1.", max_size=80)


@given(text=TEXTS, cuts=st.lists(st.integers(0, 80), max_size=8))
def test_it_does_not_matter_how_the_text_is_cut(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    assert shown(*(text[start:end] for start, end in itertools.pairwise(places))) == shown(text)


@given(text=TEXTS)
def test_no_word_is_lost_and_every_look_ends(text: str) -> None:
    out = shown(text)
    plain = re.sub(r"\x1b\[\d+m", "", out)
    assert re.findall(r"[ab1.]", plain) == re.findall(r"[ab1.]", text)
    assert plain.count("\n") == text.count("\n")
    looks = re.findall(r"\x1b\[\d+m", out)
    assert not looks or looks[-1] == PLAIN
