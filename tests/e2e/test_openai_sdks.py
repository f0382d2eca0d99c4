"""OpenAI's official SDKs for Python talk with the embedded model, through a running server."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.sidecar import on_linux, running_sidecar, until_idle
from tests.test_api.openai_callers import calling, text_of

QUESTION: list[Any] = [{"role": "user", "content": "What color is the sky?"}]
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
