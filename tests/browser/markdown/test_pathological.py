"""Texts made to cost time: a renderer that they would hold up for minutes is done with them in seconds, and shows them.

The bounds are wide: what is quadratic in a text takes a hundred times as long as it should. Each text is 100,000
characters and more with `--long`, else its first 20,000.
"""

import pytest

from tests.browser.markdown.page import MarkdownPage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

MANY = 100_000
#: How many characters there are of each without `--long`.
SHORT = 20_000
WITHIN_MS = 30_000
#: Beyond it, browsers go deep in their own layout.
DEPTH_MAX = 60
TEXTS = {
    "quotes in quotes": ">" * 10_000 + " deep",
    "quotes in quotes, line by line": "".join(">" * (number % 300) + " x\n" for number in range(600)),
    "lists in lists": "- " * 10_000 + "deep",
    "lists in lists, line by line": "".join(" " * (2 * number) + "- x\n" for number in range(300)),
    "ordered lists in lists": "1. " * 10_000 + "deep",
    "brackets that open": "[" * MANY,
    "brackets that close": "]" * MANY,
    "brackets within brackets": "[" * 20_000 + "a" + "]" * 20_000,
    "links without an end": "[a](" * 20_000,
    "pictures without an end": "![" * 50_000,
    "labels": "[a][b]" * 15_000,
    "definitions": "".join(f"[l{number}]: http://example.org/{number}\n" for number in range(4000)),
    "definitions without an end": "[a\n" * 30_000,
    "labels, and then what they mean": "[a]" * 20_000 + "\n\n[a]: http://example.org\n",
    "stars": "*" * MANY,
    "stars that open": "*a " * 30_000,
    "stars that open and close": "*a **b " * 15_000,
    "stars and lines by turns": "a**b" + "c* " * 30_000 + "_a __b" * 10_000,
    "emphasis in emphasis": "*a_b" * 20_000 + "b_a*" * 20_000,
    "backticks": "`" * MANY,
    "backticks of each number": "".join("`" * number + " " for number in range(1, 440)),
    "tildes": "~~a " * 25_000,
    "tags without an end": "<a " * 30_000,
    "addresses without an end": "<http:" * 16_000,
    "comments without an end": "<!--" * 25_000,
    "entities": "&amp" * 25_000,
    "addresses": "http://a.example " * 6_000,
    "an address": "http://" + "a." * 50_000,
    "mails": "a@" * 50_000,
    "backslashes": "\\" * MANY,
    "a table of many columns": "|a" * 50_000 + "\n" + "|-" * 50_000 + "\n|x\n",
    "a table of short rows": "|" + "a|" * 90 + "\n|" + "-|" * 90 + "\n" + "x\n" * 40_000,
    "a table of separators": "|---" * 30_000,
    "a table's head and no more": "| a | b |\n" * 10_000,
    "fences": "```\n" * 25_000,
    "fences in lists": "- ```\n" * 15_000,
    "headings": "#" * MANY,
    "lines": "\n" * MANY,
    "carriage returns": "\r" * MANY,
    "spaces": "a" + " " * MANY + "b",
    "tabs": "\t" * MANY + "a",
    "underlines": "a\n" + "=" * MANY,
    "rules": "* * " * 25_000,
    "numbers": "1" * MANY,
    "tags of flags": "\U000e0041" * 50_000,
    "marks on a letter": "a" + "\u0301" * MANY,
    "overrides": "\u202e" * 20_000,
}


@pytest.mark.parametrize("name", TEXTS)
async def test_it_is_done_in_time_and_shallow(page: MarkdownPage, name: str, pytestconfig: pytest.Config) -> None:
    text = TEXTS[name] if pytestconfig.getoption("long") else TEXTS[name][:SHORT]
    seen = await page.run("return await tests.whole(text);", text=text)
    assert seen["ms"] < WITHIN_MS
    assert seen["depth"] <= DEPTH_MAX
    # The elements are no multiple of the text.
    assert seen["elements"] <= 2 * len(text)


async def test_what_is_too_deep_is_shown_as_it_is_written(page: MarkdownPage) -> None:
    html = await page.shown("> " * 50 + "the end")
    assert "the end" in html


async def test_code_that_takes_too_long_to_colour_stays_without_colours(page: MarkdownPage) -> None:
    html = await page.shown("```js\n" + "x = 1;\n" * 20_000 + "```\n\nafter\n")
    assert "md-hl" not in html
    assert "after" in html
