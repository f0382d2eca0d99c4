"""Whatever a provider sends without end, or in too many pieces, is refused at its bound; nobody waits for its size."""

import itertools
import json

import pytest

from archer_ws.core import limits
from archer_ws.llm_gateway.decoding import framing
from archer_ws.llm_gateway.decoding.framing import EventDecoder
from archer_ws.llm_gateway.decoding.json_documents import LineTooLong, decode_json
from tests.fakes import openai_api as api
from tests.fakes.dialects import (
    ANTHROPIC,
    OPENAI,
    Dialect,
    asked,
    every_dialect,
    every_event_stream,
    reply_of,
    streamed_and_whole,
)
from tests.fakes.scripted_server import Reply, forever, scripted_server

PIECE = b"x" * 10_000


#: A bound that is soon met.
SMALL_BYTES = 100_000


ENDLESS = [
    pytest.param([b"data: "], PIECE, id="a line"),
    pytest.param([], b"data: " + PIECE + b"\n", id="an event"),
    pytest.param([b"{\n"], b' "a":\n' * 100, id="a document"),
    pytest.param([b'{"a": "'], PIECE, id="a document of one line"),
]


@every_dialect
@pytest.mark.parametrize(("start", "more"), ENDLESS)
async def test_what_has_no_end_is_refused_at_its_bound(dialect: Dialect, start: list[bytes], more: bytes) -> None:
    reply = reply_of(dialect, *start, *itertools.repeat(more, 1_000), forever())

    outcome = await asked(dialect, reply, document_bytes=SMALL_BYTES)

    assert (outcome.text, outcome.kind) == ("", "provider_error")


@every_event_stream
async def test_an_event_of_empty_lines_has_a_bound_too(dialect: Dialect) -> None:
    reply = reply_of(dialect, *itertools.repeat(b"data:\n" * 100, 1_000), forever())

    assert (await asked(dialect, reply, document_bytes=SMALL_BYTES)).kind == "provider_error"


@every_dialect
@streamed_and_whole
async def test_an_answer_without_end_in_place_of_another_is_refused(dialect: Dialect, is_streamed: bool) -> None:
    reply = reply_of(dialect, *itertools.repeat(PIECE, 1_000), forever(), label="application/json")

    assert (await asked(dialect, reply, is_streamed=is_streamed, document_bytes=SMALL_BYTES)).kind == "provider_error"


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC], ids=repr)
async def test_a_streamed_answer_that_is_waited_for_as_a_whole_has_a_bound(dialect: Dialect) -> None:
    reply = reply_of(dialect, dialect.start, *itertools.repeat(dialect.text("x" * 10_000), 1_000), forever())

    outcome = await asked(dialect, reply, is_streamed=False, document_bytes=SMALL_BYTES)

    assert outcome.kind == "provider_error"
    assert "more than 100000 bytes" in str(outcome.failure)


@every_dialect
async def test_of_an_errors_body_the_beginning_is_read(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    # The end is not waited for, nor the time that is given to a beginning that does not come.
    monkeypatch.setattr("archer_ws.llm_gateway.transport.response.PROVIDER_ERROR_BODY_S", 1000)
    reply = reply_of(dialect, *itertools.repeat(PIECE, 1_000), forever(), status=500)

    assert (await asked(dialect, reply)).kind == "provider_error"


@every_dialect
async def test_a_list_of_models_without_end_is_refused(dialect: Dialect) -> None:
    reply = Reply([b"[", *itertools.repeat(b'"a",' * 2_000, 1_000), forever()])
    async with (
        scripted_server(responder=lambda _: reply) as server,
        dialect.adapter(server, document_bytes=SMALL_BYTES) as adapter,
    ):
        status = await adapter.health_check()

    assert not status.available
    assert "more than" in str(status.error)


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC], ids=repr)
async def test_a_list_of_too_many_models_is_refused(dialect: Dialect) -> None:
    reply = Reply.of_json([str(number) for number in range(limits.PROVIDER_MODELS + 1)])
    async with scripted_server(responder=lambda _: reply) as server, dialect.adapter(server) as adapter:
        assert "models" in str((await adapter.health_check()).error)


@pytest.mark.parametrize(
    "content", ["[]", "{}", '"a"', "1", '{"a": {"b": []}}', '{"type": "text", "text": "a"}'], ids=str
)
async def test_a_document_of_too_many_values_is_refused_before_it_is_decoded(content: str) -> None:
    content = ",".join([content] * (limits.PROVIDER_DOCUMENT_VALUES + 1))
    event = b'data: {"choices": [{"delta": {"content": [' + content.encode() + b"]}}]}\n\n"

    outcome = await asked(OPENAI, reply_of(OPENAI, api.delta("Hello"), event, api.DONE))

    assert (outcome.text, outcome.kind) == ("Hello", "provider_error")
    assert "values" in str(outcome.failure)


def test_values_in_many_lines_of_one_event_count_together() -> None:
    event = b"data: [\n" + (b"data: " + b"[]," * 1000 + b"\n") * 110 + b"data: 1]\n\n"

    with pytest.raises(LineTooLong, match="values"):
        EventDecoder().feed(event)


@pytest.mark.parametrize("text", ["[" * 2_000_000, "a,b:c\n" * 500_000, '{"a": [1]}' * 200_000, '\\"' * 900_000])
def test_a_long_text_may_have_as_many_brackets_as_it_likes(text: str) -> None:
    assert decode_json(json.dumps({"content": text}).encode()) == {"content": text}


async def test_a_text_of_too_many_parts_is_refused() -> None:
    event = api.chunk({"content": [""] * (limits.PROVIDER_PARTS + 1)})

    assert (await asked(OPENAI, reply_of(OPENAI, event, api.DONE))).kind == "provider_error"


async def test_too_many_choices_are_refused() -> None:
    event = api.event({"choices": [{"index": number} for number in range(limits.PROVIDER_CHOICES + 1)]})

    assert (await asked(OPENAI, reply_of(OPENAI, event, api.DONE))).kind == "provider_error"


def test_a_line_that_comes_byte_by_byte_keeps_few_pieces() -> None:
    decoder = EventDecoder()
    for _ in range(3 * framing._MOST_PIECES):
        decoder.feed(b"x")

    assert len(decoder._lines._rest) <= framing._MOST_PIECES + 1


def test_an_event_of_many_short_lines_counts_what_they_take() -> None:
    decoder = EventDecoder(max_bytes=10_000)

    with pytest.raises(LineTooLong):
        decoder.feed(b"data:\n" * 10_000)


@every_event_stream
async def test_a_long_answer_is_no_long_event(dialect: Dialect) -> None:
    outcome = await asked(dialect, reply_of(dialect, dialect.stream(*["x" * 1000] * 3000)))

    assert (outcome.failure, len(outcome.text)) == (None, 3_000_000)
