"""The decoder of Anthropic's answers: chunks, figures, faults."""

import pytest

from archer_ws.llm_gateway.anthropic.decoder import MessageStreamDecoder
from archer_ws.llm_gateway.chunks import LeanChunk
from archer_ws.llm_gateway.decoding.completion import Completion, ErrorReported, Unreadable, folded
from archer_ws.llm_gateway.decoding.finish_reasons import finish_reason_of
from archer_ws.llm_gateway.types import TokenUsage
from tests.fakes import anthropic_api as api

HEAD = api.start() + api.block_start()


def decoded(*reads: bytes) -> tuple[list[LeanChunk], MessageStreamDecoder]:
    decoder = MessageStreamDecoder()
    return [chunk for read in reads for chunk in decoder.feed(read)], decoder


def whole(body: bytes) -> tuple[list[LeanChunk], MessageStreamDecoder]:
    chunks, decoder = decoded(body)
    return [*chunks, *decoder.finish()], decoder


def test_the_text_of_one_read_is_one_chunk() -> None:
    decoder = MessageStreamDecoder()
    decoder.feed(HEAD)

    assert decoder.feed(api.delta("a") + api.delta("b") + api.PING + api.delta("c")) == [LeanChunk(content="abc")]


def test_a_read_with_reasoning_and_text_gives_a_chunk_for_each_run() -> None:
    decoder = MessageStreamDecoder()
    decoder.feed(HEAD)
    read = api.thinking("x") + api.thinking("y") + api.delta("a") + api.thinking("z")

    assert decoder.feed(read) == [
        LeanChunk(reasoning="xy"),
        LeanChunk(content="a"),
        LeanChunk(reasoning="z"),
    ]


@pytest.mark.parametrize("event", [api.PING, api.block_stop(), api.event({"type": "of_the_future", "x": 1})])
def test_an_event_without_text_shows_that_the_provider_is_alive(event: bytes) -> None:
    chunks, decoder = decoded(event)

    assert chunks == [LeanChunk()]
    assert not decoder.done


def test_half_an_event_gives_nothing_yet() -> None:
    assert decoded(api.delta("abc")[:-4])[0] == []


def test_the_halves_of_a_surrogate_pair_are_passed_on_as_they_come() -> None:
    # json.dumps, which the fake uses, writes each half as an escape of its own, as the API does.
    chunks, decoder = decoded(api.delta("\ud83d"), api.delta("\ude00"))

    assert [chunk.content for chunk in chunks] == ["\ud83d", "\ude00"]
    assert decoder.fault is None


def test_nothing_is_read_after_the_end_marker() -> None:
    chunks, decoder = decoded(HEAD + api.STOP + api.delta("late"), api.delta("later"))

    assert decoder.done
    assert "".join(chunk.content for chunk in chunks) == ""


def test_the_text_before_an_error_is_handed_on_with_it() -> None:
    chunks, decoder = decoded(HEAD + api.delta("Hel") + api.error_event("overloaded_error", "Overloaded"))

    assert chunks[-1].content == "Hel"
    assert isinstance(decoder.fault, ErrorReported)
    assert decoder.fault.error == {"type": "overloaded_error", "message": "Overloaded"}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"upstream went away", None),
        (b'{"type": "overloaded_error"}', {"type": "overloaded_error"}),
        (b'{"error": {"type": "api_error"}}', {"type": "api_error"}),
    ],
)
def test_an_error_event_need_not_look_like_anthropics(data: bytes, error: object) -> None:
    decoder = decoded(b"event: error\ndata: " + data + b"\n\n")[1]

    assert isinstance(decoder.fault, ErrorReported)
    assert decoder.fault.error == error


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"null",
        b"\xff{}",
        b"[" * 100_000,
        b'{"type":"message_start","message":[]}',
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":7}}',
    ],
)
def test_what_cannot_be_read_is_a_fault_after_the_text_before_it(data: bytes) -> None:
    chunks, decoder = decoded(HEAD + api.delta("Hel") + b"event: message_delta\ndata: " + data + b"\n\n")

    assert chunks[-1].content == "Hel"
    assert isinstance(decoder.fault, Unreadable)


def test_a_body_without_a_single_event_is_no_event_stream() -> None:
    decoder = decoded(b"<h1>Log in</h1>")[1]

    decoder.finish()

    assert isinstance(decoder.fault, Unreadable)


@pytest.mark.parametrize("body", [b"", HEAD])
def test_a_body_that_is_empty_or_was_an_event_stream_is_not_called_something_else(body: bytes) -> None:
    decoder = MessageStreamDecoder()
    if body:
        decoder.feed(body)

    decoder.finish()

    assert decoder.fault is None


def test_usage_is_the_newest_of_each_figure() -> None:
    chunks, _ = decoded(
        api.start(input_tokens=7, cache_creation_input_tokens=20, cache_read_input_tokens=300, output_tokens=1),
        api.finish(output_tokens=50, cache_read_input_tokens=None, output_tokens_details={"thinking_tokens": 9}),
        api.finish(input_tokens=8, output_tokens=60),
    )

    assert [chunk.usage for chunk in chunks] == [
        TokenUsage(prompt_tokens=327, completion_tokens=1, total_tokens=328, cached_tokens=300),
        TokenUsage(prompt_tokens=327, completion_tokens=50, total_tokens=377, cached_tokens=300, reasoning_tokens=9),
        TokenUsage(prompt_tokens=328, completion_tokens=60, total_tokens=388, cached_tokens=300, reasoning_tokens=9),
    ]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("of_the_future", "stop"),
    ],
)
def test_reasons_are_normalised(theirs: str, ours: str) -> None:
    assert decoded(api.finish(theirs))[0][-1].finish_reason == ours
    assert finish_reason_of(theirs) == ours


def test_a_whole_answer_without_figures_or_names_is_still_one() -> None:
    chunks, decoder = whole(b'{"content": []}')

    assert decoder.is_whole
    assert folded(chunks, decoder.names) == Completion("", None, None, None, None, None)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"content": 7}', b'{"content": [7]}'])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    _, decoder = whole(body)

    assert not decoder.is_whole
    assert isinstance(decoder.fault, Unreadable) or not body


def test_an_error_may_come_in_place_of_an_answer() -> None:
    _, decoder = whole(b'{"type": "error", "error": {"type": "api_error", "message": "x"}}')

    assert isinstance(decoder.fault, ErrorReported)
