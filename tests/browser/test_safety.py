"""What the console lets nobody do: a model's text, a page of another site, a picture of another host."""

from base64 import b64decode
from pathlib import Path

import httpx
import pytest

from tests.browser.console import Console
from tests.browser.markdown.test_hostile import TEXTS
from tests.browser.scripted_model import ScriptedModel
from tests.fakes.pictures import PNG
from tests.fakes.scripted_server import Reply, scripted_server
from tests.interop.browser import Browser, pages
from tests.processes import Server, server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


async def test_what_a_hostile_model_says_runs_nothing_and_asks_nobody(console: Console) -> None:
    # Console itself fails the test where the page complained (of its policy, too) or asked anybody else.
    for path in TEXTS:
        seen = await console.run(
            """
            const before = await shown.locator(".answer").count();
            await ask("say " + text);
            await ended(before);
            await drawn();
            return page.evaluate(() => {
                const wrong = document.querySelectorAll(".answer :is(iframe, object, embed, form, script, style, img)");
                const links = [...document.querySelectorAll(".answer a")];
                const odd = links.filter(({ protocol }) => !/^(https?|mailto):$/.test(protocol));
                return [window.ran ?? null, wrong.length, odd.length];
            });
            """,
            text=path.read_text("utf-8"),
        )
        assert seen == [None, 0, 0], path.name


async def test_a_title_and_a_question_are_text(console: Console) -> None:
    await console.run("""
        await ask('<img src=x onerror="window.ran = 1">');
        await ended();
        await page.locator(".row").waitFor();
        if (await page.evaluate(() => window.ran)) throw new Error("it ran");
    """)


async def test_a_picture_of_another_host_opens_in_a_tab_of_its_own_and_says_so(console: Console) -> None:
    async with scripted_server(responder=lambda _: Reply([b"<p>there"], content_type="text/html")) as stranger:
        seen = await console.run(
            """
            await ask(`say ![a map](${address})`);
            await ended();
            await drawn();
            const words = await answer().locator(".md-image").innerText();
            const [tab] = await Promise.all([context.waitForEvent("page"), answer().locator(".md-image").click()]);
            await tab.waitForLoadState();
            return [words, tab.url(), await tab.evaluate(() => [document.referrer, window.opener])];
            """,
            address=f"{stranger.url}/map.png",
        )
        host = stranger.url.removeprefix("http://")
        assert f"Open the picture at {host} in a new tab" in seen[0]
        assert seen[1:] == [f"{stranger.url}/map.png", ["", None]]


async def test_a_page_of_another_site_reaches_nothing(browser: Browser, sidecar: Server) -> None:
    async with pages() as elsewhere:
        await browser.open("elsewhere", elsewhere.url)
        seen = await browser.run(
            "elsewhere",
            """
            const failed = (work) => work().then(String, (error) => error.name);
            const socket = new WebSocket(url.replace("http", "ws") + "/api/v1/ws", ["archer.v1"]);
            const opened = await new Promise((tell) => {
                socket.onopen = () => tell("open");
                socket.onclose = () => tell("refused");
            });
            const frame = document.body.appendChild(document.createElement("iframe"));
            const shown = await new Promise((tell) => {
                frame.onload = () => tell(frame.contentDocument === null ? "nothing of it" : "an empty page");
                frame.src = url;
            });
            return {
                opened, shown,
                sessions: await failed(() => fetch(url + "/api/v1/sessions")),
                module: await failed(() => import(url + "/console/app/main.js")),
            };
            """,
            url=sidecar.url,
        )
    assert seen["opened"] == "refused"
    assert (seen["sessions"], seen["module"]) == ("TypeError", "TypeError")


