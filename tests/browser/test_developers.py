"""The console's drawer for developers: frames, the log, plots, errors, keys; and what it costs while closed."""

import json
import re

import pytest

from tests.browser.console import Console
from tests.browser.scripted_model import HALF, ScriptedModel
from tests.interop.browser import Browser
from tests.processes import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

OPEN = """
    const drawer = page.getByRole("complementary", { name: "Developers" });
    const tab = async (name) => {
        if (!await drawer.count()) await page.keyboard.press("Alt+i");
        await drawer.getByRole("tab", { name }).click();
        return drawer.getByRole("tabpanel", { name });
    };
    const list = drawer.getByRole("listbox", { name: "Frames of the socket" });
    const row = list.getByRole("option");
    const rows = () => texts(row);
    // Gathered for a tenth of a second, so what is looked for may still come.
    const until = (test, argument) => page.waitForFunction(test, argument);
    // What the page's own modules know.
    const state = (name) => page.evaluate((name) => import(name).then((module) => {
        const { frames = [], frameListeners } = module;
        return { frames: frames.map((frame) => ({ ...frame })), listeners: frameListeners?.size };
    }), `/console/app/state/${name}.js`);
"""
COPIES = """
    await page.evaluate(() => {
        window.copied = [];
        navigator.clipboard.writeText = async (text) => void window.copied.push(text);
    });
    const copied = () => page.evaluate(() => window.copied.at(-1));
"""


async def test_frames_are_listed_both_ways_and_shown_in_full_and_copied_as_they_were(console: Console) -> None:
    seen = await console.run(
        OPEN
        + COPIES
        + """
        await ask("Why?");
        await ended();
        await tab("Frames");
        await drawer.getByLabel("Method").selectOption("chat/send");
        await row.nth(1).waitFor();
        const listed = await rows();
        await row.first().click();
        const detail = drawer.getByRole("region", { name: "The frame" });
        const pretty = await detail.locator("pre").innerText();
        await detail.getByRole("button", { name: "Copy the frame" }).click();
        return { listed, pretty, copied: await copied() };
        """
    )
    sent, received = seen["listed"]
    assert sent.startswith("↑")
    assert "sent" in sent
    assert "chat/send" in sent
    assert received.startswith("↓")
    assert "chat/send response" in received
    frame = json.loads(seen["copied"])
    assert frame["params"]["messages"][0]["content"] == "Why?"
    assert json.loads(seen["pretty"]) == frame
    assert seen["pretty"].startswith('{\n  "jsonrpc": "2.0",\n')


async def test_frames_are_filtered_by_text_method_and_stream(console: Console) -> None:
    seen = await console.run(
        OPEN
        + """
        await ask("say one");
        await ended();
        await ask("say two");
        await ended(1);
        await tab("Frames");
        const stream = drawer.getByLabel("Stream");
        const streams = await stream.locator("option").evaluateAll((options) => options.map(({ value }) => value));
        await stream.selectOption(streams[2]);
        await until(() => document.querySelectorAll("[role=option]").length < 9);
        const ofSecond = await rows();
        await stream.selectOption("");
        await drawer.getByLabel("Filter").fill('"CONTENT":"SAY TWO"');
        await until(() => document.querySelector(".frames .count").innerText.includes(" of "));
        const withText = await rows();
        await drawer.getByLabel("Filter").fill("in no frame at all");
        await drawer.getByText("No frame matches the filter.").waitFor();
        return { streams, ofSecond, withText };
        """
    )
    assert len(seen["streams"]) == 3
    methods = " ".join(seen["ofSecond"])
    assert all(name in methods for name in ("chat/send", "stream/started", "stream/delta", "stream/ended"))
    assert "session/list" not in methods
    assert "chat/send" in " ".join(seen["withText"])
    assert len(seen["withText"]) < 9


async def test_a_paused_list_stands_still_and_a_cleared_one_is_empty(console: Console) -> None:
    seen = await console.run(
        OPEN
        + """
        await ask("say one");
        await ended();
        await tab("Frames");
        await drawer.getByRole("button", { name: "Pause" }).click();
        const before = await rows();
        await ask("say two");
        await ended(1);
        await until(() => /paused, [1-9]/.test(document.querySelector(".frames .count").innerText));
        const paused = await rows();
        await drawer.getByRole("button", { name: "Pause" }).click();
        await until(() => !document.querySelector(".frames .count").innerText.includes("paused"));
        const last = (await state("wire")).frames.at(-1).n;
        await drawer.getByRole("button", { name: "Clear" }).click();
        await until(() => Number.parseInt(document.querySelector(".frames .count").innerText) < 10);
        // What the page asks of itself may come at any time.
        const old = (await state("wire")).frames.filter(({ n }) => n <= last);
        return { before, paused, old };
        """
    )
    assert seen["before"] == seen["paused"]
    assert seen["old"] == []


