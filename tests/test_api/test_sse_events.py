"""The bytes of a stream's events as server-sent events."""

import json

import pytest

from archer_ws.api.streaming.sse import DONE, encode_event
from archer_ws.core.exceptions import ErrorInfo
from archer_ws.llm_gateway.types import TokenUsage
from archer_ws.sessions.streams.events import ControlEvent, StreamEnded, StreamStarted, StreamToolResult, as_fields

#: Quotes, everything that ends a line somewhere, control characters, and characters of two to four bytes.
ODD = '"\\/ \b\f\n\r\t\x00\x1f\x7f\x85 \u2028\u2029 \xe4\u20ac\U0001f600'

EVENTS = [
    StreamStarted(stream_id="s", seq=1, provider="openai", model=ODD),
    StreamToolResult(stream_id="s", seq=2, call_id="c", status="ok", content=ODD),
    StreamEnded(
        stream_id="s",
        seq=3,
        status="incomplete",
        finish_reason="length",
        usage=TokenUsage(prompt_tokens=1, completion_tokens=2, total_tokens=3, estimated=True),
        text_bytes=0,
        error=ErrorInfo(kind="upstream_truncated", message=ODD, retryable=True, request_id="r", hint=ODD),
    ),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_a_named_event_is_one_line_of_data_as_pythons_own_encoder_writes_it(event: ControlEvent) -> None:
    told = as_fields(event)
    data = {"content": "", "finish_reason": told.pop("finish_reason", None), **told}
    block = f"event: {event.kind}\nid: {event.seq}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
    assert encode_event(event) == (block + DONE if isinstance(event, StreamEnded) else block)
