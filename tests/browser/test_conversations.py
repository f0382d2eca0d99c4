"""The console's list of conversations: renamed, searched, exported, deleted, and the same in every window."""

import json

import pytest

from archer_ws.core.limits import PAGE_BYTES_MAX
from tests.browser.console import Console
from tests.browser.scripted_model import HALF, TEXT, ScriptedModel
from tests.interop.browser import Browser
from tests.processes import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: Chooses from the menu of the first conversation in the list.
CHOOSE = """
    const choose = async (item) => {
        await page.locator(".row").first().hover();
        await page.locator(".row").first().getByRole("button", { name: /Actions for/ }).click();
        await page.getByRole("menuitem", { name: item, exact: true }).click();
    };
    const downloaded = async (item) => {
        const [file] = await Promise.all([page.waitForEvent("download"), choose(item)]);
        const chunks = [];
        for await (const chunk of await file.createReadStream()) chunks.push(chunk);
        return [file.suggestedFilename(), Buffer.concat(chunks).toString()];
    };
"""
TALK = """
    await ask("say **blue** light scatters");
    await ended();
    await page.locator(".row").first().waitFor();
"""


async def test_a_conversation_is_renamed_and_then_deleted_in_every_window(browser: Browser, sidecar: Server) -> None:
    async with Console(browser, sidecar.url, "one") as one, Console(browser, sidecar.url, "two") as two:
        await one.run(TALK)
        await one.run(
            CHOOSE
            + """
            await choose("Rename");
            await page.getByLabel("New name").fill("The sky");
            await page.keyboard.press("Enter");
            """
        )
        for each in (one, two):
            await each.run("await page.locator('.row').getByText('The sky').waitFor();")
        await one.run(CHOOSE + "await choose('Delete'); await page.getByRole('button', { name: 'Delete' }).click();")
        for each in (one, two):
            await each.run("await page.waitForFunction(() => !document.querySelector('.row'));")
        assert (await sidecar.http.get("/api/v1/sessions")).json()["items"] == []
        # The deleted one was shown: an empty one has its place.
        assert await one.run("await page.locator('.welcome').waitFor(); return said();") == []


async def test_one_without_a_title_is_named_by_its_last_message_and_its_tab_by_the_first_question(
    sidecar: Server, browser: Browser
) -> None:
    await sidecar.http.post("/api/v1/sessions", json={"session_id": "oslo"})
    asked = {"session_id": "oslo", "messages": [{"role": "user", "content": "say snow in Oslo"}]}
    assert (await sidecar.http.post("/api/v1/chat/completions", json=asked)).status_code == 200
    async with Console(browser, sidecar.url) as console:
        listed, tab = await console.run(
            """
            const entry = page.locator(".row .entry").first();
            await entry.waitFor();
            const listed = await texts(entry);
            await entry.click();
            await ended();
            return [listed[0], (await texts(page.locator(".tab .title")))[0]];
            """
        )
    assert (listed, tab) == ("snow in Oslo", "say snow in Oslo")


async def test_words_in_any_message_are_found_and_lead_to_their_conversation(console: Console) -> None:
    seen = await console.run(
        TALK
        + """
        await page.keyboard.press("Alt+n");
        await page.locator(".welcome").waitFor();
        await page.keyboard.press("Control+k");
        await page.keyboard.type("scatters blue");
        await has("2 messages");
        const hit = page.locator(".sidebar .list .entry").first();
        const listed = await texts(page.locator(".sidebar .list .entry"));
        await hit.click();
        await ended();
        const found = await answers();
        await page.keyboard.press("Control+k");
        await page.keyboard.press("Control+a");
        await page.keyboard.type("nowhere");
        await has("No message contains all the words of");
        return { listed, found };
        """
    )
    assert len(seen["listed"]) == 2
    assert all("scatters" in each for each in seen["listed"])
    assert "light scatters" in seen["found"][0]


