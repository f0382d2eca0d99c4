"""The console's connection: one for all conversations, always told of, cut and mended without a lost word."""

import json
import signal
from pathlib import Path

import pytest

from tests.browser.console import LOST_SERVER, Console
from tests.browser.scripted_model import HALF, TEXT, ScriptedModel
from tests.fakes.cutting_proxy import CuttingProxy
from tests.fakes.rewriting_proxy import Head, rewriting_proxy
from tests.interop.browser import Browser
from tests.lost_servers import killed, port_of
from tests.processes import Server, server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


async def test_the_button_cuts_the_connection_and_the_answer_goes_on_where_it_was(
    console: Console, model: ScriptedModel, sidecar: Server
) -> None:
    await console.run("await ask('hold'); await has(half);", half=HALF)
    cut = await console.run("""
        await page.getByRole("button", { name: "Cut the connection" }).click();
        await connected("connecting");
        await page.waitForFunction(() => /Reconnecting/.test(document.querySelector(".connection").innerText));
        return page.locator(".story").innerText();
    """)
    model.go.set()
    mended = await console.run("""
        await connected();
        await ended();
        return { story: await page.locator(".story").innerText(), answers: await answers(),
            seams: await answer().locator(".rail i").count(), told: await answer().innerText(),
            state: await page.locator(".connection").innerText() };
    """)
    assert "You cut the connection." in cut
    assert mended["answers"] == [TEXT]
    assert "1 answer was resumed where it left off" in mended["story"]
    assert mended["seams"] == 1
    assert "Survived 1 lost connection" in mended["told"]
    assert "Resumed" in mended["state"]
    assert sidecar.chats.qsize() == 1


async def test_an_outage_that_is_over_is_not_told_again_when_another_window_asks(
    browser: Browser, sidecar: Server, model: ScriptedModel
) -> None:
    async with Console(browser, sidecar.url, "one") as one, Console(browser, sidecar.url, "two") as two:
        two.expected.append("closed before the connection is established")
        await one.run("await ask('say one'); await ended();")
        await two.run("""
            await page.locator(".row .entry").click();
            await ended();
            await page.getByRole("button", { name: "Cut the connection" }).click();
            await page.locator('.story[data-mended="true"]').getByRole("button", { name: "Close" }).click();
            await page.locator(".story").waitFor({ state: "detached" });
        """)
        await one.run("await connected(); await ask('hold'); await has(half);", half=HALF)
        seen = await two.run(
            """
            await has(half);
            await drawn();
            const told = await page.locator("p.unseen[role=status]").textContent();
            const isTold = (await page.locator(".story").count()) > 0;
            await page.locator(".connection .state").click();
            return [told, isTold, await page.locator(".story").innerText()];
            """,
            half=HALF,
        )
        model.go.set()
    assert seen[:2] == ["The answer has begun.", False]
    assert "No answer was being generated" in seen[2]


async def test_many_conversations_go_over_one_socket_and_stopping_one_leaves_the_others(
    browser: Browser, proxy: CuttingProxy, model: ScriptedModel
) -> None:
    # Another port than the server's own makes another origin, and so these pages' addresses are all the proxy's.
    async with Console(browser, proxy.url) as console:
        sockets = await console.run("""
            kept.sockets = 0;
            page.on("websocket", () => kept.sockets++);
            await page.reload();
            await connected();
            for (const number of [1, 2, 3]) {
                if (number > 1) await page.getByRole("button", { name: "New conversation beside this one" }).click();
                await page.locator(".pane").nth(number - 1).and(shown).waitFor();
                await ask(`hold ${number}`);
                await shown.locator('.answer[aria-busy="true"] .text').filter({ hasText: "word19" }).waitFor();
            }
            const panes = page.locator(".pane");
            await panes.nth(1).getByRole("button", { name: "Stop" }).click();
            await panes.nth(1).locator('.answer[aria-busy="false"]').waitFor();
            return [kept.sockets, await panes.count(), await page.locator('.answer[aria-busy="true"]').count()];
        """)
        model.go.set()
        ends = await console.run("""
            await page.waitForFunction(() => document.querySelectorAll('.answer[aria-busy="false"]').length === 3);
            return texts(page.locator(".answer .text"));
        """)
    assert sockets == [1, 3, 2]
    assert ends == [TEXT, HALF, TEXT]