async def test_a_page_of_another_site_learns_neither_of_files_nor_of_conversations(
    browser: Browser, sidecar: Server
) -> None:
    async with httpx.AsyncClient(base_url=sidecar.url) as client:
        picture = await client.post("/api/v1/files", content=b64decode(PNG), headers={"Content-Type": "image/png"})
        (await client.post("/api/v1/sessions", json={"session_id": "oslo"})).raise_for_status()
    known = [f"/api/v1/files/{picture.json()['file_id']}", "/api/v1/sessions/oslo", "/console/archer-client.js"]
    code = """
        const loaded = (tag, about) => new Promise((tell) => {
            const element = Object.assign(document.createElement(tag), about);
            element.onload = () => tell(true);
            element.onerror = () => tell(false);
            document.head.append(element);
        });
        const seen = [await loaded("img", { src: url + known[0] })];
        for (const path of known) seen.push(await loaded("link", { rel: "prefetch", href: url + path }));
        return seen;
    """
    async with pages() as elsewhere:
        for number, address in enumerate((elsewhere.url, elsewhere.url.replace("127.0.0.1", "evil.test"))):
            await browser.open(f"page {number}", address)
            seen = await browser.run(f"page {number}", code, url=sidecar.url, known=known)
            assert seen == [False] * 4, address


async def test_a_page_of_another_site_that_opens_a_file_sees_no_more_if_it_is_there(
    browser: Browser, sidecar: Server
) -> None:
    async with httpx.AsyncClient(base_url=sidecar.url) as client:
        picture = await client.post("/api/v1/files", content=b64decode(PNG), headers={"Content-Type": "image/png"})
    code = """
        const opening = context.waitForEvent("page");
        await page.evaluate((url) => { window.opened = open(url); }, url);
        const tab = await opening;
        // A download leaves the tab empty, where the page that opened it may look.
        const saved = tab.waitForEvent("download").then(() => "a download");
        return Promise.race([saved, tab.waitForURL(url).then(() => tab.innerText("body"))]);
    """
    async with pages() as app:
        await browser.open("elsewhere", app.url.replace("127.0.0.1", "evil.test"))
        url = f"{sidecar.url}/api/v1/files/{picture.json()['file_id']}"
        seen = [await browser.control("elsewhere", code, url=each) for each in (url, f"{url}0")]
    assert ["forbidden" in each for each in seen] == [True, True]


async def test_an_allowed_page_shows_a_picture_by_its_address_and_any_page_may_link_here(
    browser: Browser, tmp_path: Path, model: ScriptedModel
) -> None:
    async with pages() as app, server(model, cwd=tmp_path, CORS_ORIGINS=app.url) as sidecar:
        async with httpx.AsyncClient(base_url=sidecar.url) as client:
            picture = await client.post("/api/v1/files", content=b64decode(PNG), headers={"Content-Type": "image/png"})
        await browser.open("app", app.url)
        code = """
            const image = Object.assign(new Image(), { src: address });
            return image.decode().then(() => "shown", String);
        """
        address = f"{sidecar.url}/api/v1/files/{picture.json()['file_id']}"
        assert await browser.run("app", code, address=address) == "shown"
        await browser.open("elsewhere", app.url.replace("127.0.0.1", "evil.test"))
        arrived = """
            await page.evaluate((url) => {
                document.body.append(Object.assign(document.createElement("a"), { href: url, textContent: "there" }));
            }, url);
            await page.locator("a").click();
            await page.locator('.connection[data-state="open"]').waitFor();
        """
        await browser.control("elsewhere", arrived, url=sidecar.url)


async def test_where_it_is_switched_off_browsers_see_a_page_that_runs_nothing(
    browser: Browser, tmp_path: Path, model: ScriptedModel
) -> None:
    async with server(model, cwd=tmp_path, ARCHER_CONSOLE="false") as sidecar:
        await browser.open("front", sidecar.url)
        seen = await browser.control(
            "front",
            """
            const answer = await page.request.get(`${page.url()}console`);
            return [await page.locator("script").count(), await page.locator("h1").innerText(), answer.status()];
            """,
        )
    assert seen == [0, "Archer AI Engine", 404]
