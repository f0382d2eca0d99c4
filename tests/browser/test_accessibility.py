"""The console for everybody: axe finds nothing serious, no mouse is needed, nothing moves where that is not wanted, and
screen readers are told what happens, not each piece of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.browser.console import Console
from tests.browser.scripted_model import HALF, TEXT, ScriptedModel
from tests.interop.browser import Browser
from tests.interop.javascript import NODE_PROJECT
from tests.processes import Server, server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

AXE = NODE_PROJECT / "node_modules" / "axe-core" / "axe.min.js"
RUN_AXE = """
    await page.evaluate(source);
    const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    return violations
        .filter(({ impact }) => impact === "serious" || impact === "critical")
        .map(({ id, nodes }) => [id, ...nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)]);
"""
MARKDOWN = "\n\n".join(
    [
        *("# Sky", "- [x] a [link](https://example.org)", "> said", "| a | b |\n| - | -: |\n| 1 | 2 |"),
        *("```python\nx = 1  # one\n```", "![map](https://example.org/map.png)"),
    ]
)
#: How the page comes to look so.
STATES = {
    "first visit": "await page.locator('.welcome').waitFor();",
    "chat": f"await ask({json.dumps(f'say {MARKDOWN}')}); await ended(); await drawn();",
    "tool card": "await ask('roll 2'); await page.locator('.tool[data-state=approval]').waitFor();",
    "error": "await ask('fail'); await answer().locator('.error').waitFor();",
    "settings": """
        await shown.getByRole('button', { name: 'Settings' }).click();
        await page.getByLabel('Temperature').waitFor();
    """,
    "models": """
        await shown.getByRole('button', { name: 'Model' }).click();
        await page.locator('.models h3[data-available=false]').first().waitFor();
    """,
    "drawer": """
        await ask('say one');
        await ended();
        await page.locator('#developers-button').click();
        await page.locator('.developers .row-of').first().click();
    """,
}


@pytest.fixture
async def sidecar(tmp_path: Path, model: ScriptedModel) -> Any:
    """A server whose model calls tools."""
    async with server(model, cwd=tmp_path, capabilities=["completion", "tools"]) as running:
        yield running


@pytest.mark.parametrize("state", STATES)
async def test_axe_finds_nothing_serious_in_light_and_dark(console: Console, state: str) -> None:
    # What moves or fades is looked at once it stands still.
    await console.run("await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });")
    await console.run(STATES[state])
    found = {}
    for scheme in ("light", "dark"):
        await console.run("await page.emulateMedia({ colorScheme });", colorScheme=scheme)
        found[scheme] = await console.run(RUN_AXE, source=AXE.read_text("utf-8"))
    assert found == {"light": [], "dark": []}


async def test_a_whole_chat_needs_no_mouse(console: Console, sidecar: Server) -> None:
    seen = await console.run(
        """
        // The field has the focus from the beginning.
        const write = async (text) => { await page.keyboard.type(text); await page.keyboard.press("Enter"); };
        const focused = () => page.evaluate(() => {
            const { activeElement } = document;
            return activeElement.getAttribute("aria-label") ?? activeElement.innerText;
        });
        const tabTo = async (name, key = "Tab") => {
            for (let step = 0; step < 60; step++) {
                if ((await focused()).includes(name)) return;
                await page.keyboard.press(key);
            }
            throw new Error(`${name} can't be reached`);
        };
        await write("say one");
        await ended();
        await tabTo("Model: ");
        await page.keyboard.press("Enter");
        await page.locator(".models .option").nth(1).waitFor();
        await page.keyboard.press("Escape");
        await page.waitForFunction(() => document.activeElement.getAttribute("aria-label")?.startsWith("Model"));
        await tabTo("Your message", "Shift+Tab");
        await write("roll 1");
        await page.locator(".tool[data-state=approval]").waitFor();
        await tabTo("Approve", "Shift+Tab");
        await page.keyboard.press("Enter");
        await has("It says: ");
        await tabTo("Your message");
        await write("never");
        await has(half);
        await page.keyboard.press("Escape");
        await has("You stopped it.");
        // A line break of one's own.
        await page.keyboard.type("say two");
        await page.keyboard.press("Shift+Enter");
        await page.keyboard.type("lines");
        await page.keyboard.press("Enter");
        await page.waitForFunction(() => document.querySelectorAll(".said").length === 4);
        await ended(3);
        return (await said()).at(-1);
        """,
        half=HALF,
    )
    assert seen == "say two lines"


async def test_screen_readers_are_told_of_beginning_and_end_and_not_of_each_token(
    console: Console, model: ScriptedModel
) -> None:
    await console.run("""
        await page.evaluate(() => {
            window.told = [];
            const status = document.querySelector("p[role=status].unseen");
            const tell = () => window.told.push(status.textContent.trim());
            new MutationObserver(tell).observe(status, { childList: true, characterData: true, subtree: true });
        });
        await ask("hold");
    """)
    await console.run("await has(half);", half=HALF)
    model.go.set()
    told = await console.run("await ended(); await drawn(); return page.evaluate(() => window.told);")
    assert told == ["The answer has begun.", "The answer is complete: 40 words."]
    # The text itself is in no live region.
    lives = await console.run("""
        return page.evaluate(() => {
            const isLive = (element) => element.closest("[aria-live]")?.getAttribute("aria-live") !== "off";
            return [...document.querySelectorAll(".answer .text")].filter(isLive).length;
        });
    """)
    assert lives == 0


async def test_at_twice_the_size_nothing_scrolls_sideways(browser: Browser, sidecar: Server) -> None:
    async with Console(browser, sidecar.url) as console:
        for width in (640, 390, 320):
            wide = await console.run(
                """
                // 200 % of a window is as many of its pixels for each of the page's.
                await page.setViewportSize({ width, height: 480 });
                const told = [];
                const look = async (name) => {
                    const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
                    if (over > 0) told.push(`${name}: ${over} px`);
                };
                await look("before");
                await ask(text);
                await ended();
                await drawn();
                await look("chat");
                await page.locator("#developers-button").click();
                await page.locator(".developers").waitFor();
                await look("drawer");
                await page.locator("#developers-button").click();
                return told;
                """,
                width=width,
                text="say "
                + "a-word-without-any-space-in-it" * 8
                + "\n\n| "
                + " | ".join(["column"] * 12)
                + " |\n"
                + "| - " * 12
                + "|",
            )
            assert wide == [], width


async def test_nothing_moves_where_less_motion_is_wanted(console: Console) -> None:
    moving = await console.run(
        """
        await page.emulateMedia({ reducedMotion: "reduce" });
        await ask("never");
        await has(half);
        await page.evaluate(() => new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next))));
        return page.evaluate(() => document.getAnimations()
            .filter(({ playState, effect }) => playState === "running" && effect.getComputedTiming().endTime > 50)
            .map(({ animationName, transitionProperty }) => animationName ?? transitionProperty));
        """,
        half=HALF,
    )
    assert moving == []


async def test_what_is_written_from_right_to_left_stands_so(console: Console) -> None:
    seen = await console.run("""
        await ask("say שלום עולם");
        await ended();
        await ask("مرحبا بالعالم");
        await page.waitForFunction(() => document.querySelectorAll('.answer[aria-busy="false"]').length === 2);
        await drawn();
        const direction = (element) => getComputedStyle(element).direction;
        return [
            await answer(0).locator(".text p").evaluate(direction),
            await shown.locator(".said .words").last().evaluate(direction),
            await answer(1).locator(".text p").evaluate(direction),
        ];
    """)
    assert seen == ["rtl", "rtl", "ltr"]
    assert TEXT in (await console.run("return answers();"))


async def test_lists_quotes_and_tables_that_are_written_from_right_to_left_stand_so(console: Console) -> None:
    right = "- שלום\n  - one\n\n1. ثانيا\n\n- [x] منجز\n\n> اقتباس\n\n| # | اسم |\n| - | - |\n| 1 | واحد |"
    left = "- one\n  - שלום\n\n1. two\n\n- [x] three\n\n> four\n\n| # | five |\n| - | - |\n| 1 | ستة |"
    seen = await console.run(
        """
        const told = [];
        for (const [index, text] of given.entries()) {
            await ask(`say ${text}`);
            await page.waitForFunction((count) => document.querySelectorAll(".answer").length === count, index + 1);
            await ended();
            await drawn();
            told.push(await answer().evaluate((box) => {
                const directions = [...box.querySelectorAll("ul, ol, blockquote, table")]
                    .map((each) => `${each.localName} ${getComputedStyle(each).direction}`);
                const words = document.createRange();
                words.selectNodeContents(box.querySelector(".md-to-do p"));
                const [task, text] = [box.querySelector(".md-task"), words].map((each) => each.getBoundingClientRect());
                return [...directions, task.left >= text.right ? "before" : task.right <= text.left ? "after" : "over"];
            }));
        }
        return told;
        """,
        given=[right, left],
    )
    assert seen == [
        ["ul rtl", "ul ltr", "ol rtl", "ul rtl", "blockquote rtl", "table rtl", "before"],
        ["ul ltr", "ul rtl", "ol ltr", "ul ltr", "blockquote ltr", "table ltr", "after"],
    ]


async def test_esc_and_enter_of_an_input_method_end_the_composition_alone(console: Console) -> None:
    seen = await console.run("""
        const compose = (where, key) => where.evaluate((where, key) => {
            const pressed = { key, code: key, isComposing: true, bubbles: true, cancelable: true };
            where.dispatchEvent(new KeyboardEvent("keydown", pressed));
        }, key);
        await ask("roll 2");
        const reason = page.getByLabel("Why not (the model is told)");
        await reason.waitFor();
        await compose(reason, "Enter");
        await field().fill("now");
        await compose(field(), "Enter");
        await compose(field(), "Escape");
        const isAsked = await page.getByRole("button", { name: "Approve" }).isEnabled();
        await page.getByRole("button", { name: "Approve" }).click();
        await ended();
        await shown.locator(".said").hover();
        await shown.locator(".said").getByLabel("Edit").click();
        const editor = page.getByLabel("What to ask instead");
        await compose(editor, "Escape");
        await compose(editor, "Enter");
        const state = await page.locator(".tool").getAttribute("data-state");
        return [isAsked, await field().inputValue(), await editor.inputValue(), state];
    """)
    assert seen == [True, "now", "roll 2", "ok"]


@pytest.mark.parametrize(("system", "text"), [("MacIntel", "["), ("Linux x86_64", "")])
async def test_option_types_the_signs_of_an_apple_keyboard(
    browser: Browser, sidecar: Server, system: str, text: str
) -> None:
    async with Console(browser, sidecar.url) as console:
        seen = await console.run(
            """
            await page.addInitScript((system) => {
                Object.defineProperty(Navigator.prototype, "platform", { get: () => system });
            }, system);
            await page.reload();
            await connected();
            await field().focus();
            const keyboard = await context.newCDPSession(page);
            // As a German keyboard of Apple's sends it.
            const pressed = { code: "Digit5", key: "[", text: "[", windowsVirtualKeyCode: 53, modifiers: 1 };
            await keyboard.send("Input.dispatchKeyEvent", { type: "keyDown", ...pressed });
            return field().inputValue();
            """,
            system=system,
        )
        assert seen == text


async def test_copying_leaves_the_focus_where_it_is_without_a_secure_context(
    browser: Browser, tmp_path: Path, model: ScriptedModel
) -> None:
    async with (
        server(model, cwd=tmp_path, ALLOWED_HOSTS=json.dumps(["127.0.0.1", "sidecar.test"])) as sidecar,
        Console(browser, sidecar.url.replace("127.0.0.1", "sidecar.test")) as console,
    ):
        seen = await console.run("""
            await ask("say one");
            await ended();
            await answer().getByLabel("Copy").focus();
            await page.keyboard.press("Enter");
            await answer().getByLabel("Copied").waitFor();
            return page.evaluate(() => [isSecureContext, document.activeElement.getAttribute("aria-label")]);
        """)
    assert seen == [False, "Copied"]


async def test_a_browser_that_does_not_let_the_page_copy_is_told_of(console: Console) -> None:
    await console.run("""
        await ask("say one");
        await ended();
        await page.evaluate(() => {
            navigator.clipboard.writeText = () => Promise.reject(new DOMException("no", "NotAllowedError"));
            document.execCommand = () => false;
        });
        await answer().getByLabel("Copy").click();
        await page.getByRole("alert").filter({ hasText: "did not allow this page to copy" }).waitFor();
    """)


async def test_where_storage_is_forbidden_the_console_works(browser: Browser, sidecar: Server) -> None:
    async with Console(browser, sidecar.url) as console:
        seen = await console.run("""
            await page.addInitScript(() => {
                const get = () => { throw new DOMException("storage is forbidden", "SecurityError"); };
                for (const name of ["sessionStorage", "localStorage"]) Object.defineProperty(window, name, { get });
            });
            await page.reload();
            await connected();
            await ask("say one");
            await ended();
            return answers();
        """)
        assert seen == ["one"]


@pytest.mark.parametrize("choice", ["Cancel", "Rename"])
async def test_a_dialog_returns_the_focus_whichever_button_closes_it(console: Console, choice: str) -> None:
    seen = await console.run(
        """
        await ask("say one");
        await ended();
        const menu = page.locator(".row").getByRole("button", { name: /Actions for/ });
        await menu.focus();
        await page.keyboard.press("Enter");
        await page.getByRole("menuitem", { name: "Rename" }).focus();
        await page.keyboard.press("Enter");
        await page.getByLabel("New name").fill("The sky");
        await page.locator("dialog").getByRole("button", { name: choice }).focus();
        await page.keyboard.press("Enter");
        await page.locator("dialog").waitFor({ state: "detached" });
        return page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.tagName);
        """,
        choice=choice,
    )
    assert seen.startswith("Actions for")


async def test_a_menu_that_opens_takes_the_focus_from_none_of_its_items(console: Console) -> None:
    focused = await console.run("""
        await ask("say one");
        await ended();
        await page.evaluate(() => {
            window.held = [];
            window.requestAnimationFrame = (callback) => held.push(callback);
        });
        await page.locator(".row").getByRole("button", { name: /Actions for/ }).focus();
        await page.keyboard.press("Enter");
        await page.getByRole("menuitem", { name: "Rename" }).focus();
        return page.evaluate(() => {
            for (const callback of held) callback(performance.now());
            return document.activeElement.textContent;
        });
    """)
    assert focused == "Rename"


async def test_by_keys_the_focus_is_never_nowhere(console: Console) -> None:
    seen = await console.run("""
        const press = async (element, key = "Enter") => { await element.focus(); await page.keyboard.press(key); };
        const focused = async () => {
            await drawn();
            return page.evaluate(() => {
                const { activeElement } = document;
                return activeElement.getAttribute("aria-label") ?? activeElement.tagName;
            });
        };
        const edit = () => shown.locator(".said").first().getByLabel("Edit");
        const told = {};
        await field().fill("never");
        await press(shown.getByRole("button", { name: "Send", exact: true }));
        await shown.locator('.answer[aria-busy="true"]').waitFor();
        told.send = await focused();
        await press(shown.getByRole("button", { name: "Stop" }));
        await ended();
        told.stop = await focused();
        await press(edit());
        await page.keyboard.press("Escape");
        told.leave = await focused();
        await press(edit());
        await page.keyboard.type("say one");
        await page.keyboard.press("Enter");
        await ended();
        told.edit = await focused();
        await press(answer().getByLabel("Ask again"));
        await ended();
        told.again = await focused();
        const notes = { name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("a") };
        await shown.locator('input[type="file"]').setInputFiles(notes);
        await shown.locator('.chip[data-state="sent"]').waitFor();
        await press(shown.getByLabel("Remove a.txt"));
        told.remove = await focused();
        await page.keyboard.press("Alt+n");
        await page.keyboard.type("draft");
        await page.keyboard.press("Alt+1");
        told.tab = await focused();
        await press(page.locator(".tab .close").last());
        told.close = await focused();
        await ask("roll 1");
        await press(page.getByRole("button", { name: "Approve" }));
        await ended();
        told.approve = await focused();
        return told;
    """)
    field = "Your message"
    others = dict.fromkeys(("send", "stop", "edit", "again", "remove", "tab", "close", "approve"), field)
    assert seen == {**others, "leave": "Edit"}


async def test_forced_colours_show_what_is_chosen_found_and_focused(console: Console) -> None:
    seen = await console.run("""
        await page.emulateMedia({ forcedColors: "active" });
        await ask("say one");
        await ended();
        await page.keyboard.press("Alt+n");
        await page.locator(".welcome").waitFor();
        await page.keyboard.press("Alt+1");
        await shown.locator(".answer").waitFor();
        await page.locator(".row").waitFor();
        await drawn();
        const outline = (locator) => locator.evaluate((element) => getComputedStyle(element).outlineStyle);
        const row = await outline(page.locator(".row").first());
        const tabs = [await outline(page.locator(".tab").first()), await outline(page.locator(".tab").last())];
        const plain = await outline(shown.locator(".step"));
        await page.locator("#search").fill("one");
        await page.locator(".sidebar .preview").first().waitFor();
        await page.locator(".sidebar .list .entry").first().click();
        await shown.locator("[data-found]").waitFor();
        const found = await outline(shown.locator("[data-found]"));
        await field().focus();
        return { row, tabs, plain, found, composer: await outline(shown.locator(".composer")) };
    """)
    assert seen == {"row": "solid", "tabs": ["solid", "none"], "plain": "none", "found": "solid", "composer": "solid"}


async def test_escape_closes_the_list_that_covers_a_narrow_page_and_stops_nothing(console: Console) -> None:
    seen = await console.run("""
        await page.setViewportSize({ width: 400, height: 700 });
        await ask("never");
        await has("word19");
        const isShown = () => page.locator(".sidebar").isVisible();
        await page.keyboard.press("Control+k");
        await page.locator("#search:focus").waitFor();
        await page.keyboard.press("Escape");
        await page.locator(".sidebar").waitFor({ state: "hidden" });
        const isOn = await answer().getAttribute("aria-busy");
        await drawn();
        await page.keyboard.type("more");
        const draft = await field().inputValue();
        await page.keyboard.press("Escape");
        await ended();
        return [isOn, draft];
    """)
    assert seen == ["true", "more"]
