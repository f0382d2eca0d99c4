"""Examples of the values in messages.py: they stand in the schemas, the documents and the tests."""

from pydantic.config import JsonDict

from archer_ws.llm_gateway.examples import PROVIDER_STATES

ERRORS: list[JsonDict] = [
    {
        "code": -32020,
        "message": "there is no stream 'sky-9'",
        "data": {
            "kind": "stream_not_found",
            "message": "there is no stream 'sky-9'",
            "retryable": False,
            "request_id": "con_Zq0wXyNn2m1pS8dQ4hKt.7",
        },
    }
]
PEERS: list[JsonDict] = [{"name": "my-app", "version": "1.2.3"}]
INITIALIZE_PARAMS: list[JsonDict] = [
    {"protocol_version": 1},
    {
        "protocol_version": 1,
        "client": {"name": "my-app", "version": "1.2.3"},
        "token": "the-token-of-AUTH_TOKEN",
        "coalesce_ms": 20,
    },
]
LIMITS: list[JsonDict] = [
    {"max_frame_bytes": 1048576, "max_content_bytes": 1000000, "max_requests": 64, "max_streams": 32}
]
TICKETS: list[JsonDict] = [{"ticket": "kq0X1cV5m0lLzV2kq5sHkqv0mS3yq2nQ0cFh8Wc1x2E", "expires_in_s": 30}]
INITIALIZE_RESULTS: list[JsonDict] = [
    {
        "protocol_version": 1,
        "server": {"name": "Archer AI Engine", "version": "0.1.0"},
        "connection_id": "con_Zq0wXyNn2m1pS8dQ4hKt",
        "heartbeat_ms": 15000,
        "limits": {
            "max_frame_bytes": 1048576,
            "max_content_bytes": 1000000,
            "max_requests": 64,
            "max_streams": 32,
        },
        "capabilities": ["files", "formats", "sessions", "tools", "watch"],
        "schema_hash": "0123456789abcdef",
    }
]
CHAT_SEND_RESULTS: list[JsonDict] = [
    {
        "stream_id": "sky-2",
        "session_id": "sky",
        "provider": "ollama",
        "model": "llama3.2",
        "status": "queued",
        "head_seq": 0,
        "duplicate": False,
    }
]
SUBSCRIBE_RESULTS: list[JsonDict] = [{"stream_id": "sky-2", "status": "running", "head_seq": 7}]
SESSION_UPDATES: list[JsonDict] = [
    {"session_id": "sky", "title": "Blue skies"},
    {"session_id": "sky", "metadata": {}},
    {"session_id": "sky", "archived": True, "version": 3},
]
MODEL_LISTS: list[JsonDict] = [
    {
        "items": [{"id": "llama3.2", "name": "Llama 3.2", "provider": "ollama", "context_window": 131072}],
        "default": {"provider": "ollama", "model": "llama3.2"},
        "unavailable": [PROVIDER_STATES[1]],
    }
]
PROVIDERS: list[JsonDict] = [{"ollama": PROVIDER_STATES[0], "openai": PROVIDER_STATES[1]}]
OPENRPC_DOCUMENTS: list[JsonDict] = [
    {"openrpc": "1.3.2", "info": {"title": "archer.v1", "version": "1.0.0"}, "methods": []}
]
