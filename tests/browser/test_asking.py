"""How the console asks: which model, with which settings, and with what beside the text."""

import base64
from pathlib import Path

import pytest

from tests.browser.console import Console
from tests.interop.browser import Browser
from tests.processes import Server
from tests.test_client_uploads import PIXEL

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


async def test_the_picker_shows_each_providers_models_and_of_a_missing_one_why_and_what_to_do(console: Console) -> None:
    seen = await console.run("""
        await shown.getByRole("button", { name: "Model" }).click();
        await page.locator(".models .option").nth(1).waitFor();
        await page.locator(".models h3[data-available=false]").first().waitFor();
        const text = await page.locator(".models").innerText();
        await page.locator(".models .option", { hasText: "llama3.2" }).last().click();
        await ask("say one");
        await ended();
        return text;
    """)
    assert "llama3.2" in seen
    assert "not set up" in seen
    assert "OPENAI_API_KEY" in seen


async def test_a_panel_that_grows_stays_within_the_window(console: Console) -> None:
    within = await console.run("""
        await shown.getByRole("button", { name: "Model" }).click();
        await page.locator(".models .option").nth(1).waitFor();
        return page.locator(".models").evaluate(async (panel) => {
            panel.append(Object.assign(document.createElement("p"), { textContent: "more ".repeat(300) }));
            for (let frame = 0; frame < 3; frame++) await new Promise((next) => requestAnimationFrame(next));
            const { top, bottom } = panel.getBoundingClientRect();
            return [top >= 0, bottom <= innerHeight];
        });
    """)
    assert within == [True, True]


async def test_what_is_set_is_what_the_provider_is_asked(console: Console, sidecar: Server) -> None:
    await console.run("""
        await shown.getByRole("button", { name: "Settings" }).click();
        const panel = page.locator(".settings");
        await panel.getByLabel("Temperature").fill("0.2");
        await panel.getByLabel("Maximum tokens").fill("77");
        await panel.getByLabel("System prompt").fill("Be brief.");
        await panel.getByLabel("JSON schema of the answer").fill("{ no JSON");
        await panel.getByText("This is not JSON").waitFor();
        await panel.getByLabel("JSON schema of the answer").fill('{"type": "object", "required": ["sky"]}');
        await panel.getByLabel("Offer this page").uncheck();
        await page.keyboard.press("Escape");
        await ask('say {"sky": "blue"}');
        await ended();
    """)
    asked = (await sidecar.next_chat()).json()
    assert (asked["options"]["temperature"], asked["options"]["num_predict"]) == (0.2, 77)
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert asked["format"]["required"] == ["sky"]
    told = await console.run("return answer().innerText();")
    assert "Fits the schema" in told
    # Another question of the same conversation is asked alike; a reload changes nothing of that.
    await console.run("await page.reload(); await ended(); await ask('say no'); await has('Does not fit the schema');")
    assert (await sidecar.next_chat()).json()["options"]["temperature"] == 0.2


async def test_pictures_and_files_go_along_and_are_shown_with_the_question(
    console: Console, sidecar: Server, tmp_path: Path
) -> None:
    picture, notes = tmp_path / "cat.png", tmp_path / "notes.md"
    picture.write_bytes(PIXEL)
    notes.write_text("# Cat", "utf-8")
    seen = await console.run(
        """
        await shown.locator('input[type="file"]').setInputFiles(files);
        await shown.locator('.attachments .chip[data-state="sent"]').nth(1).waitFor();
        await shown.locator(".attachments .chip").nth(0).waitFor();
        await ask("say seen");
        await shown.locator(".said img.picture").waitFor();
        return texts(shown.locator(".said .chip"));
        """,
        files=[str(picture), str(notes)],
    )
    assert seen == ["notes.md"]
    (session,) = (await sidecar.http.get("/api/v1/sessions")).json()["items"]
    assert session["title"] == "say seen"
    asked = (await sidecar.next_chat()).json()["messages"][-1]
    assert asked["images"] == [base64.b64encode(PIXEL).decode()]
    assert "# Cat" in asked["content"]


