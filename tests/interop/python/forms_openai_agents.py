"""OpenAI's Agents SDK over chat completions, with a tool and with an output type: see forms.py."""

from typing import Any

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

from tests.interop.python.forms import Ask, City, count_people, run

set_tracing_disabled(True)  # it would be sent to OpenAI


def agent(ask: Ask, **given: Any) -> Agent[None]:
    client = AsyncOpenAI(base_url=ask.base_url, api_key=ask.api_key, max_retries=0)
    model = OpenAIChatCompletionsModel(model=ask.model, openai_client=client)
    return Agent(name="Geographer", instructions="Answer about cities.", model=model, **given)


def waited(**given: Any) -> Any:
    async def flow(ask: Ask) -> Any:
        return (await Runner.run(agent(ask, **given), ask.question)).final_output

    return flow


def streamed(**given: Any) -> Any:
    async def flow(ask: Ask) -> Any:
        result = Runner.run_streamed(agent(ask, **given), ask.question)
        async for _ in result.stream_events():
            pass
        return result.final_output

    return flow


GIVEN: dict[str, dict[str, Any]] = {
    "tool": {"tools": [function_tool(count_people)]},
    "output type": {"output_type": City},
    "output type beside a tool": {"tools": [function_tool(count_people)], "output_type": City},
}
FLOWS = {name: waited(**given) for name, given in GIVEN.items()}
FLOWS |= {f"{name}, streamed": streamed(**given) for name, given in GIVEN.items()}
run(FLOWS)
