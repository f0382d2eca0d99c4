"""Stream events as server-sent events (protocol section 10). Pure: events in, bytes out.

Each event's `id` is the last seq in it, so that `Last-Event-ID` is where to go on; its data is a StreamChunk. Text
comes as plain messages; `started`, `progress` and `ended` are named events, with the socket's fields beside the
chunk's. After the end comes `data: [DONE]`.
"""

import json
from json.encoder import encode_basestring
from typing import Any

from archer_ws.sessions.streams.log import Delta, Ended, Event, Progress, Started

MEDIA_TYPE = "text/event-stream"
#: A comment: keeps proxies from closing a silent connection.
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


def encode_event(event: Event, stream_id: str) -> bytes:
    """The event's bytes on the wire; the end brings `[DONE]` with it."""
    match event:
        case Delta():
            # The constant parts are written out: this runs for every token. encode_basestring leaves non-ASCII
            # characters as they are, and escapes every line break that could end an event.
            text = encode_basestring(event.text.decode())
            if event.kind == "content":
                data = f'{{"content":{text},"finish_reason":null}}'
            else:
                data = f'{{"content":"","finish_reason":null,"reasoning":{text}}}'
            return f"id: {event.seq}\ndata: {data}\n\n".encode()
        case Started():
            return _named("started", event.seq, None, {"stream_id": stream_id, "seq": event.seq, **_started(event)})
        case Progress():
            fields = {"stream_id": stream_id, "seq": event.seq, "phase": event.phase, "detail": event.detail}
            return _named("progress", event.seq, None, fields)
        case Ended():
            fields = {"stream_id": stream_id, "seq": event.seq, **_ended(event)}
            return _named("ended", event.seq, event.finish_reason, fields) + DONE


def _started(event: Started) -> dict[str, Any]:
    return {"session_id": event.session_id, "provider": event.provider, "model": event.model}


def _ended(event: Ended) -> dict[str, Any]:
    return {
        "status": event.status,
        "reason": event.reason,
        "usage": event.usage.model_dump(mode="json") if event.usage else None,
        "text_bytes": event.text_bytes,
        "history_dropped": event.history_dropped,
        "error": event.error.model_dump(mode="json") if event.error else None,
        "stored": event.stored,
    }


def _named(name: str, seq: int, finish_reason: str | None, fields: dict[str, Any]) -> bytes:
    data = {"content": "", "finish_reason": finish_reason}
    data.update((key, value) for key, value in fields.items() if value is not None)
    return f"event: {name}\nid: {seq}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