async def test_a_picture_is_dropped_and_a_file_pasted(browser: Browser, sidecar: Server) -> None:
    async with Console(browser, sidecar.url) as console:
        seen = await console.run(
            """
            await page.evaluate((bytes) => {
                const files = new DataTransfer();
                files.items.add(new File([new Uint8Array(bytes)], "drop.png", { type: "image/png" }));
                const form = document.querySelector(".composer");
                for (const type of ["dragover", "drop"]) {
                    form.dispatchEvent(new DragEvent(type, { dataTransfer: files, bubbles: true, cancelable: true }));
                }
                const pasted = new DataTransfer();
                pasted.items.add(new File(["a,b"], "pasted.csv", { type: "text/csv" }));
                const paste = { clipboardData: pasted, bubbles: true, cancelable: true };
                form.querySelector("textarea").dispatchEvent(new ClipboardEvent("paste", paste));
            }, bytes);
            await shown.locator('.attachments .chip[data-state="sent"]').nth(1).waitFor();
            const both = await texts(shown.locator(".attachments .chip"));
            await shown.getByLabel("Remove drop.png").click();
            await ask("say read");
            await ended();
            return [both, await texts(shown.locator(".said .chip")), await answers()];
            """,
            bytes=list(PIXEL),
        )
        assert seen == [["drop.png", "pasted.csv"], ["pasted.csv"], ["read pasted.csv: a,b"]]
    chat = (await sidecar.next_chat()).json()
    assert "a,b" in chat["messages"][-1]["content"]


async def test_a_file_that_the_server_does_not_take_is_told_and_holds_the_question_back(
    console: Console, tmp_path: Path
) -> None:
    console.expected.append("status of 4")
    wrong = tmp_path / "wrong.png"
    wrong.write_bytes(b"no picture at all")
    seen = await console.run(
        """
        await shown.locator('input[type="file"]').setInputFiles(file);
        await shown.locator('.attachments .chip[data-state="failed"]').waitFor();
        await field().fill("say one");
        const isHeld = await shown.getByRole("button", { name: "Send" }).isDisabled();
        const why = await shown.locator(".attachments .wrong").innerText();
        await shown.getByLabel("Remove wrong.png").click();
        return [isHeld, why, await shown.getByRole("button", { name: "Send" }).isDisabled()];
        """,
        file=str(wrong),
    )
    assert (seen[0], seen[2]) == (True, False)
    assert "Not sent" in seen[1]


async def test_a_number_stays_as_it_is_typed_and_is_sent_once_it_is_valid(console: Console, sidecar: Server) -> None:
    seen = await console.run("""
        await shown.getByRole("button", { name: "Settings" }).click();
        const typed = async (label, text) => {
            const number = page.locator(".settings").getByLabel(label);
            await number.focus();
            await page.keyboard.type(text);
            return [await number.inputValue(), await number.getAttribute("aria-invalid")];
        };
        const numbers = [await typed("Temperature", "0.75"), await typed("Maximum tokens", "1.5")];
        await page.keyboard.press("Escape");
        await ask("say one");
        await ended();
        return numbers;
    """)
    assert seen == [["0.75", "false"], ["1.5", "true"]]
    options = (await sidecar.next_chat()).json()["options"]
    assert options["temperature"] == 0.75
    assert options["num_predict"] not in (1, 1.5, 51)


async def test_settings_that_could_not_be_loaded_say_so_and_are_there_once_the_server_is(console: Console) -> None:
    """They are not part of the first screen."""
    console.expected.append("net::ERR_FAILED")
    await console.run("""
        await page.route("**/ui/settings-form.js", (route) => route.abort());
        await page.reload();
        await connected();
        const settings = shown.getByRole("button", { name: "Settings" });
        await settings.click();
        await page.locator(".settings").getByText("Loading the settings…").waitFor();
        await page.keyboard.press("Escape");
        await page.unroute("**/ui/settings-form.js");
        await settings.click();
        await page.locator(".settings").getByLabel("Temperature").waitFor();
    """)


