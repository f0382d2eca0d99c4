"""Stream events as server-sent events (protocol section 10). Pure: events in, bytes out.

Each event's `id` is the last seq in it, so `Last-Event-ID` is where to resume; its data is a StreamChunk. Text is sent
as unnamed messages; all other events are named, with the socket's fields added to the chunk's. `data: [DONE]` follows
the end.
"""

from json.encoder import encode_basestring

import msgspec

from archer_ws.sessions.streams.events import Delta, Event, StreamEnded, as_fields, call_fields

MEDIA_TYPE = "text/event-stream"
#: A comment: keeps proxies from closing a silent connection.
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


def encode_event(event: Event) -> bytes:
    """The event's bytes on the wire; those of the end include `[DONE]`."""
    if isinstance(event, Delta):
        # The constant parts are written by hand: this runs for every token. encode_basestring leaves non-ASCII
        # characters unchanged, and escapes every line break that could end an event.
        text = encode_basestring(event.text.decode())
        reset = ',"reset":true' if event.reset else ""
        if event.kind == "content":
            return f'id: {event.seq}\ndata: {{"content":{text},"finish_reason":null{reset}}}\n\n'.encode()
        call = "" if event.call is None else f",{call_fields(event.call)}"
        chunk = f'{{"content":"","finish_reason":null,"{event.kind}":{text}{call}{reset}}}'
        return f"id: {event.seq}\ndata: {chunk}\n\n".encode()
    told = as_fields(event)
    data = {"content": "", "finish_reason": told.pop("finish_reason", None), **told}
    # As Python's own encoder writes it, with a space after each colon and comma.
    written = msgspec.json.format(msgspec.json.encode(data), indent=0)
    block = b"event: %b\nid: %d\ndata: %b\n\n" % (event.kind.encode(), event.seq, written)
    return block + DONE if isinstance(event, StreamEnded) else block
