"""How the page comes to look as a picture has it: what is asked and pressed, by labels and keys."""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.browser.console import HELPERS
from tests.browser.screenshots.talk import DICE, LOST_MODEL, SKY, STORY, earlier
from tests.fakes.cutting_proxy import CuttingProxy
from tests.interop.browser import Browser
from tests.interop.javascript import Javascript
from tests.processes import Server

#: The page's clock stands still; it goes on by what comes: 140 ms to an answer's beginning, 6 ms a character.
_STILL_CLOCK = """
    let now = 1000;
    const Socket = WebSocket;
    window.WebSocket = class extends Socket {
        constructor(...given) {
            super(...given);
            this.addEventListener("message", ({ data }) => {
                const { method, params } = JSON.parse(data);
                if (method === "stream/started") now += 140;
                if (method === "stream/delta") now += 6 * (params.content ?? "").length;
            });
        }
    };
    performance.now = () => now;
    Date.now = () => START;
    Object.defineProperty(performance, "timeOrigin", { value: Date.parse("2026-01-05T10:24:00") });
    // Ids are the same each time.
    let last = 1;
    const draw = () => (last = (last * 48271) % 2147483647) & 255;
    crypto.getRandomValues = (array) => array.map(draw);
"""
DESK, WIDE, PHONE = (1280, 800), (1440, 900), (390, 844)


@dataclass
class Studio:
    """A server, what stands before it and behind it, and a browser."""

    js: Javascript
    browser: Browser
    sidecar: Server
    proxy: CuttingProxy
    scale: float
    #: Whether all pictures are dark.
    is_dark: bool

    async def open(
        self, size: tuple[int, int] = DESK, *, is_dark: bool = False, is_new: bool = False, url: str = ""
    ) -> None:
        """The page, connected, as somebody sees it for the first time (`is_new`) or who has talked before."""
        if not is_new:
            lines = "\n".join(earlier(datetime.now().astimezone()))
            sent = await self.sidecar.http.post(
                "/api/v1/sessions/import", content=lines, headers={"content-type": "application/jsonl"}
            )
            assert sent.json()["failed"] == 0, sent.text
        width, height = size
        await self.js.run(
            """
            await kept.context.close();
            const isPhone = width < 600;
            kept.context = await kept.browser.newContext({
                viewport: { width, height }, deviceScaleFactor: scale, colorScheme,
                reducedMotion: "reduce", locale: "en-GB", isMobile: isPhone, hasTouch: isPhone,
            });
            await kept.context.addInitScript(clock);
            """,
            **{"width": width, "height": height, "scale": self.scale},
            colorScheme="dark" if is_dark or self.is_dark else "light",
            clock=_STILL_CLOCK.replace("START", str(int(datetime.now().timestamp() * 1000))),
        )
        await self.browser.open("console", url or self.sidecar.url)
        await self.run("await connected(); await page.mouse.move(0, 0);")

    async def run(self, code: str, **args: Any) -> Any:
        """What an async function with this body returns; it sees the tests' helpers."""
        return await self.browser.control("console", HELPERS + code, **args)

    async def ask(self, question: str, until: str) -> None:
        """Ask, and wait until this text is there."""
        await self.run("await ask(question); await has(until); await drawn();", question=question, until=until)

    async def shoot(self, path: Path) -> None:
        """Write the picture: no caret, all fonts and colours there."""
        picture = await self.run(
            """
            await drawn();
            await page.evaluate(() => document.fonts.ready);
            let bytes = await page.screenshot({ animations: "disabled", caret: "hide" });
            if (path.endsWith(".webp")) {
                // Chromium has the encoder; a page of its own has no policy against it.
                const tab = await context.newPage();
                const url = await tab.evaluate(async (png) => {
                    const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
                    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
                    canvas.getContext("2d").drawImage(bitmap, 0, 0);
                    const blob = await canvas.convertToBlob({ type: "image/webp", quality: 0.85 });
                    return new Promise((tell) => {
                        const reader = new FileReader();
                        reader.onload = () => tell(reader.result);
                        reader.readAsDataURL(blob);
                    });
                }, bytes.toString("base64"));
                bytes = Buffer.from(url.split(",")[1], "base64");
                await tab.close();
            }
            return bytes.toString("base64");
            """,
            path=str(path),
        )
        path.write_bytes(base64.b64decode(picture))


async def first_visit(studio: Studio, path: Path) -> None:
    await studio.open(is_new=True)
    await studio.shoot(path)


async def light(studio: Studio, path: Path) -> None:
    await studio.open()
    await _sky(studio)
    await studio.shoot(path)


async def dark(studio: Studio, path: Path) -> None:
    await studio.open(is_dark=True)
    await _sky(studio)
    await studio.shoot(path)


async def phone(studio: Studio, path: Path) -> None:
    await studio.open(PHONE)
    await _sky(studio)
    await studio.shoot(path)


