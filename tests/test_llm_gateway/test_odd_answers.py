"""Choices, contents and counts in other shapes than the API's: text is never lost in silence, nor two answers mixed."""

import json
from typing import Any

import pytest

from archer_ws.llm_gateway.decoding.completion import folded
from archer_ws.llm_gateway.decoding.token_counts import MAX_COUNT, count_of, usage_of
from archer_ws.llm_gateway.openai.decoder import ChatStreamDecoder
from archer_ws.llm_gateway.types import TokenUsage
from archer_ws.sessions.streams.outcome import final_usage
from tests.fakes import openai_api as api
from tests.fakes.dialects import (
    ANTHROPIC,
    OLLAMA,
    OPENAI,
    USAGE,
    Dialect,
    Outcome,
    asked,
    every_dialect,
    reply_of,
    streamed_and_whole,
)
from tests.fakes.scripted_server import Reply, scripted_server


async def outcome_of(*events: object) -> Outcome:
    """What becomes of these events and `[DONE]`."""
    return await asked(OPENAI, reply_of(OPENAI, *map(api.event, events), api.DONE))


def choice(index: object = 0, text: str | None = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"choices": [{"index": index, "delta": delta, "finish_reason": reason, **more}]}


@pytest.mark.parametrize("index", [1, 7, "0", "1", None, 0.0, -1])
async def test_the_only_choice_is_the_answer_whatever_its_number(index: object) -> None:
    outcome = await outcome_of(choice(index, "Hel"), choice(index, "lo"), choice(index, None, "length"))

    assert (outcome.failure, outcome.text, outcome.finish_reason) == (None, "Hello", "length")


async def test_reasoning_and_text_may_have_different_numbers() -> None:
    events = (choice(0, ""), choice(0, delta={"reasoning_content": "hm"}), choice(1, "Hello", "stop"))

    outcome = await outcome_of(*events)

    assert (outcome.reasoning, outcome.text, outcome.finish_reason) == ("hm", "Hello", "stop")


async def test_a_number_that_counts_the_pieces_loses_none() -> None:
    outcome = await outcome_of(
        *(choice(index, piece) for index, piece in enumerate("Hello")), choice(5, None, "length")
    )

    assert (outcome.failure, outcome.text, outcome.finish_reason) == (None, "Hello", "length")


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(
            [choice(0, "Hel"), choice(1, "Good"), choice(0, "lo"), choice(1, "bye", "length"), choice(0, None, "stop")],
            id="in turn",
        ),
        pytest.param([choice(0, "Hello", "stop"), choice(1, "Goodbye", "length")], id="one after the other"),
        pytest.param(
            [choice(0, "Hel"), choice(1, "Good"), choice(0, "lo"), choice(1, "bye", "length")], id="in turn, unfinished"
        ),
        pytest.param(
            [
                {
                    "choices": [
                        {"index": 1, "delta": {"content": "Goodbye"}},
                        {"index": 0, "delta": {"content": "Hello"}},
                    ]
                },
                choice(1, None, "length"),
                choice(0, None, "stop"),
            ],
            id="in one event",
        ),
    ],
)
async def test_two_answers_are_never_mixed(events: list[object]) -> None:
    outcome = await outcome_of(*events)

    assert (outcome.failure, outcome.text, outcome.finish_reason) == (None, "Hello", "stop")


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([{"choices": [{"message": {"content": text}}]} for text in ("Hel", "lo")], id="message for delta"),
        pytest.param(
            [choice(0, "Hello"), {"choices": [{"delta": {"content": ""}, "message": {"content": "Hello"}}]}],
            id="the whole once more",
        ),
        pytest.param([choice(0, "Hello"), OPENAI.whole("Hello")], id="a whole answer behind its pieces"),
        pytest.param([{"choices": [{"text": text}]} for text in ("Hel", "lo")], id="older completions"),
        pytest.param([{"choices": {"delta": {"content": "Hello"}}}], id="no list of choices"),
        pytest.param([{"choices": [{"delta": "Hello"}]}], id="a delta of text"),
        pytest.param([{"choices": [{"delta": {"role": "assistant", "text": "Hello"}}]}], id="text for content"),
    ],
)
async def test_text_may_stand_elsewhere_and_comes_once(events: list[object]) -> None:
    outcome = await outcome_of(*events)

    assert (outcome.failure, outcome.text, outcome.finish_reason) == (None, "Hello", "stop")


