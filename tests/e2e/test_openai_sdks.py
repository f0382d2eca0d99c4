"""OpenAI's official SDKs for Python talk with the embedded model, through a running server."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.sidecar import on_linux, running_sidecar, until_idle
from tests.test_api.openai_callers import calling, text_of

QUESTION: list[Any] = [{"role": "user", "content": "What color is the sky?"}]
CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Lima"]}}, "required": ["city"]}
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}
IN_OSLO: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
TALE: list[Any] = [{"role": "user", "content": "Tell me a very long tale about a ship."}]


@on_linux
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_they_chat_stream_and_cancel(tmp_path: Path, kind: str) -> None:
    async with running_sidecar(tmp_path) as sidecar, calling(kind, f"{sidecar.url}/v1") as sdk:
        (model,) = [model.id for model in await sdk.models() if model.owned_by == "local"]
        assert await sdk.model(model)

        asked = {"model": model, "messages": QUESTION, "max_completion_tokens": 12, "temperature": 0, "seed": 1}
        answer = await sdk.complete(**asked)
        text = answer.choices[0].message.content
        assert text
        assert text.strip()
        assert answer.usage is not None
        assert 0 < answer.usage.completion_tokens <= 12

        *chunks, usage = await sdk.chunks(**asked, stream_options={"include_usage": True})
        assert text_of(chunks) == text
        assert chunks[-1].choices[0].finish_reason == answer.choices[0].finish_reason
        assert usage.usage is not None
        assert usage.usage.completion_tokens == answer.usage.completion_tokens

        assert await sdk.leave_after_first_text(model=model, messages=TALE, max_tokens=2000)
        await until_idle(sidecar.model_process())
        streams = (await sidecar.http.get("/api/v1/streams")).json()["items"]
        assert sorted(stream["status"] for stream in streams) == ["cancelled", "completed", "completed"]


@on_linux
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_model_that_knows_no_tools_is_made_to_call_and_hears_the_result(tmp_path: Path, kind: str) -> None:
    async with running_sidecar(tmp_path) as sidecar, calling(kind, f"{sidecar.url}/v1") as sdk:
        asked = {"model": "local/SmolLM2-135M-Instruct", "tools": [WEATHER], "temperature": 0, "seed": 1}
        (choice,) = (await sdk.complete(**asked, messages=IN_OSLO, tool_choice=NAMED)).choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        calls: list[Any] = [*(choice.message.tool_calls or ())]
        [call] = calls
        assert (call.type, call.function.name) == ("function", "get_weather")
        assert json.loads(call.function.arguments)["city"] in {"Oslo", "Lima"}

        chunks = await sdk.chunks(**asked, messages=IN_OSLO, tool_choice=NAMED)
        pieces = [piece.function for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]
        assert "".join(piece.arguments or "" for piece in pieces if piece) == call.function.arguments

        result = {"role": "tool", "tool_call_id": call.id, "content": "Rain, 4 degrees."}
        told = [*IN_OSLO, choice.message.model_dump(exclude_unset=True), result]
        (answer,) = (await sdk.complete(**asked, messages=told, tool_choice="none", max_tokens=24)).choices
        assert answer.message.content
        assert answer.message.tool_calls is None

        with pytest.raises(openai.BadRequestError, match="tool_choice") as refused:
            await sdk.complete(**asked, messages=IN_OSLO)
        assert (refused.value.param, refused.value.code) == ("tools", "unsupported_parameter")
