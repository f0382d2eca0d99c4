"""The JavaScript client and files: a page's photo goes beside the socket, and the request that names it behind it."""

import json
from pathlib import Path

import pytest

from tests.fakes.scripted_server import Exchange, Reply
from tests.interop.browser import Browser, own_copy, pages
from tests.interop.scripted_chat import TEXT, Answers
from tests.processes import server
from tests.test_client_uploads import PIXEL

#: As large as a photo of a good camera.
PHOTO_BYTES = 20_000_000
MAKE_PHOTO = """
    const photo = (bytes, name, size) => {
        const content = new Uint8Array(size);
        content.set(bytes);
        return new File([content], name, { type: "image/png" });
    };
"""
OPEN = """
    const { connect } = await import(`${url}/console/archer-client.js`);
    kept.archer = connect(options);
"""
SEND_PHOTO = (
    MAKE_PHOTO
    + """
    const { session_id } = await kept.archer.call("session/create", {});
    const told = [];
    const image = photo(bytes, "cat.png", size);
    const text = new File(["# Cat"], "cat.md", { type: "text/markdown" });
    const stream = kept.archer.send(
        { messages: [{ role: "user", content: "What is this?" }], session_id },
        { images: [image], files: [text], onUpload: (at) => told.push(at) },
    );
    for await (const _ of stream);
    const { messages } = await kept.archer.call("session/get", { session_id });
    return { text: stream.text, parts: messages[0].parts, told, same: (await kept.archer.upload(image)).file_id };
"""
)


@pytest.mark.browser
@pytest.mark.timeout(180)
@pytest.mark.parametrize("credential", ["token", "ticket"])
async def test_a_photo_of_20_mb_goes_from_a_page_and_is_told_as_it_goes(
    browser: Browser, tmp_path: Path, answers: Answers, credential: str
) -> None:
    async with pages(own_copy()) as site:
        serve_page = site.responder
        assert serve_page is not None
        allowed = json.dumps([site.url])
        async with server(answers, cwd=tmp_path, AUTH_TOKEN="secret", CORS_ORIGINS=allowed) as sidecar:

            async def make_ticket(exchange: Exchange) -> Reply:
                headers = {"Authorization": "Bearer secret"}
                made = await sidecar.http.post("/api/v1/ws/tickets", json=exchange.json(), headers=headers)
                return Reply.of_json(made.json())

            site.responder = lambda asked: make_ticket(asked) if asked.path == "/ticket" else serve_page(asked)
            await browser.open("page", site.url)
            shown = {"token": "secret"} if credential == "token" else {"ticket": "/ticket"}
            await browser.run("page", OPEN, url=sidecar.url, options={"url": sidecar.url, **shown})
            seen = await browser.run("page", SEND_PHOTO, bytes=[*PIXEL], size=PHOTO_BYTES)
    assert seen["text"] == TEXT
    assert seen["parts"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "file_id": seen["same"]},
        {"type": "file", "file_id": seen["parts"][2]["file_id"], "filename": "cat.md"},
    ]
    sent = [each["sentBytes"] for each in seen["told"] if each["filename"] == "cat.png"]
    assert len(sent) > 1, "the page was told once"
    assert sent == sorted(sent)
    assert sent[-1] == PHOTO_BYTES == seen["told"][0]["totalBytes"]
