"""What the console loads before it is there, and how soon that is.

    python -m tests.browser.first_paint

Chromium, headless, gets the page from `archer-ws serve` on loopback with nothing in its cache, five times. Printed are
the medians of when the page has drawn itself, of when it is connected, and of what scripts it had got by then.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.browser.scripted_model import ScriptedModel
from tests.interop.browser import Browser, chromium
from tests.interop.javascript import javascript
from tests.processes import server

TIMES = 5
_VISIT = """
    const context = await kept.browser.newContext();
    const page = await context.newPage();
    const wire = await context.newCDPSession(page);
    await wire.send("Network.enable");
    await wire.send("Network.setCacheDisabled", { cacheDisabled: true });
    const scripts = new Set(), sent = [];
    wire.on("Network.responseReceived", ({ requestId, response }) => {
        if (/javascript/.test(response.mimeType)) scripts.add(requestId);
    });
    const count = (requestId, transferred, decoded) => sent.push({ requestId, transferred, decoded });
    wire.on("Network.dataReceived", ({ requestId, dataLength }) => count(requestId, 0, dataLength));
    wire.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => count(requestId, encodedDataLength, 0));
    await page.addInitScript(() => {
        // The first screen: what stands in #app once the page has drawn itself.
        new MutationObserver((_, observer) => {
            if (!document.querySelector(".welcome")) return;
            observer.disconnect();
            requestAnimationFrame(() => (window.drawnAt = performance.now()));
        }).observe(document, { childList: true, subtree: true });
        const look = setInterval(() => {
            if (!document.querySelector('.connection[data-state="open"]')) return;
            clearInterval(look);
            window.readyAt = performance.now();
        }, 5);
    });
    // What comes behind the first screen is not of it.
    const later = [];
    await page.route(/app.(markdown|vendor.(highlight|markdown)|ui.settings-form)/, (route) => later.push(route));
    await page.goto(url);
    await page.waitForFunction(() => window.drawnAt && window.readyAt);
    const ours = sent.filter(({ requestId }) => scripts.has(requestId));
    const of = (key) => ours.reduce((sum, each) => sum + each[key], 0);
    const timed = await page.evaluate(() => ({ drawnMs: window.drawnAt, readyMs: window.readyAt }));
    const told = { ...timed, requests: scripts.size, transferred: of("transferred"), decoded: of("decoded") };
    for (const route of later) await route.abort();
    await context.close();
    return told;
"""


async def visited(browser: Browser, url: str) -> dict[str, Any]:
    """A first visit: `drawnMs`, `readyMs`; of the scripts `requests`, and the bytes `transferred` and `decoded`."""
    told = await browser.js.run(_VISIT, url=url)
    assert isinstance(told, dict)
    return told


async def measured() -> None:
    """Print what a first visit costs."""
    with tempfile.TemporaryDirectory() as folder:
        async with javascript() as js, chromium(js) as browser, server(ScriptedModel(), cwd=Path(folder)) as sidecar:
            visits = [await visited(browser, sidecar.url) for _ in range(TIMES)]
    for key in visits[0]:
        print(f"{key:12} {statistics.median(visit[key] for visit in visits):10,.0f}")


if __name__ == "__main__":
    asyncio.run(measured())
