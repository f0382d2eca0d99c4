"""The console in browsers that lack what Chromium has: a Chromium plays them, to which some styles are unknown."""

import pytest

from tests.browser.console import Console
from tests.browser.scripted_model import ScriptedModel

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: A script: opens the page again as a browser does that does not know a property of styles, and has `more` instead.
LACKING = """
    const lacking = async (property, more = "") => {
        await page.route("**/*.css", async (route) => {
            const response = await route.fetch();
            const body = (await response.text()).replaceAll(property, `unknown-${property}`) + more;
            await route.fulfill({ response, body });
        });
        await page.reload();
        await connected();
    };
"""
PARTS = ["## Part\n\nSome words.\n\n```\n" + "a line\n" * lines + "```\n\n" for lines in [2, 9, 5, 1] * 8]


async def test_without_scroll_anchoring_too_an_answer_is_followed_and_what_is_read_stays_in_its_place(
    console: Console, model: ScriptedModel
) -> None:
    """As in Safari and WebKitGTK."""
    model.long = "".join(PARTS)
    seen = await console.run(f"""{LACKING}
        await lacking("overflow-anchor", "* {{ overflow-anchor: none !important }}");
        await ask("long");
        await ended();
        await drawn();
        return shown.locator(".scroller").evaluate(async (scroller) => {{
            const frame = () => new Promise(requestAnimationFrame);
            const below = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
            const {{ top }} = scroller.getBoundingClientRect();
            const jumps = [];
            const isInView = (block) => block.getBoundingClientRect().bottom > top;
            while (scroller.scrollTop > 0) {{
                const read = [...document.querySelectorAll(".md > *")].find(isInView);
                const before = read.getBoundingClientRect().top + scroller.scrollTop;
                scroller.scrollTop -= 200;
                for (let frames = 0; frames < 3; frames++) await frame();
                jumps.push(Math.round(read.getBoundingClientRect().top + scroller.scrollTop - before));
            }}
            return {{ below, steps: jumps.length, jumps: jumps.filter((jump) => Math.abs(jump) > 1) }};
        }});
    """)
    assert seen["steps"] > 10
    assert (seen["below"], seen["jumps"]) == (0, [])
