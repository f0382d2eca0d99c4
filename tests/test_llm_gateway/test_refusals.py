"""A model that declines: what each provider says of it, as one reason and one refusal."""

import asyncio
from typing import Any

import pytest

from archer_ws.llm_gateway.base import BaseLLMAdapter
from archer_ws.llm_gateway.decoding.refusals import REFUSAL_CHARS_MAX
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.types import ChatOptions, ChatResponse, Refusal
from tests.fakes import anthropic_api, openai_api
from tests.fakes.any_provider import HELLO, adapter_at
from tests.fakes.openai_api import chunk, delta, ending, stream
from tests.fakes.scripted_server import Reply, scripted_server

BY_SCHEMA = ResponseFormat.model_validate({"type": "json_schema", "json_schema": {"name": "any", "schema": {}}})
JSON = ChatOptions(response_format=ResponseFormat(type="json_object"))
DECLINED = [
    chunk({"role": "assistant", "content": "", "refusal": ""}),
    chunk({"refusal": "I "}),
    chunk({"refusal": "can't"}),
]


async def answered(provider: str, reply: Reply, options: ChatOptions = JSON) -> ChatResponse:
    async with (
        asyncio.timeout(10),
        scripted_server(reply) as server,
        adapter_at(provider, server.url) as adapter,
    ):
        return await whole(adapter, options)


async def whole(adapter: BaseLLMAdapter, options: ChatOptions) -> ChatResponse:
    return await adapter.chat(HELLO, "m", options=options)


def told(answer: ChatResponse) -> tuple[str, str | None, Refusal | None]:
    return answer.content, answer.finish_reason, answer.refusal


async def test_with_a_format_a_refusal_is_no_part_of_the_answer() -> None:
    assert told(await answered("openai", stream(*DECLINED, *ending()))) == (
        "", "content_filter", Refusal(text="I can't"),
    )  # fmt: skip


async def test_without_a_format_a_refusal_is_what_the_answer_says_too() -> None:
    answer = await answered("openai", stream(*DECLINED, *ending()), ChatOptions())
    assert told(answer) == ("I can't", "content_filter", Refusal(text="I can't"))


@pytest.mark.parametrize("options", [JSON, ChatOptions()])
async def test_a_refusal_that_met_the_limit_stays_cut(options: ChatOptions) -> None:
    answer = await answered("openai", stream(*DECLINED, *ending("length")), options)
    assert told(answer)[1:] == ("length", Refusal(text="I can't"))


async def test_a_whole_answer_in_place_of_a_stream_may_refuse() -> None:
    assert told(await answered("openai", openai_api.completion(None, refusal="I can't"))) == (
        "", "content_filter", Refusal(text="I can't"),
    )  # fmt: skip


async def test_a_refusal_that_is_said_once_more_as_a_whole_message_comes_once() -> None:
    again = openai_api.event({"choices": [{"index": 0, "message": {"content": None, "refusal": "I can't"}}]})
    assert told(await answered("openai", stream(*DECLINED, again, *ending()))) == (
        "", "content_filter", Refusal(text="I can't"),
    )  # fmt: skip


async def test_an_answer_that_only_has_the_field_is_no_refusal() -> None:
    pieces = [chunk({"role": "assistant", "content": "", "refusal": None}), delta("{}"), *ending()]
    assert told(await answered("openai", stream(*pieces))) == ("{}", "stop", None)


async def test_an_endless_refusal_is_cut() -> None:
    pieces = [chunk({"refusal": "no" * REFUSAL_CHARS_MAX}), chunk({"refusal": "no"}), *ending()]
    refusal = (await answered("openai", stream(*pieces))).refusal
    assert refusal is not None
    assert len(refusal.text or "") == REFUSAL_CHARS_MAX


@pytest.mark.parametrize(
    ("pieces", "text"), [(["No \ud83d", "\ude00."], "No \U0001f600."), (["No\ud83d"], "No\ufffd")], ids=["both", "one"]
)
async def test_halves_of_a_character_are_joined_and_one_alone_is_replaced(pieces: list[str], text: str) -> None:
    chunks = [chunk({"refusal": piece}) for piece in pieces]
    assert told(await answered("openai", stream(*chunks, *ending()))) == ("", "content_filter", Refusal(text=text))


def declined(*texts: str, **details: Any) -> Reply:
    """Anthropic's end of an answer that was refused behind some text."""
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": "refusal", "stop_sequence": None, **details},
        "usage": {"output_tokens": 5},
    }
    pieces = [anthropic_api.start(), anthropic_api.block_start(), *map(anthropic_api.delta, texts)]
    return anthropic_api.stream(*pieces, anthropic_api.block_stop(), anthropic_api.event(end), anthropic_api.STOP)


@pytest.mark.parametrize(
    ("details", "refusal"),
    [
        (
            {"stop_details": {"type": "refusal", "category": "cyber", "explanation": "It may harm."}},
            Refusal(text="It may harm.", category="cyber"),
        ),
        ({"stop_details": {"category": "\ud83d", "explanation": "\udc00"}}, Refusal(text="\ufffd", category="\ufffd")),
        ({"stop_details": {"type": "refusal", "category": None, "explanation": None}}, Refusal()),
        ({"stop_details": None}, Refusal()),
        ({}, Refusal()),
    ],
)
async def test_anthropic_s_refusal_has_its_category_and_the_text_before_it_stays(
    details: dict[str, Any], refusal: Refusal
) -> None:
    answer = await answered("anthropic", declined("Let me", " see", **details), ChatOptions(response_format=BY_SCHEMA))
    assert told(answer) == ("Let me see", "content_filter", refusal)
