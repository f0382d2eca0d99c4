"""The conversation `sky`, its messages and streams: the values of sessions/."""

from pydantic.config import JsonDict

from archer_ws.examples.events import SHOWN, STEERED
from archer_ws.examples.story import (
    ASKED_AT,
    BEGINNING,
    CALL,
    CALL_ID,
    COMPLETED_AT,
    COMPLETION,
    COMPLETION_ID,
    CREATED_AT,
    FAILED_STREAM_ID,
    FORK_ID,
    MODEL,
    NO_SUCH_CITY,
    OSLO_STREAM_ID,
    PICTURE,
    PROVIDER,
    QUESTION,
    QUESTION_ID,
    REASONING,
    REFUSAL,
    REQUEST_ID,
    RESULT,
    SESSION_ID,
    SKY_STREAM_ID,
    SUNSET_STREAM_ID,
    TITLE,
    UMBRELLA_COMPLETION,
    UMBRELLA_REASONING,
    UNAVAILABLE,
    USAGE,
)

_USERS: JsonDict = {
    "message_id": QUESTION_ID,
    "role": "user",
    "content": QUESTION,
    "stream_id": SKY_STREAM_ID,
    "status": "completed",
    "created_at": ASKED_AT,
}
QUESTION_MESSAGE: JsonDict = {**_USERS, "name": "ada"}
SHOWING: JsonDict = {
    **_USERS,
    "message_id": "msg_H7dKe3WpRz0sLq5JtVb8",
    "content": "What is this?",
    "parts": [{"type": "text", "text": "What is this?"}, PICTURE],
}
_MODELS: JsonDict = {
    **_USERS,
    "message_id": COMPLETION_ID,
    "role": "assistant",
    "content": COMPLETION,
    "created_at": COMPLETED_AT,
    "parent_id": QUESTION_ID,
    "provider": PROVIDER,
    "model": MODEL,
    "reasoning": REASONING,
    "usage": USAGE,
}
COMPLETION_MESSAGE: JsonDict = {**_MODELS, "finish_reason": "stop"}
_CALLING_ID = "msg_Pa7RwTe2UqXn5cVbM1sD"
STORED_MESSAGES: list[JsonDict] = [
    QUESTION_MESSAGE,
    SHOWING,
    COMPLETION_MESSAGE,
    {
        **_MODELS,
        "message_id": "msg_Lk3JhGf4DsAq5WeRtY6u",
        "content": BEGINNING,
        "status": "failed",
        "error": UNAVAILABLE,
    },
    {**_MODELS, "message_id": _CALLING_ID, "content": "", "finish_reason": "tool_calls", "tool_calls": [CALL]},
    {
        **_MODELS,
        "message_id": "msg_B2nMx7QwEr5tYu9ZaSd1",
        "content": "",
        "finish_reason": "stop",
        "refusal": REFUSAL,
    },
    {
        **_USERS,
        "message_id": "msg_T4yGh8JkLo0iUv6ZxEw3",
        "parent_id": _CALLING_ID,
        "role": "tool",
        "content": NO_SUCH_CITY,
        "call_id": CALL_ID,
        "result_status": "error",
    },
]
#: What stream `oslo-1` produced, with the messages that were steered in between its two steps; and a refusal.
STREAM_MESSAGES: list[JsonDict] = [
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": RESULT, "call_id": CALL_ID, "result_status": "ok"},
    {"role": "user", **STEERED},
    {"role": "user", **SHOWN},
    {"role": "assistant", "content": UMBRELLA_COMPLETION, "reasoning": UMBRELLA_REASONING},
    {"role": "assistant", "content": "", "refusal": REFUSAL},
]
ACTIVE: JsonDict = {"stream_id": SUNSET_STREAM_ID, "status": "running"}
EXPORTED: JsonDict = {
    "session_id": SESSION_ID,
    "title": TITLE,
    "metadata": {"pinned": True},
    "created_at": CREATED_AT,
    "updated_at": COMPLETED_AT,
    "message_count": 2,
    "version": 3,
    "preview": COMPLETION,
}
SESSION: JsonDict = {**EXPORTED, "active": [ACTIVE]}
ARCHIVED: JsonDict = {**SESSION, "archived": True}
EMPTY_SESSION: JsonDict = {
    **{field: value for field, value in EXPORTED.items() if field != "preview"},
    "updated_at": CREATED_AT,
    "message_count": 0,
    "version": 1,
    "active": [],
}
FORKED: JsonDict = {**EMPTY_SESSION, "session_id": FORK_ID, "message_count": 2, "preview": COMPLETION}
SESSION_DETAILS: list[JsonDict] = [
    {**SESSION, "messages": [SHOWING, COMPLETION_MESSAGE], "active_streams": [SUNSET_STREAM_ID]},
    {
        **ARCHIVED,
        "message_count": 460,
        "messages": [QUESTION_MESSAGE, COMPLETION_MESSAGE],
        "active": [],
        "active_streams": [],
        "next_cursor": QUESTION_ID,
    },
]
EXPORTED_SESSION: JsonDict = {**EXPORTED, "archived": True, "messages": [QUESTION_MESSAGE, COMPLETION_MESSAGE]}
FOUND: JsonDict = {
    "session_id": SESSION_ID,
    "message_id": COMPLETION_ID,
    "role": "assistant",
    "snippet": COMPLETION,
    "created_at": COMPLETED_AT,
}
CHANGES: list[JsonDict] = [
    {"session_id": SESSION_ID, "version": 3, "updated_at": COMPLETED_AT, "title": TITLE, "active": [ACTIVE]},
    {"session_id": SESSION_ID, "version": 4, "updated_at": "2026-11-22T10:20:00Z", "deleted": True, "active": []},
]
NAMED_SESSION: JsonDict = {"session_id": SESSION_ID, "title": TITLE}
SESSION_CREATES: list[JsonDict] = [{"title": TITLE}, {"session_id": SESSION_ID, "metadata": {"pinned": True}}]
RENAMED: JsonDict = {"title": "Blue skies"}
ARCHIVING: JsonDict = {"archived": True, "version": 3}
UNPINNED: JsonDict = {"metadata": {"pinned": False}}
SESSION_UPDATES: list[JsonDict] = [RENAMED, UNPINNED, ARCHIVING]
FORK: JsonDict = {"before": QUESTION_ID, "new_session_id": FORK_ID}

