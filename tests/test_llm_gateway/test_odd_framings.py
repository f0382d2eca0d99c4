"""Answers whose label, line ends, bytes or heartbeats are not what they should be: what came is not thrown away."""

import json
from collections.abc import Callable

import pytest

from tests.fakes.dialects import (
    ANTHROPIC,
    OLLAMA,
    OPENAI,
    USAGE,
    Dialect,
    Outcome,
    asked,
    cut,
    every_dialect,
    every_event_stream,
    reply_of,
    streamed_and_whole,
)

LABELS = ["application/json", "text/event-stream", "application/x-ndjson", "text/plain", "text/html", ""]
HEARTBEATS = [
    b": still busy\n\n",
    b"data:\n\n",
    b"data: ping\n\n",
    # A gateway's, which makes data of OpenRouter's comments (mnfst/llm-gateway#2053).
    b"data: : OPENROUTER PROCESSING\n\n",
    b"event: ping\ndata:\n\n",
    b"event: heartbeat\ndata: keep-alive\n\n",
    b"event: keep-alive\ndata: [1, 2]\n\n",
    b'event: status\ndata: {"message": "queued"}\n\n',
    b'event: ping\ndata: {"error": null}\n\n',
    b"\n\n\n\r\n",
]


def assert_whole(outcome: Outcome, text: str = "Hello") -> None:
    assert (outcome.failure, outcome.text, outcome.finish_reason) == (None, text, "stop")
    assert (outcome.usage, outcome.requests) == (USAGE, 1)


@streamed_and_whole
@every_dialect
@pytest.mark.parametrize("label", LABELS)
async def test_the_body_decides_what_it_is_and_not_its_label(dialect: Dialect, label: str, is_streamed: bool) -> None:
    stream = reply_of(dialect, *cut(dialect.stream("Hel", "lo"), 50), label=label)
    assert_whole(await asked(dialect, stream, is_streamed=is_streamed))

    whole = reply_of(dialect, json.dumps(dialect.whole("Hello")).encode(), label=label)
    assert_whole(await asked(dialect, whole, is_streamed=is_streamed))


@streamed_and_whole
@every_dialect
@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda value: json.dumps(value, indent=2), id="indented"),
        pytest.param(lambda value: json.dumps(value, indent=2).replace("\n", "\r\n") + "\r\n", id="indented, CR LF"),
        pytest.param(lambda value: "\ufeff" + json.dumps(value), id="byte order mark"),
        pytest.param(lambda value: "\n\n \n" + json.dumps(value) + "\n", id="blank lines before it"),
        pytest.param(lambda value: f"data: {json.dumps(value)}\n\n", id="as an event"),
    ],
)
async def test_a_whole_answer_to_a_streaming_request_is_taken_once(
    dialect: Dialect, form: Callable[[object], str], is_streamed: bool
) -> None:
    body = form(dialect.whole("Hello")).encode()

    assert_whole(await asked(dialect, reply_of(dialect, *cut(body, 40)), is_streamed=is_streamed))


@every_dialect
@pytest.mark.parametrize("label", LABELS)
async def test_a_web_page_is_never_an_answer(dialect: Dialect, label: str) -> None:
    page = b"<!doctype html>\n<title>secret</title>\n<p>data: nothing</p>\n"

    outcome = await asked(dialect, reply_of(dialect, page, label=label))

    assert (outcome.text, outcome.kind) == ("", "provider_error")
    assert "secret" not in str(outcome.failure)
    assert "address" in str(outcome.failure and outcome.failure.hint)


@every_dialect
async def test_the_last_event_needs_no_line_end_but_its_json_must_be_whole(dialect: Dialect) -> None:
    body = dialect.stream("Hello").rstrip(b"\n")
    assert_whole(await asked(dialect, reply_of(dialect, *cut(body, 64))))

    cut_short = dialect.start + dialect.text("Hello") + dialect.end("stop")[:20]
    outcome = await asked(dialect, reply_of(dialect, cut_short))
    assert (outcome.text, outcome.kind) == ("Hello", "upstream_truncated")


