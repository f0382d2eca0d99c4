"""The server's own pages in Chromium: they are drawn, load nothing from elsewhere, and break no policy of theirs."""

import pytest

from tests.interop.browser import Browser
from tests.processes import Server

pytestmark = pytest.mark.browser

#: Opens an address, and tells what was asked for, what was complained of, and what the page says.
LOOK = """
    const asked = [], complaints = [];
    page.on("request", (request) => asked.push(request.url()));
    page.on("console", (message) => { if (message.type() === "error") complaints.push(message.text()); });
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.goto(url);
    await page.getByText(until).first().waitFor();
    return { asked, complaints, text: await page.locator("body").innerText() };
"""


@pytest.mark.parametrize(
    ("path", "until"),
    [("/", "Cut the connection"), ("/docs", "Generate a completion, as events"), ("/redoc", "Cancel a stream")],
)
async def test_a_page_is_drawn_from_this_server_alone(browser: Browser, sidecar: Server, path: str, until: str) -> None:
    await browser.open("page", "about:blank")
    seen = await browser.control("page", LOOK, url=sidecar.url + path, until=until)
    assert seen["complaints"] == []
    elsewhere = [url for url in seen["asked"] if not url.startswith((sidecar.url, "data:"))]
    assert elsewhere == []
    assert "Archer AI Engine" in seen["text"]


async def test_a_route_can_be_tried_from_the_page_of_all_routes(browser: Browser, sidecar: Server) -> None:
    await browser.open("page", f"{sidecar.url}/docs")
    tried = """
        await page.locator("#operations-health-getHealth").click();
        await page.getByRole("button", { name: "Try it out" }).click();
        await page.getByRole("button", { name: "Execute" }).click();
        await page.locator(".live-responses-table").getByText("healthy").first().waitFor();
        return await page.locator(".live-responses-table").innerText();
    """
    assert '"status": "healthy"' in await browser.control("page", tried)