@pytest.mark.parametrize("is_one_read", [True, False], ids=["in one read", "in reads of their own"])
@pytest.mark.parametrize("message", [{"content": "Hello"}, {"content": "Hello", "reasoning_content": "hm"}])
async def test_a_message_behind_its_reasoning_alone_is_the_text_however_they_are_read(
    message: dict[str, str], is_one_read: bool
) -> None:
    thought = api.event(choice(delta={"reasoning_content": "hm"}))
    said = api.event({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    decoder = ChatStreamDecoder()
    reads = [thought + said + api.DONE] if is_one_read else [thought, said, api.DONE]

    completion = folded([chunk for read in reads for chunk in decoder.feed(read)])

    assert (completion.reasoning, completion.content, completion.finish_reason) == ("hm", "Hello", "stop")


@pytest.mark.parametrize(
    "name", ["reasoning_content", "reasoning", "reasoning_text", "reasoning_details", "thinking", "thoughts"]
)
async def test_reasoning_beside_text_or_a_call_is_kept_whatever_its_name(name: str) -> None:
    call = {"index": 0, "id": "a", "function": {"name": "look", "arguments": "{}"}}
    h, m, query = (
        [{"type": "reasoning.text", "text": text}] if name == "reasoning_details" else text for text in "hm?"
    )
    outcome = await outcome_of(
        choice(delta={"content": "Hel", name: h}),
        choice(delta={"content": "lo", name: m}),
        choice(delta={"tool_calls": [call], name: query}, reason="tool_calls"),
    )

    assert (outcome.failure, outcome.text, outcome.reasoning) == (None, "Hello", "hm?")
    assert outcome.finish_reason == "tool_calls"


@pytest.mark.parametrize("name", ["reasoning_text", "reasoning_details", "thinking", "thoughts"])
@pytest.mark.parametrize("said", [True, 12])
async def test_a_flag_or_a_number_beside_text_is_not_reasoning_whatever_its_name(name: str, said: object) -> None:
    outcome = await outcome_of(
        choice(delta={"role": "assistant", "content": "", name: said}),
        choice(delta={"content": "Hel", name: said}),
        choice(delta={"content": "lo", name: said}, reason="stop"),
    )

    assert (outcome.failure, outcome.text, outcome.reasoning) == (None, "Hello", "")


CONTENTS: list[Any] = [
    pytest.param([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}], "", id="text parts"),
    pytest.param(["Hel", "lo"], "", id="texts"),
    pytest.param({"type": "text", "text": "Hello"}, "", id="an object"),
    pytest.param([{"type": "text", "text": {"value": "Hello"}}], "", id="nested"),
    pytest.param({"parts": [{"text": "hm", "thought": True}, {"text": "Hello"}]}, "hm", id="thoughts"),
    pytest.param(
        [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "Hello"}],
        "hm",
        id="thinking parts",
    ),
    pytest.param([{"type": "text", "text": "Hello"}, {"type": "image_url", "image_url": {}}], "", id="beside an image"),
    pytest.param([{"type": "tool_use", "input": {"text": "no"}}, {"type": "text", "text": "Hello"}], "", id="a call"),
]


@streamed_and_whole
@pytest.mark.parametrize("dialect", [OPENAI, OLLAMA], ids=repr)
@pytest.mark.parametrize(("content", "reasoning"), CONTENTS)
async def test_content_may_be_parts(dialect: Dialect, content: object, reasoning: str, is_streamed: bool) -> None:
    body = dialect.start + dialect.text(content) + dialect.end("stop")

    outcome = await asked(dialect, reply_of(dialect, body), is_streamed=is_streamed)

    assert (outcome.failure, outcome.text, outcome.reasoning) == (None, "Hello", reasoning)