async def test_text_is_gathered_and_only_what_is_in_sight_has_elements(console: Console) -> None:
    console.expected.append("/nowhere")
    seen = await console.run(
        OPEN
        + """
        await tab("Frames");
        const made = await page.evaluate(async () => {
            const { TappedSocket, frames } = await import("/console/app/state/wire.js");
            // Frames that come without a server: the socket's own events.
            const socket = new TappedSocket(location.origin.replace("http", "ws") + "/nowhere");
            const give = (frame) => socket.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(frame) }));
            const head = { jsonrpc: "2.0", method: "stream/delta" };
            frames.length = 0;
            for (let seq = 1; seq <= 10_000; seq++) {
                for (const stream_id of ["str_a", "str_b"]) {
                    give({ ...head, params: { stream_id, seq, content: "x " } });
                }
            }
            const gathered = frames.map(({ text, count }) => [count, text.split("\\n").length]);
            const longest = Math.max(...frames.map(({ text }) => text.length));
            for (let n = 0; n < 5000; n++) give({ jsonrpc: "2.0", method: "server/other", params: { n } });
            return { gathered, longest, kept: frames.length, last: frames.at(-1).text };
        });
        await until(() => document.querySelector(".frames .count").innerText.startsWith("2,000"));
        const elements = await drawer.locator(".row-of").count();
        const first = await row.last().getAttribute("aria-posinset");
        await list.focus();
        await page.keyboard.press("Home");
        await until(() => document.querySelector(".row-of[aria-posinset='1'][aria-selected='true']"));
        await page.keyboard.press("ArrowDown");
        await until(() => document.querySelector(".row-of[aria-posinset='2'][aria-selected='true']"));
        const named = await list.getAttribute("aria-activedescendant");
        return { ...made, elements, last_place: first, isThere: await page.locator(`#${named}`).count() };
        """
    )
    # Every frame is there, in a hundredth of the entries.
    assert sum(count for count, _ in seen["gathered"]) == 20_000
    assert all(count == lines for count, lines in seen["gathered"])
    assert len(seen["gathered"]) < 300
    assert seen["longest"] < 20_000
    assert seen["kept"] == 2000
    assert '"n":4999' in seen["last"]
    assert seen["elements"] < 60
    assert seen["last_place"] == "2000"
    assert seen["isThere"] == 1


async def test_while_it_is_closed_it_makes_no_elements_and_is_not_told_of_frames(
    browser: Browser, sidecar: Server, model: ScriptedModel
) -> None:
    async with Console(browser, sidecar.url) as console:
        seen = await console.run(
            OPEN
            + """
            const asked = kept.asked.filter((url) => url.includes("/developers/")).length;
            await page.evaluate(() => {
                window.drawn = 0;
                new MutationObserver((changes) => {
                    for (const { target, addedNodes } of changes) {
                        const inDrawer = (node) => node.closest?.(".developers") || node.querySelector?.(".developers");
                        window.drawn += [target, ...addedNodes].filter(inDrawer).length;
                    }
                }).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
            });
            const counted = async () => [await page.evaluate(() => window.drawn), (await state("wire")).listeners];
            await ask("Why?");
            await ended();
            const before = await counted();
            await tab("Frames");
            await row.first().waitFor();
            const open = await counted();
            await drawer.getByRole("button", { name: "Close the developer tools" }).click();
            await drawer.waitFor({ state: "detached" });
            await page.evaluate(() => void (window.drawn = 0));
            await ask("Why?");
            await ended(1);
            return { asked, before, open, after: await counted(), kept: (await state("wire")).frames.length };
            """
        )
    assert seen["asked"] == 0
    assert seen["before"] == [0, 0]
    assert (seen["open"][0] > 0, seen["open"][1]) == (True, 1)
    assert seen["after"] == [0, 0]
    # What came meanwhile is there when it is opened.
    assert seen["kept"] > 20


async def test_the_log_tells_text_by_its_numbers_and_where_it_was_cut_and_taken_up(
    console: Console, model: ScriptedModel
) -> None:
    await console.run("await ask('hold'); await has(half);", half=HALF)
    await console.run("await page.keyboard.press('Alt+x'); await connected('connecting');")
    model.go.set()
    seen = await console.run(
        OPEN
        + """
        await connected();
        await ended();
        const log = await tab("Log");
        await log.getByText("Ended").waitFor();
        const followed = await texts(log.locator("li"));
        await page.reload();
        await connected();
        await ended();
        await drawer.waitFor();
        await log.getByRole("button", { name: "Read its log from the server" }).click();
        await log.getByText("Ended").waitFor();
        return { followed, read: await texts(log.locator("li")) };
        """
    )
    asked, started, text, lost, taken, rest, ended = seen["followed"]
    assert asked.startswith("Asked")
    assert started.startswith("Started seq 1")
    assert "ollama llama3.2" in started
    assert "130 characters" in text
    assert lost.startswith("Connection lost")
    # How many reads, and so events, brought the first half is the system's matter.
    (last,) = map(int, re.findall(r"after event (\d+)", lost))
    numbers = re.match(r"Text seq 2(?:[^\w\s](\d+))?\s", text)
    assert numbers is not None
    assert int(numbers[1] or 2) == last
    assert taken.startswith("Resumed")
    assert f"from event {last + 1}: {last + 1}" in taken or f"continues with event {last + 1}" in taken
    assert rest.startswith(f"Text seq {last + 1}")
    assert ended.startswith("Ended seq ")
    assert ended.endswith("completed")
    # The server's log knows no connections.
    assert [line.split(" seq ")[0] for line in seen["read"]] == ["Started", "Text", "Ended"]