async def imported(
    sidecar: Server, session_id: str, count: int, *, with_streams: bool = True, paragraph: str = "answer {:03}."
) -> None:
    """A conversation of so many questions, each with its answer, at the server."""
    messages = []
    for number in range(count):
        told = {"created_at": "2026-01-01T00:00:00Z", "status": "completed"}
        messages.append({**told, "message_id": f"q{number}", "role": "user", "content": f"question {number:03}"})
        answer = {"message_id": f"a{number}", "role": "assistant", "content": f"{paragraph.format(number)}\n\n" * 5}
        messages.append({**told, **answer, **({"stream_id": f"s{number}"} if with_streams else {})})
    session = {"session_id": session_id, "title": "Long", "messages": messages}
    told = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    line = json.dumps({**session, **told})
    response = await sidecar.http.post(
        "/api/v1/sessions/import", content=line, headers={"content-type": "application/jsonl"}
    )
    assert response.json()["imported"] == 1, response.text


#: Opens what a search found first; where the found message is then.
OPEN_HIT = """
    const openHit = async (words) => {
        await page.keyboard.press("Control+k");
        await page.keyboard.press("Control+a");
        await page.keyboard.type(words);
        await page.locator(".sidebar .list .entry").filter({ hasText: words }).first().click();
        // The element stays, the mark does not.
        return page.waitForSelector("[data-found]");
    };
    const isInView = (found) => found.evaluate((found) => {
        const { top, bottom } = found.getBoundingClientRect();
        const room = found.closest(".scroller").getBoundingClientRect();
        return top >= room.top - 1 && top < room.bottom && bottom > room.top;
    });
    const marked = async (found) => {
        const focused = await found.evaluate((found) => document.activeElement.contains(found));
        const seen = { isInView: await isInView(found), focused };
        await drawn();
        return { ...seen, text: (await found.innerText()).trim().split("\\n")[0] };
    };
"""


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
async def test_a_message_that_was_found_is_scrolled_to_focused_and_marked_for_a_moment(
    console: Console, sidecar: Server, motion: str
) -> None:
    await imported(sidecar, "long", 60)
    seen = await console.run(
        OPEN_HIT
        + """
        await page.emulateMedia({ reducedMotion: motion });
        const hit = await openHit("question 007");
        const question = await marked(hit);
        question.staysInView = await isInView(hit);
        await page.waitForFunction(() => !document.querySelector("[data-found]"));
        const isStillThere = await page.evaluate(() => {
            const { top } = document.querySelector('[data-message="q7"]').getBoundingClientRect();
            return top > 0 && top < innerHeight;
        });
        return { question, isStillThere, answer: await marked(await openHit("answer 020")) };
        """,
        motion=motion,
    )
    there = {"isInView": True, "focused": True}
    assert seen["question"] == {**there, "text": "question 007", "staysInView": True}
    assert seen["isStillThere"]
    assert seen["answer"] == {**there, "text": "answer 020."}


async def test_older_pages_are_read_until_the_found_message_is_there(console: Console, sidecar: Server) -> None:
    await imported(sidecar, "longer", 250)
    seen = await console.run(OPEN_HIT + 'return marked(await openHit("question 003"));')
    assert seen == {"text": "question 003", "isInView": True, "focused": True}


async def test_who_scrolls_away_from_a_found_message_is_let_go(console: Console, sidecar: Server) -> None:
    await imported(sidecar, "long", 60)
    await console.run(
        OPEN_HIT
        + """
        await openHit("question 030");
        await shown.locator(".scroller").hover();
        await page.mouse.wheel(0, -4000);
        await page.waitForFunction(() => !document.querySelector("[data-found]"));
        """
    )


async def test_a_conversation_is_exported_to_be_read_and_to_be_imported_again(
    console: Console, sidecar: Server
) -> None:
    name, text = await console.run(TALK + CHOOSE + "return downloaded('Export as Markdown');")
    assert name == "say-blue-light-scatters.md"
    assert "## user" in text
    assert "**blue** light scatters" in text
    name, text = await console.run(CHOOSE + "return downloaded('Export as JSON');")
    assert name == "say-blue-light-scatters.json"
    await sidecar.http.delete("/api/v1/sessions", params={"all": "true"})
    line = json.dumps(json.loads(text))
    imported = await sidecar.http.post(
        "/api/v1/sessions/import", content=line, headers={"content-type": "application/jsonl"}
    )
    assert imported.json()["imported"] == 1, imported.text


