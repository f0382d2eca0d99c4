"""The README's commands and its page, as a newcomer types them: in a shell, with curl, npm and a browser.

What is replaced: the address, since port 8000 may be taken here, and `.venv/bin/archer-ws`, which starts the one under
test.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from archer_ws.config import Settings
from archer_ws.llm_gateway.local.model import find_model
from tests.documents import ROOT, shown
from tests.fakes.any_provider import playing_all, settings_for
from tests.fakes.scripted_server import Exchange, Reply, scripted_server
from tests.interop.browser import Browser, page_of, pages, with_esbuild
from tests.interop.javascript import NODE_PROJECT
from tests.interop.scripted_chat import HALF, PIECES, TEXT, Answers
from tests.ports import free_port
from tests.processes import Server, server

pytestmark = [pytest.mark.interop, pytest.mark.browser, pytest.mark.timeout(180)]

LIMIT_S = 90
HERE = "http://127.0.0.1:8000"
UNTIL_BODY_HAS = "await page.waitForFunction((last) => document.body.textContent.includes(last), last);"


class Shell:
    """A folder with a `.venv/bin/archer-ws`, in which lines of the README run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / ".venv" / "bin" / "archer-ws"
        program.parent.mkdir(parents=True)
        # A server on a free port; whoever asks one, asks the one of this test.
        program.write_text(
            "#!/bin/sh\n"
            "command=$1; shift\n"
            "case $command in\n"
            f'serve) exec {shlex.quote(sys.executable)} -m archer_ws serve --port 0 --ready-json "$@" ;;\n'
            f'chat) exec {shlex.quote(sys.executable)} -m archer_ws chat --url "$SIDECAR" "$@" ;;\n'
            f'*) exec {shlex.quote(sys.executable)} -m archer_ws "$command" "$@" ;;\n'
            "esac\n",
            "utf-8",
        )
        program.chmod(0o755)

    @asynccontextmanager
    async def started(self, script: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A running script in a process group of its own, killed at the end where it still runs."""
        running = await asyncio.create_subprocess_exec(
            *("bash", "-euc", script),
            cwd=self.folder,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            env={
                **os.environ,
                **{"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "ARCHER_DATA_DIR": str(self.folder / "data")},
                **environment,
            },
        )
        try:
            yield running
        finally:
            if running.returncode is None:
                with suppress(ProcessLookupError):  # it has ended, which asyncio has not told yet
                    os.killpg(running.pid, signal.SIGTERM)
            async with asyncio.timeout(LIMIT_S):
                await running.communicate()

    async def prints(self, script: str, **environment: str) -> str:
        """What a script prints, which must succeed."""
        async with self.started(script, **environment) as running, asyncio.timeout(LIMIT_S):
            printed, complained = await running.communicate()
        assert running.returncode == 0, complained.decode()
        return printed.decode()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A clone, as far as the README's lines need one."""
    return Shell(tmp_path)


def at(sidecar: Server, script: str) -> str:
    assert HERE in script
    return script.replace(HERE, sidecar.url)


def text_of(events: str) -> str:
    """The text in what curl prints of a stream's events."""
    payloads = re.findall(r"^data: (\{.*\})$", events, re.MULTILINE)
    return "".join(json.loads(payload)["content"] for payload in payloads)


async def test_the_first_lines_chat_and_find_nothing_wrong(shell: Shell, sidecar: Server) -> None:
    script = shown("archer-ws doctor")
    printed = await shell.prints(script, SIDECAR=sidecar.url, ARCHER_PORT="0", ARCHER_OLLAMA_HOST=sidecar.ollama.url)
    assert PIECES[-1].split()[-1] in printed
    assert (await sidecar.next_chat()).json()["messages"][-1]["content"] == "Why is the sky blue?"


async def test_the_variable_for_other_folders_is_the_clone(shell: Shell) -> None:
    assert await shell.prints(f'{shown("export ARCHER")}printf %s "$ARCHER"') == str(shell.folder)


async def test_curl_prints_the_completion_and_its_events(shell: Shell, sidecar: Server) -> None:
    printed = await shell.prints(at(sidecar, shown('"max_tokens": 60')))
    whole, events = printed.split("event: started", 1)
    assert json.loads(whole)["content"] == TEXT
    assert text_of(events) == TEXT
    assert events.rstrip().endswith("data: [DONE]")


async def test_a_stream_of_a_session_is_read_cancelled_and_found_again(
    shell: Shell, tmp_path: Path, answers: Answers
) -> None:
    asking = shown('"session_id": "oslo", "stream_id"').replace("Plan a day in Oslo.", "never")
    reading, cancelling, finding = shown("streams/oslo-1/events?after=0").splitlines()
    async with server(answers, cwd=tmp_path) as sidecar, shell.started(at(sidecar, asking)) as asked:
        await sidecar.next_chat()
        await shell.prints(f"{at(sidecar, reading)} -m 1 || true")  # it runs: curl would wait for more
        assert json.loads(await shell.prints(at(sidecar, cancelling)))["outcome"] == "cancelling"
        async with asyncio.timeout(LIMIT_S):
            printed, _ = await asked.communicate()
        created, _, events = printed.decode().partition("event: started")
        assert '"session_id":"oslo"' in created.replace(": ", ":")
        assert text_of(events) == HALF
        assert '"status":"cancelled"' in events.replace(": ", ":")
        rest = await shell.prints(at(sidecar, reading))
        assert text_of(rest) == HALF
        assert '"status":"cancelled"' in rest.replace(": ", ":")
        found = json.loads(await shell.prints(at(sidecar, finding)))
        assert [message["role"] for message in found["messages"]] == ["user", "assistant"]
        assert found["messages"][1]["content"] == HALF


async def test_a_killed_server_that_is_started_again_still_has_the_stream(
    shell: Shell, tmp_path: Path, answers: Answers
) -> None:
    asking = shown('"session_id": "oslo", "stream_id"').replace("Plan a day in Oslo.", "never")
    reading = shown("streams/oslo-1/events?after=0").splitlines()[0]
    data = str(tmp_path / "data")
    async with (
        server(answers, cwd=tmp_path, ARCHER_DATA_DIR=data) as sidecar,
        shell.started(f"{at(sidecar, asking)} || true"),
    ):
        await sidecar.next_chat()
        async with asyncio.timeout(LIMIT_S):  # the rows are on the disk within a second or so
            while HALF not in text_of(await shell.prints(f"{at(sidecar, reading)} -m 1 || true")):
                pass
            await shell.prints(f"{at(sidecar, reading)} -m 2 || true")
        sidecar.program.send_signal(signal.SIGKILL)
        await sidecar.program.ended()
    async with server(answers, cwd=tmp_path, ARCHER_DATA_DIR=data) as sidecar:
        events = await shell.prints(at(sidecar, reading))
        assert text_of(events) == HALF
        assert '"status":"incomplete"' in events.replace(": ", ":")


async def ready(running: asyncio.subprocess.Process) -> dict[str, Any]:
    """What a server that the script started says when it is ready."""
    assert running.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        line = await running.stdout.readline()
    assert line, "it has ended"
    told: dict[str, Any] = json.loads(line)
    return told


@pytest.mark.parametrize("provider", ["ollama", "openai", "anthropic", "model.gguf"])
async def test_the_lines_that_choose_a_model_start_a_server_that_asks_it(shell: Shell, provider: str) -> None:
    (line,) = (
        line
        for line in shown("--provider anthropic").splitlines()
        if re.search(rf"(?:provider|model) {provider}", line)
    )
    if provider == "model.gguf":
        (shell.folder / "model.gguf").symlink_to(find_model(None))
    asked: list[Exchange] = []

    def play(exchange: Exchange) -> Reply:
        asked.append(exchange)
        return playing_all(exchange)

    async with scripted_server(responder=play) as fake:
        places = {
            **{f"ARCHER_{name.upper()}": place for name, place in settings_for(fake.url).items()},
            "ARCHER_DATA_DIR": str(shell.folder / "data"),
        }
        async with shell.started(line, **places) as running:
            url = (await ready(running))["url"]
            async with httpx.AsyncClient(base_url=url, timeout=LIMIT_S, trust_env=False) as http:
                question = {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 16}
                response = await http.post("/api/v1/chat/completions", json=question)
    assert response.status_code == 200, response.text
    keys = {"openai": "sk-...", "anthropic": "sk-ant-..."}
    if provider == "model.gguf":
        assert response.json()["content"]
    else:
        assert response.json()["content"] == "Hello"
        if provider in keys:
            assert any(keys[provider] in value for exchange in asked for value in exchange.headers.values())


async def test_the_lines_about_a_token_start_a_server_that_asks_for_it(shell: Shell) -> None:
    starting, asking = shown("AUTH_TOKEN=").splitlines()
    async with shell.started(starting, ARCHER_DATA_DIR=str(shell.folder / "data")) as running:
        url = (await ready(running))["url"]
        assert json.loads(await shell.prints(asking.replace(HERE, url)))
        refused = await shell.prints(f"curl -s {url}/api/v1/models")
        assert json.loads(refused)["error"]["kind"] == "unauthenticated"


async def test_the_page_shows_the_completion_from_where_the_readme_serves_it(
    browser: Browser, shell: Shell, answers: Answers, tmp_path: Path
) -> None:
    # Port 1420 may be taken here: another stands for it, whose origin is admitted as 1420's is by default.
    serving, port = shown("-m http.server"), free_port()
    assert "http://127.0.0.1:1420" in Settings.model_fields["cors_origins"].default
    assert " 1420" in serving
    origin = f"http://127.0.0.1:{port}"
    async with server(answers, cwd=tmp_path, CORS_ORIGINS=origin) as sidecar:
        (shell.folder / "sky.html").write_text(at(sidecar, shown("<!doctype html>")), "utf-8")
        async with shell.started(serving.replace("1420", str(port)).strip()) as files:
            assert files.returncode is None
            await until_served(origin)
            await browser.open("page", f"{origin}/sky.html")
            await browser.control("page", UNTIL_BODY_HAS, last=PIECES[-1].strip())


async def until_served(origin: str) -> None:
    async with asyncio.timeout(LIMIT_S), httpx.AsyncClient(trust_env=False) as http:
        while True:
            try:
                assert (await http.get(origin)).status_code == 200
            except httpx.ConnectError:
                await asyncio.sleep(0.1)
            else:
                return


async def test_the_react_component_chats_with_the_package_as_the_readme_installs_it(
    browser: Browser, shell: Shell, answers: Answers, tmp_path: Path
) -> None:
    project = shell.folder
    (project / "package.json").write_text('{"private": true, "type": "module"}', "utf-8")
    installing = shown("npm install")
    await shell.prints(f"export npm_config_offline=true npm_config_audit=false\n{installing}", ARCHER=str(ROOT))
    assert not (project / "node_modules" / "archer-ws").is_symlink()
    for name in ("react", "react-dom", "scheduler"):
        shutil.copytree(NODE_PROJECT / "node_modules" / name, project / "node_modules" / name)
    (project / "main.tsx").write_text(
        'import { createRoot } from "react-dom/client";\nimport App from "./App.tsx";\n'
        'createRoot(document.getElementById("root")!).render(<App />);\n',
        "utf-8",
    )
    files: dict[str, Reply] = {}
    async with pages(files) as site, server(answers, cwd=tmp_path, CORS_ORIGINS=site.url) as sidecar:
        (project / "App.tsx").write_text(at(sidecar, shown("archer-ws/react")), "utf-8")
        files.update(page_of(with_esbuild(project, "main.tsx")))
        await browser.open("page", site.url)
        await browser.control("page", "await page.click('text=Ask')")
        await browser.control("page", UNTIL_BODY_HAS, last=PIECES[-1].strip())
