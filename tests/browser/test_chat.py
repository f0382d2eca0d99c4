"""Chatting in the console: asking, stopping, asking again and otherwise, branches; over reloads and lost servers."""

import asyncio
from pathlib import Path

import pytest

from tests.browser.console import LOST_SERVER, Console
from tests.browser.scripted_model import HALF, TEXT, ScriptedModel
from tests.interop.browser import Browser
from tests.lost_servers import LIMIT_S, killed, port_of, until_on_disk
from tests.processes import Server, server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: A script: ask for more than the window holds, and scroll up.
READING_FURTHER_UP = """
        await ask(`say ${"one line\\n\\n".repeat(60)}`);
        await ended();
        await drawn();
        await shown.locator(".scroller").hover();
        await page.mouse.wheel(0, -10_000);
        await shown.locator(".to-end").waitFor();
"""


async def test_a_question_is_answered_and_the_conversation_is_in_the_list(console: Console) -> None:
    seen = await console.run("""
        await ask("Why?");
        await ended();
        await page.locator(".row").getByText("Why?").waitFor();
        const figures = await answer().locator(".figures").innerText();
        return { answers: await answers(), said: await said(), figures };
    """)
    assert (seen["said"], seen["answers"]) == (["Why?"], [TEXT])
    assert "40 tokens" in seen["figures"]
    assert "11 in" in seen["figures"]
    assert "first after" in seen["figures"]


async def test_escape_stops_the_answer_at_the_provider(console: Console, sidecar: Server) -> None:
    await console.run("await ask('never'); await has(half);", half=HALF)
    exchange = await sidecar.next_chat()
    seen = await console.run("""
        await page.keyboard.press("Escape");
        await ended();
        return [await answers(), await answer().innerText()];
    """)
    assert seen[0] == [HALF]
    assert "You stopped it." in seen[1]
    async with asyncio.timeout(LIMIT_S):
        await exchange.client_left.wait()


async def test_a_reload_in_mid_answer_shows_it_again_and_it_goes_on(
    console: Console, model: ScriptedModel, sidecar: Server
) -> None:
    await console.run("await ask('hold'); await has(half);", half=HALF)
    await console.run("await page.reload(); await has(half);", half=HALF)
    model.go.set()
    assert await console.run("await ended(); return answers();") == [TEXT]
    assert sidecar.chats.qsize() == 1


async def test_asking_again_takes_the_place_of_the_answer(console: Console) -> None:
    seen = await console.run("""
        await ask("say one");
        await ended();
        await answer().getByLabel("Ask again").click();
        await page.waitForFunction(() => document.querySelectorAll('.answer[aria-busy="false"]').length === 1);
        await ended();
        await page.reload();
        await ended();
        return [await said(), await answers()];
    """)
    assert seen == [["say one"], ["one"]]


async def test_a_question_can_be_put_otherwise_and_what_followed_is_gone(console: Console) -> None:
    seen = await console.run("""
        for (const text of ["say one", "say two"]) { await ask(text); await ended(); await has(text.slice(4)); }
        await shown.locator(".said").first().hover();
        await shown.locator(".said").first().getByLabel("Edit").click();
        await page.getByLabel("What to ask instead").fill("say three");
        await page.keyboard.press("Enter");
        await has("three");
        await ended();
        await page.reload();
        await ended();
        return [await said(), await answers()];
    """)
    assert seen == [["say three"], ["three"]]


async def test_a_branch_has_what_came_before_and_the_first_conversation_stays(console: Console) -> None:
    seen = await console.run("""
        for (const text of ["say one", "say two"]) { await ask(text); await has(text); await ended(); }
        await page.waitForFunction(() => document.querySelectorAll('.answer[aria-busy="false"]').length === 2);
        await page.locator(".row").first().waitFor();
        await answer(0).hover();
        await answer(0).getByLabel("Branch from here").click();
        await page.waitForFunction(() => document.querySelectorAll(".row").length === 2);
        await page.waitForFunction(() => document.querySelectorAll(".answer").length === 1);
        const branch = [await said(), await answers()];
        await ask("say three");
        await has("three");
        await ended();
        const grown = await said();
        await page.locator(".tab .face").first().click();
        await has("say two");
        return { branch, grown, first: await said() };
    """)
    assert seen["branch"] == [["say one"], ["one"]]
    assert seen["grown"] == ["say one", "say three"]
    assert seen["first"] == ["say one", "say two"]


