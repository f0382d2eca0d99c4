"""A page with the console's Markdown on it, under as strict a policy, and somebody who is not to be asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archer_ws.api.routes.console import DIRECTORY, MEDIA_TYPES
from tests.fakes.scripted_server import Exchange, Reply, ScriptedServer, scripted_server
from tests.interop.browser import Browser

HERE = Path(__file__).parent
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "worker-src 'self'",
        "img-src http: https: data:",
        "require-trusted-types-for 'script'",
        "trusted-types archer-highlight",
    ]
)
HTML = """<!doctype html><html lang=en><meta charset=utf-8><title>Answer</title>
<link rel=stylesheet href=/console/app/style/markdown.css><div id=root></div>
<script type=module src=/page.js></script>"""


@dataclass
class MarkdownPage:
    """The page, open in a tab; `stranger` is a server that an answer may name, as evil.test."""

    browser: Browser
    stranger: ScriptedServer

    async def run(self, code: str, **args: Any) -> Any:
        """What an async function with this body returns in the page; `tests` is what page.js has."""
        function = f"async ({{ {', '.join(args)} }}) => {{ {code} }}"
        return await self.browser.control(
            "page", "return await page.evaluate(eval(`(${body})`), args);", body=function, args=args
        )

    async def shown(self, *pieces: str, **options: Any) -> str:
        """The HTML that stands there once these have come."""
        found = await self.run("return await tests.shown(pieces, options);", pieces=pieces, options=options)
        assert isinstance(found, str)
        return found


@asynccontextmanager
async def markdown_page(browser: Browser) -> AsyncIterator[MarkdownPage]:
    """The page, in a tab of its own."""

    def page_or_file(exchange: Exchange) -> Reply:
        path = exchange.path.partition("?")[0]
        if path == "/":
            return Reply([HTML.encode()], content_type="text/html", headers={"Content-Security-Policy": POLICY})
        file = HERE / "page.js" if path == "/page.js" else DIRECTORY.parent / path.lstrip("/")
        kind = next((kind for end, kind in MEDIA_TYPES.items() if path.endswith(end)), "")
        if not kind or not file.is_file():
            return Reply(status=404)
        return Reply([file.read_bytes()], content_type=kind)

    async with scripted_server(responder=page_or_file) as site, scripted_server() as stranger:
        stranger.responder = lambda _: Reply(status=404)
        await browser.open("page", site.url)
        await browser.control("page", "await page.waitForFunction(() => window.tests);")
        yield MarkdownPage(browser, stranger)
