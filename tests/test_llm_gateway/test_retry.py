"""When a call is tried again, and how long its waits may last."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.core.exceptions import (
    ProviderAuth,
    ProviderFailure,
    ProviderQuota,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    UpstreamTruncated,
)
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.resilience.retry import (
    LONGEST_PAUSE_S,
    RetryPolicy,
    WaitPolicy,
    call_with_retries,
    stream_with_retries,
)
from archer_ws.llm_gateway.tools import Tool
from archer_ws.llm_gateway.types import ChatOptions
from tests.fakes.calls import piece
from tests.fakes.scripted_adapter import ScriptedAdapter
from tests.fakes.scripted_server import forever

#: A failure that is retried without a pause.
BUSY = ProviderUnavailable("busy", retry_after_ms=0)


def patience(retries: int = 2, **timeouts: float) -> WaitPolicy:
    return WaitPolicy(RetryPolicy(max_retries=retries), Timeouts(**timeouts))


async def run(adapter: ScriptedAdapter, wait: WaitPolicy | None = None, options: ChatOptions | None = None) -> str:
    chunks = stream_with_retries(
        adapter, wait or patience(), options or ChatOptions(), lambda _: adapter.stream_chat([]), lambda error: error
    )
    async with asyncio.timeout(10), aclosing(chunks):
        return "".join([chunk.content async for chunk in chunks])


async def test_a_retryable_failure_before_the_first_text_is_tried_again() -> None:
    told: list[str] = []
    adapter = ScriptedAdapter([BUSY], ["", BUSY], ["", "text"])
    options = ChatOptions(on_progress=lambda phase, _: told.append(phase))
    assert await run(adapter, options=options) == "text"
    assert told == ["retrying", "retrying"]
    assert adapter.closed == adapter.tries == 3


async def test_after_the_first_text_nothing_is_tried_again() -> None:
    adapter = ScriptedAdapter(["text", BUSY], ["more"])
    with pytest.raises(ProviderUnavailable):
        await run(adapter)
    assert adapter.tries == 1


@pytest.mark.parametrize("error", [ProviderAuth("no"), ProviderQuota("none left")])
async def test_what_would_fail_again_is_not_tried_again(error: ProviderFailure) -> None:
    adapter = ScriptedAdapter([error], ["text"])
    with pytest.raises(type(error)):
        await run(adapter)
    assert adapter.tries == 1


async def test_the_last_failure_is_the_callers() -> None:
    adapter = ScriptedAdapter([BUSY], [BUSY], [UpstreamTruncated("cut", retry_after_ms=0)], ["text"])
    with pytest.raises(UpstreamTruncated):
        await run(adapter)
    assert adapter.tries == 3


async def test_a_retry_after_above_the_cap_is_not_waited_for() -> None:
    adapter = ScriptedAdapter([ProviderRateLimited("slow down", retry_after_ms=31_000)], ["text"])
    with pytest.raises(ProviderRateLimited) as refused:
        await run(adapter)
    assert refused.value.retry_after_ms == 31_000


async def test_no_pause_goes_beyond_the_whole_s_time() -> None:
    adapter = ScriptedAdapter([ProviderRateLimited("slow down", retry_after_ms=20_000)], ["text"])
    with pytest.raises(ProviderRateLimited):
        await run(adapter, patience(total_s=10))
    assert adapter.tries == 1


async def test_a_cancel_ends_the_pause_at_once() -> None:
    paused = asyncio.Event()
    adapter = ScriptedAdapter([ProviderRateLimited("slow down", retry_after_ms=20_000)], ["text"])
    running = asyncio.create_task(run(adapter, options=ChatOptions(on_progress=lambda *_: paused.set())))
    async with asyncio.timeout(5):
        await paused.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert adapter.tries == 1


@pytest.mark.parametrize(
    ("limits", "script"),
    [
        ({"first_token_s": 0.02}, ["", forever()]),
        ({"idle_s": 0.02}, ["text", forever()]),
        ({"total_s": 0.02}, ["text", forever()]),
    ],
)
async def test_each_wait_has_its_limit_and_closes_the_provider(limits: dict[str, float], script: list[str]) -> None:
    adapter = ScriptedAdapter(script)
    with pytest.raises(ProviderTimeout) as late:
        await run(adapter, patience(retries=0, **limits))
    assert "0.02 s" in late.value.message
    assert adapter.closed == 1


async def test_time_in_which_the_reader_has_its_turn_does_not_count() -> None:
    """A reader that takes long between two chunks makes no provider late."""
    adapter = ScriptedAdapter(["text", "more"])
    chunks = stream_with_retries(
        adapter, patience(idle_s=0.01), ChatOptions(), lambda _: adapter.stream_chat([]), lambda error: error
    )
    async with asyncio.timeout(10), aclosing(chunks):
        assert (await anext(chunks)).content == "text"
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, later.set)
        await later.wait()
        assert (await anext(chunks)).content == "more"


@pytest.mark.parametrize("limits", [{"idle_s": 0.01}, {"total_s": 0.01}])
async def test_silence_after_a_long_turn_of_the_reader_is_cut_too(limits: dict[str, float]) -> None:
    adapter = ScriptedAdapter(["text", "more", forever()])
    chunks = stream_with_retries(
        adapter, patience(2, **limits), ChatOptions(), lambda _: adapter.stream_chat([]), lambda error: error
    )
    async with asyncio.timeout(10), aclosing(chunks):
        await anext(chunks)
        await anext(chunks)
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, later.set)
        await later.wait()
        with pytest.raises(ProviderTimeout):
            await anext(chunks)


async def test_a_reader_that_leaves_between_two_chunks_has_closed_the_provider_when_it_is_gone() -> None:
    adapter = ScriptedAdapter(["some", "more"])
    chunks = stream_with_retries(
        adapter, patience(), ChatOptions(), lambda _: adapter.stream_chat([]), lambda error: error
    )
    assert (await anext(chunks)).content == "some"
    await chunks.aclose()
    # At once: what only the garbage collector closed would be closed a loop iteration later.
    assert adapter.closed == 1


async def test_a_cancel_from_outside_is_no_time_out() -> None:
    adapter, has_text = ScriptedAdapter(["text", forever()]), asyncio.Event()

    async def read() -> None:
        chunks = stream_with_retries(
            adapter, patience(idle_s=30), ChatOptions(), lambda _: adapter.stream_chat([]), lambda error: error
        )
        async with aclosing(chunks):
            async for _ in chunks:
                has_text.set()

    reading = asyncio.create_task(read())
    async with asyncio.timeout(10):
        await has_text.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert adapter.closed == 1


async def test_models_that_load_on_demand_may_take_longer_to_begin() -> None:
    adapter = ScriptedAdapter([])
    wait = patience(first_token_s=1, model_load_s=300)
    assert wait.of_silence(adapter, ChatOptions())[0] == 1
    adapter.loads_models = True
    assert wait.of_silence(adapter, ChatOptions())[0] == 300


TOOLS = (Tool(name="now"),)


@pytest.mark.parametrize(
    ("is_silent", "options", "is_bounded"),
    [
        (True, ChatOptions(tools=TOOLS), False),
        (True, ChatOptions(tools=TOOLS, tool_choice="none"), True),
        (True, ChatOptions(), True),
        (False, ChatOptions(tools=TOOLS), True),
    ],
)
async def test_where_a_call_is_made_in_silence_only_the_whole_is_bounded(
    is_silent: bool, options: ChatOptions, is_bounded: bool
) -> None:
    adapter = ScriptedAdapter([])
    adapter.is_silent_in_calls = is_silent
    wait = patience(first_token_s=1, idle_s=2, total_s=9)
    limits = wait.of_silence(adapter, options)
    assert limits == ((1, 2) if is_bounded else (9, 9))


async def test_a_whole_answer_is_tried_again_and_timed_too() -> None:
    adapter = ScriptedAdapter([BUSY], ["text"])
    answer = await call_with_retries(adapter, patience(), lambda: adapter.chat([]), lambda error: error)
    assert answer.content == "text"
    with pytest.raises(ProviderTimeout):
        await call_with_retries(
            stuck := ScriptedAdapter([forever()]),
            patience(retries=0, total_s=0.02),
            lambda: stuck.chat([]),
            lambda error: error,
        )


async def test_the_last_failure_is_explained() -> None:
    adapter = ScriptedAdapter([ProviderAuth("no")])
    chunks = stream_with_retries(
        adapter,
        patience(),
        ChatOptions(),
        lambda _: adapter.stream_chat([]),
        lambda error: ProviderAuth(f"{error.message}, because"),
    )
    with pytest.raises(ProviderAuth, match="no, because"):
        await anext(chunks)


@given(attempt=st.integers(0, 9))
def test_pauses_are_jittered_within_a_growing_bound(attempt: int) -> None:
    pause_s = RetryPolicy(max_retries=10).pause_s(attempt, ProviderUnavailable("busy"))
    assert pause_s is not None
    assert 0 <= pause_s <= min(LONGEST_PAUSE_S, 0.5 * 2**attempt)


async def test_after_the_first_arguments_nothing_is_tried_again() -> None:
    adapter = ScriptedAdapter([piece("c1", "get_weather", "{"), BUSY], ["more"])
    with pytest.raises(ProviderUnavailable):
        await run(adapter)
    assert adapter.tries == 1


async def test_arguments_are_the_first_text_and_signs_of_life() -> None:
    # github/copilot-cli#4286, AntigmaLabs/ante#187
    pieces = [piece("c1", "get_weather", "x") for _ in range(5)]
    adapter = ScriptedAdapter([*pieces, forever()])
    with pytest.raises(ProviderTimeout) as late:
        await run(adapter, patience(0, first_token_s=60, idle_s=0.05))
    assert "fell silent" in late.value.message
