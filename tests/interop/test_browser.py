"""The JavaScript client in headless Chromium against the real server: origins, reloads, tabs, networks, React."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from archer_ws.api.routes.console import DIRECTORY
from tests.fakes.cutting_proxy import cutting_proxy
from tests.fakes.scripted_server import Exchange, Reply, ScriptedServer
from tests.interop.browser import Browser, bundled, own_copy, page_of, pages, with_esbuild
from tests.interop.javascript import JavascriptError
from tests.interop.scripted_chat import HALF, TEXT, Answers, address_of
from tests.processes import Server, program, server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LIMIT_S = 60
OPEN = """
    const { connect } = await import(`${url}/console/archer-client.js`);
    kept.archer = connect(options);
"""
CHAT = """
    kept.stream = kept.archer.send(prompt);
    for await (const _ of kept.stream);
    return [kept.stream.text, (await kept.stream.ended).status];
"""
#: Reading it does not end it.
FOLLOW = """
    kept.stream = id ? kept.archer.resume(id) : kept.archer.send("hold", { detach: true });
    for await (const _ of kept.stream) if (kept.stream.text.length >= half) break;
    return kept.stream.streamId;
"""
FINISH = "return [(await kept.stream.ended).status, kept.stream.text];"
COMPLETED = ["completed", TEXT]


@pytest.fixture
async def site() -> AsyncIterator[ScriptedServer]:
    """The pages of an application with an origin of its own, which has a copy of the client, too."""
    async with pages(own_copy()) as running:
        yield running


Allowing = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
def allowing(tmp_path: Path, answers: Answers) -> Allowing:
    """`async with allowing(*origins) as sidecar`: a server that pages of these may use."""

    def start(*origins: str, **environment: Any) -> AbstractAsyncContextManager[Server]:
        return server(answers, cwd=tmp_path, CORS_ORIGINS=json.dumps(origins), **environment)

    return start


async def test_a_page_of_an_allowed_origin_chats_and_cancels(
    browser: Browser, site: ScriptedServer, allowing: Allowing
) -> None:
    async with allowing(site.url) as sidecar:
        await browser.open("page", site.url)
        # Where the server is, the module knows: it came from there.
        await browser.run("page", OPEN, url=sidecar.url, options={})
        assert await browser.run("page", CHAT, prompt="Why?") == [TEXT, "completed"]
        await sidecar.next_chat()
        cancelled = """
            const stream = kept.archer.send("never");
            for await (const _ of stream) if (stream.text.length >= half) break;
            return [(await stream.ended).status, stream.text];
        """
        assert await browser.run("page", cancelled, half=len(HALF)) == ["cancelled", HALF]
        exchange = await sidecar.next_chat()
        async with asyncio.timeout(LIMIT_S):
            await exchange.client_left.wait()


async def test_a_page_of_a_foreign_origin_is_refused_and_told_what_to_do(
    browser: Browser, site: ScriptedServer, allowing: Allowing
) -> None:
    async with allowing("http://localhost:1420") as sidecar:
        await browser.open("page", site.url)
        with pytest.raises(JavascriptError, match="Failed to fetch dynamically imported module"):
            await browser.run("page", OPEN, url=sidecar.url, options={})
        # A page that has the client of its own can be told why.
        await browser.run("page", OPEN, url=site.url, options={"url": sidecar.url})
        told = """
            const { status, error } = await kept.archer.send("Why?").ended;
            return { status, error, state: kept.archer.state };
        """
        seen = await browser.run("page", told)
        assert (seen["status"], seen["state"], seen["error"]["kind"]) == ("lost", "closed", "forbidden")
        assert site.url in seen["error"]["message"]
        assert f"Add {site.url} to the server's setting CORS_ORIGINS" in seen["error"]["hint"]
        assert sidecar.chats.empty()


async def test_a_page_from_a_file_is_told_that_no_setting_can_name_it(
    browser: Browser, allowing: Allowing, tmp_path: Path
) -> None:
    """Such as an Electron application's."""
    client = with_esbuild(DIRECTORY, "archer-client.js", "--format=iife", "--global-name=archer")
    page = tmp_path / "page.html"
    page.write_bytes(b"<!doctype html><meta charset=utf-8><script>" + client + b"</script>")
    async with allowing("http://localhost:1420") as sidecar:
        await browser.open("page", page.as_uri())
        told = "return (await archer.connect({ url }).send('Why?').ended).error;"
        error = await browser.run("page", told, url=sidecar.url)
    assert error["kind"] == "forbidden"
    assert "a setting of the server can name" in error["hint"]
    assert "Add file" not in error["hint"]


