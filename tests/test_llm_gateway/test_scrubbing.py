"""A key that a model puts into the arguments of a call, or a refusal, is masked, also where it is split over pieces."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing

import pytest

from archer_ws.core import secrets
from archer_ws.core.exceptions import UpstreamTruncated
from archer_ws.core.secrets import MASK
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.resilience.retry import RetryPolicy, WaitPolicy, stream_with_retries
from archer_ws.llm_gateway.types import ChatOptions, Refusal, StreamChunk
from tests.fakes.calls import CALLS_MADE, piece
from tests.fakes.scripted_adapter import ScriptedAdapter, Step

KEY = "sk-canary-A/1"


@pytest.fixture(autouse=True)
def _one_key_is_known() -> Iterator[None]:
    before, secrets._known = secrets._known, secrets._Known()
    secrets.remember(KEY)
    yield
    secrets._known = before


async def said(script: Sequence[Step]) -> AsyncIterator[StreamChunk]:
    adapter = ScriptedAdapter(script)
    patience = WaitPolicy(RetryPolicy(max_retries=0), Timeouts())
    chunks = stream_with_retries(
        adapter, patience, ChatOptions(), lambda _: adapter.stream_chat([]), lambda error: error
    )
    async with aclosing(chunks):
        async for chunk in chunks:
            yield chunk


async def arguments_of(script: Sequence[Step]) -> dict[str, str]:
    """Each call's arguments, as far as they came before the end was told."""
    calls: dict[str, str] = {}
    is_over = False
    try:
        async for chunk in said(script):
            if chunk.arguments:
                assert not is_over, "arguments behind the finish reason"
                assert chunk.call_id is not None
                assert chunk.name == f"tool of {chunk.call_id}"
                calls[chunk.call_id] = calls.get(chunk.call_id, "") + chunk.arguments
            is_over = is_over or chunk.finish_reason is not None
    except UpstreamTruncated:
        pass
    return calls


def pieces(call_id: str, *texts: str) -> list[StreamChunk]:
    return [piece(call_id, f"tool of {call_id}", text) for text in texts]


@pytest.mark.parametrize(
    "texts", [[f'{{"key": "{KEY}"}}'], ['{"key": "sk-can', "ary", '-A/1"}'], [*f'{{"key": "{KEY}"}}']]
)
async def test_a_key_in_arguments_is_masked_however_they_are_cut(texts: list[str]) -> None:
    told = await arguments_of([*pieces("c1", *texts), CALLS_MADE])
    # Three letters pass before the beginning of a key is noticed.
    assert told["c1"].replace("sk-", "") == f'{{"key": "{MASK}"}}'


async def test_what_is_held_back_of_one_call_is_not_another_s_and_comes_before_the_end() -> None:
    first, second = pieces("c1", "is it sk-can", "ary-A/1"), pieces("c2", "or sk-can", "dy")
    told = await arguments_of([first[0], second[0], first[1], second[1], *pieces("c3", "sk-can"), CALLS_MADE])
    assert told == {"c1": f"is it {MASK}", "c2": "or sk-candy", "c3": "sk-can"}


async def test_what_is_held_back_comes_with_a_last_piece_that_ends_the_answer_and_where_it_breaks_off() -> None:
    (last,) = pieces("c1", "sk-can")
    told = await arguments_of([*pieces("c2", "sk-can"), last.model_copy(update={"finish_reason": "tool_calls"})])
    assert told == {"c1": "sk-can", "c2": "sk-can"}
    assert await arguments_of([*pieces("c1", "sk-can"), UpstreamTruncated("cut")]) == {"c1": "sk-can"}


async def test_text_before_a_call_does_not_come_behind_it() -> None:
    chunks = [chunk async for chunk in said(["The key begins with sk-can", *pieces("c1", "{}"), CALLS_MADE])]
    order = [kind for chunk in chunks for kind in ("content", "arguments") if getattr(chunk, kind)]
    assert order == ["content", "content", "arguments"]
    assert "".join(chunk.content for chunk in chunks) == "The key begins with sk-can"


async def test_a_key_in_a_refusal_is_masked() -> None:
    end = StreamChunk(content="", finish_reason="content_filter", refusal=Refusal(text=f"Not with {KEY}."))
    refusals = [chunk.refusal async for chunk in said([end]) if chunk.refusal]
    assert [refusal.text for refusal in refusals] == [f"Not with {MASK}."]