async def test_a_reset_empties_every_field(console: Console) -> None:
    seen = await console.run("""
        await shown.getByRole("button", { name: "Settings" }).click();
        const fields = ["Temperature", "Maximum tokens", "System prompt", "JSON schema of the answer"];
        const filled = ["0.7", "1.5", "Be brief.", '{"type": "object"}'];
        const labelled = fields.map((label) => page.locator(".settings").getByLabel(label));
        for (const [index, labels] of labelled.entries()) await labels.fill(filled[index]);
        await page.getByRole("button", { name: "Reset to the server" }).click();
        return Promise.all(labelled.map((labels) => labels.inputValue()));
    """)
    assert seen == ["", "", "", ""]


async def test_an_effort_that_was_set_for_another_model_is_not_sent_to_one_without(console: Console) -> None:
    seen = await console.run("""
        await shown.getByRole("button", { name: "Settings" }).click();
        await page.locator(".settings").getByLabel("Reasoning effort").selectOption("high");
        await page.keyboard.press("Escape");
        await shown.getByRole("button", { name: "Model" }).click();
        await page.locator(".models .option", { hasText: "SmolLM2" }).click();
        kept.sent = [];
        page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => kept.sent.push(String(payload))));
        // On a busy machine, too, the page waits long enough to know what the model can do.
        await page.addInitScript(() => {
            const { setTimeout } = window;
            window.setTimeout = (then, ms, ...rest) => setTimeout(then, ms === 1500 ? 60_000 : ms, ...rest);
        });
        await page.reload();
        await connected();
        await page.waitForFunction(() => document.querySelector(".pick").innerText.includes("SmolLM2"));
        await ask("say one");
        await ended();
        return kept.sent.filter((frame) => frame.includes('"chat/send"'));
    """)
    assert len(seen) == 1
    assert "reasoning_effort" not in seen[0]


async def test_what_is_attached_is_still_there_after_a_look_at_another_conversation(
    console: Console, sidecar: Server
) -> None:
    await console.run("""
        await ask("say one");
        await ended();
        const notes = { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("of mine") };
        await shown.locator('input[type="file"]').setInputFiles(notes);
        await shown.locator('.chip[data-state="sent"]').waitFor();
        await page.keyboard.press("Alt+n");
        await page.locator(".welcome").waitFor();
        await page.keyboard.press("Alt+1");
        await shown.locator('.attachments .chip[data-state="sent"]').waitFor();
        await ask("say two");
        await has("two");
        await ended();
    """)
    await sidecar.next_chat()
    assert "of mine" in (await sidecar.next_chat()).json()["messages"][-1]["content"]


async def test_what_is_attached_is_still_there_after_a_reload_and_goes_along(
    console: Console, sidecar: Server, tmp_path: Path
) -> None:
    picture, notes = tmp_path / "cat.png", tmp_path / "notes.md"
    picture.write_bytes(PIXEL)
    notes.write_text("# Cat", "utf-8")
    seen = await console.run(
        """
        await shown.locator('input[type="file"]').setInputFiles(files);
        await shown.locator('.attachments .chip[data-state="sent"]').nth(1).waitFor();
        await field().fill("say seen");
        await page.reload();
        await connected();
        await shown.locator(".attachments .chip img").waitFor();
        const chips = await texts(shown.locator(".attachments .chip"));
        await field().press("Enter");
        await has("seen");
        await ended();
        await page.reload();
        await shown.locator(".said img.picture").waitFor();
        return [chips, await shown.locator(".attachments .chip").count(), await field().inputValue()];
        """,
        files=[str(picture), str(notes)],
    )
    assert seen == [["Picture", "notes.md"], 0, ""]
    asked = (await sidecar.next_chat()).json()["messages"][-1]
    assert asked["images"] == [base64.b64encode(PIXEL).decode()]
    assert "# Cat" in asked["content"]