async def test_a_branch_from_a_question_that_is_being_answered_ends_before_it(
    console: Console, model: ScriptedModel
) -> None:
    seen = await console.run(
        """
        await ask("say one");
        await ended();
        await ask("hold");
        await has(half);
        await shown.locator(".said").nth(1).hover();
        await shown.locator(".said").nth(1).getByLabel("Branch from here").click();
        await page.waitForFunction(() => document.querySelectorAll(".row").length === 2);
        await has("say one");
        await ended();
        return [await said(), await answers(), await field().inputValue()];
        """,
        half=HALF,
    )
    model.go.set()
    assert seen == [["say one"], ["one"], "hold"]


async def test_what_of_the_history_did_not_fit_the_models_context_is_told(console: Console) -> None:
    seen = await console.run("""
        for (const word of ["one", "two"]) {
            await ask(`say ${word} ${"and more of it ".repeat(700)}`);
            await shown.locator('.answer[aria-busy="false"] .text').filter({ hasText: word }).waitFor();
        }
        await ask("say three");
        await has("did not fit");
        await ended();
        return answer().innerText();
    """)
    assert "did not fit the model's context and were left out." in seen


async def test_thinking_is_folded_and_can_be_read(console: Console) -> None:
    seen = await console.run("""
        await ask("think");
        await ended();
        const thoughts = answer().locator(".thoughts");
        const before = await thoughts.innerText();
        await thoughts.locator("summary").click();
        return [before, await thoughts.innerText(), await answers()];
    """)
    assert "Let me see." not in seen[0]
    assert "Let me see. Yes." in seen[1]
    assert seen[2] == ["It is so."]


async def test_a_failure_says_what_happened_and_offers_to_ask_again(console: Console) -> None:
    seen = await console.run("""
        await ask("fail");
        await answer().locator(".error").waitFor();
        const text = await answer().locator(".error").innerText();
        await answer().getByRole("button", { name: "Ask again" }).first().click();
        await page.waitForFunction(() => document.querySelectorAll(".answer .error").length === 1);
        return [text, await said()];
    """)
    assert "out of memory" in seen[0]
    assert "provider_error" in seen[0]
    assert seen[1] == ["fail"]


async def test_a_server_started_anew_without_a_store_leaves_what_is_shown_and_the_question_can_be_asked_again(
    browser: Browser, model: ScriptedModel, tmp_path: Path
) -> None:
    async with server(model, cwd=tmp_path, ARCHER_STORE="memory") as first, Console(browser, first.url) as console:
        console.expected += LOST_SERVER
        await console.run("await ask('never'); await has(half);", half=HALF)
        await killed(first)
        await console.run("await connected('connecting');")
        async with server(model, *("--port", str(port_of(first))), cwd=tmp_path, ARCHER_STORE="memory") as second:
            seen = await console.run(
                """
                    await has("no longer has this conversation");
                    const left = [await said(), await answers()];
                    await answer().getByRole("button", { name: "Ask again" }).first().click();
                    await page.waitForFunction(() => document.querySelectorAll(".tab").length === 2);
                    await has(half);
                    return [left, await said(), await answers()];
                    """,
                half=HALF,
            )
            await second.next_chat()
    assert seen[0] == [["never"], [HALF]]
    assert seen[1:] == [["never"], [HALF]]


