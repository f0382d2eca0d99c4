"""Pictures before the real llama.cpp: with a projector the model takes them, and without one it is not asked."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from archer_ws.core.exceptions import ProviderError, ProviderUnavailable, Unsupported
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.local_adapter import LocalAdapter
from archer_ws.llm_gateway.types import ChatRequest, ChatResponse
from tests.fakes.pictures import image, text
from tests.fakes.projector import PICTURE_TOKENS, write_projector

WAIT_S = 60


def adapter(projector: Path | None) -> LocalAdapter:
    return LocalAdapter(
        model_path=None,
        projector_path=None if projector is None else str(projector),
        parallel=1,
        timeouts=Timeouts(),
        catalog=load_catalog(),
        concurrency=2,
    )


@pytest.fixture
async def seeing(tmp_path: Path) -> AsyncIterator[LocalAdapter]:
    """The embedded model with a projector."""
    local = adapter(write_projector(tmp_path / "mmproj.gguf"))
    yield local
    await local.aclose()


async def answer(local: LocalAdapter, *messages: dict[str, Any]) -> ChatResponse:
    request = ChatRequest.model_validate({"messages": messages})
    async with asyncio.timeout(WAIT_S):
        return await local.chat(request.messages, None, 0.0, 3)


async def test_a_model_with_a_projector_takes_pictures_where_they_stand(seeing: LocalAdapter) -> None:
    async def tokens(*parts: dict[str, Any]) -> int:
        usage = (await answer(seeing, {"role": "user", "content": list(parts)})).usage
        assert usage is not None
        return usage.prompt_tokens

    alone = await tokens(text("Which one?"))
    one = await tokens(text("Which one?"), image())
    assert one >= alone + PICTURE_TOKENS
    assert await tokens(text("Which one?"), image(), image()) >= one + PICTURE_TOKENS
    (listed,) = await seeing.list_models()
    assert listed.capabilities == ["vision", "json_schema"]


async def test_pictures_of_results_reach_it_in_words_and_pictures(seeing: LocalAdapter) -> None:
    call = {"call_id": "c1", "name": "look", "arguments": "{}"}
    told = await answer(
        seeing,
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "call_id": "c1", "content": [text("seen"), image()]},
    )
    assert told.status is None or told.status == "completed"


async def test_a_picture_that_it_can_not_decode_is_told_and_the_next_one_is_answered(seeing: LocalAdapter) -> None:
    broken = image("data:image/png;base64,iVBORw0KGgoAAAAA")
    with pytest.raises(ProviderError):
        await answer(seeing, {"role": "user", "content": [broken]})
    await answer(seeing, {"role": "user", "content": [image()]})


async def test_without_a_projector_the_model_is_not_asked() -> None:
    local = adapter(None)
    with pytest.raises(Unsupported, match=r"messages\.0\.content\.0") as refused:
        await answer(local, {"role": "user", "content": [image()]})
    assert "ARCHER_LOCAL_MMPROJ_PATH" in (refused.value.hint or "")
    await local.aclose()


async def test_a_projector_for_another_model_is_told_at_the_start(tmp_path: Path) -> None:
    broken = tmp_path / "mmproj.gguf"
    broken.write_bytes(write_projector(tmp_path / "good.gguf").read_bytes()[:2048])
    local = adapter(broken)
    with pytest.raises(ProviderUnavailable):
        await answer(local, {"role": "user", "content": [image()]})
    await local.aclose()