@pytest.mark.parametrize(("name", "shown"), [("cat.png", "Picture"), ("notes.md", "notes.md")])
async def test_what_was_attached_and_is_gone_from_the_server_after_a_reload_is_told_and_can_be_removed(
    browser: Browser, sidecar: Server, tmp_path: Path, name: str, shown: str
) -> None:
    given = tmp_path / name
    given.write_bytes(PIXEL if name.endswith("png") else b"# Cat")
    async with Console(browser, sidecar.url) as console:
        console.expected.append("404")
        await console.run(
            """
            await shown.locator('input[type="file"]').setInputFiles(file);
            await shown.locator('.attachments .chip[data-state="sent"]').waitFor();
            const gone = async (route) => (await route.fetch({ method: "DELETE" }), route.continue());
            await page.route("**/api/v1/files/*", gone, { times: 1 });
            await page.reload();
            await has("The server no longer has it");
            await field().fill("say one");
            if (await shown.getByRole("button", { name: "Send" }).isEnabled()) throw new Error("it can be sent");
            await shown.getByLabel(`Remove ${named}`).click();
            await field().press("Enter");
            await ended();
            """,
            file=str(given),
            named=shown,
        )


# An empty file that is gone is like a folder: there is nothing in it to look for.
@pytest.mark.parametrize(("before", "after"), [("of mine", None), ("of mine", "of"), ("", None)])
async def test_a_file_that_was_removed_or_shortened_meanwhile_is_told_before_anything_is_sent(
    console: Console, tmp_path: Path, before: str, after: str | None
) -> None:
    console.expected += ["status of 507"]
    notes = tmp_path / "notes.txt"
    notes.write_text(before, "utf-8")
    await console.run(
        """
        await page.route("**/api/v1/files", (route) => route.fulfill({
            status: 507, contentType: "application/json",
            body: JSON.stringify({ error: { kind: "storage_full", message: "no room" } }),
        }), { times: 1 });
        await shown.locator('input[type="file"]').setInputFiles(file);
        await has("no room");
        """,
        file=str(notes),
    )
    notes.unlink()
    if after is not None:
        notes.write_text(after, "utf-8")
    seen = await console.run("""
        await shown.getByRole("button", { name: "Try again" }).click();
        await has("can't be read");
        return shown.locator(".attachments .wrong").innerText();
    """)
    assert "notes.txt can't be read" in seen
    assert "choose it again" in seen


async def test_a_file_that_is_gone_from_the_server_is_told(browser: Browser, sidecar: Server) -> None:
    async with Console(browser, sidecar.url) as console:
        console.expected.append("404")
        await console.run("""
            const notes = { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("of mine") };
            await shown.locator('input[type="file"]').setInputFiles(notes);
            await shown.locator('.chip[data-state="sent"]').waitFor();
            await ask("say one");
            await ended();
        """)
        await sidecar.http.delete("/api/v1/sessions", params={"all": "true"})
        seen = await console.run("""
            await has("no longer has this conversation");
            await shown.locator(".said .chip").click();
            await page.getByRole("alert").locator(".error").waitFor();
            return page.getByRole("alert").innerText();
        """)
        assert "file" in seen


async def test_text_is_dropped_into_the_field_and_pasted_there_if_it_comes_with_its_picture(console: Console) -> None:
    seen = await console.run("""
        await ask("say drag these words");
        await ended();
        await shown.locator(".said .words").selectText();
        const from = await shown.locator(".said .words").boundingBox();
        const to = await field().boundingBox();
        await page.mouse.move(from.x + 20, from.y + from.height / 2);
        await page.mouse.down();
        await page.mouse.move(from.x + 30, from.y + from.height / 2 + 20, { steps: 5 });
        await page.mouse.move(to.x + 30, to.y + to.height / 2, { steps: 10 });
        await page.mouse.up();
        const dropped = await field().inputValue();
        // As spreadsheets copy cells, and browsers copy a picture.
        const isTaken = (types) => field().evaluate((field, types) => {
            const copied = new DataTransfer();
            for (const type of types) copied.setData(type, "one");
            copied.items.add(new File(["of it"], "image.txt", { type: "text/plain" }));
            const pasted = { clipboardData: copied, bubbles: true, cancelable: true };
            return !field.dispatchEvent(new ClipboardEvent("paste", pasted));
        }, types);
        const taken = [await isTaken(["text/plain", "text/html"]), await isTaken(["text/html"])];
        return { dropped, taken, files: await shown.locator(".attachments .chip").count() };
    """)
    assert seen["dropped"].strip() == "say drag these words"
    assert (seen["taken"], seen["files"]) == ([False, True], 1)