async def test_a_deleted_conversation_that_is_read_here_stays_readable_and_says_so(
    browser: Browser, sidecar: Server
) -> None:
    async with Console(browser, sidecar.url) as console:
        await console.run(TALK)
        await sidecar.http.delete("/api/v1/sessions", params={"all": "true"})
        seen = await console.run("await has('no longer has this conversation'); return answers();")
        assert "light scatters" in seen[0]


async def test_the_open_conversations_are_there_again_after_a_reload(console: Console) -> None:
    seen = await console.run(
        TALK
        + """
        await page.keyboard.press("Alt+b");
        await page.waitForFunction(() => document.querySelectorAll(".tab").length === 2);
        await ask("say two");
        await ended();
        await page.getByRole("button", { name: "Side by side" }).click();
        await page.reload();
        await page.waitForFunction(() => document.querySelectorAll('.answer[aria-busy="false"]').length === 2);
        const beside = await page.locator(".pane").count();
        await page.keyboard.press("Alt+1");
        return [beside, await said()];
        """
    )
    assert seen == [2, ["say **blue** light scatters"]]


async def test_of_more_conversations_side_by_side_than_fit_the_chosen_one_is_in_view(console: Console) -> None:
    seen = await console.run("""
        const isInView = () => page.waitForFunction(() => {
            const { left, right } = document.querySelector('.pane[data-shown="true"]').getBoundingClientRect();
            const room = document.querySelector(".panes").getBoundingClientRect();
            return left >= room.left - 1 && right <= room.right + 1;
        });
        const beside = page.getByRole("button", { name: "Side by side" });
        for (const number of [1, 2, 3, 4, 5]) {
            if (number > 1) await page.keyboard.press("Alt+b");
            if (number === 2) await beside.click();
            await isInView();
            await ask(`say ${number}`);
            await ended();
        }
        for (const key of ["Alt+1", "Alt+4"]) {
            await page.keyboard.press(key);
            await isInView();
        }
        await page.locator(".tab .face").nth(1).click();
        await isInView();
        await beside.click();
        await page.keyboard.press("Alt+5");
        await beside.click();
        await isInView();
        await page.reload();
        await connected();
        await isInView();
        // Nothing moves under a pointer that presses something in a pane which is cut off.
        const scrolled = () => page.locator(".panes").evaluate((panes) => panes.scrollLeft);
        await page.locator(".panes").evaluate((panes) => (panes.scrollLeft = 200));
        await page.mouse.click(300, 400);
        await page.locator(".pane").first().and(shown).waitFor();
        return [await scrolled(), await said()];
    """)
    assert seen == [200, ["say 1"]]


async def test_messages_without_streams_are_questions_with_their_answers(console: Console, sidecar: Server) -> None:
    await imported(sidecar, "elsewhere", 3, with_streams=False)
    seen = await console.run("""
        await page.locator(".row .entry").click();
        await shown.locator(".answer").nth(2).waitFor();
        return [await said(), (await answers()).length];
    """)
    assert seen == [["question 000", "question 001", "question 002"], 3]


async def test_a_search_leads_to_an_answer_that_was_given_here(console: Console) -> None:
    await console.run("""
        await ask("say alphabet");
        await ended();
        await ask(`say ${"one line\\n\\n".repeat(60)}`);
        await page.waitForFunction(() => document.querySelectorAll(".answer").length === 2);
        await ended();
        await page.locator("#search").fill("alphabet");
        const found = page.locator(".sidebar .list .entry", { has: page.locator(".preview") });
        await found.nth(1).waitFor();
        const previews = await texts(found.locator(".preview"));
        await found.nth(previews.indexOf("alphabet")).click();
        await shown.locator(".step[data-found]").getByText("alphabet").waitFor();
        await answer(0).and(page.locator(":focus")).waitFor();
    """)