async def test_three_tabs_show_each_others_answers(browser: Browser, sidecar: Server, model: ScriptedModel) -> None:
    async with (
        Console(browser, sidecar.url, "one") as one,
        Console(browser, sidecar.url, "two") as two,
        Console(browser, sidecar.url, "three") as three,
    ):
        await one.run("await ask('hold on'); await has(half);", half=HALF)
        for other in (two, three):
            await other.run(
                "await page.locator('.row .entry').getByText('hold on').click(); await has(half);", half=HALF
            )
        model.go.set()
        for each in (one, two, three):
            assert await each.run("await ended(); return answers();") == [TEXT]
        await two.run("await ask('say more'); await ended(); await has('more');")
        for each in (one, three):
            await each.run("await shown.locator('.answer').nth(1).waitFor(); await ended();")
            assert await each.run("return answers();") == [TEXT, "more"]
    assert sidecar.chats.qsize() == 2


async def test_without_a_network_it_says_so_and_goes_on_with_it(
    browser: Browser, tmp_path: Path, model: ScriptedModel
) -> None:
    # Not this machine's own name: a server on loopback is there without any network.
    async with server(model, cwd=tmp_path, ALLOWED_HOSTS=json.dumps(["127.0.0.1", "sidecar.test"])) as sidecar:
        url = sidecar.url.replace("127.0.0.1", "sidecar.test")
        async with Console(browser, url) as console:
            console.expected.append("ERR_INTERNET_DISCONNECTED")
            await console.run("await ask('hold'); await has(half);", half=HALF)
            # Chromium keeps sockets that stand; the cut is what the network's end does to them.
            state = await console.run("""
                await context.setOffline(true);
                await page.keyboard.press("Alt+x");
                await connected("offline");
                return page.locator(".connection").innerText();
            """)
            assert "No network" in state
            model.go.set()
            assert await console.run("await context.setOffline(false); await ended(); return answers();") == [TEXT]


async def test_a_server_that_stops_says_so_before(browser: Browser, tmp_path: Path, model: ScriptedModel) -> None:
    async with server(model, cwd=tmp_path) as sidecar, Console(browser, sidecar.url) as console:
        console.expected += LOST_SERVER
        await console.run("await ask('hold'); await has(half);", half=HALF)
        sidecar.program.send_signal(signal.SIGTERM)
        await console.run("await connected('draining'); await has('The server is stopping');")
        model.go.set()
        assert await console.run("await ended(); return answers();") == [TEXT]
        await console.run("await has('The server stopped, as announced.');")


async def test_a_token_is_asked_for_kept_in_the_tab_alone_and_never_in_a_frame(
    browser: Browser, tmp_path: Path, model: ScriptedModel
) -> None:
    async with (
        server(model, cwd=tmp_path, AUTH_TOKEN="s3cret-of-mine") as sidecar,
        Console(browser, sidecar.url, until="form.card") as console,
    ):
        console.expected.append("401")
        seen = await console.run("""
            kept.frames = [];
            page.on("websocket", (socket) => {
                socket.on("framesent", ({ payload }) => kept.frames.push(String(payload)));
            });
            await page.getByLabel("Token").fill("wrong");
            await page.keyboard.press("Enter");
            await has("does not accept this token");
            await page.getByLabel("Token").fill("s3cret-of-mine");
            await page.keyboard.press("Enter");
            await connected();
            await ask("say welcome");
            await ended();
            await page.reload();
            await connected();
            await ended();
            const stores = () => [JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie];
            return { answers: await answers(), frames: kept.frames, stored: await page.evaluate(stores) };
        """)
    assert seen["answers"] == ["welcome"]
    assert "s3cret" not in "".join(seen["frames"])
    local, session, cookie = seen["stored"]
    assert ("s3cret" in local, "s3cret" in session, cookie) == (False, True, "")


async def test_what_is_stopped_in_one_tab_is_stopped_in_all(browser: Browser, sidecar: Server) -> None:
    async with (
        Console(browser, sidecar.url, "one") as one,
        Console(browser, sidecar.url, "two") as two,
        Console(browser, sidecar.url, "three") as three,
    ):
        await one.run("await ask('never'); await has(half);", half=HALF)
        for other in (two, three):
            await other.run("await page.locator('.row .entry').getByText('never').click(); await has(half);", half=HALF)
        await two.run("await page.keyboard.press('Escape'); await ended();")
        for each in (one, two, three):
            seen = await each.run("await ended(); return [await answers(), await answer().innerText()];")
            assert seen[0] == [HALF]
            assert "You stopped it." in seen[1]


