"""LangChain's chat model for OpenAI's API, its tools bound, in a loop written by hand: see loop.py."""

from typing import Any

from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from tests.interop.python.loop import Loop, run


def answered(server: dict[str, str], loop: Loop) -> str:
    tools = {each.name: each for each in (tool(loop.get_weather), tool(loop.now))}
    model: Any = ChatOpenAI(**server, max_retries=0).bind_tools(list(tools.values()))
    messages: list[BaseMessage] = [HumanMessage(loop.question)]
    while True:
        if loop.stream:
            said = AIMessageChunk("")
            for chunk in model.stream(messages):
                said = said + chunk
        else:
            said = model.invoke(messages)
        messages.append(said)
        if not said.tool_calls:
            return str(said.text)
        messages += [tools[call["name"]].invoke(call) for call in said.tool_calls]


run(answered)