async def test_behind_an_answer_that_is_longer_than_a_page_everything_stays_in_its_place(
    console: Console, model: ScriptedModel
) -> None:
    lines = "a line of code\n" * 40_000
    model.long = f"A very long answer.\n\n```\n{lines}```\n"
    assert len(model.long) > PAGE_BYTES_MAX
    seen = await console.run("""
        const shownNow = () => shown.locator("article").evaluateAll((all) => all.map((each) =>
            (each.querySelector(".words, .text p")?.textContent ?? "")));
        await ask("say one");
        await ended();
        for (const [index, text] of ["long", "say two"].entries()) {
            await ask(text);
            await page.waitForFunction((count) => document.querySelectorAll(".answer").length >= count, index + 2);
            await ended();
            // The stored messages have been read since.
            await answer().locator(".step[data-message]").waitFor();
        }
        const before = await shownNow();
        await page.reload();
        await shown.locator(".answer").last().waitFor();
        await drawn();
        const after = await shownNow();
        const older = shown.getByRole("button", { name: "Show older messages" });
        while (await older.isVisible()) {
            const count = await shown.locator("article").count();
            await older.click();
            await page.waitForFunction((count) => document.querySelectorAll("article").length > count, count);
        }
        await drawn();
        return [before, after, await shownNow()];
    """)
    whole = ["say one", "one", "long", "A very long answer.", "say two", "two"]
    assert (seen[0], seen[1], seen[2]) == (whole, whole[4:], whole)


async def test_older_messages_come_once_and_leave_the_reader_where_he_is(console: Console, sidecar: Server) -> None:
    await imported(sidecar, "long", 250)
    seen = await console.run("""
        await page.locator(".row .entry").click();
        const older = page.getByRole("button", { name: "Show older messages" });
        await older.waitFor();
        await drawn();
        const scroller = shown.locator(".scroller");
        await scroller.evaluate((scroller) => scroller.scrollTo(0, 0));
        const place = () => shown.locator('[data-message="q150"]').evaluate((said) => said.getBoundingClientRect().top);
        const before = await place();
        await older.dblclick();
        await shown.locator('[data-message="q50"]').waitFor();
        await drawn();
        const after = await place();
        const asked = await said();
        return { moved: Math.abs(after - before), count: asked.length, first: asked[0], last: asked.at(-1) };
    """)
    assert seen.pop("moved") < 100
    assert seen in (
        {"count": 200, "first": "question 050", "last": "question 249"},
        {"count": 250, "first": "question 000", "last": "question 249"},
    )


async def test_answers_off_the_screen_are_not_drawn_and_are_copied_with_the_others(
    console: Console, sidecar: Server
) -> None:
    await imported(sidecar, "long", 90)
    seen = await console.run("""
        await page.locator(".row .entry").click();
        await shown.locator('[data-message="a89"]').waitFor();
        await drawn();
        return page.evaluate(() => {
            const column = document.querySelector(".column");
            const rails = [...column.querySelectorAll(".rail")];
            const shown = rails.map((rail) => rail.checkVisibility({ contentVisibilityAuto: true }));
            getSelection().selectAllChildren(column);
            const text = String(getSelection());
            const copied = text.includes("answer 000") && text.includes("answer 089");
            return { first: shown[0], last: shown.at(-1), copied };
        });
    """)
    assert seen == {"first": False, "last": True, "copied": True}


async def test_the_way_to_the_end_leads_there_past_answers_that_were_never_drawn(
    console: Console, sidecar: Server
) -> None:
    await imported(sidecar, "long", 90, paragraph="answer {:03} " + "with many words " * 60)
    await console.run("""
        await page.locator(".row .entry").click();
        await shown.locator('[data-message="a89"]').waitFor();
        await drawn();
        await shown.locator(".scroller").evaluate((scroller) => scroller.scrollTo(0, 0));
        await drawn();
        await page.locator(".to-end").click();
        await page.locator(".to-end").waitFor({ state: "detached" });
        await page.waitForFunction(() => {
            const { scrollHeight, scrollTop, clientHeight } = document.querySelector(".scroller");
            return scrollHeight - scrollTop - clientHeight < 2;
        });
    """)


