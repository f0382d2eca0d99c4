"""What a chat asked as code to be copied: it runs as it is, elsewhere, and the model is told the same."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.console import Console
from tests.browser.scripted_model import TEXT, ScriptedModel
from tests.interop.browser import Browser, pages
from tests.interop.javascript import LIMIT_S
from tests.processes import Server, server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

TOKEN = "s3cret-of-mine"
#: What shells, JavaScript and Python each take for something else, where it is not quoted as they want it.
HARD = (
    "It's \"$HOME\" `id` $(id) ${x} \\ \\n \\\\ 'a' !! %s #{y} \u2028 </script> é 🙂"
    '{"a": [null, true]}\nand a second line'
)
CODE = """
    await page.keyboard.press("Alt+i");
    const drawer = page.getByRole("complementary", { name: "Developers" });
    await drawer.getByRole("tab", { name: "Request" }).click();
    const pick = async (language) => {
        await drawer.getByRole("radio", { name: language }).check({ force: true });
        return drawer.locator("pre").textContent();
    };
"""
ASKED = """
    await page.getByLabel("Token").fill(token);
    await page.keyboard.press("Enter");
    await connected();
    await ask("say before");
    await ended();
    await ask(question);
    await ended(1);
"""


@pytest.fixture
async def sidecar(tmp_path: Path, model: ScriptedModel) -> AsyncIterator[Server]:
    """A server that wants a token."""
    async with server(model, cwd=tmp_path, AUTH_TOKEN=TOKEN) as running:
        yield running


@pytest.fixture
async def console(browser: Browser, sidecar: Server) -> AsyncIterator[Console]:
    """The page in which something was asked that is hard to quote."""
    async with Console(browser, sidecar.url, until="form.card") as page:
        await page.run(ASKED, token=TOKEN, question=HARD)
        yield page


async def ran(*command: str) -> str:
    """What it printed."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "ARCHER_TOKEN": TOKEN}
    program = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(LIMIT_S):
        printed, complaints = await program.communicate()
    assert program.returncode == 0, complaints.decode()
    return printed.decode()


async def asked(sidecar: Server) -> list[dict[str, str]]:
    """What the model was told last."""
    exchange = await sidecar.next_chat()
    while not sidecar.chats.empty():
        exchange = await sidecar.next_chat()
    return [{"role": each["role"], "content": each["content"]} for each in exchange.json()["messages"]]


async def talk(sidecar: Server) -> list[dict[str, str]]:
    """What the model was told when the chat was asked: the same as any copy of it must tell."""
    told = await asked(sidecar)
    assert told[-1] == {"role": "user", "content": HARD}
    assert told[:2] == [{"role": "user", "content": "say before"}, {"role": "assistant", "content": "before"}]
    return told


@pytest.mark.parametrize("shell", ["sh", "bash"])
async def test_curl_runs_in_a_shell(console: Console, sidecar: Server, shell: str) -> None:
    told = await talk(sidecar)
    code = await console.run(CODE + "return pick('curl');")
    assert TOKEN not in code
    events = await ran(shell, "-c", code)
    assert events.rstrip().endswith("data: [DONE]")
    assert "word0" in events
    assert await asked(sidecar) == told


async def test_python_runs(console: Console, sidecar: Server) -> None:
    told = await talk(sidecar)
    code = await console.run(CODE + "return pick('Python');")
    assert TOKEN not in code
    assert (await ran(sys.executable, "-c", code)).strip() == TEXT
    assert await asked(sidecar) == told


async def test_javascript_runs_in_a_page_of_another_origin(
    browser: Browser, tmp_path: Path, model: ScriptedModel
) -> None:
    async with pages() as elsewhere:
        origins = json.dumps([elsewhere.url])
        async with server(model, cwd=tmp_path, AUTH_TOKEN=TOKEN, CORS_ORIGINS=origins) as sidecar:
            async with Console(browser, sidecar.url, until="form.card") as console:
                await console.run(ASKED, token=TOKEN, question=HARD)
                told = await talk(sidecar)
                code = await console.run(CODE + "return pick('JavaScript');")
            assert TOKEN not in code
            assert "YOUR_TOKEN" in code
            printed = await _run_in_page(browser, elsewhere.url, code.replace("YOUR_TOKEN", TOKEN))
            assert "".join(printed[:-1]).strip() == TEXT
            assert printed[-1] == "completed"
            assert await asked(sidecar) == told


async def test_within_the_conversation_it_asks_there_and_brings_the_question_alone(
    console: Console, sidecar: Server
) -> None:
    await talk(sidecar)
    code = await console.run(CODE + "await drawer.getByLabel('Within this conversation').check(); return pick('curl');")
    assert "session_id" in code
    assert "stream_id" not in code
    assert "say before" not in code
    await ran("sh", "-c", code)
    told = await asked(sidecar)
    assert [each["content"] for each in told if each["role"] == "user"] == ["say before", HARD, HARD]
    # The page sees what came into its conversation.
    await console.run("await shown.locator('.answer').nth(2).waitFor();")


async def test_settings_and_tools_are_in_it_and_the_ids_of_what_was_asked_are_not(
    browser: Browser, tmp_path: Path, model: ScriptedModel
) -> None:
    async with (
        server(model, cwd=tmp_path, capabilities=["completion", "tools"]) as sidecar,
        Console(browser, sidecar.url) as console,
    ):
        code = await console.run(
            """
            await ask("time");
            await ended();
            await shown.getByRole("button", { name: "Settings" }).click();
            await page.getByLabel("Temperature").fill("0.5");
            await page.getByLabel("System prompt").fill("Be brief.");
            await page.keyboard.press("Escape");
            await ask("say after");
            await ended(1);
            """
            + CODE
            + "return pick('curl');"
        )
        request = json.loads(code.partition("--data-binary '")[2].removesuffix("'"))
        assert "Authorization" not in code
        assert (request["temperature"], request["instructions"]) == (0.5, "Be brief.")
        assert [tool["name"] for tool in request["tools"]] == ["current_time", "roll_dice"]
        roles = [message["role"] for message in request["messages"]]
        assert roles == ["user", "assistant", "tool", "assistant", "user"]
        call = request["messages"][1]["tool_calls"][0]
        assert request["messages"][2]["call_id"] == call["call_id"]
        assert not {"stream_id", "session_id"} & set(request)
        assert all("message_id" not in message for message in request["messages"])
        await ran("sh", "-c", code)


async def _run_in_page(browser: Browser, url: str, code: str) -> list[str]:
    """What a module printed there."""
    await browser.open("elsewhere", url)
    printed: list[str] = await browser.control(
        "elsewhere",
        """
        const printed = [];
        const done = new Promise((resolve) => page.on("console", (message) => {
            printed.push(message.text());
            if (message.text() === "completed") resolve();
        }));
        await page.addScriptTag({ type: "module", content: module });
        await done;
        return printed;
        """,
        module=code,
    )
    return printed
