"""Why an answer stopped, in whatever words: an answer cut by a limit never looks complete, nor a broken one whole."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from archer_ws.core.exceptions import ProviderTimeout
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.decoding.completion import BrokenOff
from archer_ws.llm_gateway.decoding.finish_reasons import finish_reason_of
from archer_ws.llm_gateway.resilience.retry import RetryPolicy, WaitPolicy, stream_with_retries
from archer_ws.llm_gateway.sdk_adapter import SdkAdapter
from archer_ws.llm_gateway.types import ChatOptions, Chunk, StreamChunk, TokenUsage
from tests.fakes import anthropic_api
from tests.fakes import openai_api as api
from tests.fakes.dialects import (
    ANTHROPIC,
    MESSAGES,
    OLLAMA,
    OPENAI,
    USAGE,
    Dialect,
    asked,
    every_dialect,
    reply_of,
    streamed_and_whole,
)
from tests.fakes.raw_http import soon
from tests.fakes.scripted_server import Abort, Step, Wait, forever, scripted_server

LENGTH = ["length", "LENGTH", "MAX_TOKENS", "max-output-tokens", "maxTokens", "model_length", "limit", " length "]
STOP = ["stop", "STOP", "end_turn", "eos", "eos_token", "stop_sequence", "FinishReason.STOP", "of_the_future"]
FILTER = ["content_filter", "content-filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "refusal", "LANGUAGE"]
TOOLS = ["tool_calls", "tool_use", "TOOL_CALLS", "function_call"]
BROKEN = [
    *("error", "ERROR", "abort", "cancelled", "canceled", "MALFORMED_FUNCTION_CALL", "network_error"),
    # Gemini's; the last by its endpoint in OpenAI's dialect.
    *("UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"),
    "function_call_filter: UNEXPECTED_TOOL_CALL",
]
NO_REASONS = [None, "", " ", "null", "NULL", "None", "none", "FINISH_REASON_UNSPECIFIED"]


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        *((word, "length") for word in LENGTH),
        *((word, "stop") for word in STOP),
        *((word, "content_filter") for word in FILTER),
        *((word, "tool_calls") for word in TOOLS),
        *((word, None) for word in NO_REASONS),
        ({"type": "length"}, "length"),
        (True, "stop"),
    ],
)
def test_a_reason_is_told_in_our_words(word: object, meaning: str | None) -> None:
    assert finish_reason_of(word) == meaning


@pytest.mark.parametrize("word", BROKEN)
def test_a_reason_that_says_it_gave_up_is_no_end(word: str) -> None:
    with pytest.raises(BrokenOff, match=word):
        finish_reason_of(word)


@streamed_and_whole
@every_dialect
@pytest.mark.parametrize(
    ("word", "meaning"), [("MAX_TOKENS", "length"), ("STOP", "stop"), ("SAFETY", "content_filter"), ("eos", "stop")]
)
async def test_gateways_words_mean_the_same_for_every_provider(
    dialect: Dialect, word: str, meaning: str, is_streamed: bool
) -> None:
    outcome = await asked(dialect, reply_of(dialect, dialect.stream("Hello", reason=word)), is_streamed=is_streamed)

    assert (outcome.failure, outcome.text, outcome.finish_reason) == (None, "Hello", meaning)
    assert (outcome.usage, outcome.requests) == (USAGE, 1)


@every_dialect
@pytest.mark.parametrize("word", BROKEN)
async def test_an_answer_that_its_provider_gave_up_is_truncated(dialect: Dialect, word: str) -> None:
    outcome = await asked(dialect, reply_of(dialect, dialect.stream("Hello", reason=word)))

    assert (outcome.text, outcome.kind) == ("Hello", "upstream_truncated")
    assert word in str(outcome.failure)


@pytest.mark.parametrize("word", NO_REASONS)
async def test_the_word_null_is_no_reason(word: str | None) -> None:
    pieces = [api.chunk({"content": piece}, finish_reason=word) for piece in ("He", "ll", "o")]

    truncated = await asked(OPENAI, reply_of(OPENAI, *pieces))
    assert (truncated.text, truncated.kind) == ("Hello", "upstream_truncated")

    cut_by_limit = await asked(OPENAI, reply_of(OPENAI, *pieces, *api.ending("length")))
    assert (cut_by_limit.failure, cut_by_limit.finish_reason) == (None, "length")


async def test_the_last_real_reason_counts() -> None:
    pieces = [api.chunk({"content": "Hello"}, finish_reason="stop"), api.finish("length"), api.chunk({}), api.DONE]

    assert (await asked(OPENAI, reply_of(OPENAI, *pieces))).finish_reason == "length"


@pytest.mark.parametrize("name", ["finishReason", "stop_reason"])
@pytest.mark.parametrize("delta", [{}, {"content": "lo"}], ids=["alone", "with text"])
async def test_a_reason_by_another_name_is_heard(name: str, delta: dict[str, str]) -> None:
    last = api.event({"choices": [{"index": 0, "delta": delta, name: "MAX_TOKENS"}]})

    outcome = await asked(OPENAI, reply_of(OPENAI, api.delta("Hel"), last, api.DONE))

    assert (outcome.failure, outcome.finish_reason) == (None, "length")


async def test_done_after_text_is_the_end_and_done_alone_is_no_answer() -> None:
    whole = await asked(OPENAI, reply_of(OPENAI, api.delta("Hello"), api.DONE))
    assert (whole.failure, whole.text, whole.finish_reason) == (None, "Hello", "stop")

    for nothing in (api.DONE, b"", b": nothing\n\n"):
        assert (await asked(OPENAI, reply_of(OPENAI, nothing))).kind == "upstream_truncated"


@pytest.mark.parametrize("marker", [b"DONE", b'"[DONE]"'])
async def test_done_in_another_spelling_is_the_end(marker: bytes) -> None:
    outcome = await asked(OPENAI, reply_of(OPENAI, api.delta("Hello"), b"data: %b\n\n" % marker))
    assert (outcome.failure, outcome.text, outcome.finish_reason) == (None, "Hello", "stop")


@pytest.mark.parametrize("cut", [b"", b"\n", b"\n\n"], ids=["blank line", "line end", "nothing after it"])
@pytest.mark.parametrize("marker", [anthropic_api.STOP, api.DONE], ids=["message_stop", "DONE"])
async def test_an_end_marker_is_the_end_of_a_message_without_a_reason_whatever_follows_it(
    marker: bytes, cut: bytes
) -> None:
    last = marker.removesuffix(cut)

    outcome = await asked(ANTHROPIC, reply_of(ANTHROPIC, anthropic_api.start(), anthropic_api.delta("Hello"), last))

    assert (outcome.failure, outcome.text) == (None, "Hello")


@streamed_and_whole
@pytest.mark.parametrize("reason", [None, "stop"])
async def test_an_answer_that_groq_stopped_early_is_no_whole_one(reason: str | None, is_streamed: bool) -> None:
    """Its `x_groq.error` says why, beside choices that look like any end."""
    first = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "x_groq": {"id": "req_1"}}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "x_groq": {"error": "over capacity now"}}
    body = api.event(first) + api.delta("Hello") + api.event(last) + api.DONE

    outcome = await asked(OPENAI, reply_of(OPENAI, body), is_streamed=is_streamed)

    assert (outcome.text, outcome.kind) == ("Hello" if is_streamed else "", "provider_error")
    assert "over capacity now" in str(outcome.failure)


@pytest.mark.parametrize("done", ["true", None], ids=["as text", "left out"])
async def test_an_ollama_that_says_otherwise_that_it_is_done_is_done(done: str | None) -> None:
    last = {"message": {"content": ""}, "done_reason": "limit"} | ({} if done is None else {"done": done})

    outcome = await asked(OLLAMA, reply_of(OLLAMA, OLLAMA.text("Hello"), OLLAMA.spoken(last)))

    assert (outcome.failure, outcome.text, outcome.finish_reason) == (None, "Hello", "length")


@every_dialect
async def test_a_connection_that_breaks_behind_the_end_marker_breaks_nothing(dialect: Dialect) -> None:
    has_ended = asyncio.Event()
    reply = reply_of(dialect, dialect.stream("Hello"), Wait(has_ended), Abort())
    chunks = []
    async with asyncio.timeout(10), scripted_server(reply) as server, dialect.adapter(server) as adapter:
        async for chunk in adapter.stream_chat(MESSAGES):
            chunks.append(chunk)
            if chunk.finish_reason is not None:
                has_ended.set()
    assert ("".join(chunk.content for chunk in chunks), chunks[-1].finish_reason) == ("Hello", "stop")


class Ended:
    """How a completion of these steps ended; after them the provider neither says more nor closes. `then` waits until
    their text has come."""

    def __init__(self, *steps: Step, then: tuple[Step, ...] = ()) -> None:
        self.text = ""
        self.finish_reason: str | None = None
        self.usage: TokenUsage | None = None
        self._has_come = asyncio.Event()
        self._steps = [*steps, Wait(self._has_come), *then]

    async def read(self, dialect: Dialect, *, idle_s: float, is_pushed: bool = True, carrier: str = "own") -> None:
        timeouts = Timeouts(idle_s=idle_s)
        waits = WaitPolicy(RetryPolicy(max_retries=0), timeouts)
        reply = reply_of(dialect, *self._steps, forever())
        limits = {"idle_s": idle_s} if dialect is OLLAMA else {"timeouts": timeouts}
        async with scripted_server(reply) as server, dialect.adapter(server, **limits, carrier=carrier) as adapter:
            chunks = stream_with_retries(
                adapter,
                waits,
                ChatOptions(),
                lambda take: adapter.stream_chat(MESSAGES, options=ChatOptions(on_chunk=take)),
                lambda error: error,
                on_chunk=self._take if is_pushed else None,
            )
            async for chunk in chunks:
                self._take(chunk)
            await soon(server.exchanges[0].client_left.wait())

    def _take(self, chunk: Chunk) -> None:
        self.text += chunk.content
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.usage = chunk.usage or self.usage
        if chunk.content:
            self._has_come.set()


every_way = pytest.mark.parametrize(
    ("is_pushed", "carrier"), [(True, "own"), (True, "library"), (False, "own"), (False, "library")]
)


@every_way
async def test_silence_after_the_finish_reason_is_the_end_and_closes_the_connection(
    is_pushed: bool, carrier: str
) -> None:
    ended = Ended(api.delta("Hello"), api.finish("length"))

    await soon(ended.read(OPENAI, idle_s=1, is_pushed=is_pushed, carrier=carrier))

    assert (ended.text, ended.finish_reason) == ("Hello", "length")


@every_way
async def test_a_cancel_while_the_rest_is_waited_for_closes_the_connection(
    is_pushed: bool, carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, read_last = asyncio.Event(), SdkAdapter._read_last

    async def noting(*given: Any) -> AsyncGenerator[StreamChunk, None]:
        waits.set()
        async with aclosing(read_last(*given)) as last:
            async for chunk in last:
                yield chunk

    monkeypatch.setattr(SdkAdapter, "_read_last", noting)
    reply = reply_of(OPENAI, api.delta("Hello"), api.finish("stop"), forever())
    async with scripted_server(reply) as server, OPENAI.adapter(server, carrier=carrier) as adapter:

        async def read() -> None:
            options = ChatOptions(on_chunk=(lambda _: None) if is_pushed else None)
            async for _ in adapter.stream_chat(MESSAGES, options=options):
                pass

        reading = asyncio.create_task(read())
        await soon(waits.wait())
        await asyncio.sleep(0)
        assert not server.exchanges[0].client_left.is_set()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(reading)
        await soon(server.exchanges[0].client_left.wait())


@every_way
async def test_the_counts_that_follow_the_finish_reason_are_waited_for(is_pushed: bool, carrier: str) -> None:
    last = api.chunk({"content": "Hello"}, finish_reason="stop")
    ended = Ended(last, then=(b": alive\n\n", api.usage(3, 5), api.DONE))

    await soon(ended.read(OPENAI, idle_s=10, is_pushed=is_pushed, carrier=carrier))

    assert (ended.text, ended.finish_reason) == ("Hello", "stop")
    assert ended.usage is not None
    assert ended.usage.total_tokens == 8


@every_way
async def test_a_finish_reason_before_further_text_is_no_end(is_pushed: bool, carrier: str) -> None:
    ended = Ended(api.chunk({"content": "Hel"}, finish_reason="stop"), then=(api.delta("lo"),))

    with pytest.raises(ProviderTimeout, match="fell silent"):
        await soon(ended.read(OPENAI, idle_s=1, is_pushed=is_pushed, carrier=carrier))

    assert ended.text == "Hello"


@every_dialect
async def test_silence_without_a_finish_reason_is_no_end(dialect: Dialect) -> None:
    ended = Ended(dialect.start + dialect.text("Hello"))

    with pytest.raises(ProviderTimeout, match="fell silent"):
        await soon(ended.read(dialect, idle_s=0.2))

    assert ended.text == "Hello"
