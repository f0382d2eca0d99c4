"""Models that call for a program's tools, step after step, for servers that stop in between; and what ran how often."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.fakes.ollama_api import ollama_stream
from tests.fakes.scripted_server import Exchange, Reply
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_ollama import answer, history
from tests.lost_servers import serving
from tests.processes import Server

DONE = "That is all."
#: Two tools, of which one may be run twice.
TOOLS: list[dict[str, Any]] = [
    {"name": "once", "parameters": {"type": "object", "properties": {"number": {"type": "string"}}}},
    {"name": "again", "idempotent": True},
]


class Calling:
    """An Ollama that calls `calls` tools in each of `steps` steps: each call has a number of its own.

    Refused is a request whose results are not those of its calls, each once and in their order.
    """

    def __init__(self, steps: int, calls: int) -> None:
        self.steps = steps
        self.calls = calls
        self.wrong: list[str] = []
        #: How often each step of each question was asked for.
        self.asked: Counter[tuple[str, int]] = Counter()

    def __call__(self, exchange: Exchange) -> Reply:
        body = exchange.json()
        question = body["messages"][0]["content"]
        said = history(body)
        made = [each for each in said if each.kind == "call"]
        results = [each for each in said if each.kind == "result"]
        step = len(made) // self.calls
        self.asked[question, step] += 1
        if [json.loads(each.what)["number"] for each in made] != self._numbers(question, step):
            self.wrong.append(f"{question}: these were not my calls: {made}")
        for call, result in zip(made, results, strict=True):
            if not heard(json.loads(call.what)["number"], result.what):
                self.wrong.append(f"{question}: {result.what!r} is not the result of {call.what}")
        if step == self.steps:
            return ollama_stream(DONE)
        numbers = [f"{question}.{number}" for number in range(len(made), len(made) + self.calls)]
        calls = [MadeCall(tool_of(number), json.dumps({"number": number})) for number in numbers]
        return Reply(answer(*calls, text=f"Step {step}. "), content_type="application/x-ndjson")

    def _numbers(self, question: str, step: int) -> list[str]:
        return [f"{question}.{number}" for number in range(step * self.calls)]


def tool_of(number: str) -> str:
    """Every fifth call may be run twice."""
    return "again" if int(number.rpartition(".")[2]) % 5 == 0 else "once"


def result_of(number: str) -> str:
    return f"the result of {number}"


def heard(number: str, result: str) -> bool:
    """Whether the model was told the result of this call, or that it is lost."""
    return result == result_of(number) or "may or may not have taken effect" in result


@asynccontextmanager
async def calling_server(model: Calling, folder: Path, port: int = 0) -> AsyncIterator[Server]:
    async with serving(model, folder, port) as running:
        yield running


async def make_session(url: str, name: str) -> None:
    """A session, also of a server that is being started anew."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
        while True:
            try:
                made = await http.post("/api/v1/sessions", json={"session_id": name})
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            else:
                # The answer to the first try may have got lost with its server.
                assert made.status_code in {201, 409}, made.text
                return


async def until(holds: Any, limit_s: float = 60) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.01)
