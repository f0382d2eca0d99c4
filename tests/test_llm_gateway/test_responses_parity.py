"""The byte path gives what the SDK's own objects give for the same events of the Responses API; and the events that the
tests' provider sends are the SDK's."""

import asyncio

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from archer_ws.llm_gateway.types import ChatMessage, ChatOptions
from tests.fakes.responses_api import Script, adapter_for, reply
from tests.fakes.scripted_server import scripted_server

EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
QUESTION = [ChatMessage.model_validate({"role": "user", "content": "How is it?"})]


def calling() -> Script:
    script = Script()
    script.reasoning("I look twice.", "Then I tell.")
    script.message("Grüße 😀, let me look.", phase="commentary")
    script.call("call_a", "get_weather", '{"city": "Tromsø", "days": 3}')
    script.call("call_b", "now", "{}")
    return script


def declining() -> Script:
    script = Script()
    script.refusal("I can't do that.")
    return script


ANSWERS = [
    pytest.param(calling().complete(prompt=9, completion=7, cached=4, reasoning=2), id="calls"),
    pytest.param(declining().complete(), id="a refusal"),
    pytest.param(calling().incomplete("max_output_tokens"), id="cut"),
]


@pytest.mark.parametrize("events", [*ANSWERS, pytest.param(calling().failed("server_error"), id="failed")])
def test_the_provider_of_the_tests_speaks_as_the_sdk_reads(events: list[bytes]) -> None:
    for event in events:
        EVENT.validate_json(event.partition(b"\ndata: ")[2], extra="ignore")


@pytest.mark.parametrize("events", ANSWERS)
async def test_the_sdk_reads_the_same_answer(events: list[bytes]) -> None:
    async with (
        asyncio.timeout(20),
        scripted_server(reply(*events), reply(*events)) as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="sk-test", max_retries=0) as sdk,
        adapter_for(server) as adapter,
    ):
        whole: Response | None = None
        async for event in await sdk.responses.create(model="gpt-5.4", input="How is it?", stream=True):
            if event.type in ("response.completed", "response.incomplete"):
                whole = event.response
        answer = await adapter.chat(QUESTION, options=ChatOptions())
    assert whole is not None
    refusals = [part.refusal for item in whole.output if item.type == "message" for part in item.content
                if part.type == "refusal"]  # fmt: skip
    summaries = [part.text for item in whole.output if item.type == "reasoning" for part in item.summary]
    calls = [(item.name, item.arguments) for item in whole.output if item.type == "function_call"]
    assert answer.content == whole.output_text + "".join(refusals)
    assert answer.reasoning == ("\n\n".join(summaries) or None)
    made = [(call.name, call.arguments) for call in answer.tool_calls or ()]
    assert made == (calls if whole.status == "completed" else [])
    assert (answer.id, answer.model) == (whole.id, whole.model)
    assert answer.usage is not None
    assert whole.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        whole.usage.input_tokens,
        whole.usage.output_tokens,
        whole.usage.total_tokens,
    )
    assert answer.usage.cached_tokens == whole.usage.input_tokens_details.cached_tokens
    assert answer.usage.reasoning_tokens == whole.usage.output_tokens_details.reasoning_tokens