RUNNING: JsonDict = {
    "stream_id": SUNSET_STREAM_ID,
    "session_id": SESSION_ID,
    "provider": PROVIDER,
    "model": MODEL,
    "status": "running",
    "head_seq": 7,
    "created_at": "2026-11-22T10:16:00Z",
    "text_bytes": 31,
}
COMPLETED: JsonDict = {
    **RUNNING,
    "stream_id": SKY_STREAM_ID,
    "status": "completed",
    "head_seq": 9,
    "created_at": ASKED_AT,
    "ended_at": COMPLETED_AT,
    "text_bytes": len(COMPLETION.encode()),
    "usage": USAGE,
}
STREAMS: list[JsonDict] = [
    RUNNING,
    COMPLETED,
    {
        **RUNNING,
        "stream_id": FAILED_STREAM_ID,
        "status": "failed",
        "head_seq": 1,
        "created_at": "2026-11-22T10:17:00Z",
        "ended_at": "2026-11-22T10:17:01Z",
        "text_bytes": 0,
        "error": UNAVAILABLE,
    },
    {
        **COMPLETED,
        "stream_id": OSLO_STREAM_ID,
        "head_seq": 31,
        "created_at": "2026-11-22T10:25:00Z",
        "ended_at": "2026-11-22T10:26:30Z",
        "text_bytes": len(UMBRELLA_COMPLETION.encode()),
        "messages": [*STREAM_MESSAGES],
        "next_cursor": "6",
    },
]
IMPORT_FAILURE: JsonDict = {
    "line": 3,
    "session_id": SESSION_ID,
    "error": {
        "kind": "conflict",
        "message": f"session_id: there is a session '{SESSION_ID}'",
        "hint": "Delete that one first, or give the line another session_id.",
        "retryable": False,
        "request_id": REQUEST_ID,
    },
}