async def test_a_file_that_is_dropped_beside_the_composer_is_not_opened_in_its_place(console: Console) -> None:
    seen = await console.run("""
        return page.evaluate(() => {
            const dragged = (fill) => {
                const dataTransfer = new DataTransfer();
                fill(dataTransfer);
                const over = new DragEvent("dragover", { dataTransfer, bubbles: true, cancelable: true });
                document.querySelector(".scroller").dispatchEvent(over);
                return over.defaultPrevented;
            };
            const file = (data) => data.items.add(new File(["of mine"], "notes.txt"));
            return [dragged(file), dragged((data) => data.setData("text/plain", "words"))];
        });
    """)
    assert seen == [True, False]


async def test_a_long_text_has_one_direction_in_its_field_before_it_is_there(console: Console) -> None:
    seen = await console.run("""
        await field().focus();
        await page.evaluate(() => {
            window.directions = [];
            // Capturing, so that the page itself does not know of the text yet.
            addEventListener("input", ({ target }) => window.directions.push(target.dir), true);
        });
        for (const text of ["short ", "שלום ".repeat(20_000), "long ".repeat(20_000)]) {
            await page.keyboard.insertText(text);
            await field().press("ControlOrMeta+A");
        }
        await ask("short");
        await ended();
        return { before: await page.evaluate(() => window.directions), after: await field().getAttribute("dir") };
    """)
    # `fill`, which `ask` uses, is told to the page only afterwards.
    assert seen == {"before": ["auto", "rtl", "ltr", "ltr"], "after": "auto"}


async def test_a_picture_without_words_can_be_asked_about_again(console: Console) -> None:
    seen = await console.run(
        """
        const cat = { name: "cat.png", mimeType: "image/png", buffer: Buffer.from(bytes) };
        await shown.locator('input[type="file"]').setInputFiles(cat);
        await shown.locator('.chip[data-state="sent"]').waitFor();
        await shown.getByRole("button", { name: "Send", exact: true }).click();
        await ended();
        await shown.locator(".said").hover();
        await shown.locator(".said").getByLabel("Edit").click();
        await page.getByRole("button", { name: "Ask", exact: true }).click();
        await page.getByLabel("What to ask instead").waitFor({ state: "detached" });
        await ended();
        return shown.locator(".said .parts").count();
        """,
        bytes=list(PIXEL),
    )
    assert seen == 1


async def test_that_files_are_not_sent_in_mid_answer_is_told(console: Console) -> None:
    seen = await console.run("""
        await ask("never");
        await has("word19");
        const notes = { name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("a") };
        await shown.locator('input[type="file"]').setInputFiles(notes);
        await shown.locator('.chip[data-state="sent"]').waitFor();
        await ask("look");
        await page.getByRole("alert").filter({ hasText: "Pictures and files" }).waitFor();
        return field().inputValue();
    """)
    assert seen == "look"


async def test_a_branch_from_a_question_with_a_picture_and_a_file_has_them_in_its_draft(
    console: Console, sidecar: Server, tmp_path: Path
) -> None:
    picture, notes = tmp_path / "cat.png", tmp_path / "notes.md"
    picture.write_bytes(PIXEL)
    notes.write_text("# Cat", "utf-8")
    seen = await console.run(
        """
        await shown.locator('input[type="file"]').setInputFiles(files);
        await shown.locator('.attachments .chip[data-state="sent"]').nth(1).waitFor();
        await ask("say seen");
        await ended();
        await shown.locator(".said").hover();
        await shown.locator(".said").getByLabel("Branch from here").click();
        await page.waitForFunction(() => document.querySelectorAll(".row").length === 2);
        await shown.locator(".attachments .chip img[src]").waitFor();
        const drafted = [await field().inputValue(), await texts(shown.locator(".attachments .chip"))];
        await field().press("Enter");
        await shown.locator(".said img.picture").waitFor();
        await ended();
        return [drafted, await texts(shown.locator(".said .chip"))];
        """,
        files=[str(picture), str(notes)],
    )
    assert seen == [["say seen", ["Picture", "notes.md"]], ["notes.md"]]
    first, second = [(await sidecar.next_chat()).json()["messages"] for _ in range(2)]
    assert first == second
    assert second[-1]["images"] == [base64.b64encode(PIXEL).decode()]
