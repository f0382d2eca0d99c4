"""The clients as they are shipped: each archive is built, installed where nothing else is, and chats with a server.

What they need themselves comes from the registries that pip and cargo are set up with; npm's has no dependency.
"""

import asyncio
import json
import os
import shutil
import sys
import tarfile
import zipfile
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from archer_ws import __version__
from tests.documents import shown
from tests.e2e.sidecar import answered_and_judged, running_sidecar
from tests.interop.browser import Browser, page_of, pages, with_esbuild
from tests.interop.cargo import target_of
from tests.interop.javascript import NODE_PROJECT
from tests.interop.scripted_chat import HALF, TEXT, Answers
from tests.processes import Server, server
from tests.test_packaging import CRATE, NPM_PACKAGE, ROOT

pytestmark = [pytest.mark.packages, pytest.mark.timeout(600)]

LIMIT_S = 500.0
#: What the client does without.
SERVERS_PACKAGES = {"fastapi", "starlette", "uvicorn", "openai", "anthropic", "jsonschema_rs", "structlog"}
CHAT_IN_PYTHON = """
import asyncio, importlib.util, sys
from archer_ws.client import connect

async def main(url, unwanted):
    assert not [name for name in unwanted if importlib.util.find_spec(name)]
    async with connect(url) as archer:
        print("".join([text async for text in archer.chat("Why?")]), end="")

asyncio.run(main(sys.argv[1], sys.argv[2:]))
"""
CHAT_IN_NODE = """
import { connect } from "archer-ws";
import { WebSocket } from "ws";

const archer = connect({ url: process.argv[2], WebSocket });
const stream = archer.send("Why?");
for await (const { content = "" } of stream) process.stdout.write(content);
archer.close();
"""


async def ran(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a program prints, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=PIPE, stderr=PIPE, env={**os.environ, "PYTHONUTF8": "1", **environment}
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            printed, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return printed.decode()


def report(archive: Path) -> None:
    print(f"{archive.name}: {archive.stat().st_size / 1024:.0f} KiB")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder where nothing of ours is found by chance."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def source_of_the_wheel(folder: Path) -> None:
    """A copy of what the wheel is built from."""
    folder.mkdir()
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "archer_ws", folder / "archer_ws", ignore=shutil.ignore_patterns("__pycache__", "target"))


async def test_the_wheel_with_the_client_alone_chats(sidecar: Server, tmp_path: Path, elsewhere: Path) -> None:
    source = tmp_path / "source"  # a build writes beside what it builds
    source_of_the_wheel(source)
    await ran(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "dist", source, cwd=elsewhere)
    (wheel,) = (tmp_path / "dist").iterdir()
    report(wheel)
    with zipfile.ZipFile(wheel) as files:
        assert not [name for name in files.namelist() if name.startswith("archer_ws/client/rust/")]
    await ran(sys.executable, "-m", "venv", tmp_path / "venv", cwd=elsewhere)
    programs = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    await ran(programs / "python", "-m", "pip", "install", "-q", f"{wheel}[client]", cwd=elsewhere)

    told = await ran(programs / "python", "-c", CHAT_IN_PYTHON, sidecar.url, *SERVERS_PACKAGES, cwd=elsewhere)
    assert told == TEXT
    chatted = await ran(programs / "archer-ws", "chat", "--url", sidecar.url, "Why?", cwd=elsewhere)
    assert chatted.split() == TEXT.split()


@pytest.fixture
async def installed(tmp_path: Path, elsewhere: Path) -> Path:
    """A project that has the npm package, as it is packed, and what such a project has itself."""
    packed = json.loads(await ran("npm", "pack", "--json", "--pack-destination", tmp_path, NPM_PACKAGE, cwd=elsewhere))
    archive = tmp_path / packed[0]["filename"]
    report(archive)
    with tarfile.open(archive) as files:
        assert {"package/LICENSE", "package/README.md"} <= set(files.getnames())
    (elsewhere / "package.json").write_text('{"private": true, "type": "module"}', "utf-8")
    await ran("npm", "install", "--offline", "--no-audit", "--no-fund", archive, cwd=elsewhere)
    for name in ("react", "react-dom", "scheduler", "ws", "@types", "csstype", "typescript"):
        (elsewhere / "node_modules" / name).symlink_to(NODE_PROJECT / "node_modules" / name)
    return elsewhere


async def test_the_npm_package_chats_in_node(sidecar: Server, installed: Path) -> None:
    (installed / "chat.mjs").write_text(CHAT_IN_NODE, "utf-8")
    assert await ran("node", "chat.mjs", sidecar.url, cwd=installed) == TEXT


