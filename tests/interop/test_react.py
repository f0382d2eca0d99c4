"""The React hook in headless Chromium against the real server: StrictMode, reloads, unmounting, errors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.interop.browser import Browser, bundled, page_of, pages
from tests.interop.javascript import node
from tests.interop.scripted_chat import HALF, TEXT, Answers, address_of
from tests.processes import Server, server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: Less than the provider's pauses may last.
LEFT_WITHIN_S = 30
#: What the page's tool returns.
LONG = "Regen in Tromsø. " * 10_000
#: The page of the less usual components.
CASES = "use-chat-cases.tsx"
#: How esbuild is told which React it is.
REACTS = {"19": (), "18": ("--alias:react=react-18", "--alias:react-dom=react-dom-18")}


class Page:
    """The page of use-chat-page.tsx in a tab, and the server behind it."""

    def __init__(self, browser: Browser, sidecar: Server, proxy: CuttingProxy, url: str) -> None:
        self._browser = browser
        self._url = url
        self.sidecar = sidecar
        self.proxy = proxy

    async def open(self, *, connection: str = "open", **query: str) -> None:
        given = "".join(f"&{name}={value}" for name, value in query.items())
        await self._browser.open("page", f"{self._url}/?archer={self.proxy.url}{given}")
        await self.until("connection", connection)

    async def click(self, *ids: str) -> None:
        for each in ids:
            await self._browser.control("page", "await page.click(`#${id}`)", id=each)

    async def until(self, element: str, text: str) -> None:
        await self._browser.control(
            "page",
            "await page.waitForFunction(([id, text]) => document.getElementById(id)?.textContent === text, [id, text])",
            id=element,
            text=text,
        )

    async def reload(self) -> None:
        await self._browser.control("page", "await page.reload()")

    async def run(self, code: str) -> Any:
        return await self._browser.run("page", code)

    async def messages(self) -> list[str]:
        found: list[str] = await self._browser.control(
            "page", "return page.$$eval('#messages li', (items) => items.map((item) => item.textContent));"
        )
        return found

    async def text_of(self, element: str) -> str:
        found: str = await self._browser.control("page", "return page.textContent(`#${id}`)", id=element)
        return found


@asynccontextmanager
async def chat_page(
    browser: Browser,
    answers: Answers,
    folder: Path,
    *esbuild: str,
    allowed: bool = True,
    program: str = "use-chat-page.tsx",
) -> AsyncIterator[Page]:
    (folder / "bundle").mkdir()
    files = page_of(bundled(folder / "bundle", program, *esbuild))
    async with pages(files) as site:
        origin = site.url if allowed else "http://elsewhere.test"
        async with (
            server(answers, cwd=folder, CORS_ORIGINS=origin) as sidecar,
            cutting_proxy(address_of(sidecar)) as proxy,
        ):
            yield Page(browser, sidecar, proxy, site.url)


@pytest.mark.parametrize("react", REACTS)
async def test_a_chat_goes_on_over_several_turns_and_is_cancelled(
    browser: Browser, answers: Answers, tmp_path: Path, react: str
) -> None:
    async with chat_page(browser, answers, tmp_path, *REACTS[react]) as page:
        await page.open()
        await page.click("ask")
        await page.until("ended", "completed")
        await page.until("status", "ready")
        await page.click("never")
        await page.until("text", HALF)
        assert await page.text_of("status") == "running"
        await page.click("ask")  # nothing is sent while an answer runs
        await page.click("cancel")
        await page.until("ended", "cancelled")
        told = ["user: Why?", f"assistant: {TEXT}", "user: never", f"assistant: {HALF}"]
        assert await page.messages() == told
        first, second = [await page.sidecar.next_chat() for _ in range(2)]
        assert [each["content"] for each in second.json()["messages"]] == ["Why?", TEXT, "never"]
        assert second.json()["options"]["num_predict"] == 50
        assert first.json()["messages"] == second.json()["messages"][:1]
        assert page.sidecar.chats.empty()
        assert page.proxy.connections == 1, "StrictMode mounts twice"
        await page.click("clear")
        await page.until("messages", "")
        await page.until("status", "ready")


@pytest.mark.parametrize("react", REACTS)
async def test_a_component_that_asks_when_it_is_mounted_asks_once(
    browser: Browser, answers: Answers, tmp_path: Path, react: str
) -> None:
    async with chat_page(browser, answers, tmp_path, *REACTS[react]) as page:
        await page.open(ask="1")
        await page.until("text", HALF)
        answers.go.set()
        await page.until("ended", "completed")
        assert await page.messages() == ["user: hold", f"assistant: {TEXT}"]
        await page.sidecar.next_chat()
        assert page.sidecar.chats.empty()


async def test_a_reload_shows_the_messages_again_and_resumes_the_answer(
    browser: Browser, answers: Answers, tmp_path: Path
) -> None:
    async with chat_page(browser, answers, tmp_path) as page:
        await page.open(storage="chat")
        await page.click("ask")
        await page.until("ended", "completed")
        await page.click("hold")
        await page.until("text", HALF)
        running = await page.text_of("stream")
        await page.reload()
        await page.until("text", HALF)
        assert await page.text_of("stream") == running
        asked = ["user: Why?", f"assistant: {TEXT}", "user: hold"]
        assert await page.messages() == [*asked, f"assistant: {HALF}"]
        answers.go.set()
        await page.until("ended", "completed")
        await page.reload()
        await page.until("connection", "open")
        assert await page.messages() == [*asked, f"assistant: {TEXT}"]
        assert await page.text_of("status") == "ready"
        assert page.sidecar.chats.qsize() == 2, "nothing was asked again"


async def test_after_a_reload_the_model_gets_a_long_result_of_the_page_whole_again(
    browser: Browser, answers: Answers, tmp_path: Path
) -> None:
    async with chat_page(browser, answers, tmp_path) as page:
        await page.open(storage="chat", tools="1")
        await page.click("call")
        await page.until("text", HALF)
        await page.reload()
        await page.until("text", HALF)
        answers.go.set()
        await page.until("status", "ready")
        await page.click("ask")
        chats = [(await page.sidecar.next_chat()).json()["messages"] for _ in range(3)]
        results = [[each["content"] for each in said if each["role"] == "tool"] for said in chats]
        assert results == [[], [LONG], [LONG]]


async def test_a_lost_connection_loses_nothing(browser: Browser, answers: Answers, tmp_path: Path) -> None:
    async with chat_page(browser, answers, tmp_path) as page:
        await page.open()
        await page.click("hold")
        await page.until("text", HALF)
        page.proxy.cut()
        await page.proxy.connected(2)
        answers.go.set()
        await page.until("text", TEXT)
        await page.until("error", "")


async def test_unmounting_cancels_the_answer(browser: Browser, answers: Answers, tmp_path: Path) -> None:
    async with chat_page(browser, answers, tmp_path) as page:
        await page.open()
        await page.click("never")
        await page.until("text", HALF)
        exchange = await page.sidecar.next_chat()
        await page.click("toggle")
        async with asyncio.timeout(LEFT_WITHIN_S):
            await exchange.client_left.wait()


async def test_with_a_storage_key_the_answer_goes_on_and_the_next_mount_resumes_it(
    browser: Browser, answers: Answers, tmp_path: Path
) -> None:
    async with chat_page(browser, answers, tmp_path) as page:
        await page.open(storage="chat")
        await page.click("hold")
        await page.until("text", HALF)
        await page.click("toggle")
        await page.proxy.all_closed()
        answers.go.set()
        await page.click("toggle")
        await page.until("text", TEXT)
        await page.until("ended", "completed")
        assert await page.messages() == ["user: hold", f"assistant: {TEXT}"]
        await page.sidecar.next_chat()
        assert page.sidecar.chats.empty()


async def test_a_page_that_is_not_let_in_is_told(browser: Browser, answers: Answers, tmp_path: Path) -> None:
    async with chat_page(browser, answers, tmp_path, allowed=False) as page:
        await page.open(connection="closed")
        await page.until("error", "forbidden")


async def test_a_handler_sees_the_state_of_the_latest_render(
    browser: Browser, answers: Answers, tmp_path: Path
) -> None:
    async with chat_page(browser, answers, tmp_path, program=CASES) as page:
        await page.open(case="Counts")
        await page.click("ask")
        answers.go.set()
        _, told = [await page.sidecar.next_chat() for _ in range(2)]
        assert told.json()["messages"][-1]["content"] == "counted 1"


async def test_the_error_of_a_wrong_address_goes_with_it(browser: Browser, answers: Answers, tmp_path: Path) -> None:
    async with chat_page(browser, answers, tmp_path, program=CASES) as page:
        await page.open(case="Readdressed", connection="closed")
        await page.until("error", "invalid_params")
        await page.click("mend")
        await page.until("connection", "open")
        assert await page.text_of("error") == ""


@pytest.mark.parametrize("react", REACTS)
async def test_a_child_component_that_asks_when_it_is_mounted_asks(
    browser: Browser, answers: Answers, tmp_path: Path, react: str
) -> None:
    async with chat_page(browser, answers, tmp_path, *REACTS[react], program=CASES) as page:
        await page.open(case="Parent")
        await page.until("text", TEXT)


async def test_a_component_that_was_hidden_does_not_show_one_conversation_as_another(
    browser: Browser, answers: Answers, tmp_path: Path
) -> None:
    async with chat_page(browser, answers, tmp_path, program=CASES) as page:
        await page.open(case="Hidden")
        await page.run("chat.send('Why?')")
        await page.until("text", TEXT)
        await page.until("status", "ready")
        await page.click("hide")
        await page.proxy.all_closed()
        await page.click("second")
        await page.until("connection", "open")
        assert await page.messages() == []
        await page.click("hide", "first")
        await page.until("messages", f"user: Why?assistant: {TEXT}")


async def test_a_component_that_was_replaced_does_not_store_what_the_next_one_cleared(
    browser: Browser, answers: Answers, tmp_path: Path
) -> None:
    async with chat_page(browser, answers, tmp_path, program=CASES) as page:
        await page.open(case="Replaced")
        await page.run("chat.send('never')")
        await page.until("text", HALF)
        await page.click("replace")
        await page.until("text", HALF)
        await page.run("const { stream } = chat; chat.setMessages([]); await stream.ended;")
        await page.reload()
        await page.until("connection", "open")
        assert await page.messages() == []


def test_a_server_renders_the_first_messages(tmp_path: Path) -> None:
    program = bundled(tmp_path, "server-rendered.tsx", "--format=cjs", "--platform=node")
    done = run([node(), "-"], input=program, capture_output=True, timeout=60, check=True)
    assert done.stdout.decode() == "<p>connecting Ask me.</p>\n"
