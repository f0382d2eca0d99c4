"""What a tab of the console that stays open for days lets go of."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.browser.console import Console
from tests.processes import Server
from tests.test_client_uploads import PIXEL

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: `state`: the page's own modules; `heap`: what lives in the page, in bytes; `isHeld`: whether `window.weak` does.
MEMORY = """
    const tools = await context.newCDPSession(page);
    const state = await page.evaluateHandle(async () => {
        const names = ["conversations", "connection", "wire", "files"];
        return Object.assign({}, ...(await Promise.all(names.map((name) => import(`/console/app/state/${name}.js`)))));
    });
    const collected = () => tools.send("HeapProfiler.collectGarbage");
    const heap = async () => {
        await collected();
        const { usedSize, backingStorageSize } = await tools.send("Runtime.getHeapUsage");
        return usedSize + backingStorageSize;
    };
    const isHeld = async () => (await collected(), page.evaluate(() => window.weak.deref() !== undefined));
"""


async def say(sidecar: Server, text: str, *session_ids: str, pictures: Sequence[str] = ()) -> None:
    """Store conversations that consist of this question, with the pictures of these ids."""
    told = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    parts = [{"type": "text", "text": text}, *({"type": "image", "file_id": each} for each in pictures)]
    message = {
        "message_id": "m",
        "role": "user",
        "status": "completed",
        "content": text,
        **({"parts": parts} if pictures else {}),
        "created_at": told["created_at"],
    }
    lines = [json.dumps({"session_id": each, "messages": [message], **told}) for each in session_ids]
    response = await sidecar.http.post(
        "/api/v1/sessions/import", content="\n".join(lines), headers={"content-type": "application/jsonl"}
    )
    assert response.json()["imported"] == len(lines), response.text


async def test_of_a_long_frame_no_more_is_kept_than_the_developers_part_shows(
    console: Console, sidecar: Server
) -> None:
    await say(sidecar, "a" * 500_000, "long")
    before, lengths, after = await console.run(
        MEMORY
        + """
        const before = await heap();
        const lengths = await state.evaluate(async ({ client, frames }) => {
            for (let time = 0; time < 100; time++) await client.value.call("session/get", { session_id: "long" });
            return frames.filter(({ chars }) => chars > 500_000).map(({ text }) => text.length);
        });
        return [before, lengths, await heap()];
        """
    )
    assert lengths == [16_384] * 100
    # A tenth of the frames.
    assert after - before < 5_000_000, f"{after - before} bytes"


#: Opens conversations, and closes them again.
VISITS = """
    const visit = async (id, here = () => {}) => {
        await state.evaluate(({ show }, id) => show(id), id);
        await shown.locator(".said .words").first().waitFor();
        await here();
        await state.evaluate(({ close }, id) => close(id), id);
    };