async def phone_list(studio: Studio, path: Path) -> None:
    await studio.open(PHONE)
    await _sky(studio)
    await studio.run("await page.getByRole('button', { name: 'Conversations', exact: true }).click();")
    await studio.run("await page.locator('.row').first().waitFor();")
    await studio.shoot(path)


async def phone_first_visit(studio: Studio, path: Path) -> None:
    await studio.open(PHONE, is_new=True)
    await studio.shoot(path)


async def three_streams(studio: Studio, path: Path) -> None:
    await studio.open(WIDE, is_new=True)
    await studio.run("""
        await page.locator(".welcome li", { hasText: "Three at once" }).getByRole("button").click();
        for (const text of ["painted eyes", "at angles of", "done at the"]) await has(text);
        await page.waitForFunction(() => document.querySelectorAll(".row").length === 3);
        await page.mouse.move(0, 0);
    """)
    await studio.shoot(path)


async def tool_call(studio: Studio, path: Path) -> None:
    await studio.open()
    await studio.ask(DICE, "needs your approval")
    await _listed(studio, "Roll two dice")
    await studio.shoot(path)


async def error(studio: Studio, path: Path) -> None:
    await studio.open()
    await _sky(studio)
    await studio.ask(LOST_MODEL, "not found")
    # Each request has another id.
    await studio.run("""
        await page.locator(".error .names code").last().evaluate((code) => (code.textContent = "con_Vb3kT9wXqLzR.14"));
        await page.evaluate(() => document.querySelector(".pane .scroller").scrollTo(0, 1e6));
    """)
    await studio.shoot(path)


async def reconnecting(studio: Studio, path: Path) -> None:
    await studio.open(url=studio.proxy.url)
    await studio.ask(STORY, "and the wall")
    await _listed(studio, "Write a story")
    # Nobody refuses the next connection, and nobody answers it.
    studio.proxy.passes.clear()
    studio.proxy.cut()
    await studio.run("await connected('connecting'); await has('Reconnecting…');")
    await studio.shoot(path)
    studio.proxy.passes.set()


async def drawer(studio: Studio, path: Path) -> None:
    await studio.open(WIDE)
    await _sky(studio)
    await _open_drawer(studio, "Frames")
    await studio.run("await page.locator('.developers .row-of', { hasText: 'stream/ended' }).click();")
    await studio.shoot(path)


async def drawer_log(studio: Studio, path: Path) -> None:
    await studio.open(WIDE)
    await _sky(studio)
    await _open_drawer(studio, "Log")
    await studio.shoot(path)


async def drawer_plots(studio: Studio, path: Path) -> None:
    await studio.open(WIDE)
    await _sky(studio)
    await _open_drawer(studio, "Plots")
    await studio.shoot(path)


async def drawer_phone(studio: Studio, path: Path) -> None:
    await studio.open(PHONE)
    await _sky(studio)
    await _open_drawer(studio, "Request")
    await studio.shoot(path)


async def models(studio: Studio, path: Path) -> None:
    await studio.open()
    await studio.run("""
        await shown.getByRole("button", { name: "Model" }).click();
        await page.locator(".models h3[data-available=false]").first().waitFor();
        await page.getByText("Refresh").waitFor();
    """)
    await studio.shoot(path)


async def settings(studio: Studio, path: Path) -> None:
    await studio.open()
    await studio.run("await shown.getByRole('button', { name: 'Settings' }).click();")
    await studio.run("await page.getByLabel('Temperature').waitFor();")
    await studio.shoot(path)


async def _sky(studio: Studio) -> None:
    await studio.ask(SKY, "tokens/s")
    await _listed(studio, "Why is the sky")


async def _open_drawer(studio: Studio, tab: str) -> None:
    await studio.run(
        """
        await page.locator("#developers-button").click();
        await page.getByRole("tab", { name: tab }).click();
        await page.mouse.move(0, 0);
        """,
        tab=tab,
    )


async def _listed(studio: Studio, title: str) -> None:
    """Wait until the list has the conversation; on a phone it is there, if not in sight."""
    await studio.run("await page.locator('.row', { hasText }).waitFor({ state: 'attached' });", hasText=title)


#: By the pictures' names.
SCENES: dict[str, Callable[[Studio, Path], Awaitable[None]]] = {
    "first-visit": first_visit,
    "light": light,
    "dark": dark,
    "phone": phone,
    "phone-list": phone_list,
    "phone-first-visit": phone_first_visit,
    "three-streams": three_streams,
    "tool-call": tool_call,
    "error": error,
    "reconnecting": reconnecting,
    "drawer": drawer,
    "drawer-log": drawer_log,
    "drawer-plots": drawer_plots,
    "drawer-phone": drawer_phone,
    "models": models,
    "settings": settings,
}
