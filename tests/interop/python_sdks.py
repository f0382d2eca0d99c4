"""Python SDKs that are no dependency of ours, in environments of their own, before the real server in a process of its
own and providers that play their part."""

import asyncio
import json
import os
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.fakes.any_provider import settings_for
from tests.fakes.scripted_server import Exchange, Responder, ScriptedServer, scripted_server
from tests.processes import ROOT, program

#: A model of each provider, by the provider's name.
MODELS = {
    "openai": "openai/gpt-4o",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "ollama": "ollama/llama3.2",
}
_HERE = Path(__file__).parent
#: Their imports take seconds on a busy machine.
LIMIT_S = 200.0
#: Else LiteLLM asks the network for what models cost as it is imported.
_ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@asynccontextmanager
async def serving_sdks(cwd: Path, playing: Responder, **more: str) -> AsyncIterator[tuple[str, ScriptedServer]]:
    """A running `archer-ws serve` (its `/v1`) before all three providers, with more settings, and what plays them."""
    async with scripted_server(responder=playing) as providers:
        settings = {**settings_for(providers.url), "openai_api_key": "sk-test", "anthropic_api_key": "sk-test", **more}
        environment = {f"ARCHER_{name.upper()}": value for name, value in settings.items()}
        arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--ready-json")
        async with program(*arguments, cwd=cwd, environment=environment, is_forked=True) as running:
            yield f"{json.loads(await running.line())['url']}/v1", providers


async def told_by(module: str, given: object, *, environment: str = "python") -> Any:
    """What a program prints that is given this as JSON, run by one of the environments.

    Args:
        module: its name below `tests.interop`.
        given: its standard input.
        environment: the directory here whose `.venv` has its SDK.
    """
    python = _HERE / environment / ".venv" / "bin" / "python"
    assert python.exists(), f"make {python.parent.parent}: see tests/README.md"
    process = await asyncio.create_subprocess_exec(
        *(python, "-m", f"tests.interop.{module}"),
        cwd=ROOT, env={**os.environ, **_ENVIRONMENT}, stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT_S):
            told, errors = await process.communicate(json.dumps(given).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return json.loads(told)


def chats(providers: ScriptedServer) -> list[Exchange]:
    """What the providers were asked, but for what a model is."""
    return [each for each in providers.exchanges if each.method == "POST" and each.path != "/api/show"]