@streamed_and_whole
@pytest.mark.parametrize("dialect", [OPENAI, OLLAMA], ids=repr)
@pytest.mark.parametrize(
    "content",
    [[{"type": "image_url", "image_url": {}}], 7, [[[[[[[[[["deep"]]]]]]]]]]],
    ids=["image", "number", "depth"],
)
async def test_an_answer_without_any_text_that_is_understood_is_no_success(
    dialect: Dialect, content: object, is_streamed: bool
) -> None:
    body = dialect.start + dialect.text(content) + dialect.end("stop")

    outcome = await asked(dialect, reply_of(dialect, body), is_streamed=is_streamed)

    assert (outcome.text, outcome.kind) == ("", "provider_error")


async def test_text_by_a_name_that_nobody_knows_is_no_success_but_a_call_is() -> None:
    unknown = await outcome_of({"choices": [{"delta": {"utterance": "Hello"}}]}, choice(0, None, "stop"))
    assert (unknown.kind, "utterance" in str(unknown.failure)) == ("provider_error", True)

    call = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}
    called = await outcome_of({"choices": [{"delta": call}]}, choice(0, None, "tool_calls"))
    assert (called.failure, called.text, called.finish_reason) == (None, "", "tool_calls")


COUNTS: list[Any] = [
    {"prompt_tokens": 5, "completion_tokens": 3},
    {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8},
    {"promptTokens": 5, "completionTokens": 3, "totalTokens": 8},
    {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8},
    {"prompt_eval_count": 5, "eval_count": 3},
    {"prompt_tokens": "5", "completion_tokens": "3", "total_tokens": "8"},
    {"prompt_tokens": 5.0, "completion_tokens": 3.0},
    {"prompt_tokens": 5, "total_tokens": 8},
    {"completion_tokens": 3, "total_tokens": 8},
]


@pytest.mark.parametrize("counts", COUNTS, ids=" ".join)
@pytest.mark.parametrize(
    "last",
    [
        pytest.param(lambda usage: [choice(0, "Hello", "stop"), {"choices": [], "usage": usage}], id="as it should be"),
        pytest.param(lambda usage: [choice(0, "Hello"), choice(0, None, "stop", usage=usage)], id="in a choice"),
        pytest.param(lambda usage: [choice(0, delta={"content": "Hello", "usage": usage})], id="in a delta"),
        pytest.param(lambda usage: [choice(0, "Hello", "stop") | {"x_groq": {"usage": usage}}], id="Groq's"),
        pytest.param(lambda usage: [choice(0, "Hello", "stop") | {"usageMetadata": usage}], id="Gemini's"),
    ],
)
async def test_counts_are_found_by_any_name_and_in_any_place(counts: object, last: Any) -> None:
    outcome = await outcome_of(*last(counts))

    assert (outcome.text, outcome.usage) == ("Hello", USAGE)


@pytest.mark.parametrize(
    "counts",
    [
        None,
        {},
        [1],
        {"tokens_of_the_future": 5},
        {"prompt_tokens": -1, "completion_tokens": "few"},
        {"prompt_tokens": 2**53, "completion_tokens": 2**70},
        {"prompt_tokens": True, "completion_tokens": None},
    ],
    ids=repr,
)
def test_counts_that_are_not_understood_are_no_counts(counts: object) -> None:
    assert usage_of(counts) is None


def test_a_count_alone_is_kept_and_the_other_estimated() -> None:
    told = usage_of({"prompt_tokens": 77})

    usage = final_usage("completed", told, text_bytes=40, estimate_prompt=lambda: 1)

    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (77, 10, True)


def test_a_count_of_half_a_character_is_none() -> None:
    assert usage_of({"prompt_tokens": 5, "completion_tokens": "\ud83d", "total_tokens": 8}) == usage_of(
        {"prompt_tokens": 5, "total_tokens": 8}
    )


def test_counts_stay_what_the_wire_can_carry() -> None:
    usage = usage_of({"prompt_tokens": MAX_COUNT, "completion_tokens": MAX_COUNT})

    assert usage is not None
    assert usage.total_tokens == MAX_COUNT
    assert [count_of(value) for value in (MAX_COUNT + 1, 1.5, float("inf"), "9" * 30, "1e400")] == [None] * 5


