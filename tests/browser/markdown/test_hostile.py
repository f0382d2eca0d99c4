"""What a model may say to do harm: nothing of it runs, asks anybody, names or styles anything of the page."""

from pathlib import Path
from typing import Any

import pytest

from tests.browser.markdown.page import MarkdownPage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

TEXTS = sorted((Path(__file__).parent / "hostile").glob("*.md"))
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
    for (const sign of pieces) {
        view.append(sign);
        if (slow) await view.whenIdle();
    }
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
    pieces = list(text) if slow else [text]
    seen = await page.run(LOOK, pieces=pieces, slow=slow)
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


async def test_a_picture_is_loaded_once_somebody_wants_it_and_stays_as_the_answer_goes_on(page: MarkdownPage) -> None:
    address = f"{page.stranger.url}/a.png".replace("127.0.0.1", "pictures.test")
    seen = await page.run(
        """
        const { element, view } = tests.fresh();
        view.append(`![a map](${address}) and`);
        await view.whenIdle();
        const button = element.querySelector("button");
        const shown = button.textContent;
        const asked = performance.getEntriesByType("resource").length;
        button.click();
        const img = element.querySelector("img");
        view.append(" more\\n\\nand more");
        await view.whenIdle();
        return { shown, alt: img.alt, policy: img.referrerPolicy, isThere: img === element.querySelector("img") };
        """,
        address=address,
    )
    host = address.split("/")[2]
    assert seen["shown"] == f"Load image from {host}a map: {address}"
    assert (seen["alt"], seen["policy"], seen["isThere"]) == ("a map", "no-referrer", True)
    exchange = await page.stranger.exchange()
    assert (exchange.path, exchange.headers.get("referer")) == ("/a.png", None)


async def test_a_picture_that_is_not_there_becomes_a_link(page: MarkdownPage) -> None:
    address = f"{page.stranger.url}/a.png"
    seen = await page.run(
        """
        const { element, view } = tests.fresh();
        view.append(`![a map](${address})`);
        await view.whenIdle();
        element.querySelector("button").click();
        await new Promise((resolve) => element.querySelector("img").addEventListener("error", resolve));
        const { href, textContent } = element.querySelector("a");
        return { href, textContent };
        """,
        address=address,
    )
    assert seen == {"href": address, "textContent": "a map"}


async def test_a_small_picture_in_the_text_needs_a_click_and_asks_nobody(page: MarkdownPage) -> None:
    pixel = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    html = await page.shown(f"![dot](data:image/gif;base64,{pixel})")
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
