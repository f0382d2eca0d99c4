"""SDKs that go from a question over a tool's calls and results to the answer, where providers play their part
(tests/fakes/tool_loops.py)."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from openai import OpenAI

from tests.fakes.tool_loops import CALLS
from tests.interop.javascript import NODE_PROJECT, javascript
from tests.interop.python_sdks import told_by

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
    server = {"base_url": base_url, "api_key": "sk-anything", "model": model}
    outcomes: list[Any] = await told_by(f"python.{module}", {"server": server, "loops": LOOPS})
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


#: Do all of `LOOPS` at a base URL with a model, and give the outcomes.
DoLoops = Callable[[str, str], Awaitable[list[Any]]]
SDKS: dict[str, DoLoops] = {
    "openai-python": openai_python,
    "openai-node": partial(node, "openai/loops.mjs"),
    "langchain": partial(python, "loop_langchain"),
    "pydantic-ai": partial(python, "loop_pydantic_ai"),
    "ai-sdk": partial(node, "ai-sdk/loops.mjs"),
}
