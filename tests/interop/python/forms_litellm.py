"""LiteLLM's SDK with an OpenAI-compatible server: text, tools, formats; waited for and streamed: see forms.py."""

import json
from typing import Any

import litellm

from tests.interop.python.forms import Ask, City, count_people, run

TOOL = {
    "type": "function",
    "function": {
        "name": "count_people",
        "description": "How many people live in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def completed(ask: Ask, messages: list[Any], stream: bool, **given: Any) -> Any:
    answer = litellm.completion(
        model=f"openai/{ask.model}", api_base=ask.base_url, api_key=ask.api_key, messages=messages, stream=stream,
        num_retries=0, **given,
    )  # fmt: skip
    if stream:
        answer = litellm.stream_chunk_builder(list(answer), messages=messages)
    return answer.choices[0].message


def said(stream: bool, **given: Any) -> Any:
    return lambda ask: completed(ask, [{"role": "user", "content": ask.question}], stream, **given).content


def formed(stream: bool, **given: Any) -> Any:
    return lambda ask: json.loads(said(stream, **given)(ask))


def with_tool(stream: bool, **given: Any) -> Any:
    def flow(ask: Ask) -> Any:
        messages: list[Any] = [{"role": "user", "content": ask.question}]
        while (message := completed(ask, messages, stream, tools=[TOOL], **given)).tool_calls:
            messages.append(message.model_dump())
            for call in message.tool_calls:
                result = count_people(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        return json.loads(message.content) if given else message.content

    return flow


FLOWS: dict[str, Any] = {}
for name, stream in {"": False, ", streamed": True}.items():
    FLOWS |= {
        f"text{name}": said(stream),
        f"tool{name}": with_tool(stream),
        f"model as format{name}": formed(stream, response_format=City),
        f"json_object{name}": formed(stream, response_format={"type": "json_object"}),
        f"model as format beside a tool{name}": with_tool(stream, response_format=City),
    }
run(FLOWS)
