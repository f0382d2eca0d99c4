"""Pydantic AI's three ways to an object, alone, streamed, and beside a tool: see forms.py."""

from collections.abc import Callable
from typing import Any

from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.interop.python.forms import Ask, City, count_people, run

Output = Callable[[type[City]], Any]


def agent(ask: Ask, output: Output, *tools: Any) -> Agent[None, Any]:
    provider = OpenAIProvider(base_url=ask.base_url, api_key=ask.api_key)
    return Agent(OpenAIChatModel(ask.model, provider=provider), output_type=output(City), tools=tools)


def waited(output: Output, *tools: Any) -> Any:
    async def flow(ask: Ask) -> Any:
        return (await agent(ask, output, *tools).run(ask.question)).output

    return flow


def streamed(output: Output) -> Any:
    async def flow(ask: Ask) -> Any:
        async with agent(ask, output).run_stream(ask.question) as answer:
            pieces = [piece async for piece in answer.stream_output(debounce_by=None)]
        return pieces[-1]

    return flow


OUTPUTS: dict[str, Output] = {"tool": ToolOutput, "native": NativeOutput, "prompted": PromptedOutput}
FLOWS = {f"{name} output": waited(output) for name, output in OUTPUTS.items()}
FLOWS |= {f"{name} output, streamed": streamed(output) for name, output in OUTPUTS.items()}
FLOWS |= {f"{name} output beside a tool": waited(output, count_people) for name, output in OUTPUTS.items()}
run(FLOWS)