async def test_after_a_killed_server_the_kept_text_is_there_and_the_page_says_what_happened(
    browser: Browser, model: ScriptedModel, tmp_path: Path
) -> None:
    kept = str(tmp_path / "kept")
    async with server(model, cwd=tmp_path, ARCHER_DATA_DIR=kept) as first, Console(browser, first.url) as console:
        console.expected.append("WebSocket connection to")
        console.expected.append("ERR_CONNECTION_REFUSED")
        await console.run("await ask('never'); await has(half);", half=HALF)
        async with asyncio.timeout(LIMIT_S):
            await until_on_disk(tmp_path, ["word19 "])
        await killed(first)
        await console.run("await connected('connecting');")
        model.go.set()
        async with server(model, *("--port", str(port_of(first))), cwd=tmp_path, ARCHER_DATA_DIR=kept):
            seen = await console.run(
                """
                    await answer().locator(".error").waitFor({ timeout: 30_000 });
                    const told = await answer().locator(".error").innerText();
                    const left = await answers();
                    await page.reload();
                    await answer().locator(".error").waitFor();
                    const reloaded = [await said(), await answers()];
                    await answer().getByRole("button", { name: "Ask again" }).first().click();
                    await page.waitForFunction(() => document.querySelectorAll(".answer .error").length === 0);
                    return { told, left, reloaded };
                    """
            )
    assert "The server stopped while the answer was being generated" in seen["told"]
    assert "worker_lost" in seen["told"]
    assert seen["left"] == [HALF]
    assert seen["reloaded"] == [["never"], [HALF]]


async def test_a_title_is_never_cut_within_an_emoji(console: Console) -> None:
    question = f"say {'a' * 55}\N{GRINNING FACE} and more"
    seen = await console.run(
        """
        await ask(question);
        await ended();
        await page.locator(".row").first().waitFor();
        return [await answers(), await texts(page.locator(".row .title"))];
        """,
        question=question,
    )
    assert seen == [[question.removeprefix("say ")], [f"say {'a' * 55}\N{GRINNING FACE}…"]]


async def test_who_asks_while_reading_further_up_sees_the_question(console: Console) -> None:
    seen = await console.run(f"""{READING_FURTHER_UP}
        await ask("say two");
        await shown.locator(".said").nth(1).waitFor();
        await page.waitForFunction(() => !document.querySelector(".to-end"));
        return shown.locator(".said").nth(1).evaluate((said) => said.getBoundingClientRect().top < innerHeight);
    """)
    assert seen


async def test_who_selects_an_answer_and_copies_it_gets_its_code_without_the_words_above_it(console: Console) -> None:
    copied = await console.run("""
        await context.grantPermissions(["clipboard-read", "clipboard-write"]);
        await ask("say See:\\n\\n```python\\nx = 1\\ny = 2\\n```\\n\\nThat is all.");
        await ended();
        await drawn();
        await answer().locator(".md").evaluate((text) => getSelection().selectAllChildren(text));
        await page.keyboard.press("Control+c");
        return page.evaluate(() => navigator.clipboard.readText());
    """)
    assert [line for line in copied.splitlines() if line] == ["See:", "x = 1", "y = 2", "That is all."]


async def test_the_way_to_the_end_does_not_lie_over_a_long_draft(console: Console) -> None:
    boxes = await console.run(f"""{READING_FURTHER_UP}
        await field().fill("line\\n".repeat(30));
        return Promise.all([".to-end", ".composer"].map((part) => shown.locator(part).boundingBox()));
    """)
    button, composer = boxes
    assert button["y"] + button["height"] <= composer["y"]


async def test_escape_in_a_search_clears_it_first(console: Console) -> None:
    seen = await console.run(
        """
        await ask("never");
        await has(half);
        await page.keyboard.press("Control+k");
        await page.keyboard.type("word");
        await has("No message contains");
        await page.keyboard.press("Escape");
        await page.waitForFunction(() => !document.body.innerText.includes("No message contains"));
        const cleared = [await page.locator("#search").inputValue(), await answer().getAttribute("aria-busy")];
        await page.keyboard.press("Escape");
        await ended();
        return cleared;
        """,
        half=HALF,
    )
    assert seen == ["", "true"]


async def test_who_scrolls_up_little_by_little_gets_away_from_the_end_of_an_answer_that_grows(console: Console) -> None:
    assert await console.run("""
        await ask("write");
        const scroller = shown.locator(".scroller");
        await scroller.locator("p").nth(60).waitFor();
        await scroller.hover();
        const isAway = async () => await shown.locator(".to-end").count() > 0;
        for (let turns = 0; turns < 40 && !(await isAway()); turns++) await page.mouse.wheel(0, -10);
        const away = await isAway();
        await page.locator(".to-end").click();
        await page.locator(".to-end").waitFor({ state: "detached" });
        return away;
    """)
