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
