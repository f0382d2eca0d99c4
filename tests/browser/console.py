"""The console in a browser, for tests in Python: it is driven as a person would, by labels and keys."""

from types import TracebackType
from typing import Any, Self

from tests.interop.browser import Browser

#: What the code of a test may call; `page` and `context` are playwright's.
HELPERS = """
    const shown = page.locator('.pane[data-shown="true"]');
    const field = () => shown.getByLabel("Your message");
    const ask = async (text) => { await field().fill(text); await field().press("Enter"); };
    const answer = (index = -1) => shown.locator(".answer").nth(index);
    const ended = (index = -1) => answer(index).and(page.locator('[aria-busy="false"]')).waitFor();
    const has = (text) => page.waitForFunction((text) => document.body.innerText.includes(text), text);
    const connected = (is = "open") => page.locator(`.connection[data-state="${is}"]`).waitFor();
    const texts = async (locator) => (await locator.allInnerTexts()).map((text) => text.replace(/\\s+/g, " ").trim());
    const said = () => texts(shown.locator(".said .words"));
    // Text is drawn between frames, and as Markdown once that is there.
    const drawn = async () => {
        await page.waitForFunction(() => !document.querySelector(".answer .text:not(.md)"));
        await page.evaluate(async () => {
            for (let frame = 0; frame < 4; frame++) await new Promise((next) => requestAnimationFrame(next));
        });
    };
    const answers = async () => (await drawn(), texts(shown.locator(".answer .text")));
"""
#: What Chromium says of a server that is not there, or was killed.
LOST_SERVER = ("WebSocket connection to", "net::ERR_")
_OPEN = """
    kept.complaints ??= [];
    kept.asked ??= [];
    page.on("console", (message) => {
        if (message.type() === "error") kept.complaints.push(message.text());
    });
    page.on("pageerror", (error) => kept.complaints.push(String(error)));
    page.on("request", (request) => kept.asked.push(request.url()));
    await page.goto(url);
"""


class Console:
    """The page at `url`; leaving it fails the test in which the page complained, or asked somebody else.

    Args:
        browser: where to open it.
        url: the server's, or a proxy's before it.
        name: of the page, where a test has several.
        until: what is there once it is ready.
    """

    def __init__(
        self, browser: Browser, url: str, name: str = "console", until: str = '.connection[data-state="open"]'
    ) -> None:
        self._browser, self._name, self._until = browser, name, until
        self.url = url
        #: What the page may complain of: a part of the text.
        self.expected: list[str] = []

    async def __aenter__(self) -> Self:
        await self._browser.open(self._name, "about:blank")
        await self._browser.control(self._name, _OPEN, url=self.url)
        await self.run("await page.locator(until).waitFor();", until=self._until)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if kind is not None:
            return
        seen = await self._browser.control(self._name, "return { complaints: kept.complaints, asked: kept.asked };")
        unexpected = [each for each in seen["complaints"] if not any(part in each for part in self.expected)]
        assert not unexpected, f"the page complained: {unexpected}"
        elsewhere = [url for url in seen["asked"] if not url.startswith((self.url, "data:", "blob:", "about:"))]
        assert not elsewhere, f"the page asked others: {elsewhere}"

    async def run(self, code: str, **args: Any) -> Any:
        """What an async function with this body returns; it sees the helpers, `page` and the arguments.

        The page is looked at meanwhile: a tab behind another one is drawn once a second.
        """
        return await self._browser.control(self._name, f"{HELPERS}await page.bringToFront();\n{code}", **args)