async def test_what_did_not_happen_is_told_to_those_who_see(browser: Browser, sidecar: Server) -> None:
    async with Console(browser, sidecar.url) as console:
        seen = await console.run(
            TALK + CHOOSE + "await choose('Rename'); await page.getByLabel('New name').fill('Sky');"
        )
        await sidecar.http.delete("/api/v1/sessions", params={"all": "true"})
        seen = await console.run("""
            await page.waitForFunction(() => !document.querySelector(".row"));
            await page.keyboard.press("Enter");
            const notice = page.getByRole("alert").filter({ hasText: "The conversation no longer exists" });
            await notice.waitFor();
            const isSeen = (await notice.boundingBox()).height > 20;
            await notice.getByRole("button", { name: "Close" }).click();
            await notice.waitFor({ state: "detached" });
            return isSeen;
        """)
        assert seen


async def test_a_search_that_failed_does_not_say_that_nothing_was_found(console: Console) -> None:
    seen = await console.run("""
        await page.keyboard.press("Control+k");
        await page.locator("#search").fill("blue ".repeat(300));
        await has("The search failed");
        const told = await page.locator(".sidebar .empty").innerText();
        await page.locator("#search").fill("");
        await page.waitForFunction(() => !document.body.innerText.includes("The search failed"));
        return told;
    """)
    assert "at most 1000 characters" in seen


async def test_settings_made_in_one_window_outlast_those_of_another(browser: Browser, sidecar: Server) -> None:
    async with Console(browser, sidecar.url, "one") as one, Console(browser, sidecar.url, "two") as two:
        await one.run("""
            await ask("say one");
            await ended();
            await shown.getByRole("button", { name: "Settings" }).click();
            await page.locator(".settings").getByLabel("System prompt").fill("Be brief.");
            await page.keyboard.press("Escape");
        """)
        await two.run("await ask('say two'); await ended(); await page.keyboard.press('Alt+n'); await has('Show me');")
        await one.run("await page.reload(); await ended(); await ask('say three'); await has('three'); await ended();")
    asked = [(await sidecar.next_chat()).json() for _ in range(3)]
    assert asked[-1]["messages"][0] == {"role": "system", "content": "Be brief."}


async def test_a_question_that_is_edited_while_another_window_asks_waits(
    browser: Browser, sidecar: Server, model: ScriptedModel
) -> None:
    async with Console(browser, sidecar.url, "one") as one, Console(browser, sidecar.url, "two") as two:
        await one.run("await ask('say one'); await ended();")
        await two.run("""
            await page.locator(".row .entry").click();
            await ended();
            await shown.locator(".said").hover();
            await shown.locator(".said").getByLabel("Edit").click();
            await page.getByLabel("What to ask instead").fill("say three");
        """)
        await one.run("await ask('hold'); await has(half);", half=HALF)
        seen = await two.run(
            """
            await has(half);
            await page.getByLabel("What to ask instead").press("Enter");
            const isOffered = await page.getByRole("button", { name: "Ask", exact: true }).isEnabled();
            return [isOffered, await answers()];
            """,
            half=HALF,
        )
        assert seen == [False, ["one", HALF]]
        model.go.set()
        seen = await two.run(
            """
            await has(whole);
            await ended();
            await page.getByLabel("What to ask instead").press("Enter");
            await has("three");
            await ended();
            return [await said(), await answers()];
            """,
            whole=TEXT,
        )
        assert seen == [["say three"], ["three"]]