async def test_a_page_that_slept_has_all_of_the_answer_when_it_wakes(
    console: Console, model: ScriptedModel, sidecar: Server
) -> None:
    await console.run("await ask('hold'); await has(half);", half=HALF)
    sleep = """
        kept.devtools ??= await context.newCDPSession(page);
        await kept.devtools.send("Page.setWebLifecycleState", { state });
    """
    (session,) = (await sidecar.http.get("/api/v1/sessions")).json()["items"]
    stream_id = session["active"][0]["stream_id"]
    await console.run(sleep, state="frozen")
    model.go.set()
    # Its events end with it.
    await sidecar.http.get(f"/api/v1/streams/{stream_id}/events")
    assert await console.run(sleep + "await ended(); return answers();", state="active") == [TEXT]


#: The page's token is refused once, by something before the server, while the answer runs.
REFUSED = """
    await page.route("**/ws/tickets", (route) => route.fulfill({
        status: 401, contentType: "application/json",
        body: JSON.stringify({ error: { kind: "unauthenticated", message: "not now" } }),
    }), { times: 1 });
    await page.keyboard.press("Alt+x");
    await has("does not accept this token");
"""
SIGN_IN = """
    await page.getByLabel("Token").fill("s3cret-of-mine");
    await page.keyboard.press("Enter");
    await connected();
"""


@pytest.mark.parametrize("ends", ["before", "after"])
async def test_an_answer_that_ran_while_the_token_was_refused_is_shown_whole(
    browser: Browser, tmp_path: Path, model: ScriptedModel, ends: str
) -> None:
    async with (
        server(model, cwd=tmp_path, AUTH_TOKEN="s3cret-of-mine") as sidecar,
        Console(browser, sidecar.url, until="form.card") as console,
    ):
        console.expected += ["401", "WebSocket is closed before"]
        await console.run(SIGN_IN + "await ask('hold'); await has(half);" + REFUSED, half=HALF)
        if ends == "before":
            model.go.set()
            headers = {"Authorization": "Bearer s3cret-of-mine"}
            (session,) = (await sidecar.http.get("/api/v1/sessions", headers=headers)).json()["items"]
            for active in session["active"]:
                # Its events end with it.
                await sidecar.http.get(f"/api/v1/streams/{active['stream_id']}/events", headers=headers)
            await console.run(SIGN_IN)
        else:
            await console.run(SIGN_IN + "await answer().and(page.locator('[aria-busy=\"true\"]')).waitFor();")
            assert await console.run("return answers();") == [HALF]
            model.go.set()
        await console.run("await has(whole);", whole=TEXT)
        seen = await console.run("await ended(); return [await answers(), await answer().locator('.error').count()];")
    assert seen == [[TEXT], 0]
    assert sidecar.chats.qsize() == 1


async def test_a_server_that_needs_a_token_since_its_restart_is_given_one(
    browser: Browser, tmp_path: Path, model: ScriptedModel
) -> None:
    async with server(model, cwd=tmp_path) as first, Console(browser, first.url) as console:
        console.expected += LOST_SERVER
        await killed(first)
        await console.run("await connected('connecting');")
        async with server(model, "--port", str(port_of(first)), cwd=tmp_path, AUTH_TOKEN="s3cret-of-mine"):
            await console.run(
                """
                await connected("closed");
                await page.getByRole("button", { name: "Connect again" }).click();
                """
                + SIGN_IN
                + "await ask('say welcome'); await has('welcome'); await ended();"
            )
            assert await console.run("return answers();") == ["welcome"]


async def test_that_streams_were_resumed_is_announced_once_for_all_of_them(
    console: Console, model: ScriptedModel
) -> None:
    await console.run("""
        for (const number of [1, 2, 3]) {
            if (number > 1) await page.getByRole("button", { name: "New conversation beside this one" }).click();
            await page.locator(".pane").nth(number - 1).and(shown).waitFor();
            await ask(`hold ${number}`);
            await shown.locator('.answer[aria-busy="true"] .text').filter({ hasText: "word19" }).waitFor();
        }
        await page.evaluate(() => {
            const status = document.querySelector("p.unseen[role=status]");
            globalThis.announced = [];
            const note = () => globalThis.announced.push(status.textContent.trim());
            new MutationObserver(note).observe(status, { characterData: true, childList: true, subtree: true });
        });
        await page.getByRole("button", { name: "Cut the connection" }).click();
        await connected("connecting");
    """)
    model.go.set()
    announced = await console.run("""
        await page.waitForFunction(() => document.querySelectorAll('.answer[aria-busy="false"]').length === 3);
        await page.locator(".story").getByText("3 answers were resumed").waitFor();
        return page.evaluate(() => globalThis.announced);
    """)
    assert [text.partition(",")[0] for text in announced if text.startswith("Re")] == ["Reconnecting…", "Resumed"]


