"""Events as OpenAI's chunks, and errors as OpenAI's. Pure."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from archer_ws.api.openai.chunks import ChunkEncoder
from archer_ws.api.openai.errors import error_of_end, openai_error, openai_status, retry_headers
from archer_ws.core.exceptions import ArcherError, FieldError, InvalidParams, ProviderQuota, ProviderRateLimited
from archer_ws.llm_gateway.types import CancelReason, StreamStatus, TokenUsage
from archer_ws.sessions.streams.events import Delta, Event, StreamEnded
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.rules import StreamRules
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.streams.work import StreamIdentity
from tests.fakes import stream_events

USAGE = TokenUsage(prompt_tokens=1, completion_tokens=2, total_tokens=3, cached_tokens=1)


def encoder(*, include_usage: bool = False, model: str = "m") -> ChunkEncoder:
    identity = StreamIdentity("str_1", "local", None, "ollama", model, "req_1", b"", "cancel")
    return ChunkEncoder(Stream(identity, StreamRules(MemoryLog)), include_usage=include_usage)


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
    status = openai_status(info.kind)
    error = openai_error(info)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] == "it happened. Do this."
    assert (error["type"] == "server_error") == (status >= 500)
    assert status != 422
    # The SDKs try these again on their own, unless they are told not to.
    tried_again = status in {408, 409, 429} or status >= 500
    assert ("X-Should-Retry" in retry_headers(info, status)) == (tried_again and not info.retryable)


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