@pytest.mark.parametrize("resolution", ["bundler", "nodenext"])
async def test_the_npm_packages_types_are_found(installed: Path, resolution: str) -> None:
    shutil.copy(NODE_PROJECT / "client" / "use-chat-page.tsx", installed)
    module = "esnext" if resolution == "bundler" else "nodenext"
    options = ("--strict", "--noEmit", "--jsx", "react-jsx", "--target", "es2022", "--skipLibCheck", "false")
    kinds = ("--module", module, "--moduleResolution", resolution, "--types", "react")
    tsc = NODE_PROJECT / "node_modules" / "typescript" / "bin" / "tsc"
    assert await ran("node", tsc, *options, *kinds, "use-chat-page.tsx", cwd=installed) == ""


async def test_the_npm_packages_hook_chats_in_a_page(
    browser: Browser, tmp_path: Path, answers: Answers, installed: Path
) -> None:
    shutil.copy(NODE_PROJECT / "client" / "use-chat-page.tsx", installed)
    until = "await page.waitForFunction(([id, text]) => document.getElementById(id)?.textContent === text, [id, text])"
    async with (
        pages(page_of(with_esbuild(installed, "use-chat-page.tsx", "--preserve-symlinks"))) as site,
        server(answers, cwd=tmp_path, CORS_ORIGINS=site.url) as sidecar,
    ):
        await browser.open("page", f"{site.url}/?archer={sidecar.url}&storage=chat")
        await browser.control("page", until, id="connection", text="open")
        await browser.control("page", "await page.click('#hold')")
        await browser.control("page", until, id="text", text=HALF)
        await browser.control("page", "await page.reload()")
        await browser.control("page", until, id="text", text=HALF)
        answers.go.set()
        await browser.control("page", until, id="text", text=TEXT)
        await browser.control("page", until, id="ended", text="completed")


async def test_the_readmes_python_environment_has_the_client_alone(
    sidecar: Server, tmp_path: Path, elsewhere: Path
) -> None:
    clone = tmp_path / "clone"  # a build writes beside what it builds
    source_of_the_wheel(clone)
    await ran("bash", "-euc", shown("[client]"), cwd=elsewhere, ARCHER=str(clone))
    python = elsewhere / "sky" / "bin" / "python"
    assert await ran(python, "-c", CHAT_IN_PYTHON, sidecar.url, *SERVERS_PACKAGES, cwd=elsewhere) == TEXT
    example = shown("any number may run at once\n            print").replace("http://127.0.0.1:8000", sidecar.url)
    assert await ran(python, "-c", example, cwd=elsewhere) == TEXT


async def test_the_readmes_rust_project_builds_and_chats(sidecar: Server, tmp_path: Path, elsewhere: Path) -> None:
    await ran("bash", "-euc", shown("cargo new"), cwd=elsewhere, ARCHER=str(ROOT), CARGO_TERM_QUIET="true")
    project = elsewhere / "sky"
    address = sidecar.url.removeprefix("http://")
    program = shown("#[tokio::main]").replace("127.0.0.1:8000", address)
    (project / "src" / "main.rs").write_text(program, "utf-8")
    target = target_of(tmp_path / "target")
    assert await ran("cargo", "run", "--quiet", "--target-dir", str(target), cwd=project) == TEXT


async def test_the_crate_builds_from_its_archive_and_its_example_chats(
    sidecar: Server, tmp_path: Path, elsewhere: Path
) -> None:
    # Not in the checkout, whose uncommitted files cargo would complain of.
    crate, target = tmp_path / "crate", target_of(tmp_path / "target")
    shutil.copytree(CRATE, crate, ignore=shutil.ignore_patterns("target"))
    await ran("cargo", "package", "--quiet", "--no-verify", "--target-dir", str(target), cwd=crate)
    archive = target / "package" / f"archer-ws-{__version__}.crate"
    report(archive)
    with tarfile.open(archive) as files:
        files.extractall(elsewhere, filter="data")
    unpacked = elsewhere / f"archer-ws-{__version__}"
    assert (unpacked / "LICENSE").is_file()
    address = f"{sidecar.url.replace('http', 'ws', 1)}/api/v1/ws"
    example = ("cargo", "run", "--quiet", "--example", "chat", "--target-dir", str(target), "--", address, "Why?")
    assert await ran(*example, cwd=unpacked) == f"{TEXT} [completed]\n"


async def test_the_sidecar_is_frozen_as_its_page_says_and_answers(tmp_path: Path, elsewhere: Path) -> None:
    clone = tmp_path / "clone"  # a build writes beside what it builds
    source_of_the_wheel(clone)
    for pins in ("requirements.txt", "requirements-local.txt"):
        shutil.copy(ROOT / pins, clone)
    told = await ran(
        "bash", "-euc", shown("pyinstaller --log", "archer_ws/DESKTOP.md"), cwd=elsewhere, ARCHER=str(clone)
    )
    assert "No problem" in told
    frozen = elsewhere / "dist" / "archer-ws" / "archer-ws"
    async with running_sidecar(tmp_path, executable=frozen) as sidecar:
        await answered_and_judged(sidecar)
        console = await sidecar.http.get("/", headers={"Accept": "text/html"})
    assert console.status_code == 200
