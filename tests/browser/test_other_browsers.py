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
    model.long = f"{''.join(PARTS)}The end."
    seen = await console.run(f"""{LACKING}
        await lacking("overflow-anchor", "* {{ overflow-anchor: none !important }}");
        await ask("long");
        await ended();
        await has("The end.");
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


async def test_a_field_that_does_not_grow_by_itself_is_as_high_as_its_text_all_the_same(console: Console) -> None:
    """As in Safari, WebKitGTK and Firefox."""
    seen = await console.run(f"""{LACKING}
        await lacking("field-sizing");
        const heights = (field) => field.evaluate((field) => [field.clientHeight, field.scrollHeight]);
        const asked = "a line\\n".repeat(4) + "and words ".repeat(15) + "\\n";
        const empty = await heights(field());
        await field().fill(asked);
        const written = await heights(field());
        await field().fill("");
        const emptied = await heights(field());
        await field().fill("a line\\n".repeat(100));
        const [most] = await heights(field());
        await field().fill(asked);
        await field().press("Enter");
        await ended();
        await shown.locator(".said").hover();
        await shown.getByRole("button", {{ name: "Edit" }}).click();
        const edited = await heights(shown.getByLabel("What to ask instead"));
        return {{ empty, written, emptied, edited, most: most / (await page.evaluate(() => innerHeight)) }};
    """)
    assert seen["emptied"] == seen["empty"]
    assert seen["written"][0] == seen["written"][1] > 3 * seen["empty"][0]
    assert seen["edited"][0] == seen["edited"][1] > 3 * seen["empty"][0]
    assert 0.3 < seen["most"] < 0.4


#: A script: what is in view grows by so much, as by an answer; then whether its end is in view, once it was drawn.
GROWING = """
    const growing = {
        grow: (by) => shown.locator(".column").evaluate((column, by) => {
            column.style.minHeight = `${column.offsetHeight + by}px`;
        }, by),
        below: async () => (await drawn(), shown.locator(".scroller").evaluate((scroller) =>
            Math.round(scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight))),
    };
"""


async def test_without_the_end_of_a_scroll_too_the_way_to_the_end_leads_to_one_that_moves_on(console: Console) -> None:
    """As in Safari and WebKitGTK, which have no event `scrollend`."""
    await console.run(f"""{GROWING}
        await page.addInitScript(() => {{
            for (const kind of [Window, Document, HTMLElement]) delete kind.prototype.onscrollend;
            delete window.onscrollend;
            addEventListener("scrollend", (event) => event.stopImmediatePropagation(), true);
        }});
        await page.reload();
        await connected();
        await ask("say one");
        await ended();
        await growing.grow(5000);
        await growing.below();
        await shown.locator(".scroller").evaluate((scroller) => scroller.scrollTo(0, 0));
        await page.locator(".to-end").evaluate((button) => {{
            button.click();
            const column = document.querySelector('.pane[data-shown="true"] .column');
            column.style.minHeight = `${{column.offsetHeight + 5000}}px`;
        }});
        await page.locator(".to-end").waitFor({{ state: "detached" }});
        await page.waitForFunction(() => {{
            const {{ scrollHeight, scrollTop, clientHeight }} = document.querySelector(".scroller");
            return scrollHeight - scrollTop - clientHeight < 2;
        }});
    """)


async def test_who_scrolls_up_right_after_the_page_has_followed_an_answer_is_let_go(console: Console) -> None:
    """As in any browser that draws so slowly that both scrolls are told at once."""
    below = await console.run(f"""{GROWING}
        await ask("say one");
        await ended();
        await growing.grow(2000);
        const followed = await growing.below();
        await shown.locator(".scroller").evaluate((scroller) => new Promise((scrolled) => {{
            const column = scroller.firstElementChild;
            let calls = 0;
            const seen = new ResizeObserver(() => {{
                // The first call is for the size that it has. Right before the second one, the page has followed.
                if (++calls === 1) column.style.minHeight = `${{column.offsetHeight + 2000}}px`;
                else scrolled(((scroller.scrollTop -= 800), seen.disconnect()));
            }});
            seen.observe(column);
        }}));
        const read = await growing.below();
        await growing.grow(1000);
        return [followed, read, await growing.below()];
    """)
    assert below == [0, 800, 1800]


@pytest.mark.parametrize(
    "lack",
    ["delete HTMLElement.prototype.popover", "CSS.supports = (_, value) => !value.startsWith('light-dark')"],
    ids=["menus", "colours"],
)
async def test_a_browser_that_lacks_what_the_page_needs_is_said_to_be_too_old(console: Console, lack: str) -> None:
    await console.run("await page.addInitScript(lack); await page.reload(); await connected();", lack=lack)
    await console.run("await page.getByRole('alert').getByText('This browser is older').waitFor();")


async def test_a_console_that_does_not_start_says_what_it_needs(console: Console) -> None:
    """As where the browser does not know the language of its modules."""
    console.expected.append("net::ERR_FAILED")
    await console.run("""
        await page.route("**/ui/app.js", (route) => route.abort());
        await page.reload();
        await page.getByText("If it does not appear, this browser is older than it needs").waitFor();
        await page.getByRole("link", { name: "health/ready" }).waitFor();
    """)
