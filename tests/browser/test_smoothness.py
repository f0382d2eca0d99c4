"""A long answer in the console: while it comes, the page's thread is never busy for so long that a person feels it."""

from typing import Any

import pytest

from tests.browser.console import Console
from tests.browser.markdown.corpora import large
from tests.browser.scripted_model import ScriptedModel
from tests.browser.tracing import LONG_TASK_MS, traced
from tests.interop.browser import Browser
from tests.processes import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

COMES = """
    await ask("long");
    await ended();
    await shown.locator(".answer").last().locator(".md").last().getByText("The end.").waitFor();
    return (await answer().locator(".text").textContent()).length;
"""


async def test_an_answer_of_200_kb_comes_without_a_frame_of_more_than_50_ms(
    browser: Browser, sidecar: Server, model: ScriptedModel
) -> None:
    model.long = large()["all kinds"] + "\n\nThe end."
    async with Console(browser, sidecar.url) as console:
        # The first answer pays for what is compiled.
        await console.run("await ask('say **one**'); await ended(); await drawn();")

        async def comes() -> Any:
            return await console.run(COMES)

        length, tasks = await traced(browser, "console", comes)
    assert length > 150_000
    assert (tasks.long, tasks.longest_ms < LONG_TASK_MS) == (0, True), tasks
