"""An answer that comes in pieces: in the end it is what it is as a whole, and it is calm on its way."""

import random

import pytest

from tests.browser.markdown.page import MarkdownPage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

#: What blocks and spans begin and end with, and what may come between.
SIGNS = (
    *(
        "- ",
        "* ",
        "1. ",
        "2) ",
        "> ",
        "    ",
        "  ",
        " ",
        "\t",
        "\n",
        "\n",
        "\n",
        "\n\n",
        "\r\n",
        "-",
        "1.",
        "[ ] ",
        "[x] ",
    ),
    *("```", "~~~", "```js\n", "# ", "## ", "---", "===", "***", "**", "*", "_", "`", "``", "~~", "\\", "&amp;", "<b>"),
    *(
        "[a]",
        "[b][a]",
        "[a]: /x",
        "[a]: http://x.example 'ti",
        "[b]:\n",
        "'t'",
        "[l](http://l.example)",
        "|",
        "| c |\n",
    ),
    *("![i](http://e.example/a.png)", "| a | b |\n", "|---|--:|\n", "a", "b c", "word", "http://u.example", "\u202e"),
    *("\U0001f3f4\U000e0067\U000e007f", "\U0001f600", "\0"),
)
#: Blocks as answers have them, which are put together in any order.
BLOCKS = (
    "Some *words* and `code`,\nin two lines, with a [label] and [another][late].\n\n",
    "## A heading\n\n",
    "A heading\n---\n",
    "- one\n- two\n  - inner\n\n    a paragraph\n- three\n",
    "- a\n\n- b\n",
    "- a\n  - b\n  - c\n    1. d\n    2. e\n    5. f\n\n  - g\n- h\n  - i\n",
    "1. [ ] a\n\n   - b\n\n     c\n   - d\n\n   e\n2. [x] f\n   * g\n   + h\n   + i\n\nj\n",
    "- a\n  * b\n  * ```\n    c\n    ```\n  * d\nlazy\n  - e\n  - [label]: /inner\n  - f\n",
    "- - a\n  - b\n  - c\n    - d\n    - e\n",
    "- a\n" + "".join(f"  - item {number}\n" for number in range(60)),
    "3. three\n4. four\n\n   ```py\n   x = 1\n   ```\n5. five\n",
    "- [ ] open\n- [x] done\n",
    "* ```\n  code\n  ```\n\n* ```\n  more\n  ```\n",
    "```js\nlet x = 1;\n\n// ``` not the end\n```\n",
    "~~~\n```\n~~~\n",
    "   ```\n   indented\n   ```\n",
    "    indented code\n\n    more of it\n\n",
    "> a quote\nwith a lazy line\n>\n> - a list\n\n",
    "| a | b |\n|:--|--:|\n| 1 | 2 |\n| 3 |\n| 4 | 5 | 6 |\n",
    "text before\n| a |\n|---|\n| b |\n\n",
    "***\n",
    "[label]: http://example.org 'a\ntitle'\n",
    "[late]: <http://example.org/late>\n\n",
    "[label]: http://example.org/second\n\n",
    "> [quoted]: http://example.org/quoted\n\n[quoted]\n\n",
    "long " * 1900 + "\n\n",
    "".join(f"line {number}\n" for number in range(120)) + "\n",
    "```\n" + "".join(f"code {number}\n" for number in range(120)) + "```\n",
    "| n | m |\n|---|---|\n" + "".join(f"| {number} | x |\n" for number in range(120)) + "\n",
)


async def hold(page: MarkdownPage, texts: list[str], draw: random.Random, cut_max: int) -> None:
    cases = [{"text": text, "cuts": [draw.randint(1, cut_max) for _ in range(9)]} for text in texts]
    for first in range(0, len(cases), 100):
        differing = await page.run("return await tests.differing(cases);", cases=cases[first : first + 100])
        assert differing == []


@pytest.mark.parametrize("seed", range(4))
async def test_signs_in_any_order_come_to_what_they_are_as_a_whole(page: MarkdownPage, seed: int) -> None:
    draw = random.Random(seed)
    texts = ["".join(draw.choices(SIGNS, k=draw.randint(3, 40))) for _ in range(300)]
    await hold(page, texts, draw, cut_max=6)


@pytest.mark.parametrize("seed", range(4))
async def test_blocks_in_any_order_come_to_what_they_are_as_a_whole(page: MarkdownPage, seed: int) -> None:
    draw = random.Random(seed)
    texts = ["".join(draw.choices(BLOCKS, k=draw.randint(2, 9))) for _ in range(60)]
    await hold(page, texts, draw, cut_max=60)


