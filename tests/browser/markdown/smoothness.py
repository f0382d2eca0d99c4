"""How smooth the page stays while an answer of 200 KB comes.

    python -m tests.browser.markdown.smoothness [NAME ...] [--per-frame 400]

Chromium, headless, gets each text so many characters a frame, with the page scrolled to its end, and then once more all
at once. For each it prints the longest task of the page's thread, in the thread's own time, which other programs have
little part in, and how many took more than 50 ms; the same in wall-clock time, as the Long Tasks API tells it (0 is
none above 50 ms); the longest time between two frames; and how long the whole took.
"""

import argparse
import asyncio
from typing import Any

from tests.browser.markdown.corpora import large
from tests.browser.markdown.page import MarkdownPage, markdown_page
from tests.browser.tracing import Tasks, traced
from tests.interop.browser import chromium
from tests.interop.javascript import javascript

_HEAD = f"{'':28} {'task, CPU':>9} {'over 50':>7} {'task':>7} {'over 50':>7} {'frame':>7} {'whole':>7} {'elements':>8}"


async def measured(names: list[str], per_frame: int) -> None:
    """Print a line for each text and way."""
    async with javascript() as js, chromium(js) as browser, markdown_page(browser) as page:
        # The first one pays for what is compiled.
        await page.run("return await tests.smoothness(text, 1000, true);", text=large()["all kinds"][:20_000])
        print(_HEAD)
        for name, text in large().items():
            if names and name not in names:
                continue
            for way, step in (("", per_frame), (", at once", len(text))):
                told, tasks = await smoothness(page, text, step, scrolled=not way)
                print(line(name + way, told, tasks), flush=True)


async def smoothness(page: MarkdownPage, text: str, step: int, scrolled: bool) -> tuple[dict[str, Any], Tasks]:
    """What the page tells of itself, and what a trace has of its tasks."""
    code = "return await tests.smoothness(text, step, scrolled);"
    return await traced(page.browser, "page", lambda: page.run(code, text=text, step=step, scrolled=scrolled))


def line(name: str, told: dict[str, Any], tasks: Tasks) -> str:
    return (
        f"{name:28} {tasks.longest_ms:6.0f} ms {tasks.long:7} {told['longestTask']:4.0f} ms {told['longTasks']:7}"
        f" {told['longestFrame']:4.0f} ms {told['seconds']:5.1f} s {told['elements']:8}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--per-frame", type=int, default=400)
    options = parser.parse_args()
    asyncio.run(measured(options.names, options.per_frame))


if __name__ == "__main__":
    main()