@pytest.mark.parametrize("details", [{}, None, {"audio_tokens": 0}, {"cached_tokens": None, "reasoning_tokens": -1}])
def test_counts_in_openais_own_form_and_in_any_other_are_the_same(details: dict[str, Any] | None) -> None:
    counts = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    own = {"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2}}
    less = {"prompt_tokens_details": details, "completion_tokens_details": details}
    other = {"promptTokens": "7", "output_tokens": 5.0, "cached_tokens": 3, "thinkingTokens": 2}
    told = TokenUsage(prompt_tokens=7, completion_tokens=5, total_tokens=12, cached_tokens=3, reasoning_tokens=2)

    assert usage_of({**counts, **own}) == usage_of(other) == told
    assert usage_of({**counts, **own, "total_tokens": 0}) == told
    assert usage_of({**counts, **less}) == told.model_copy(update={"cached_tokens": None, "reasoning_tokens": None})
    assert usage_of({**counts, "cached_tokens": 3, "reasoning_tokens": 2}) == told


@pytest.mark.parametrize(
    ("theirs", "completion", "reasoning"),
    [
        # xAI's, of https://docs.x.ai; the first in OpenAI's own form.
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "prompt_tokens_details": {"cached_tokens": 6},
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            103,
            94,
        ),
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            103,
            94,
        ),
        # Gemini's, by its own names, and by those of its endpoint in OpenAI's dialect, which has no details.
        (
            {"promptTokenCount": 20, "candidatesTokenCount": 198, "thoughtsTokenCount": 405, "totalTokenCount": 623},
            603,
            405,
        ),
        ({"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}, 603, None),
        ({"promptTokenCount": 21, "thoughtsTokenCount": 60, "totalTokenCount": 81}, 60, 60),
        # Counts that do not explain the total stay as they are.
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 9, "reasoning_tokens": 2}, 3, 2),
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 7}, 3, None),
        ({"prompt_tokens": 0, "completion_tokens": 3, "total_tokens": 8}, 3, None),
        # Bedrock's, whose total has the prompt's cached part.
        ({"inputTokens": 10, "outputTokens": 5, "total_tokens": 115, "cacheReadInputTokens": 100}, 5, None),
    ],
)
def test_reasoning_that_a_provider_counts_beside_the_completion_is_part_of_it(
    theirs: dict[str, Any], completion: int, reasoning: int | None
) -> None:
    usage = usage_of(theirs)

    assert usage is not None
    assert (usage.completion_tokens, usage.reasoning_tokens) == (completion, reasoning)
    assert usage.total_tokens == theirs.get("total_tokens", theirs.get("totalTokenCount"))


async def test_anthropics_first_figure_of_the_answers_length_is_not_told_as_its_last() -> None:
    last = [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}]
    steps = [ANTHROPIC.start, ANTHROPIC.text("Hello"), *map(ANTHROPIC.spoken, last)]

    outcome = await asked(ANTHROPIC, reply_of(ANTHROPIC, *steps))

    assert outcome.usage is not None
    assert (outcome.usage.prompt_tokens, outcome.usage.estimated) == (5, True)


@every_dialect
@pytest.mark.parametrize(
    "listed",
    [
        {"data": [{"id": "a"}, {"id": "b"}]},
        {"models": [{"name": "a"}, {"model": "b"}]},
        [{"id": "a"}, {"id": "b"}, {"id": "a"}, {}, 7],
        ["a", "b"],
        {"data": {"a": {"context": 1}, "b": {}}},
        {"data": {"models": [{"id": "a"}, "b"]}},
        # Half of a character can be in no request and in no response.
        [{"name": "a"}, {"name": "\ud83d"}, {"name": "b"}, "\udc00"],
        [{"id": "a", "display_name": "\ud83d"}, "b"],
    ],
    ids=str,
)
async def test_lists_of_models_are_read_in_any_plain_shape(dialect: Dialect, listed: object) -> None:
    reply = Reply([json.dumps(listed).encode()])
    async with scripted_server(responder=lambda _: reply) as server, dialect.adapter(server) as adapter:
        models = await adapter.list_models()
        assert [model.id for model in models] == ["a", "b"]
        assert all(model.model_dump_json() for model in models)