"""


async def test_conversations_that_were_closed_long_ago_are_forgotten(console: Console, sidecar: Server) -> None:
    await say(sidecar, "hello", *(f"ses{number}" for number in range(20)))
    was_held, is_held = await console.run(
        MEMORY
        + VISITS
        + """
        const mark = () => state.evaluate(({ conversation }) => void (window.weak = new WeakRef(conversation("ses0"))));
        await visit("ses0", mark);
        const wasHeld = await isHeld();
        for (let number = 1; number < 20; number++) await visit(`ses${number}`);
        return [wasHeld, await isHeld()];
        """
    )
    assert was_held
    assert not is_held


async def test_what_was_being_written_instead_of_a_question_outlasts_many_closed_conversations(
    console: Console, sidecar: Server
) -> None:
    await say(sidecar, "hello", *(f"ses{number}" for number in range(20)))
    written = await console.run(
        MEMORY
        + VISITS
        + """
        await visit("ses0", async () => {
            await shown.getByRole("button", { name: "Edit", exact: true }).first().click();
            await shown.getByLabel("What to ask instead").fill("goodbye");
        });
        for (let number = 1; number < 20; number++) await visit(`ses${number}`);
        await state.evaluate(({ show }) => show("ses0"));
        return shown.getByLabel("What to ask instead").inputValue();
        """
    )
    assert written == "goodbye"


async def test_a_closed_conversation_that_changes_is_loaded_when_it_is_opened(
    console: Console, sidecar: Server
) -> None:
    await say(sidecar, "hello", "closed", "open")
    change = {"messages": [{"role": "user", "content": "it has changed"}]}
    await console.run(MEMORY + VISITS + 'await visit("closed"); await state.evaluate(({ show }) => show("open"));')
    for session_id in ("closed", "open"):
        asked = await sidecar.http.post("/api/v1/chat/completions", json={"session_id": session_id, **change})
        assert asked.is_success, asked.text
    read, told = await console.run(
        MEMORY
        + """
        await shown.getByText("it has changed").waitFor();
        const read = await state.evaluate(({ frames }) => {
            const asked = frames.map(({ isOut, text }) => isOut && JSON.parse(text)).filter(Boolean);
            return asked.filter(({ method }) => method === "session/get").map(({ params }) => params.session_id);
        });
        await state.evaluate(({ show }) => show("closed"));
        await shown.getByText("it has changed").waitFor();
        return [read, await said()];
        """
    )
    # Once when it was opened first.
    assert read.count("closed") == 1
    assert told == ["hello", "it has changed"]


async def test_an_answer_that_was_asked_for_again_is_forgotten(console: Console) -> None:
    held = await console.run(
        MEMORY
        + """
        await ask("say one");
        await ended();
        await state.evaluate(({ conversation, shownId }) => {
            window.weak = new WeakRef(conversation(shownId.value).items.value.at(-1).completion);
        });
        const first = await state.evaluate(() => window.weak.deref().streamId);
        await shown.getByRole("button", { name: "Ask again" }).click();
        await state.evaluateHandle(async ({ conversation, shownId }, first) => {
            const { items } = conversation(shownId.value);
            await new Promise((resolve) => items.subscribe((now) => {
                const last = now.at(-1);
                if (last.id !== first && last.kind === "completion" && !last.isLocal) resolve();
            }));
        }, first);
        await drawn();
        return isHeld();
        """
    )
    assert not held


#: Whether a picture can be loaded from there.
LOADS = """
    const loads = (url) => page.evaluate(async (url) => {
        const picture = Object.assign(new Image(), { src: url });
        return picture.decode().then(() => true, () => false);
    }, url);
"""


async def test_a_picture_that_was_sent_is_no_longer_held_for_the_composer(console: Console, tmp_path: Path) -> None:
    console.expected.append("net::ERR_FILE_NOT_FOUND")
    picture = tmp_path / "cat.png"
    picture.write_bytes(PIXEL)
    seen = await console.run(
        MEMORY
        + LOADS
        + """
        await shown.locator('input[type="file"]').setInputFiles(file);
        await shown.locator('.attachments .chip[data-state="sent"]').waitFor();
        const url = await shown.locator(".attachments img").getAttribute("src");
        const before = await loads(url);
        await ask("say seen");
        await ended();
        const sent = await shown.locator(".said img.picture").getAttribute("src");
        let lasts = await loads(url);
        for (let tries = 0; lasts && tries < 100; tries++) lasts = await loads(url);
        return [before, lasts, await loads(sent)];
        """,
        file=str(picture),
    )
    assert seen == [True, False, True]


async def test_pictures_of_conversations_that_were_closed_are_held_no_longer_but_for_the_last_20(
    console: Console, sidecar: Server
) -> None:
    console.expected.append("net::ERR_FILE_NOT_FOUND")
    pictures = []
    # The same bytes would be the same file.
    for number in range(25):
        content = PIXEL + bytes([number])
        sent = await sidecar.http.post("/api/v1/files", content=content, headers={"Content-Type": "image/png"})
        pictures.append(sent.json()["file_id"])
    await say(sidecar, "hello", "ses", pictures=pictures)
    held, again = await console.run(
        MEMORY
        + VISITS
        + LOADS
        + """
        const shownPictures = async () => {
            await shown.locator(".said img.picture").nth(24).waitFor();
            return shown.locator(".said img.picture").evaluateAll((all) => all.map(({ src }) => src));
        };
        const count = async (urls) => {
            const loaded = [];
            for (const url of urls) if (await loads(url)) loaded.push(url);
            return loaded.length;
        };
        let urls;
        const held = [];
        await visit("ses", async () => { urls = await shownPictures(); held.push(await count(urls)); });
        await shown.locator(".welcome").waitFor();
        // The browser revokes an address in another process, a moment later.
        let left = await count(urls);
        for (let tries = 0; left > 20 && tries < 100; tries++) left = await count(urls);
        held.push(left);
        await state.evaluate(({ show }) => show("ses"));
        return [held, await count(await shownPictures())];
        """
    )
    assert held == [25, 20]
    assert again == 25