async def test_a_question_of_a_deleted_conversation_is_edited_into_a_new_one(browser: Browser, sidecar: Server) -> None:
    async with Console(browser, sidecar.url) as console:
        await console.run(TALK)
        await sidecar.http.delete("/api/v1/sessions", params={"all": "true"})
        seen = await console.run("""
            await has("no longer has this conversation");
            await shown.locator(".said").hover();
            await shown.locator(".said").getByLabel("Edit").click();
            await page.getByLabel("What to ask instead").fill("say green");
            await page.keyboard.press("Enter");
            await shown.locator(".answer .text").filter({ hasText: "green" }).waitFor();
            const fresh = await answers();
            await page.locator(".tab .face").first().click();
            await has("light scatters");
            return [fresh, await answers()];
        """)
    assert seen == [["green"], ["blue light scatters"]]


async def test_a_conversation_that_the_list_does_not_show_yet_has_its_name_all_the_same(
    browser: Browser, sidecar: Server
) -> None:
    await imported(sidecar, "long", 2)
    for number in range(60):
        await sidecar.http.post("/api/v1/sessions", json={"session_id": f"later{number}", "title": f"Later {number}"})
    async with Console(browser, sidecar.url) as console:
        seen = await console.run("""
            await page.getByRole("button", { name: "Show older conversations" }).waitFor();
            await page.keyboard.press("Control+k");
            await page.keyboard.type("question 000");
            const hit = page.locator(".sidebar .list .entry").filter({ hasText: "question 000" });
            await hit.getByText("Long", { exact: true }).waitFor();
            await hit.click();
            await ended();
            const named = () => page.locator(".tab[data-shown=true] .title").innerText();
            const tab = await named();
            await page.reload();
            await ended();
            return [tab, await named(), await page.title()];
        """)
    assert seen[:2] == ["Long", "Long"]
    assert seen[2].startswith("Long")


#: Holds the server's answers to these methods back, from the next reload on, while `kept.isHolding`.
HOLD = """
    Object.assign(kept, { held: [], isHolding: false });
    const ids = new Set();
    await page.routeWebSocket(/ws/, (socket) => {
        const server = socket.connectToServer();
        socket.onMessage((frame) => {
            const { id, method } = JSON.parse(frame);
            if (methods.includes(method)) ids.add(id);
            server.send(frame);
        });
        server.onMessage((frame) => {
            const { id, method, params } = JSON.parse(frame);
            if (method === "session/changed") kept.version = params.version;
            if (kept.isHolding && ids.has(id)) kept.held.push(() => socket.send(frame));
            else socket.send(frame);
        });
    });
    await page.reload();
    await connected();
    await ended();
    kept.isHolding = true;
"""
HELD = """
    while (kept.held.length === 0) await new Promise((next) => setTimeout(next, 10));
"""
TOLD = "while (kept.version !== version) await new Promise((next) => setTimeout(next, 10));"
LET_GO = """
    kept.isHolding = false;
    for (const send of kept.held.splice(0)) send();
"""


async def test_what_another_window_asks_while_the_messages_are_loaded_is_shown(
    browser: Browser, sidecar: Server
) -> None:
    async with Console(browser, sidecar.url, "one") as one, Console(browser, sidecar.url, "two") as two:
        await one.run("await ask('say one'); await ended();" + HOLD, methods=["session/get"])
        await two.run("await page.locator('.row .entry').click(); await ended(); await ask('say two'); await ended(1);")
        await one.run(HELD)
        await two.run("await ask('say three'); await ended(2);")
        (session,) = (await sidecar.http.get("/api/v1/sessions")).json()["items"]
        await one.run(TOLD, version=session["version"])
        seen = await one.run(LET_GO + "await has('three'); await ended(2); return [await said(), await answers()];")
    assert seen == [["say one", "say two", "say three"], ["one", "two", "three"]]


async def test_a_conversation_that_is_deleted_while_the_list_is_loaded_is_not_listed(
    browser: Browser, sidecar: Server
) -> None:
    async with Console(browser, sidecar.url) as console:
        await console.run(TALK + HOLD, methods=["session/list"])
        await sidecar.http.post("/api/v1/sessions", json={"title": "another"})
        await console.run(HELD)
        await sidecar.http.delete("/api/v1/sessions", params={"all": "true"})
        seen = await console.run(
            "await has('no longer has this conversation');"
            + LET_GO
            + "await drawn(); return texts(page.locator('.row'));"
        )
    assert seen == []


