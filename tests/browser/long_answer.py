"""How busy the console's thread is while an answer of 200 KB comes over the socket.

    python -m tests.browser.long_answer

Printed are the longest task of the page's thread, in its own time, and how many took more than 50 ms.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from tests.browser.console import Console
from tests.browser.markdown.corpora import large
from tests.browser.scripted_model import ScriptedModel
from tests.browser.tracing import Tasks, traced
from tests.interop.browser import Browser, chromium
from tests.interop.javascript import javascript
from tests.processes import Server, server

END = "The end."
_COMES = """
    await ask("long");
    await ended();
    await shown.locator(".answer").last().locator(".md").last().getByText(end).waitFor();
    return (await answer().locator(".text").textContent()).length;
"""


async def watched(browser: Browser, sidecar: Server, model: ScriptedModel) -> tuple[int, Tasks]:
    """How many characters stood there at the end, and what the page's thread did meanwhile."""
    model.long = f"{large()['all kinds']}\n\n{END}"
    async with Console(browser, sidecar.url) as console:
        # The first answer pays for what is compiled.
        await console.run("await ask('say **one**'); await ended(); await drawn();")

        async def comes() -> Any:
            return await console.run(_COMES, end=END)

        length, tasks = await traced(browser, "console", comes)
    return int(length), tasks


async def measured() -> None:
    """Print it."""
    model = ScriptedModel()
    with tempfile.TemporaryDirectory() as folder:
        async with javascript() as js, chromium(js) as browser, server(model, cwd=Path(folder)) as sidecar:
            length, tasks = await watched(browser, sidecar, model)
    print(f"{length:,} characters; longest task {tasks.longest_ms:.0f} ms, over 50 ms {tasks.long}")


if __name__ == "__main__":
    asyncio.run(measured())
