"""The JavaScript client and files: a page's photo goes beside the socket, and the request that names it behind it."""

import json
from collections.abc import Awaitable
from pathlib import Path

import pytest

from tests.fakes.cutting_proxy import cutting_proxy
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
    // In the photo's middle the network stands still until the page was told how far it is.
    const tell = (at) => {
        if (told.push(at) === 1) void fetch("/go");
    };
    const stream = kept.archer.send(
        { messages: [{ role: "user", content: "What is this?" }], session_id },
        { images: [image], files: [text], onUpload: tell },
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
        async with (
            server(answers, cwd=tmp_path, AUTH_TOKEN="secret", CORS_ORIGINS=allowed) as sidecar,
            cutting_proxy(sidecar.url.removeprefix("http://").rstrip("/")) as proxy,
        ):

            async def make_ticket(exchange: Exchange) -> Reply:
                headers = {"Authorization": "Bearer secret"}
                made = await sidecar.http.post("/api/v1/ws/tickets", json=exchange.json(), headers=headers)
                return Reply.of_json(made.json())

            def answer(asked: Exchange) -> Reply | Awaitable[Reply]:
                if asked.path == "/ticket":
                    return make_ticket(asked)
                if asked.path == "/go":
                    proxy.holds_at = None
                    proxy.passes.set()
                    return Reply.of_json({})
                return serve_page(asked)

            site.responder = answer
            proxy.holds_at = PHOTO_BYTES // 4
            await browser.open("page", site.url)
            shown = {"token": "secret"} if credential == "token" else {"ticket": "/ticket"}
            await browser.run("page", OPEN, url=sidecar.url, options={"url": proxy.url, **shown})
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


@pytest.mark.browser
@pytest.mark.timeout(180)
async def test_a_page_is_told_that_a_photo_is_too_large(browser: Browser, tmp_path: Path, answers: Answers) -> None:
    async with pages(own_copy()) as site:
        allowed = json.dumps([site.url])
        async with server(answers, cwd=tmp_path, CORS_ORIGINS=allowed) as sidecar:
            await browser.open("page", site.url)
            await browser.run("page", OPEN, url=sidecar.url, options={"url": sidecar.url})
            refused = await browser.run(
                "page",
                MAKE_PHOTO
                + """
                const large = photo(bytes, "large.png", size);
                const error = await kept.archer.upload(large).then(() => undefined, (error) => error);
                return { kind: error.kind, hint: error.hint };
                """,
                bytes=[*PIXEL],
                size=2 * PHOTO_BYTES,
            )
    assert refused["kind"] == "content_too_large"
    assert "ARCHER_FILE_BYTES_MAX" in refused["hint"]