async def test_a_conversation_that_is_deleted_while_it_is_loaded_says_so(browser: Browser, sidecar: Server) -> None:
    async with Console(browser, sidecar.url) as console:
        await console.run(TALK + HOLD, methods=["session/get"])
        (session,) = (await sidecar.http.get("/api/v1/sessions")).json()["items"]
        await sidecar.http.patch(f"/api/v1/sessions/{session['session_id']}", json={"title": "another"})
        await console.run(HELD)
        await sidecar.http.delete("/api/v1/sessions", params={"all": "true"})
        await console.run("await has('no longer has this conversation');")
        await console.run(LET_GO + "await drawn(); await has('no longer has this conversation');")


async def test_a_deleted_conversation_is_no_longer_among_what_was_found(browser: Browser, sidecar: Server) -> None:
    async with Console(browser, sidecar.url) as console:
        await console.run(TALK + "await page.locator('#search').fill('light'); await has('2 messages');")
        await sidecar.http.delete("/api/v1/sessions", params={"all": "true"})
        await console.run("await has('No message contains');")


async def test_what_is_written_instead_of_a_question_is_there_after_a_look_at_another_conversation(
    console: Console,
) -> None:
    seen = await console.run(
        TALK
        + """
        await shown.locator(".said").hover();
        await shown.locator(".said").getByLabel("Edit").click();
        await page.getByLabel("What to ask instead").fill("say green");
        await page.keyboard.press("Alt+n");
        await page.locator(".welcome").waitFor();
        await page.keyboard.press("Alt+1");
        await page.getByLabel("What to ask instead").press("Enter");
        await shown.locator(".answer .text").filter({ hasText: "green" }).waitFor();
        await ended();
        // What was left is not.
        await shown.locator(".said").getByLabel("Edit").click();
        await page.getByLabel("What to ask instead").fill("say red");
        await page.keyboard.press("Escape");
        await page.keyboard.press("Alt+n");
        await page.locator(".welcome").waitFor();
        await page.keyboard.press("Alt+1");
        await has("green");
        return [await said(), await page.getByLabel("What to ask instead").count()];
        """
    )
    assert seen == [["say green"], 0]


