"""What a tab of the console that stays open for days lets go of."""

import json

import pytest

from tests.browser.console import Console
from tests.processes import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: `state`: the page's own modules; `heap`: what lives in the page, in bytes.
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
"""


async def say(sidecar: Server, text: str, *session_ids: str) -> None:
    """Store conversations that consist of this question."""
    told = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    message = {
        "message_id": "m",
        "role": "user",
        "status": "completed",
        "content": text,
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