@every_event_stream
@pytest.mark.parametrize(
    "line_ends",
    [
        pytest.param((b"\n\n", b"\n"), id="no blank lines"),
        pytest.param((b"\n", b"\r"), id="CR"),
        pytest.param((b"\n", b"\r\n"), id="CR LF"),
        pytest.param((b"data: ", b"data:"), id="no space"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_line_ends_of_all_kinds_divide_events(
    dialect: Dialect, line_ends: tuple[bytes, bytes], size: int
) -> None:
    body = dialect.stream("Hel", "lo").replace(*line_ends)

    assert_whole(await asked(dialect, reply_of(dialect, *cut(body, size))))


@every_event_stream
async def test_lines_of_json_without_any_framing_are_a_stream_too(dialect: Dialect) -> None:
    lines = [line[6:] for line in dialect.stream("Hel", "lo").split(b"\n") if line.startswith(b"data: {")]

    assert_whole(await asked(dialect, reply_of(dialect, *(line + b"\n" for line in lines))))


@every_event_stream
@pytest.mark.parametrize("heartbeat", HEARTBEATS)
async def test_a_heartbeat_is_a_sign_of_life_and_kills_no_answer(dialect: Dialect, heartbeat: bytes) -> None:
    steps = [heartbeat, dialect.start, heartbeat, dialect.text("Hello"), heartbeat, dialect.end("stop")]

    assert_whole(await asked(dialect, reply_of(dialect, *steps)))


async def test_a_comment_that_became_data_takes_nothing_with_it_where_there_are_no_blank_lines() -> None:
    body = b"data: : busy\n" + OPENAI.stream("Hel", "lo").replace(b"\n\n", b"\n")

    assert_whole(await asked(OPENAI, reply_of(OPENAI, body)))


async def test_a_heartbeat_in_ollamas_lines_kills_no_answer_either() -> None:
    lines = [
        b"event: ping\ndata: pong\n\ndata: : busy\n\n",
        b"data: " + OLLAMA.text("Hello") + b"\n",
        b"data: " + OLLAMA.end("stop"),
    ]

    assert_whole(await asked(OLLAMA, reply_of(OLLAMA, *lines)))


@every_dialect
async def test_junk_in_the_middle_of_an_answer_is_told_after_the_text_before_it(dialect: Dialect) -> None:
    junk = b"{nope\n" if dialect is OLLAMA else b"data: {nope\n\n"
    steps = [dialect.start + dialect.text("Hello"), junk, dialect.end("stop")]

    outcome = await asked(dialect, reply_of(dialect, *steps))

    assert (outcome.text, outcome.kind) == ("Hello", "provider_error")


@streamed_and_whole
@every_dialect
async def test_a_byte_that_is_no_utf_8_costs_a_character_and_not_the_answer(
    dialect: Dialect, is_streamed: bool
) -> None:
    body = dialect.stream("Hello").replace(b"Hello", b"caf\xe9 \xf0\x9f\x98\x80\x00!")

    outcome = await asked(dialect, reply_of(dialect, *cut(body, 1)), is_streamed=is_streamed)

    assert_whole(outcome, "caf\ufffd \N{GRINNING FACE}\x00!")


@every_dialect
async def test_a_byte_that_is_no_utf_8_may_stand_in_a_name(dialect: Dialect) -> None:
    body = dialect.start + dialect.text("Hello").replace(b'{"', b'{"m\xff": 1, "', 1) + dialect.end("stop")

    assert_whole(await asked(dialect, reply_of(dialect, body)))


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [{"type": "message_start"}, {"type": "content_block_start"}, {"type": "content_block_delta"}],
            id="no fields",
        ),
        pytest.param(
            [
                {"type": "message_start", "message": None},
                {"type": "content_block_start", "content_block": {"type": "text"}},
                {"type": "content_block_delta", "delta": {"type": "text_delta", "text": None}},
                {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "zz"}},
                {"type": "content_block_delta", "delta": {"type": "of_the_future", "x": 1}},
            ],
            id="fields of null, and unknown ones",
        ),
    ],
)
async def test_anthropics_blocks_may_lack_what_says_nothing(steps: list[dict[str, object]]) -> None:
    body = b"".join(map(ANTHROPIC.spoken, steps)) + ANTHROPIC.text("Hello") + ANTHROPIC.end("end_turn")

    outcome = await asked(ANTHROPIC, reply_of(ANTHROPIC, body))

    assert (outcome.failure, outcome.text, outcome.finish_reason) == (None, "Hello", "stop")


async def test_anthropics_events_may_have_their_type_as_name_alone() -> None:
    body = (
        b'event: content_block_start\ndata: {"content_block": {"text": "Hel"}}\n\n'
        b'event: content_block_delta\ndata: {"delta": {"text": "lo"}}\n\n'
        b'event: message_delta\ndata: {"delta": {"stop_reason": "end_turn"}}\n\n'
        b"event: message_stop\ndata: {}\n\n"
    )

    outcome = await asked(ANTHROPIC, reply_of(ANTHROPIC, body))

    assert (outcome.failure, outcome.text, outcome.finish_reason) == (None, "Hello", "stop")
