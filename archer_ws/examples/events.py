"""The events of the story's streams, numbered as in their logs, for the socket and as server-sent events."""

from pydantic import JsonValue
from pydantic.config import JsonDict

from archer_ws.examples.story import (
    ARGUMENTS,
    BEGINNING,
    CALL,
    CALL_ID,
    CITY_STREAM_ID,
    COMPLETION,
    COMPLETION_ID,
    CONNECTION_ID,
    DENIAL,
    FAILED_STREAM_ID,
    FORMAT_ERRORS,
    MODEL,
    OSLO_STREAM_ID,
    OTHER_MODEL,
    OTHER_PROVIDER,
    PICTURE,
    PRIME_STREAM_ID,
    PROVIDER,
    QUESTION_ID,
    REASONING,
    REFUSAL,
    REFUSED_STREAM_ID,
    REST,
    RESULT,
    SESSION_ID,
    SKY_STREAM_ID,
    STEER_ID,
    STEERED_TEXT,
    TAXI_CALL_ID,
    TOOL,
    UMBRELLA_COMPLETION,
    UNAVAILABLE,
    USAGE,
)


def _sky(seq: int) -> JsonDict:
    return {"stream_id": SKY_STREAM_ID, "seq": seq}


def _oslo(seq: int, call_id: str | None = None) -> JsonDict:
    event: JsonDict = {"stream_id": OSLO_STREAM_ID, "seq": seq}
    return event if call_id is None else {**event, "call_id": call_id}


def _bytes(text: str) -> int:
    return len(text.encode())


PROGRESS: list[JsonDict] = [{**_sky(1), "phase": "queued", "detail": "ollama is busy with other requests"}]
_STARTED: JsonDict = {**_sky(2), "session_id": SESSION_ID, "provider": PROVIDER, "model": MODEL}
STARTED: list[JsonDict] = [
    _STARTED,
    {
        "stream_id": PRIME_STREAM_ID,
        "seq": 1,
        "provider": OTHER_PROVIDER,
        "model": OTHER_MODEL,
        "reasoning_effort": "low",
    },
]
DELTAS: list[JsonDict] = [
    {**_sky(3), "from": 3, "reasoning": REASONING},
    {**_sky(5), "from": 4, "content": BEGINNING},
    {**_sky(8), "from": 6, "content": REST},
    {**_sky(5), "from": 1, "content": BEGINNING, "reset": True},
    {**_oslo(5, CALL_ID), "from": 2, "arguments": ARGUMENTS, "name": TOOL},
]
TOOL_CALLS: list[JsonDict] = [
    {**_oslo(6), **CALL, "by": "client"},
    {**_oslo(6), **CALL, "by": "client", "deadline_at": "2026-11-22T10:27:00Z"},
    {
        **_oslo(7, TAXI_CALL_ID),
        "name": "call_taxi",
        "arguments": "{}",
        "by": "client",
        "needs_approval": True,
    },
]
TOOL_UPDATES: list[JsonDict] = [
    {**_oslo(8, TAXI_CALL_ID), "state": "pending", "approved": True},
    {**_oslo(8, CALL_ID), "state": "running"},
]
TOOL_RESULTS: list[JsonDict] = [
    {**_oslo(9, CALL_ID), "status": "ok", "content": RESULT},
    {**_oslo(9, CALL_ID), "status": "ok", "content": "", "parts": [PICTURE]},
    {**_oslo(9, CALL_ID), "status": "ok", "content": "1 January: -4 °C, snow", "truncated": True},
    {**_oslo(10, TAXI_CALL_ID), "status": "denied", "content": f"The call was denied: {DENIAL}"},
]
STEERED: JsonDict = {"message_id": STEER_ID, "content": STEERED_TEXT}
SHOWN_PARTS: list[JsonValue] = [{"type": "text", "text": "This street."}, PICTURE]
SHOWN: JsonDict = {"message_id": "steer-2", "content": "This street.", "parts": SHOWN_PARTS}
STEPS_BEGUN: list[JsonDict] = [{**_oslo(11), "step": 2}, {**_oslo(11), "step": 2, "messages": [STEERED, SHOWN]}]
_COMPLETED: JsonDict = {
    **_sky(9),
    "status": "completed",
    "finish_reason": "stop",
    "usage": USAGE,
    "text_bytes": _bytes(COMPLETION),
    "history_dropped": 2,
    "message_ids": [QUESTION_ID, COMPLETION_ID],
}
#: Every other way in which a stream may end.
_OTHER_ENDS: list[JsonDict] = [
    {
        "stream_id": CITY_STREAM_ID,
        "seq": 5,
        "status": "completed",
        "finish_reason": "stop",
        "text_bytes": 34,
        "format_valid": False,
        "format_errors": FORMAT_ERRORS,
    },
    {
        "stream_id": REFUSED_STREAM_ID,
        "seq": 2,
        "status": "completed",
        "finish_reason": "content_filter",
        "text_bytes": 0,
        "refusal": REFUSAL,
    },
    {**_sky(6), "status": "cancelled", "reason": "client", "text_bytes": _bytes(BEGINNING)},
    {
        **_oslo(31),
        "status": "completed",
        "finish_reason": "stop",
        "text_bytes": _bytes(UMBRELLA_COMPLETION),
        "steps": 2,
        "unsteered": [SHOWN],
    },
    {**_sky(9), "status": "completed", "finish_reason": "stop", "text_bytes": _bytes(COMPLETION), "stored": False},
    {
        **_sky(6),
        "status": "incomplete",
        "text_bytes": _bytes(BEGINNING),
        "error": {
            "kind": "upstream_truncated",
            "message": "the answer of ollama stopped without its end",
            "retryable": True,
            "request_id": f"{CONNECTION_ID}.7",
            "stream_id": SKY_STREAM_ID,
            "provider": PROVIDER,
        },
    },
    {"stream_id": FAILED_STREAM_ID, "seq": 1, "status": "failed", "text_bytes": 0, "error": UNAVAILABLE},
]
ENDED: list[JsonDict] = [{**_COMPLETED, "content": COMPLETION}, *_OTHER_ENDS]


def beside_a_chunk(event: JsonDict, *, has_text: bool = False) -> JsonDict:
    """The data of a named server-sent event: its fields beside a chunk's; `has_text`: `content` is its own."""
    return {"finish_reason": None, **event, **({} if has_text else {"content": ""})}


#: Without `content`: over server-sent events the end has no text.
ENDED_DATA: list[JsonDict] = [beside_a_chunk(event) for event in (_COMPLETED, *_OTHER_ENDS)]
TEXT_DATA: list[JsonDict] = [
    {"content": "", "finish_reason": None, "reasoning": REASONING},
    {"content": BEGINNING, "finish_reason": None},
    {"content": REST, "finish_reason": None},
    {"content": "", "finish_reason": None, "arguments": ARGUMENTS, "call_id": CALL_ID, "name": TOOL},
    {"content": BEGINNING, "finish_reason": None, "reset": True},
]
#: Stream `sky-1` as server-sent events, without its waiting and its reasoning.
SSE_STREAM: list[tuple[str | None, int, JsonDict]] = [
    ("started", 2, beside_a_chunk(_STARTED)),
    (None, 5, TEXT_DATA[1]),
    (None, 8, TEXT_DATA[2]),
    (
        "ended",
        9,
        beside_a_chunk({key: _COMPLETED[key] for key in ("finish_reason", "stream_id", "seq", "status", "text_bytes")}),
    ),
]