async def listed_conversations(sidecar: Server, count: int) -> None:
    """So many conversations at the server, of one message each."""
    day = "2026-01-01T00:{:02}:{:02}Z"
    lines = []
    for number in range(count):
        at = day.format(number // 60, number % 60)
        message = {"message_id": "q", "role": "user", "content": f"common word {number}", "status": "completed"}
        session = {"session_id": f"ses{number}", "title": f"Title {number:03}", "created_at": at, "updated_at": at}
        lines.append(json.dumps({**session, "messages": [{**message, "created_at": at}]}))
    response = await sidecar.http.post(
        "/api/v1/sessions/import", content="\n".join(lines), headers={"content-type": "application/jsonl"}
    )
    assert response.json()["imported"] == count, response.text


async def test_older_conversations_are_listed_behind_those_that_are_there_also_once_one_has_changed(
    sidecar: Server, browser: Browser
) -> None:
    await listed_conversations(sidecar, 170)
    more = """
        const rows = page.locator(".row");
        const count = (number) => page.waitForFunction(
            (number) => document.querySelectorAll(".row").length === number, number);
        const more = page.getByRole("button", { name: "Show older conversations" });
    """
    async with Console(browser, sidecar.url) as console:
        await console.run(more + "await count(50); await more.click(); await count(100);")
        await sidecar.http.patch("/api/v1/sessions/ses100", json={"title": "Renamed"})
        seen = await console.run(
            more
            + """
            await rows.first().getByText("Renamed").waitFor();
            await drawn();
            await more.click();
            await count(150);
            await more.click();
            await count(170);
            await more.waitFor({ state: "detached" });
            return texts(rows.locator(".title"));
            """
        )
    assert seen == ["Renamed", *(f"Title {number:03}" for number in range(169, -1, -1) if number != 100)]


async def test_a_conversation_that_is_imported_among_older_ones_is_listed_among_them(
    sidecar: Server, browser: Browser
) -> None:
    await listed_conversations(sidecar, 120)
    async with Console(browser, sidecar.url) as console:
        await console.run("""
            const more = page.getByRole("button", { name: "Show older conversations" });
            await more.click();
            await page.waitForFunction(() => document.querySelectorAll(".row").length === 100);
        """)
        at = "2026-01-01T00:00:45.5Z"
        line = {"session_id": "late", "title": "Imported late", "created_at": at, "updated_at": at, "messages": []}
        imported = await sidecar.http.post(
            "/api/v1/sessions/import", content=json.dumps(line), headers={"content-type": "application/jsonl"}
        )
        assert imported.json()["imported"] == 1, imported.text
        await sidecar.http.patch("/api/v1/sessions/ses100", json={"title": "Renamed"})
        await console.run("""
            await page.locator(".row").first().getByText("Renamed").waitFor();
            const more = page.getByRole("button", { name: "Show older conversations" });
            while (await more.isVisible()) {
                if (await more.isEnabled()) await more.click({ timeout: 1000 }).catch(() => {});
                await drawn();
            }
            await page.locator(".row").nth(120).waitFor();
            await page.locator(".row").getByText("Imported late").waitFor();
        """)


async def test_all_messages_that_a_search_finds_can_be_reached(console: Console, sidecar: Server) -> None:
    await listed_conversations(sidecar, 120)
    seen = await console.run("""
        const hits = page.locator(".sidebar .list .entry", { has: page.locator(".preview") });
        const count = (number) => page.waitForFunction(
            (number) => document.querySelectorAll(".sidebar .list .preview").length === number, number);
        const told = () => page.locator(".sidebar h2").innerText();
        const more = page.getByRole("button", { name: "Show more" });
        await page.locator("#search").fill("common word");
        await count(50);
        const first = await told();
        await more.click();
        await count(100);
        await more.click();
        await count(120);
        await more.waitFor({ state: "detached" });
        // The names of conversations that the list does not show are read afterwards.
        await hits.last().getByText("Title 000").waitFor();
        await page.waitForFunction(() => !document.querySelector(".sidebar .list").innerText.includes("Untitled"));
        const names = await texts(hits.locator(".title"));
        return { first, last: await told(), distinct: new Set(names).size, oldest: names.at(-1) };
    """)
    assert seen == {"first": "50+ messages", "last": "120 messages", "distinct": 120, "oldest": "Title 000"}


async def test_when_all_shown_results_are_deleted_the_others_can_still_be_reached(
    console: Console, sidecar: Server
) -> None:
    await listed_conversations(sidecar, 10)
    at = "2026-01-02T00:00:00Z"
    about = {"role": "user", "status": "completed", "created_at": at}
    messages = [{**about, "message_id": f"m{number}", "content": f"common word {number}"} for number in range(60)]
    line = {"session_id": "large", "title": "Large", "created_at": at, "updated_at": at, "messages": messages}
    imported = await sidecar.http.post(
        "/api/v1/sessions/import", content=json.dumps(line), headers={"content-type": "application/jsonl"}
    )
    assert imported.json()["imported"] == 1, imported.text
    await console.run("""
        await page.locator("#search").fill("common word");
        await page.waitForFunction(() => document.querySelectorAll(".sidebar .list .preview").length === 50);
    """)
    await sidecar.http.delete("/api/v1/sessions/large")
    seen = await console.run("""
        await page.waitForFunction(() => document.querySelectorAll(".sidebar .list .preview").length === 0);
        await page.getByRole("button", { name: "Show more" }).click();
        await page.waitForFunction(() => document.querySelectorAll(".sidebar .list .preview").length === 10);
        return page.locator(".sidebar h2").innerText();
    """)
    assert seen == "10 messages"
