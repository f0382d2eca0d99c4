"""The client installed without the server: what its requirements bring is all that it imports."""

import asyncio
import json
import os
import subprocess
import sys
from asyncio.subprocess import PIPE
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.fakes.ollama_api import ollama_stream
from tests.processes import ROOT, server
from tests.test_packaging import PROJECT

LIMIT_S = 60.0
#: What runs before a program: every other package is as if it were not installed.
WITHOUT_OTHERS = """
import sys

class Missing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in INSTALLED and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing)
"""
CHAT = """
import asyncio
from archer_ws.client import connect

async def main():
    async with connect(URL) as archer:
        print("".join([text async for text in archer.chat("Why?", response_format=FORMAT)]))

asyncio.run(main())
"""
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}}
COMMAND = "from archer_ws.cli import main\nsys.exit(main(ARGUMENTS))"


def with_their_own(requirements: list[str]) -> set[str]:
    """The distributions that these requirements install, with those that they need themselves."""
    found: set[str] = set()
    waiting = [Requirement(entry) for entry in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            waiting += map(Requirement, requires(name) or [])
        except PackageNotFoundError:  # for other platforms
            continue
        found.add(name)
    return found


def client_modules() -> set[str]:
    """The names that can be imported where the client alone is installed."""
    installed = with_their_own(PROJECT["project"]["dependencies"])
    modules = {
        module for module, names in packages_distributions().items() if installed & set(map(canonicalize_name, names))
    }
    return modules | {"archer_ws"}


def program(code: str, **values: object) -> list[str]:
    """A Python program that finds no other package; the values are there by their names."""
    known = "".join(f"{name} = {value!r}\n" for name, value in {"INSTALLED": client_modules(), **values}.items())
    return [sys.executable, "-c", f"{known}{WITHOUT_OTHERS}{code}"]


def test_the_servers_packages_are_not_among_the_clients() -> None:
    servers = {Requirement(entry).name for entry in PROJECT["project"]["optional-dependencies"]["server"]}
    clients = with_their_own(PROJECT["project"]["dependencies"])
    assert "anyio" in clients, "httpx brings it along"
    assert not clients & servers
    assert not client_modules() & {"fastapi", "starlette", "uvicorn", "openai", "anthropic", "jsonschema_rs"}


async def test_it_chats_and_so_does_the_command(tmp_path: Path) -> None:
    async with server(ollama_stream('{"name": "Oslo"}'), cwd=tmp_path) as sidecar:
        command = program(COMMAND, ARGUMENTS=["chat", "--url", sidecar.url, "Why?"])
        for started in (program(CHAT, URL=sidecar.url, FORMAT=FORMAT), command):
            process = await asyncio.create_subprocess_exec(*started, cwd=ROOT, stdout=PIPE)
            async with asyncio.timeout(LIMIT_S):
                printed, _ = await process.communicate()
            assert (process.returncode, json.loads(printed)) == (0, {"name": "Oslo"})


async def test_a_schema_is_left_to_the_server_to_check() -> None:
    code = "from archer_ws.llm_gateway.formats import ResponseFormat\nResponseFormat.model_validate(FORMAT)"
    process = await asyncio.create_subprocess_exec(*program(code, FORMAT=FORMAT), cwd=ROOT)
    async with asyncio.timeout(LIMIT_S):
        assert await process.wait() == 0


@pytest.mark.parametrize(
    "arguments", [["serve"], ["doctor"], ["schema"], ["sessions", "list", "--data-dir", "."]], ids=" ".join
)
def test_a_command_of_the_server_says_what_to_install(arguments: list[str], tmp_path: Path) -> None:
    ran = subprocess.run(
        program(COMMAND, ARGUMENTS=arguments),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_S,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith(
        'archer-ws: this needs the server\'s packages: pip install "archer-ws[server]" (No module named '
    )