async def test_the_plots_tell_their_figures_in_words_too(console: Console) -> None:
    seen = await console.run(
        OPEN
        + """
        const plots = await tab("Plots");
        const before = await plots.getByRole("img", { name: "Time to first token" }).getAttribute("aria-label");
        await ask("Why?");
        await ended();
        const image = (name) => plots.getByRole("img", { name });
        await until(() => /median/.test(document.querySelectorAll(".plot svg")[1].getAttribute("aria-label")));
        await until(() => /max/.test(document.querySelectorAll(".plot svg")[0].getAttribute("aria-label")));
        const label = async (name) => image(name).getAttribute("aria-label");
        const bars = (await image("Time to first token").locator("path").getAttribute("d")).split("M").length - 1;
        return { before, bars, rate: await label("Tokens per second"), first: await label("Time to first token") };
        """
    )
    assert seen["before"] == "Time to first token: nothing to show yet"
    assert seen["bars"] == 1
    assert "now" in seen["rate"]
    assert "last" in seen["first"]


async def test_an_error_card_opens_all_that_the_server_said(console: Console) -> None:
    seen = await console.run(
        OPEN
        + COPIES
        + """
        await ask("fail");
        await page.locator(".answer .error").getByRole("button", { name: "Details" }).click();
        const error = drawer.getByRole("region", { name: /provider_error/ });
        await until(() => document.activeElement.role === "tab");
        const focused = await page.evaluate(() => document.activeElement.innerText);
        await error.getByRole("button", { name: "Copy the error as JSON" }).click();
        const [fields, values] = [await texts(error.locator("dt")), await texts(error.locator("dd"))];
        return { fields, values, copied: await copied(), count: await drawer.locator(".full-error").count(), focused };
        """
    )
    told = dict(zip(seen["fields"], seen["values"], strict=True))
    names = "kind message hint retryable retry_after_ms request_id stream_id provider errors"
    assert list(told) == names.split()
    assert (told["kind"], told["provider"], told["retryable"]) == ("provider_error", "ollama", "no")
    assert told["hint"].startswith("Choose a smaller model")
    assert told["retry_after_ms"] == "not given"
    copied = json.loads(seen["copied"])
    assert copied["request_id"] == told["request_id"]
    assert copied["stream_id"] == told["stream_id"]
    assert (seen["count"], seen["focused"]) == (1, "Errors")


async def test_it_is_opened_and_left_by_keys_and_stays_as_it_was_over_a_reload(console: Console) -> None:
    seen = await console.run(
        OPEN
        + """
        const focused = () => page.evaluate(() => {
            const { activeElement } = document;
            const name = activeElement.getAttribute("aria-label") ?? activeElement.innerText;
            return [name, activeElement.closest(".developers") !== null];
        });
        await page.keyboard.press("Alt+i");
        await drawer.waitFor();
        await until(() => document.activeElement.role === "tab");
        const first = await focused();
        await page.keyboard.press("ArrowRight");
        await until(() => document.activeElement.innerText === "Log");
        await page.keyboard.press("End");
        await until(() => document.activeElement.innerText === "Errors");
        await drawer.getByText("No answer failed").waitFor();
        await page.reload();
        await drawer.getByText("No answer failed").waitFor();
        const after = await focused();
        await page.keyboard.press("Alt+i");
        await drawer.waitFor({ state: "detached" });
        await page.reload();
        await connected();
        const button = page.getByRole("button", { name: "Developers" });
        const isOpen = [await button.getAttribute("aria-expanded"), await drawer.count()];
        await button.click();
        await until(() => document.activeElement.role === "tab");
        await page.keyboard.press("Tab");
        await page.keyboard.press("Enter");
        await drawer.waitFor({ state: "detached" });
        return { first, after, isOpen, left: await focused() };
        """
    )
    assert seen["first"] == ["Frames", True]
    assert not seen["after"][1]
    assert seen["isOpen"] == ["false", 0]
    assert seen["left"] == ["Developers", False]


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1100, 800), (390, 844), (320, 568)])
async def test_it_leaves_room_for_the_conversation_on_every_screen(console: Console, width: int, height: int) -> None:
    seen = await console.run(
        OPEN
        + """
        await page.setViewportSize({ width, height });
        await tab("Frames");
        const box = await drawer.boundingBox();
        const written = await field().boundingBox();
        return { box, written, wide: await page.evaluate(() => document.documentElement.scrollWidth) };
        """,
        width=width,
        height=height,
    )
    box, written = seen["box"], seen["written"]
    assert seen["wide"] <= width
    beside = written["x"] + written["width"] <= box["x"]
    above = written["y"] + written["height"] <= box["y"] and written["y"] >= 0
    assert (beside, above) == ((True, False) if width == 1440 else (False, True))
    assert (box["x"] + box["width"], box["y"] + box["height"]) == (width, height)