@pytest.mark.parametrize("is_begun", [False, True])
async def test_a_question_that_was_not_sent_yet_is_in_the_field_after_a_reload(
    browser: Browser, sidecar: Server, proxy: CuttingProxy, *, is_begun: bool
) -> None:
    async with Console(browser, proxy.url) as console:
        console.expected += LOST_SERVER
        if is_begun:
            await console.run("await ask('say one'); await ended();")
            await sidecar.next_chat()
        await console.run("""
            // The page can be loaded; only its socket can't.
            await context.routeWebSocket(/./, (socket) => socket.close());
            await page.getByRole("button", { name: "Cut the connection" }).click();
            await connected("connecting");
            await ask("say two");
            await has("say two");
            await page.reload();
        """)
        seen = await console.run(
            "await field().and(page.locator(':not(:placeholder-shown)')).waitFor(); return field().inputValue();"
        )
        assert seen == "say two"
    assert sidecar.chats.empty()


async def test_what_was_not_sent_to_a_working_model_yet_is_in_the_field_after_a_reload(
    browser: Browser, proxy: CuttingProxy, model: ScriptedModel
) -> None:
    async with Console(browser, proxy.url) as console:
        console.expected += LOST_SERVER
        seen = await console.run(
            """
            await ask("hold");
            await has(half);
            // The page can be loaded; only its socket can't.
            await context.routeWebSocket(/./, (socket) => socket.close());
            await page.getByRole("button", { name: "Cut the connection" }).click();
            await connected("connecting");
            await ask("and be brief");
            await has("sent to the model before its next step");
            const emptied = await field().inputValue();
            await page.reload();
            await field().and(page.locator(":not(:placeholder-shown)")).waitFor();
            return [emptied, await field().inputValue()];
            """,
            half=HALF,
        )
        model.go.set()
    assert seen == ["", "and be brief"]


async def test_what_was_written_behind_a_question_that_was_on_its_way_stays_in_the_field_after_a_reload(
    console: Console, sidecar: Server, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("# Cat", "utf-8")
    await console.run(
        """
        await page.routeWebSocket(/api.v1.ws/, (socket) => {
            const server = socket.connectToServer();
            socket.onMessage((frame) => {
                kept.isDeaf ||= JSON.parse(frame).method === "chat/send";
                server.send(frame);
            });
            server.onMessage((frame) => kept.isDeaf || socket.send(frame));
        });
        await page.reload();
        await connected();
        await shown.locator('input[type="file"]').setInputFiles(files);
        await shown.locator('.attachments .chip[data-state="sent"]').waitFor();
        await ask("say two");
        """,
        files=[str(notes)],
    )
    await sidecar.next_chat()
    seen = await console.run("""
        await field().fill("say three");
        kept.isDeaf = false;
        await page.reload();
        await has("say two");
        await ended();
        return [await field().inputValue(), await shown.locator(".attachments .chip").count()];
    """)
    assert seen == ["say three", 0]


async def test_a_question_that_was_sent_is_not_in_the_field_after_a_reload(
    console: Console, sidecar: Server, model: ScriptedModel
) -> None:
    seen = await console.run(
        """
        await ask("hold"); await has(half);
        await page.reload(); await has(half);
        const running = await field().inputValue();
        return running;
        """,
        half=HALF,
    )
    model.go.set()
    ended = await console.run(
        "await ended(); await page.reload(); await ended(); return [await field().inputValue(), await said()];"
    )
    assert (seen, ended) == ("", ["", ["hold"]])
    assert sidecar.chats.qsize() == 1


async def test_below_the_path_that_a_proxy_gives_it_it_chats_and_tells_the_addresses_there(
    browser: Browser, sidecar: Server
) -> None:
    def without_path(head: Head) -> str:
        head.path = head.path.removeprefix(b"/archer")
        return sidecar.url

    async with rewriting_proxy(without_path) as url, Console(browser, f"{url}/archer/") as console:
        told = await console.run("""
            const code = await page.locator(".programs code").allInnerTexts();
            const client = await page.locator(".programs a").nth(1).getAttribute("href");
            await ask("say hello");
            await ended();
            return { code, client, answers: await answers() };
        """)
    assert told["code"] == [f"ws{url.removeprefix('http')}/archer/api/v1/ws", f"{url}/archer/v1"]
    assert told["client"] == f"{url}/archer/console/archer-client.js"
    assert told["answers"] == ["hello"]