@pytest.mark.parametrize("allowed", ["'self'", "'self' http:"])
async def test_a_page_whose_own_policy_forbids_the_socket_is_told_what_it_must_allow(
    browser: Browser, allowing: Allowing, allowed: str
) -> None:
    """Such as a Tauri application's, whose `csp` is in its tauri.conf.json."""
    headers = {"Content-Security-Policy": f"connect-src {allowed}"}
    page = Reply([b"<!doctype html>"], content_type="text/html", headers=headers)
    async with pages({**own_copy(), "/": page}) as site, allowing(site.url) as sidecar:
        await browser.open("page", site.url)
        await browser.run("page", OPEN, url=site.url, options={"url": sidecar.url})
        error = await browser.run("page", "return (await kept.archer.send('Why?').ended).error;")
        assert error["kind"] == "forbidden"
        assert f"needs {sidecar.url} and {sidecar.url.replace('http', 'ws')} in its connect-src" in error["hint"]


async def test_a_page_of_the_servers_own_needs_no_url(browser: Browser, sidecar: Server) -> None:
    await browser.open("page", f"{sidecar.url}/health/live")
    await browser.run("page", OPEN, url="", options={})
    assert await browser.run("page", CHAT, prompt="Why?") == [TEXT, "completed"]


async def test_a_page_without_a_server_goes_on_trying_and_finds_it(
    browser: Browser, site: ScriptedServer, allowing: Allowing
) -> None:
    async with allowing(site.url) as sidecar, cutting_proxy(address_of(sidecar)) as proxy:
        proxy.accepts = False
        await browser.open("page", site.url)
        options = {"url": proxy.url, "backoff": {"firstMs": 10, "maxMs": 10}}
        await browser.run("page", OPEN, url=site.url, options=options)
        waiting = asyncio.create_task(browser.run("page", CHAT, prompt="Why?"))
        await proxy.connected(10)
        assert await browser.run("page", "return [kept.archer.state, kept.archer.error.kind]") == [
            "connecting",
            "unreachable",
        ]
        proxy.accepts = True
        assert await waiting == [TEXT, "completed"]


async def test_a_ticket_that_does_not_come_is_not_told_as_a_proxy_that_passes_no_websockets_on(
    browser: Browser, site: ScriptedServer, allowing: Allowing
) -> None:
    async with allowing(site.url) as sidecar:
        await browser.open("page", site.url)
        await browser.control("page", "await page.clock.install()")
        waiting = """
            const { connect } = await import("/console/archer-client.js");
            kept.fetches = 0;
            const ticket = () => (kept.fetches++, new Promise(() => {}));
            kept.archer = connect({ url, ticket, backoff: { firstMs: 0, maxMs: 0 } });
        """
        await browser.run("page", waiting, url=sidecar.url)
        for fetches in range(1, 4):
            await browser.control(
                "page", "await page.waitForFunction((count) => kept.fetches === count, fetches);", fetches=fetches
            )
            await browser.control("page", "await page.clock.runFor(10_000)")
        asked = "return performance.getEntriesByName(`${url}/api/v1/ws`).length;"
        assert await browser.run("page", asked, url=sidecar.url) == 0
        told = await browser.run("page", "return kept.archer.error.message;")
        assert told.endswith("sent no response in time")


