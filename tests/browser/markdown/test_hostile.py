"""What a model may say to do harm: nothing of it runs, asks anybody, names or styles anything of the page."""

from pathlib import Path
from typing import Any

import pytest

from tests.browser.markdown.page import MarkdownPage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

TEXTS = sorted((Path(__file__).parent / "hostile").glob("*.md"))
#: In base64.
PIXEL = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
#: All that an answer may consist of.
TAGS = {
    *("a", "blockquote", "br", "button", "code", "div", "em", "h3", "h4", "h5", "h6", "hr", "input", "li", "ol", "p"),
    *("pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
ATTRIBUTES = {
    *("aria-label", "checked", "class", "data-name", "dir", "disabled", "href", "rel", "start", "tabindex", "target"),
    *("title", "type"),
}
LOOK = """
    const { element, view } = tests.fresh();
    await tests.feed(view, pieces);
    view.end();
    await view.whenIdle();
    // Whatever the page does with an address it does after it has drawn it.
    await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    const all = [...element.querySelectorAll("*")];
    return {
        ran: window.ran ?? null,
        root: document.getElementById("root").tagName,
        tags: [...new Set(all.map(({ localName }) => localName))],
        attributes: [...new Set(all.flatMap((one) => one.getAttributeNames()))],
        classes: [...new Set(all.flatMap((one) => [...one.classList]))],
        links: all.filter(({ localName }) => localName === "a").map(({ href, rel, target }) => ({ href, rel, target })),
        resources: performance.getEntriesByType("resource").map(({ name }) => new URL(name).host),
        here: location.host,
        text: element.textContent,
    };
"""


async def looked_at(page: MarkdownPage, text: str, slow: bool) -> dict[str, Any]:
    seen = await page.run(LOOK, pieces=list(text) if slow else [text])
    assert isinstance(seen, dict)
    return seen


@pytest.mark.parametrize("slow", [False, True], ids=["whole", "letter by letter"])
@pytest.mark.parametrize("path", TEXTS, ids=[path.stem for path in TEXTS])
async def test_nothing_runs_and_nobody_is_asked(page: MarkdownPage, path: Path, slow: bool) -> None:
    seen = await looked_at(page, path.read_text("utf-8"), slow)
    assert (seen["ran"], seen["root"]) == (None, "DIV")
    assert set(seen["tags"]) <= TAGS
    assert set(seen["attributes"]) <= ATTRIBUTES
    assert all(name.startswith("md-") for name in seen["classes"])
    for link in seen["links"]:
        assert link["href"].startswith(("http://", "https://", "mailto:"))
        assert (link["rel"], link["target"]) == ("noopener noreferrer", "_blank")
    assert set(seen["resources"]) == {seen["here"]}
    assert page.stranger.exchanges == []


async def test_a_picture_of_another_host_is_a_link_that_says_where_to_and_asks_nobody(page: MarkdownPage) -> None:
    address = f"{page.stranger.url}/a.png".replace("127.0.0.1", "pictures.test")
    seen = await page.run(
        """
        const { element, view } = tests.fresh();
        view.append(`![a map](${address}) and [![a map](${address})](https://example.org/map)`);
        view.end();
        await view.whenIdle();
        const told = ({ href, textContent, target, rel }) => [href, textContent, target, rel];
        const links = [...element.querySelectorAll("a")].map(told);
        return { links, others: element.querySelectorAll("img, button, a a").length };
        """,
        address=address,
    )
    host = address.split("/")[2]
    there = [address, f"Open image at {host}a map: {address}", "_blank", "noopener noreferrer"]
    assert seen == {
        "links": [there, ["https://example.org/map", "a map", "_blank", "noopener noreferrer"]],
        "others": 0,
    }
    assert page.stranger.exchanges == []


async def test_a_picture_in_the_text_stays_as_the_answer_goes_on_once_it_is_wanted(page: MarkdownPage) -> None:
    seen = await page.run(
        """
        const { element, view } = tests.fresh();
        view.append(`![dot](data:image/gif;base64,${pixel}) and ![none](data:image/gif;base64,AAAA)`);
        await view.whenIdle();
        for (const button of element.querySelectorAll("button")) button.click();
        const [img, broken] = element.querySelectorAll("img");
        await new Promise((resolve) => broken.addEventListener("error", resolve));
        const instead = element.querySelector(".md-no-image").textContent;
        view.append("\\n\\nand more");
        await view.whenIdle();
        return [img.alt, img === element.querySelector("img"), instead];
        """,
        pixel=PIXEL,
    )
    assert seen == ["dot", True, "none"]


async def test_a_small_picture_in_the_text_needs_a_click_and_asks_nobody(page: MarkdownPage) -> None:
    html = await page.shown(f"![dot](data:image/gif;base64,{PIXEL})")
    assert "Show image" in html
    assert "<img" not in html


async def test_characters_that_reorder_or_hide_text_are_named_and_stay_in_the_text(page: MarkdownPage) -> None:
    text = "a\u202eb `c\u2066d\u200be`\n\n```c\nx\u202ey\n```\n\n\U0001f3f4\U000e0067\U000e007f \U000e0041"
    seen = await page.run(
        """
        const { element, view } = tests.fresh();
        view.set(text);
        view.end();
        await view.whenIdle();
        return [element.textContent, [...element.querySelectorAll(".md-control")].map(({ dataset }) => dataset.name)];
        """,
        text=text,
    )
    assert seen[1] == ["U+202E", "U+2066", "U+200B", "U+202E", "U+E0041"]
    assert "a\u202eb c\u2066d\u200be" in seen[0]


async def test_a_label_called_like_an_objects_own_is_a_label(page: MarkdownPage) -> None:
    assert await page.shown("[toString] [constructor]") == '<p dir="auto">[toString] [constructor]</p>'
    html = await page.shown("[text][__proto__]\n\n[__proto__]: http://example.org\n")
    assert 'href="http://example.org/"' in html