async def test_a_text_that_comes_at_once_is_what_it_is_as_a_whole(page: MarkdownPage) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices(BLOCKS, k=20)) for _ in range(20)]
    await hold(page, texts, draw, cut_max=100_000)


@pytest.mark.parametrize(
    ("text", "never"),
    [
        ("some **bold words** here", ["*"]),
        ("some *slanted* here", ["*"]),
        ("some `code` here", ["`"]),
        ("some ~~struck~~ here", ["~"]),
        ("see [the page](http://example.org/a) here", ["[", "](", "http://example.org/a<"]),
        ("see ![a picture](http://example.org/a.png) here", ["!", "["]),
        ("Here:\n- one\n- two\n", ["<h4", "-"]),
        ("Here:\n\n```python\nx\n```\n", ["`", ">py<"]),
        ("Here:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", ["|"]),
        ("# Heading\n", ["#"]),
        ("- [x] done\n", ["[", "]"]),
        ("a &amp; b", ["&amp;a", "amp"]),
        ("text\n\n1. one\n2. two\n", ['<p dir="auto">1', '<p dir="auto">2']),
    ],
)
async def test_what_is_half_written_does_not_show_as_what_it_will_not_be(
    page: MarkdownPage, text: str, never: list[str]
) -> None:
    for seen in await page.run("return await tests.steps([...text]);", text=text):
        assert [sign for sign in never if sign in seen.replace("&amp; b", "").replace("&amp;", "", 1)] == []


async def test_what_could_be_a_link_and_is_none_is_shown_soon(page: MarkdownPage) -> None:
    seen = await page.run("return await tests.steps([...text]);", text="an array[0] of [1, 2] " + "and so on" * 20)
    assert "array[0] of [1, 2] and" in seen[-1]


async def test_blocks_before_the_last_one_are_never_touched(page: MarkdownPage) -> None:
    changed = await page.run(
        """
        const { element, view } = tests.fresh();
        view.append(text);
        await view.whenIdle();
        const changed = [];
        const observer = new MutationObserver((records) => changed.push(...records));
        const options = { subtree: true, childList: true, characterData: true, attributes: true };
        for (const block of [...element.children].slice(0, -1)) observer.observe(block, options);
        const items = [...element.lastElementChild.children];
        for (const item of items.slice(0, -1)) observer.observe(item, options);
        for (const sign of "\\n- three **bold**\\n\\n  and a paragraph\\n- four\\n\\nafter") {
            view.append(sign);
            await view.whenIdle();
        }
        view.end();
        await view.whenIdle();
        return [changed.length + observer.takeRecords().length, items[0].isConnected];
        """,
        text="# A\n\ntext\n\n```js\nlet x;\n```\n\n| a |\n|---|\n| b |\n\n- one\n- two",
    )
    assert changed == [0, True]


async def test_an_open_block_of_code_grows_without_being_made_again(page: MarkdownPage) -> None:
    same = await page.run(
        """
        const { element, view } = tests.fresh();
        view.append("```text\\nfirst\\n");
        await view.whenIdle();
        const text = element.querySelector(".md-slice").firstChild;
        for (const sign of "second\\nthi``rd") {
            view.append(sign);
            await view.whenIdle();
        }
        return [text.isConnected, text.data];
        """
    )
    assert same == [True, "first\nsecond\nthi``rd"]


async def test_a_definition_that_comes_late_makes_links_of_what_stands_there(page: MarkdownPage) -> None:
    html = await page.shown("see [here]\n\n", "text\n\n", "[here]: http://example.org/x\n", "\nmore\n", framed=True)
    assert 'see <a href="http://example.org/x"' in html


async def test_code_is_copied_as_it_was_written(page: MarkdownPage) -> None:
    copied = await page.run(
        """
        const { element, view, copied } = tests.fresh();
        view.set("```c\\nint x;\\u202e\\n\\tx\\n```\\n");
        view.end();
        await view.whenIdle();
        element.querySelector(".md-copy").click();
        return [copied, element.querySelector(".md-language").textContent];
        """
    )
    assert copied == [["int x;\u202e\n\tx\n"], "c"]


async def test_what_is_set_anew_replaces_what_was_there_and_what_goes_on_keeps_it(page: MarkdownPage) -> None:
    seen = await page.run(
        """
        const { element, view } = tests.fresh();
        view.set("# one\\n\\ntwo");
        await view.whenIdle();
        const heading = element.firstChild;
        view.set("# one\\n\\ntwo three");
        await view.whenIdle();
        const kept = heading === element.firstChild && element.textContent;
        view.end();
        view.set("other");
        view.end();
        await view.whenIdle();
        return [kept, element.innerHTML];
        """
    )
    assert seen == ["onetwo three", '<p dir="auto">other</p>']
