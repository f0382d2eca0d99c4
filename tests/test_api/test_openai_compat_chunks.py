"""Events as OpenAI's chunks, and errors as OpenAI's. Pure."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from archer_ws.api.openai.chunks import ChunkEncoder
from archer_ws.api.openai.error_object import (
    error_of_end,
    openai_error,
    openai_error_response,
    openai_status,
    retry_headers,
)
from archer_ws.api.openai.scored_chunks import ScoredChunkEncoder
from archer_ws.core.exceptions import (
    ArcherError,
    ErrorInfo,
    FieldError,
    InvalidParams,
    OutputTooLong,
    ProviderAuth,
    ProviderError,
    ProviderFailure,
    ProviderNotConfigured,
    ProviderQuota,
    ProviderRateLimited,
    ProviderUnavailable,
)
from archer_ws.llm_gateway.types import CancelReason, StreamStatus, TokenUsage
from archer_ws.sessions.streams.events import CallName, Delta, Event, StreamEnded, StreamStep, StreamToolCall
from archer_ws.sessions.streams.logprobs import TokenLogprobs
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.rules import StreamRules
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.streams.work import StreamIdentity
from tests.fakes import stream_events

USAGE = TokenUsage(prompt_tokens=1, completion_tokens=2, total_tokens=3, cached_tokens=1)


def stream_of(model: str = "m") -> Stream:
    identity = StreamIdentity("str_1", "local", None, "ollama", model, "req_1", b"", "cancel")
    return Stream(identity, StreamRules(MemoryLog))


def encoder(*, include_usage: bool = False, model: str = "m") -> ChunkEncoder:
    return ChunkEncoder(stream_of(model), include_usage=include_usage)


def scored_encoder(**tokens: str) -> ChunkEncoder:
    """One that has the log probability of the token of each of these events, `e4="a"`."""
    head = 0
    logprobs = TokenLogprobs(lambda: head, "ollama")
    for event, token in tokens.items():
        head = int(event.removeprefix("e")) - 1
        logprobs.add([{"token": token, "logprob": -1.0}], "content")
    return ScoredChunkEncoder(stream_of(), logprobs, include_usage=False)


def ended(status: StreamStatus = "completed", *, reason: CancelReason | None = None) -> StreamEnded:
    return stream_events.ended(9, status=status, reason=reason, usage=USAGE)


def sent(to_wire: ChunkEncoder, *events: Event) -> list[str]:
    """The data of what goes over the wire."""
    blocks = b"".join(map(to_wire, events)).decode().split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [block.removeprefix("data: ") for block in blocks]


@pytest.mark.parametrize("text", ["plain", "\0", "a\n\nb\r", '"\\', "\u2028\u2029\x85", "🎉", "%b%s{}"])
@pytest.mark.parametrize("model", ["m", "\0", 'a"b\n\nc', "content"])
@pytest.mark.parametrize("kind", ["content", "reasoning"])
def test_any_text_of_any_model_stays_within_its_event(text: str, model: str, kind: Any) -> None:
    (data,) = sent(encoder(model=model), Delta(1, 1, kind, text.encode()))
    chunk = json.loads(data)
    assert chunk["model"] == model
    field = "content" if kind == "content" else "reasoning_content"
    assert chunk["choices"] == [{"index": 0, "delta": {field: text}, "logprobs": None, "finish_reason": None}]


@pytest.mark.parametrize("tokens", [None, {"e4": "a", "e7": "b", "e8": "c"}, {"e8": "c"}], ids=str)
def test_an_empty_line_stands_between_the_texts_of_two_steps_and_nowhere_else(tokens: dict[str, str] | None) -> None:
    to_wire = encoder() if tokens is None else scored_encoder(**tokens)
    steps = [StreamStep(stream_id="str_1", seq=seq, step=number) for number, seq in enumerate((3, 5, 6, 9), 2)]
    events: list[Event] = [
        stream_events.started(2),
        steps[0],  # The first step called a tool only,
        Delta(4, 4, "content", b"a"),
        steps[1],  # and so did the third.
        steps[2],
        Delta(7, 7, "content", b"b"),
        Delta(8, 8, "content", b"c"),
        steps[3],
        ended(),
    ]
    *chunks, _ = sent(to_wire, *events)
    texts = [json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert texts == ["", "a", "\n\nb", "c", ""]


def test_a_whole_stream_is_role_text_reason_and_the_end() -> None:
    events: list[Event] = [
        stream_events.queued(1),
        stream_events.started(2),
        Delta(3, 3, "content", b"x"),
        ended(),
    ]
    *chunks, done = sent(encoder(), *events)
    assert [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "x"},
        {},
    ]
    assert json.loads(chunks[-1])["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"
    assert not any("usage" in json.loads(chunk) for chunk in chunks)


def test_a_stream_without_a_beginning_gets_its_role_all_the_same() -> None:
    first, *_ = sent(encoder(), ended())
    assert json.loads(first)["choices"][0]["delta"]["role"] == "assistant"


def test_the_tokens_come_last_where_they_are_asked_for() -> None:
    *chunks, last, done = sent(encoder(include_usage=True), stream_events.started(1), ended())
    assert done == "[DONE]"
    assert [json.loads(chunk)["usage"] for chunk in chunks] == [None, None]
    assert json.loads(last)["choices"] == []
    assert json.loads(last)["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


@pytest.mark.parametrize(
    ("reason", "code", "kind"),
    [
        ("client", "cancelled", "invalid_request_error"),
        ("disconnected", "cancelled", "invalid_request_error"),
        ("draining", "draining", "server_error"),
    ],
)
def test_a_cancelled_stream_ends_with_an_error_and_never_clean(reason: CancelReason, code: str, kind: str) -> None:
    (last,) = sent(encoder(include_usage=True), ended("cancelled", reason=reason))
    error = json.loads(last)["error"]
    assert (error["code"], error["type"]) == (code, kind)


def test_a_completed_stream_has_no_error() -> None:
    assert error_of_end(ended(), stream_id="str_1", request_id="req_1") is None


def every_kind(base: type[ArcherError] = ArcherError) -> Iterator[type[ArcherError]]:
    yield base
    for child in base.__subclasses__():
        yield from every_kind(child)


@pytest.mark.parametrize("kind", sorted(set(every_kind()), key=str))
def test_every_error_of_ours_is_one_of_openai_s(kind: type[ArcherError]) -> None:
    info = kind("it happened", hint="Do this.").info("req_1")
    status = openai_status(info.kind, retryable=info.retryable)
    error = openai_error(info)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] == "it happened. Do this."
    assert (error["type"] == "server_error") == (status >= 500)
    assert status != 422
    # The SDKs try these again on their own, unless they are told not to.
    tried_again = status in {408, 409, 429} or status >= 500
    assert ("X-Should-Retry" in retry_headers(info, status)) == (tried_again and not info.retryable)


@pytest.mark.parametrize(
    "kind", [ProviderAuth, ProviderError, ProviderNotConfigured, ProviderUnavailable, OutputTooLong]
)
def test_a_failure_that_no_retry_mends_has_a_status_that_no_client_tries_again(kind: type[ProviderFailure]) -> None:
    info = kind("it happened", retryable=False).info("req_1")
    assert openai_status(info.kind, retryable=info.retryable) == 400
    assert openai_error(info)["error"]["type"] == "invalid_request_error"


def test_a_used_up_account_is_openai_s_insufficient_quota_and_not_tried_again() -> None:
    info = ProviderQuota("no money").info("req_1")
    error = openai_error(info)["error"]
    assert (openai_status(info.kind), error["type"], error["code"]) == (429, "insufficient_quota", "insufficient_quota")
    assert retry_headers(info, 429) == {"X-Should-Retry": "false"}


def test_when_to_try_again_is_told_in_milliseconds() -> None:
    info = ProviderRateLimited("slow down", retry_after_ms=1500).info("req_1")
    assert retry_headers(info, openai_status(info.kind)) == {"Retry-After-Ms": "1500"}


@pytest.mark.parametrize(
    ("path", "param"),
    [("messages.0.content.12.type", "messages[0].content[12].type"), ("stop.3", "stop[3]"), ("n", "n")],
)
def test_places_are_written_as_openai_writes_them(path: str, param: str) -> None:
    info = InvalidParams("no", errors=[FieldError(path=path, message="no")]).info("req_1")
    assert openai_error(info)["error"]["param"] == param


def call_deltas(to_wire: ChunkEncoder, *pieces: tuple[str, str, str]) -> list[Any]:
    """What is sent of pieces of arguments: of which call, of which tool, the text."""
    events = [
        Delta(seq, seq, "arguments", text.encode(), CallName(call_id, name))
        for seq, (call_id, name, text) in enumerate(pieces, 1)
    ]
    return [json.loads(data)["choices"][0]["delta"] for data in sent(to_wire, *events)]


def test_a_call_s_first_piece_says_which_it_is_and_the_others_its_index_alone() -> None:
    assert call_deltas(encoder(), ("a", "f", '{"x":'), ("a", "f", " 1}")) == [
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}]},
    ]


def test_calls_are_counted_from_zero_in_the_order_in_which_they_begin_however_they_are_mixed() -> None:
    pieces = [("a", "f", "{"), ("b", "f", "{"), ("a", "f", "}"), ("c", "g", "{}"), ("b", "f", "}")]
    told = [delta["tool_calls"][0] for delta in call_deltas(encoder(), *pieces)]
    assert [call["index"] for call in told] == [0, 1, 0, 2, 1]
    assert [call.get("id") for call in told] == ["a", "b", None, "c", None]
    assert [call["function"].get("name") for call in told] == ["f", "f", None, "g", None]


@pytest.mark.parametrize("text", ["\0", "a\n\nb\r", '"\\', "\u2028\u2029\x85", "🎉", "%b%s{}", '{"tool_calls":[]}'])
def test_any_arguments_of_any_call_stay_within_their_event(text: str) -> None:
    first, second = call_deltas(encoder(model="\0"), (text, text, text), (text, text, text))
    assert first["tool_calls"][0] == {
        "index": 0, "id": text, "type": "function", "function": {"name": text, "arguments": text},
    }  # fmt: skip
    assert second["tool_calls"][0] == {"index": 0, "function": {"arguments": text}}


def test_a_complete_call_is_not_told_again_and_the_end_says_that_there_are_calls() -> None:
    call = StreamToolCall(stream_id="str_1", seq=3, call_id="a", name="f", arguments="{}", by="client")
    end = stream_events.ended(4, finish_reason="tool_calls", usage=USAGE)
    opening, piece, last, done = sent(
        encoder(), stream_events.started(1), Delta(2, 2, "arguments", b"{}", CallName("a", "f")), call, end
    )
    assert "role" in opening
    assert '"arguments":"{}"' in piece
    assert json.loads(last)["choices"][0] == {
        "index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls",
    }  # fmt: skip
    assert done == "[DONE]"


def test_what_the_server_has_tried_again_is_not_tried_again_by_an_sdk() -> None:
    info = ProviderRateLimited("slow down", retry_after_ms=1500).info("req_1")
    answer = openai_error_response(info, was_retried=True)
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after-ms" not in answer.headers
    assert answer.headers["retry-after"] == "2", "for people"
    assert retry_headers(ErrorInfo(kind="invalid_params", message="no", retryable=False, request_id="r"), 400) == {}
