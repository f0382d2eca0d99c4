"""An event is defined once: each wire has its definition's fields, and text, written by hand, agrees with them."""

import json
from dataclasses import fields, replace
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from archer_ws.api.openapi.events import EVENT_MODELS, TextEvent
from archer_ws.api.streaming import sse
from archer_ws.client.events import ArgumentsDelta, UnknownEvent, parse_event
from archer_ws.client.events import Delta as ReadDelta
from archer_ws.core.lean_dataclass import lean_dataclass
from archer_ws.rpc import codec
from archer_ws.rpc.messages import NOTIFICATIONS
from archer_ws.sessions.streams.events import (
    EVENTS,
    TEXT_KINDS,
    CallName,
    ControlEvent,
    Delta,
    StreamDelta,
    StreamEnded,
    TextKind,
    as_fields,
    as_json,
    model_of,
)

CONTROL_EVENTS = [event for event in EVENTS if issubclass(event, ControlEvent)]
EXAMPLES: list[Any] = [
    TypeAdapter(event).validate_python(example) for event in CONTROL_EVENTS for example in event.examples
]
TEXTS = ["plain", "", '\0\x1f"\\', "a\n\nb\r\u2028\u2029\x85", "é🎉"]


@pytest.mark.parametrize("event", EXAMPLES)
def test_every_wire_has_the_fields_of_the_definition_and_the_client_reads_them_back(event: ControlEvent) -> None:
    told = as_fields(event)
    frame = json.loads(codec.encode_event(event))
    assert frame == {"jsonrpc": "2.0", "method": f"stream/{event.kind}", "params": told}
    assert NOTIFICATIONS[frame["method"]].model_validate_json(json.dumps(told), strict=True, extra="forbid")

    assert parse_event(frame["method"], frame["params"]) == event

    if isinstance(event, StreamEnded):  # Its text goes out with the end over the socket alone.
        event = replace(event, content=None)
        told.pop("content", None)
    name, number, data, *rest = sse.encode_event(event).decode().splitlines()
    assert (name, number) == (f"event: {event.kind}", f"id: {event.seq}")
    shown = json.loads(data.removeprefix("data: "))
    assert shown == {"content": "", **told, "finish_reason": told.get("finish_reason")}
    assert EVENT_MODELS[event.kind].model_validate(shown, extra="forbid")
    assert ("data: [DONE]" in rest) == (event.kind == "ended")


@pytest.mark.parametrize("kind", TEXT_KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_delta_written_by_hand_is_what_its_definition_says(kind: TextKind, text: str) -> None:
    call = CallName('call-"1"\n', "näme\\") if kind == "arguments" else None
    of_call = call._asdict() if call else {}
    delta = Delta(3, 5, kind, text.encode(), call)
    defined = StreamDelta(stream_id="s", from_=3, seq=5, **{kind: text}, **of_call)  # type: ignore[arg-type]

    frame = codec.encode_delta(codec.delta_prefix("s"), delta)
    assert frame == f'{{"jsonrpc":"2.0","method":"stream/delta","params":{_spelled(as_fields(defined))}}}'

    number, data, *_ = sse.encode_event(delta).decode().split("\n")
    assert number == "id: 5"
    shown = TextEvent.model_validate_json(data.removeprefix("data: "), extra="forbid", strict=True)
    told = (*TEXT_KINDS, "call_id", "name")
    assert {each: getattr(shown, each) or None for each in told} == {
        each: getattr(defined, each) or None for each in told
    }


def test_the_client_s_deltas_have_the_definition_s_texts() -> None:
    of_the_answer = {field.name for field in fields(ReadDelta)} - {"reset"}
    of_calls = {field.name for field in fields(ArgumentsDelta)} - {"call_id", "name"}
    assert of_the_answer | of_calls == {*TEXT_KINDS} < {field.name for field in fields(StreamDelta)}


def test_a_new_kind_of_event_needs_its_definition_and_no_more() -> None:
    @lean_dataclass(frozen=True, slots=True, kw_only=True)
    class StreamPaused(ControlEvent):
        """The model rests."""

        kind = "paused"
        examples = [{"stream_id": "sky", "seq": 4, "for_ms": 20}]  # noqa: RUF012 - as in events.py

        for_ms: Annotated[int, Field(description="How long.")]

    paused: type[BaseModel] = model_of(StreamPaused)
    assert paused.__name__ == "StreamPaused"
    assert list(paused.model_fields) == ["stream_id", "seq", "for_ms"]
    event = StreamPaused(stream_id="sky", seq=4, for_ms=20)
    assert as_json(event) == b'{"stream_id":"sky","seq":4,"for_ms":20}'
    assert sse.encode_event(event) == (
        b'event: paused\nid: 4\ndata: {"content": "", "finish_reason": null, '
        b'"stream_id": "sky", "seq": 4, "for_ms": 20}\n\n'
    )


def test_what_a_newer_server_says_is_given_as_it_came_and_what_it_leaves_out_is_empty() -> None:
    ended = parse_event("stream/ended", {"seq": 3, "status": "applauded", "usage": 7, "error": {"kind": "novel"}})
    assert as_fields(ended) == {  # type: ignore[arg-type]
        "stream_id": "",
        "seq": 3,
        "status": "applauded",
        "text_bytes": 0,
        "error": {"kind": "novel", "message": "an error without a message", "retryable": False, "request_id": ""},
    }
    assert parse_event("stream/applause", {"seq": 1}) == UnknownEvent("stream/applause", {"seq": 1})


def _spelled(told: dict[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))
