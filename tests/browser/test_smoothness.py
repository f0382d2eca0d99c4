"""A long answer in the console: while it comes, the page's thread is never busy for so long that a person feels it."""

import pytest

from tests.browser.long_answer import watched
from tests.browser.scripted_model import ScriptedModel
from tests.browser.tracing import LONG_TASK_MS
from tests.interop.browser import Browser
from tests.processes import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


async def test_an_answer_of_200_kb_comes_without_a_frame_of_more_than_50_ms(
    browser: Browser, sidecar: Server, model: ScriptedModel
) -> None:
    length, tasks = await watched(browser, sidecar, model)
    assert length > 150_000
    assert (tasks.long, tasks.longest_ms < LONG_TASK_MS) == (0, True), tasks
