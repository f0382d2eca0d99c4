"""The JavaScript client in a page whose own server passes the sidecar's paths on, as proxies before both do."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.rewriting_proxy import Head, rewriting_proxy
from tests.fakes.scripted_server import Reply, scripted_server
from tests.interop.browser import Browser, own_copy, pages
from tests.interop.scripted_chat import TEXT, Answers, address_of
from tests.processes import Server, server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LIMIT_S = 60
OPEN = """
    const { connect } = await import("/console/archer-client.js");
    kept.archer = connect({ url: "/", ...options });
"""
ASK = """
    const stream = kept.archer.send("Why?");
    const { status, error } = await stream.ended;
    return { status, error, text: stream.text, state: kept.archer.state };
"""


@asynccontextmanager
async def proxied(sidecar: Server, change: Callable[[Head], None]) -> AsyncIterator[str]:
    """The URL of a page, below which the paths of the API are the sidecar's."""
    async with pages(own_copy()) as site:

        def rewrite(head: Head) -> str:
            if not head.path.startswith((b"/api/", b"/health/")):
                return site.url
            change(head)
            return sidecar.url

        async with rewriting_proxy(rewrite) as url:
            yield url


async def asked(browser: Browser, url: str, **options: Any) -> Any:
    """What becomes of a question of the page's."""
    await browser.open("page", url)
    await browser.run("page", OPEN, options=options)
    return await browser.run("page", ASK)


async def test_a_page_beside_the_server_s_paths_chats(browser: Browser, sidecar: Server) -> None:
    async with proxied(sidecar, lambda _: None) as url:
        assert (await asked(browser, url))["text"] == TEXT


async def test_a_page_is_told_that_a_proxy_makes_its_origin_a_foreign_one(browser: Browser, sidecar: Server) -> None:
    """As Apache does without further settings, and Vite's development server where it is given the address alone."""

    def rename(head: Head) -> None:
        head.drop(b"host")
        head.fields.append(b"Host: " + address_of(sidecar).encode())

    async with proxied(sidecar, rename) as url:
        seen = await asked(browser, url)
    assert (seen["status"], seen["state"], seen["error"]["kind"]) == ("lost", "closed", "forbidden")
    assert f"Add {url} to the server's setting CORS_ORIGINS" in seen["error"]["hint"]


async def test_a_page_is_told_that_a_proxy_passes_no_websockets_on(browser: Browser, sidecar: Server) -> None:
    """As nginx does without further settings."""
    async with proxied(sidecar, lambda head: head.drop(b"connection", b"upgrade")) as url:
        seen = await asked(browser, url, giveUpAfterMs=2000, backoff={"firstMs": 10, "maxMs": 10})
    assert (seen["status"], seen["error"]["kind"]) == ("failed", "unreachable")
    assert "a proxy before the server took the Upgrade header out" in seen["error"]["hint"]


async def test_a_page_of_another_origin_waits_while_only_a_proxy_responds(
    browser: Browser, answers: Answers, tmp_path: Path
) -> None:
    """It can read none of the proxy's own responses, as of a server that does not let it in."""
    away = Reply([b"<h1>502 Bad Gateway</h1>"], status=502, content_type="text/html")
    requested: asyncio.Queue[bytes] = asyncio.Queue()
    async with (
        pages(own_copy()) as site,
        server(answers, cwd=tmp_path, CORS_ORIGINS=json.dumps([site.url])) as sidecar,
        scripted_server(responder=lambda _: away) as nobody,
    ):
        before = nobody.url

        def rewrite(head: Head) -> str:
            requested.put_nowait(head.path)
            return before

        async with rewriting_proxy(rewrite) as url:
            await browser.open("page", site.url)
            await browser.run("page", OPEN, options={"url": url, "backoff": {"firstMs": 10, "maxMs": 10}})
            waiting = asyncio.create_task(browser.run("page", ASK))
            async with asyncio.timeout(LIMIT_S):
                for _ in range(10):
                    await requested.get()
            before = sidecar.url
            assert await waiting == {"status": "completed", "text": TEXT, "state": "open"}
