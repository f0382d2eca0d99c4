"""The console on paper: the conversation alone, all of it, on no more pages than it takes."""

import re

import pytest

from tests.browser.console import Console

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: The margin that the console's style has for paper.
MARGIN_CM = 1.5
#: A script: what is seen on paper.
PRINTED = """
        await page.emulateMedia({ media: "print", colorScheme: "dark" });
        await drawn();
        return page.evaluate(() => document.body.innerText.replace(/\\s+/g, " ").trim());
"""


async def test_what_is_printed_is_the_conversation_that_is_shown_and_nothing_to_press(console: Console) -> None:
    seen = await console.run(f"""
        await ask("say one **more** time");
        await ended();
        await page.keyboard.press("Alt+b");
        await ask("say something else");
        await has("something else");
        await page.keyboard.press("Alt+1");
        await page.locator("#developers-button").click();
        await page.locator(".developers").waitFor();
        {PRINTED}
    """)
    figures = r"\d+ tokens 11 in the prompt first after [\d.]+ m?s"
    assert re.fullmatch(rf"say one \*\*more\*\* time llama3\.2 one more time {figures}", seen), seen


async def test_a_long_answer_is_printed_on_as_many_pages_as_it_takes(console: Console) -> None:
    pages, height_px = await console.run("""
        await ask(`say \\`\\`\\`\\n${"a line\\n".repeat(300)}\\`\\`\\`\\n\\nThe end.`);
        await ended();
        await drawn();
        const printer = await context.newCDPSession(page);
        const { data } = await printer.send("Page.printToPDF", { paperWidth: 8.27, paperHeight: 11.69 });
        const pages = Buffer.from(data, "base64").toString("latin1").match(/\\/Type\\s*\\/Page\\b/g).length;
        await page.emulateMedia({ media: "print" });
        // As wide as the text is on this paper.
        await page.setViewportSize({ width: 680, height: 900 });
        await drawn();
        return [pages, await page.evaluate(() => document.querySelector(".figures").getBoundingClientRect().bottom)];
    """)
    # Of 29.7 cm, in CSS pixels.
    page_px = (29.7 - 2 * MARGIN_CM) / 2.54 * 96
    assert height_px / page_px <= pages <= height_px / page_px + 1.5