async def test_firefox_opens_no_sockets_to_a_server_that_is_away(
    browser: Browser, site: ScriptedServer, allowing: Allowing
) -> None:
    # It would hold the next ones back then, for up to a minute. Any browser with its name does.
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
    async with allowing(site.url) as sidecar, cutting_proxy(address_of(sidecar)) as proxy:
        await browser.js.run(
            """
            const firefox = await kept.browser.newContext({ userAgent });
            kept.pages.page = await firefox.newPage();
            await kept.pages.page.goto(url);
            """,
            userAgent=agent,
            url=site.url,
        )
        counted = """
            const { connect } = await import("/console/archer-client.js");
            kept.sockets = 0;
            class Counted extends WebSocket {
                constructor(...given) { super(...given); kept.sockets++; }
            }
            kept.archer = connect({ url, WebSocket: Counted, backoff: { firstMs: 10, maxMs: 10 } });
            // Over HTTP it has found out there that it may ask.
            while (performance.getEntriesByName(`${url}/health/live`).length === 0) await kept.archer.call("ping");
        """
        await browser.run("page", counted, url=proxy.url)
        proxy.accepts = False
        proxy.cut()
        await proxy.connected(proxy.connections + 10)
        proxy.accepts = True
        seen = await browser.run("page", "await kept.archer.call('ping'); return [kept.archer.state, kept.sockets];")
        # The first one, one right after the loss, and the one that is open.
        assert seen == ["open", 3]


async def test_a_reload_in_mid_stream_loses_nothing(
    browser: Browser, site: ScriptedServer, allowing: Allowing, answers: Answers
) -> None:
    async with allowing(site.url) as sidecar:
        await browser.open("page", site.url)
        await browser.run("page", OPEN, url=sidecar.url, options={})
        await browser.run(
            "page", f"sessionStorage.stream = await (async () => {{ {FOLLOW} }})();", id="", half=len(HALF)
        )
        await browser.control("page", "await page.reload()")
        assert await browser.run("page", "return kept.archer === undefined")
        await browser.run("page", OPEN, url=sidecar.url, options={})
        await browser.run("page", f"const id = sessionStorage.stream; {FOLLOW}", half=len(HALF))
        answers.go.set()
        assert await browser.run("page", FINISH) == COMPLETED
        assert sidecar.chats.qsize() == 1


async def test_tabs_have_sockets_of_their_own_and_read_and_cancel_each_others_streams(
    browser: Browser, site: ScriptedServer, allowing: Allowing
) -> None:
    async with allowing(site.url) as sidecar, cutting_proxy(address_of(sidecar)) as proxy:
        for page in ("one", "two"):
            await browser.open(page, site.url)
            await browser.run(page, OPEN, url=site.url, options={"url": proxy.url})
        name = await browser.run("one", FOLLOW, id="", half=len(HALF))
        assert await browser.run("two", FOLLOW, id=name, half=len(HALF)) == name
        assert await browser.run("two", "return (await kept.stream.cancel()).outcome") == "cancelling"
        for page in ("one", "two"):
            assert await browser.run(page, FINISH) == ["cancelled", HALF]
        assert proxy.connections == 2


async def test_offline_it_waits_for_the_network_and_goes_on_where_it_was(
    browser: Browser, site: ScriptedServer, allowing: Allowing, answers: Answers
) -> None:
    # Not this machine's own name: a sidecar on loopback is there without any network. Nor is such a page's origin
    # secure, which takes away crypto.randomUUID.
    origin = site.url.replace("127.0.0.1", "page.test")
    hosts = json.dumps(["127.0.0.1", "sidecar.test"])
    async with allowing(origin, ALLOWED_HOSTS=hosts) as sidecar, cutting_proxy(address_of(sidecar)) as proxy:
        await browser.open("page", origin)
        assert await browser.run("page", "return crypto.randomUUID === undefined")
        url = proxy.url.replace("127.0.0.1", "sidecar.test")
        await browser.run("page", OPEN, url=origin, options={"url": url, "backoff": {"firstMs": 10, "maxMs": 10}})
        await browser.run("page", FOLLOW, id="", half=len(HALF))
        await browser.run("page", "kept.states = []; kept.archer.on('state', (state) => kept.states.push(state));")
        await browser.control("page", "await context.setOffline(true)")
        proxy.cut()
        until = "await new Promise((seen) => kept.archer.on('state', (now) => now === state && seen()));"
        await browser.run("page", f"if (kept.archer.state !== state) {until}", state="offline")
        dialled = proxy.connections
        answers.go.set()
        await browser.control("page", "await context.setOffline(false)")
        assert await browser.run("page", FINISH) == COMPLETED
        assert (await browser.run("page", "return kept.states"))[-3:] == ["offline", "connecting", "open"]
        assert proxy.connections == dialled + 1


