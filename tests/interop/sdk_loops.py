"""SDKs that go from a question over a tool's calls and results to the answer, before the real server in a process of
its own and providers that play their part (tests/fakes/tool_loops.py)."""

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openai import OpenAI

from tests.fakes.any_provider import settings_for
from tests.fakes.scripted_server import ScriptedServer, scripted_server
from tests.fakes.tool_loops import CALLS, playing_tool_loops
from tests.interop.javascript import NODE_PROJECT, javascript
from tests.processes import ROOT, program

#: A model of each provider, by the provider's name.
MODELS = {
    "openai": "openai/gpt-4o",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "ollama": "ollama/llama3.2",
}
LOOPS: list[dict[str, Any]] = [
    {"question": question, "stream": stream} for question in CALLS for stream in (False, True)
]
#: What each of them comes to.
OUTCOMES = [
    {"calls": [["get_weather", {"city": "Oslo"}]], "answer": "I heard: rain in Oslo"},
    {"calls": [["get_weather", {"city": city}] for city in ("Oslo", "Lima")],
     "answer": "I heard: rain in Oslo; rain in Lima"},
    {"calls": [["now", {}]], "answer": "I heard: noon"},
]  # fmt: skip

PYTHON_PROJECT = Path(__file__).parent / "python"
_PYTHON = PYTHON_PROJECT / ".venv" / "bin" / "python"
#: Its imports take seconds on a busy machine.
LIMIT_S = 90.0


@asynccontextmanager
async def serving(cwd: Path, **more: str) -> AsyncIterator[tuple[str, ScriptedServer]]:
    """A running `archer-ws serve` (its `/v1`) before all three providers, with more settings, and what plays them."""
    async with scripted_server(responder=playing_tool_loops) as providers:
        settings = {**settings_for(providers.url), "openai_api_key": "sk-test", "anthropic_api_key": "sk-test", **more}
        environment = {f"ARCHER_{name.upper()}": value for name, value in settings.items()}
        arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--ready-json")
        async with program(*arguments, cwd=cwd, environment=environment) as running:
            yield f"{json.loads(await running.line())['url']}/v1", providers


async def openai_python(base_url: str, model: str) -> list[Any]:
    """OpenAI's SDK for Python, the loop written by hand."""
    with OpenAI(base_url=base_url, api_key="sk-anything", max_retries=0, timeout=60) as client:
        return [await asyncio.to_thread(_loop, client, model, **each) for each in LOOPS]


async def node(module: str, base_url: str, model: str) -> list[Any]:
    """A module of the Node project, whose `loop` does one."""
    code = "const { loop } = await import(module); return await loop(server, given);"
    server = {"baseURL": base_url, "apiKey": "sk-anything", "model": model}
    async with javascript() as js:
        return [
            await js.run(code, module=(NODE_PROJECT / module).as_uri(), server=server, given=each) for each in LOOPS
        ]


async def python(module: str, base_url: str, model: str) -> list[Any]:
    """A module of `python/`, whose SDK is no dependency of ours and has an environment of its own."""
    assert _PYTHON.exists(), (
        f"make {_PYTHON.parent.parent} from tests/interop/requirements-sdks.txt: see tests/README.md"
    )
    process = await asyncio.create_subprocess_exec(
        *(_PYTHON, "-m", f"tests.interop.python.{module}"), cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    server = {"base_url": base_url, "api_key": "sk-anything", "model": model}
    try:
        async with asyncio.timeout(LIMIT_S):
            told, errors = await process.communicate(json.dumps({"server": server, "loops": LOOPS}).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    outcomes: list[Any] = json.loads(told)
    return outcomes


def _function(name: str, **properties: dict[str, str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "strict": True, "parameters": parameters}}


def _loop(client: OpenAI, model: str, *, question: str, stream: bool) -> Any:
    messages: list[Any] = [{"role": "user", "content": question}]
    asked: dict[str, Any] = {
        "model": model,
        "tools": [_function("get_weather", city={"type": "string"}), _function("now")],
    }
    made: list[Any] = []
    while True:
        if stream:
            with client.chat.completions.stream(messages=messages, **asked) as answering:
                message = answering.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(messages=messages, **asked).choices[0].message
        if not message.tool_calls:
            return {"calls": made, "answer": message.content}
        messages.append(message)
        for call in message.tool_calls:
            assert call.type == "function"
            arguments = json.loads(call.function.arguments)
            made.append([call.function.name, arguments])
            result = f"rain in {arguments['city']}" if call.function.name == "get_weather" else "noon"
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
