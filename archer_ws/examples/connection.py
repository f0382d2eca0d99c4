"""The params and results of the socket's methods that are no values of another subject: rpc/'s own."""

from pydantic.config import JsonDict

from archer_ws.examples.chat import MODEL_INFO, PROVIDER_STATES
from archer_ws.examples.sessions import ARCHIVING, FORK, RENAMED
from archer_ws.examples.story import (
    CONNECTION_ID,
    MODEL,
    OSLO_STREAM_ID,
    PROVIDER,
    QUESTION_ID,
    SESSION_ID,
    SUNSET_STREAM_ID,
    TOKEN,
    VERSION,
)

ERRORS: list[JsonDict] = [
    {
        "code": -32020,
        "message": "there is no stream 'sky-9'",
        "data": {
            "kind": "stream_not_found",
            "message": "there is no stream 'sky-9'",
            "retryable": False,
            "request_id": f"{CONNECTION_ID}.7",
        },
    }
]
CLIENT: JsonDict = {"name": "my-app", "version": "1.2.3"}
INITIALIZE_PARAMS: list[JsonDict] = [
    {"protocol_version": 1},
    {"protocol_version": 1, "client": CLIENT, "token": TOKEN, "coalesce_ms": 20},
]
LIMITS: JsonDict = {
    "max_frame_bytes": 1_048_576,
    "max_content_bytes": 1_000_000,
    "max_requests": 64,
    "max_streams": 32,
}
INITIALIZE_RESULTS: list[JsonDict] = [
    {
        "protocol_version": 1,
        "server": {"name": "Archer AI Engine", "version": VERSION},
        "connection_id": CONNECTION_ID,
        "heartbeat_ms": 15_000,
        "limits": LIMITS,
        "capabilities": ["files", "formats", "sessions", "tools", "watch"],
        "schema_hash": "0123456789abcdef",
    }
]
_STREAM: JsonDict = {"stream_id": SUNSET_STREAM_ID}
STREAM_IDS: list[JsonDict] = [_STREAM]
STREAM_GETS: list[JsonDict] = [_STREAM, {"stream_id": OSLO_STREAM_ID, "messages": True, "cursor": "6"}]
SUBSCRIBES: list[JsonDict] = [_STREAM, {**_STREAM, "after": 0}]
SUBSCRIBE_RESULTS: list[JsonDict] = [{**_STREAM, "status": "running", "head_seq": 7}]
CHAT_SEND_RESULTS: list[JsonDict] = [
    {
        **_STREAM,
        "session_id": SESSION_ID,
        "provider": PROVIDER,
        "model": MODEL,
        "status": "queued",
        "head_seq": 0,
        "duplicate": False,
    }
]
STREAM_LISTS: list[JsonDict] = [{}, {"session_id": SESSION_ID, "active": True}, {"limit": 20, "cursor": "7"}]

_SESSION: JsonDict = {"session_id": SESSION_ID}
SESSION_IDS: list[JsonDict] = [_SESSION]
SESSION_GETS: list[JsonDict] = [_SESSION, {**_SESSION, "limit": 20, "cursor": QUESTION_ID}]
SESSION_LISTS: list[JsonDict] = [
    {},
    {"limit": 20, "cursor": "1795688132000000-20"},
    {"order": "created", "archived": False, "cursor": "20"},
]
SESSION_DELETES: list[JsonDict] = [_SESSION, {**_SESSION, "version": 3}]
SESSION_FORKS: list[JsonDict] = [_SESSION, {**_SESSION, **FORK}]
SESSION_SEARCHES: list[JsonDict] = [{"query": "blue light"}, {"query": "sky", "limit": 20, "cursor": "71"}]
SESSION_WATCHES: list[JsonDict] = [{}, _SESSION]
SESSION_CHANGES: list[JsonDict] = [
    {**_SESSION, **RENAMED},
    {**_SESSION, "metadata": {}},
    {**_SESSION, **ARCHIVING},
]

DEFAULT_MODEL: JsonDict = {"provider": PROVIDER, "model": MODEL}
MODEL_LISTS: list[JsonDict] = [{"items": [MODEL_INFO], "default": DEFAULT_MODEL, "unavailable": [PROVIDER_STATES[1]]}]
OPENRPC_DOCUMENTS: list[JsonDict] = [
    {"openrpc": "1.3.2", "info": {"title": "archer.v1", "version": "1.0.0"}, "methods": []}
]