@pytest.mark.parametrize("sign", ["visibilitychange", "pageshow", "online", "offline"])
async def test_a_connection_that_died_unnoticed_is_found_out_when_the_page_is_looked_at_again(
    browser: Browser, site: ScriptedServer, allowing: Allowing, answers: Answers, sign: str
) -> None:
    async with allowing(site.url) as sidecar, cutting_proxy(address_of(sidecar)) as proxy:
        await browser.open("page", site.url)
        await browser.run("page", OPEN, url=site.url, options={"url": proxy.url})
        await browser.run("page", FOLLOW, id="", half=len(HALF))
        proxy.passes.clear()
        answers.go.set()
        target = "document" if sign == "visibilitychange" else "window"
        await browser.run("page", f"{target}.dispatchEvent(new Event(sign))", sign=sign)
        await proxy.connected(2)
        proxy.passes.set()
        assert await browser.run("page", FINISH) == COMPLETED


async def test_a_page_shows_tickets_that_its_own_backend_fetches(
    browser: Browser, allowing: Allowing, answers: Answers
) -> None:
    backend: dict[str, Any] = {}

    async def make_ticket(exchange: Exchange) -> Reply:
        made = await backend["http"].post(
            "/api/v1/ws/tickets", json=exchange.json(), headers={"Authorization": "Bearer secret"}
        )
        return Reply.of_json(made.json())

    async with pages(own_copy()) as site:
        serve_page = site.responder
        assert serve_page is not None
        site.responder = lambda asked: make_ticket(asked) if asked.path == "/ticket" else serve_page(asked)
        async with allowing(site.url, AUTH_TOKEN="secret") as sidecar, cutting_proxy(address_of(sidecar)) as proxy:
            backend["http"] = sidecar.http
            await browser.open("page", site.url)
            options = {"url": proxy.url, "ticket": "/ticket"}
            await browser.run("page", OPEN, url=sidecar.url, options=options)
            await browser.run("page", FOLLOW, id="", half=len(HALF))
            proxy.cut()
            await proxy.connected(2)
            answers.go.set()
            assert await browser.run("page", FINISH) == COMPLETED
            asked = [exchange.json() for exchange in site.exchanges if exchange.path == "/ticket"]
            assert asked == [{"origin": site.url}] * 2


async def test_under_reacts_strict_mode_there_is_one_socket_and_no_stream_is_lost(
    browser: Browser, allowing: Allowing, answers: Answers, tmp_path: Path
) -> None:
    (tmp_path / "bundle").mkdir()
    code = bundled(tmp_path / "bundle", "strict-page.tsx")
    until = """
        await page.waitForFunction(([id, text]) => document.getElementById(id)?.textContent === text, [id, text]);
    """
    async with (
        pages(page_of(code)) as site,
        allowing(site.url.replace("127.0.0.1", "localhost")) as sidecar,
        cutting_proxy(address_of(sidecar)) as proxy,
    ):
        await browser.open("page", f"{site.url.replace('127.0.0.1', 'localhost')}/?archer={proxy.url}")
        await browser.control("page", until, id="state", text="open")
        await browser.control("page", until, id="at-once", text=HALF)
        await sidecar.next_chat()
        answers.go.set()
        await browser.control("page", until, id="at-once", text=TEXT)
        await browser.control("page", until, id="at-once-status", text="completed")
        assert proxy.connections == 1
        assert sidecar.chats.empty(), "it was asked for once"


async def test_the_embedded_model_answers_a_page_and_is_cancelled_by_it(
    browser: Browser, site: ScriptedServer, tmp_path: Path
) -> None:
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--provider", "local", "--ready-json")
    async with program(*arguments, cwd=tmp_path, environment={"CORS_ORIGINS": site.url}) as running:
        ready = json.loads(await running.line())
        await browser.open("page", site.url)
        await browser.run("page", OPEN, url=ready["url"], options={})
        question = {"messages": [{"role": "user", "content": "What color is the sky?"}], "max_tokens": 12}
        text, status = await browser.run("page", CHAT, prompt=question)
        assert text.strip()
        assert status == "completed"
        seen = await browser.run(
            "page",
            """
            const stream = kept.archer.send("Tell me a very long tale about a ship.");
            for await (const _ of stream) break;
            const { status, reason } = await stream.ended;
            return { status, reason, text: stream.text };
        """,
        )
        assert (seen["status"], seen["reason"]) == ("cancelled", "client")
        assert seen["text"]
