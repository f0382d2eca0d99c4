"""Headless Chromium for tests in Python, and pages for it."""

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

from archer_ws.api.routes.console import DIRECTORY
from tests.fakes.scripted_server import Exchange, Reply, ScriptedServer, scripted_server
from tests.interop.javascript import LIMIT_S, NODE_PROJECT, Javascript, javascript_at, node

#: No sandbox, as CI runs as root; no services of Google's. Names that need no DNS stand for this machine's pages.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
]
_RUN_IN_PAGE = """
    const answer = await kept.pages[page].evaluate(async ({ body, args }) => {
        const AsyncFunction = (async () => {}).constructor;
        window.kept ??= {};
        const names = { kept, ...args };
        try {
            return { value: await new AsyncFunction(...Object.keys(names), body)(...Object.values(names)) };
        } catch (error) {
            return { error: { ...error, name: error.name, message: error.message } };
        }
    }, { body, args });
    if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
    return answer.value;
"""


class Browser:
    """A running Chromium with one context; its pages have names."""

    def __init__(self, js: Javascript) -> None:
        #: The process that drives it.
        self.js = js

    async def open(self, page: str, url: str) -> None:
        """A new tab at this address; what it logs is shown with a failing test."""
        await self.js.run(
            """
            kept.pages[page] = await kept.context.newPage();
            kept.pages[page].on("console", (message) => console.error(`${page}: ${message.text()}`));
            kept.pages[page].on("pageerror", (error) => console.error(`${page}: uncaught ${error}`));
            await kept.pages[page].goto(url);
            """,
            page=page,
            url=url,
        )

    async def run(self, page: str, code: str, **args: Any) -> Any:
        """What an async function with this body returns in the page; there, `kept` lives as long as the document.

        Raises:
            JavascriptError: it threw.
        """
        return await self.js.run(_RUN_IN_PAGE, page=page, body=code, args=args)

    async def control(self, page: str, code: str, **args: Any) -> Any:
        """What an async function with this body returns outside, where `page` and `context` are playwright's."""
        return await self.js.run(f"const page = kept.pages[name], {{ context }} = kept;\n{code}", name=page, **args)


def _executable() -> str:
    """Chromium: the one of the variable CHROMIUM, or the machine's; without windows of its own if there is one."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert found, "these tests need Chromium: install it, or say where it is in the variable CHROMIUM"
    return found


@contextmanager
def chromium_for_many() -> Iterator[int]:
    """A running Chromium and what drives it, for many tests, as both together take a second to start: the port."""
    command = [node(), "client/browser.mjs", _executable(), *FLAGS]
    with subprocess.Popen(command, cwd=NODE_PROJECT, stdin=PIPE, stdout=PIPE, text=True) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        yield int(running.stdout.readline())
        running.stdin.close()
        assert running.wait(LIMIT_S) == 0


@asynccontextmanager
async def chromium_at(port: int) -> AsyncIterator[Browser]:
    """The Chromium that is there, with a fresh context; it goes on afterwards."""
    async with javascript_at(port) as js:
        yield Browser(js)


@asynccontextmanager
async def chromium(js: Javascript) -> AsyncIterator[Browser]:
    """A Chromium of one's own, driven by this process."""
    await js.run(
        """
        const { chromium } = await playwright();
        kept.browser = await chromium.launch({ executablePath, args: flags });
        kept.context = await kept.browser.newContext();
        kept.pages = {};
        """,
        executablePath=_executable(),
        flags=FLAGS,
    )
    try:
        yield Browser(js)
    finally:
        await js.run("await kept.browser.close(); delete kept.browser;")


@asynccontextmanager
async def pages(files: Mapping[str, Reply] | None = None) -> AsyncIterator[ScriptedServer]:
    """A web server of somebody's own: an empty page at every path, but for these."""
    given = {} if files is None else files

    def respond(exchange: Exchange) -> Reply:
        path = exchange.path.partition("?")[0]
        return given.get(path) or Reply([b"<!doctype html><div id=root></div>"], content_type="text/html")

    async with scripted_server(responder=respond) as server:
        yield server


def script(text: bytes) -> Reply:
    """A module."""
    return Reply([text], content_type="text/javascript")


def own_copy() -> dict[str, Reply]:
    """The client as a site serves it itself."""
    return {f"/console/{path.name}": script(path.read_bytes()) for path in DIRECTORY.glob("archer-*.js")}


def bundled(directory: Path, page: str, *options: str) -> bytes:
    """A program of client/*.tsx, with the client (also by its package's name) and React, in one file."""
    for path in [*DIRECTORY.glob("archer*"), *(NODE_PROJECT / "client").glob("*.tsx")]:
        shutil.copy(path, directory)
    (directory / "node_modules").mkdir()
    for path in (NODE_PROJECT / "node_modules").iterdir():
        (directory / "node_modules" / path.name).symlink_to(path)
    (directory / "node_modules" / "archer-ws").symlink_to(DIRECTORY)
    return with_esbuild(directory, page, "--preserve-symlinks", *options)


def with_esbuild(directory: Path, page: str, *options: str) -> bytes:
    """The program with all that it imports, in one file."""
    esbuild = NODE_PROJECT / "node_modules" / ".bin" / "esbuild"
    defined = f"--define:process.env.NODE_ENV={json.dumps('development')}"
    command = [str(esbuild), page, "--bundle", "--format=esm", "--jsx=automatic", "--jsx-dev", defined, *options]
    return subprocess.run(command, cwd=directory, capture_output=True, timeout=60, check=True).stdout


def page_of(code: bytes) -> dict[str, Reply]:
    """The files of a page that runs this program."""
    html = b'<!doctype html><meta charset=utf-8><div id=root></div><script type=module src="/page.js"></script>'
    return {"/": Reply([html], content_type="text/html"), "/page.js": script(code)}
