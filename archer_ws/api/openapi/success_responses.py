"""The success responses of the routes as OpenAPI describes them: examples, headers, and events.

error_responses.py has the errors.
"""

import json
from typing import Any

from pydantic import BaseModel

from archer_ws.api.openapi.events import EVENT_MODELS
from archer_ws.api.streaming.sse import MEDIA_TYPE
from archer_ws.core.ids import ID_PATTERN
from archer_ws.examples.events import SSE_STREAM
from archer_ws.examples.story import SKY_STREAM_ID


def reference(model: type[BaseModel]) -> dict[str, Any]:
    """A reference to this model's schema in the document's components."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


#: A header of responses about a stream.
STREAM_ID_HEADER: dict[str, Any] = {
    "description": "The stream's id, for cancelling and resuming it; known before the body arrives.",
    "required": True,
    "schema": {"type": "string", "pattern": ID_PATTERN},
    "example": SKY_STREAM_ID,
}
#: A header of responses about one session.
TAG_HEADER: dict[str, Any] = {
    "description": "The session's `version`, for `If-Match`.",
    "required": True,
    "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    "example": '"3"',
}
_EVENTS_EXAMPLE = (
    "".join(
        f"{f'event: {name}{chr(10)}' if name else ''}id: {seq}\ndata: {json.dumps(data)}\n\n"
        for name, seq, data in SSE_STREAM
    )
    + "data: [DONE]\n\n"
)


def _event(name: str, model: type[BaseModel]) -> dict[str, Any]:
    return {
        "title": f"{name} event",
        "type": "object",
        "properties": {
            "event": {"const": name},
            "id": {"type": "string", "description": "The last seq in it, from which a client resumes."},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": reference(model)},
        },
        # An event without a name is a `message`.
        "required": ["data", "id"] if name == "message" else ["event", "data", "id"],
    }


#: The content of a response that is a stream's events. The schema is one event's, as OpenAPI 3.1's tools expect.
EVENT_STREAM_CONTENT = {
    MEDIA_TYPE: {
        "schema": {
            "description": "A server-sent event; after every 15 s of silence a comment is sent.",
            "anyOf": [
                *(_event(name, model) for name, model in EVENT_MODELS.items()),
                {
                    "title": "end of events",
                    "type": "object",
                    "properties": {"data": {"const": "[DONE]"}},
                    "required": ["data"],
                },
            ],
        },
        "example": _EVENTS_EXAMPLE,
    }
}


def success_response(
    description: str, *, example: Any = None, stream_id: bool = False, events: bool = False, tag: bool = False
) -> dict[str, Any]:
    """A route's response that is a success.

    `stream_id`: it has X-Stream-ID. `tag`: it has ETag. `events`: its body is a stream's events, or may be if there is
    also an `example` of JSON.
    """
    content: dict[str, Any] = {}
    if example is not None:
        content["application/json"] = {"example": example}
    if events:
        content |= EVENT_STREAM_CONTENT
    described: dict[str, Any] = {"description": description, "content": content}
    if stream_id:
        described["headers"] = {"X-Stream-ID": STREAM_ID_HEADER}
    if tag:
        described["headers"] = {"ETag": TAG_HEADER}
    return described
