"""Pydantic AI's agent with two tools, over its model for OpenAI's chat API: see loop.py."""

import asyncio

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.interop.python.loop import Loop, run


async def asked(server: dict[str, str], loop: Loop) -> str:
    provider = OpenAIProvider(base_url=server["base_url"], api_key=server["api_key"])
    # One after the other, so that the test can say in which order.
    with Agent.parallel_tool_call_execution_mode("sequential"):
        agent = Agent(OpenAIChatModel(server["model"], provider=provider), tools=[loop.get_weather, loop.now])
        if not loop.stream:
            return str((await agent.run(loop.question)).output)
        async with agent.run_stream(loop.question) as answer:
            return "".join([piece async for piece in answer.stream_text(delta=True)])


def answered(server: dict[str, str], loop: Loop) -> str:
    return asyncio.run(asked(server, loop))


run(answered)
