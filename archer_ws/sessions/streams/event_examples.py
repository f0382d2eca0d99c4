"""Examples of a stream's events: they stand in the schemas, the documents and the tests."""

from pydantic.config import JsonDict

STARTED: list[JsonDict] = [
    {"stream_id": "sky-2", "seq": 2, "session_id": "sky", "provider": "ollama", "model": "llama3.2"},
    {"stream_id": "sky-3", "seq": 1, "provider": "openai", "model": "gpt-5.1", "reasoning_effort": "low"},
]
PROGRESS: list[JsonDict] = [
    {"stream_id": "sky-2", "seq": 1, "phase": "queued", "detail": "ollama is busy with other requests"}
]
DELTAS: list[JsonDict] = [
    {"stream_id": "sky-2", "from": 3, "seq": 5, "content": "Because air"},
    {"stream_id": "sky-2", "from": 6, "seq": 6, "reasoning": "Rayleigh scattering."},
    {"stream_id": "sky-2", "from": 7, "seq": 7, "content": " scatters", "reset": True},
    {
        "stream_id": "sky-2",
        "from": 8,
        "seq": 12,
        "arguments": '{"city": "Os',
        "call_id": "k3Zq9TxB1",
        "name": "get_weather",
    },
]
TOOL_CALLS: list[JsonDict] = [
    {
        "stream_id": "sky-2",
        "seq": 14,
        "call_id": "k3Zq9TxB1",
        "name": "get_weather",
        "arguments": '{"city": "Oslo"}',
        "by": "client",
    },
    {
        "stream_id": "sky-2",
        "seq": 15,
        "call_id": "w8LmQ2rVx",
        "name": "delete_file",
        "arguments": "{}",
        "by": "client",
        "needs_approval": True,
    },
    {
        "stream_id": "sky-2",
        "seq": 16,
        "call_id": "w8LmQ2rVx",
        "name": "get_weather",
        "arguments": '{"city": "Oslo"}',
        "by": "client",
        "deadline_at": "2026-11-22T10:25:32Z",
    },
]
STEERED: JsonDict = {"message_id": "steer-1", "content": "In Celsius, please."}
SHOWN: JsonDict = {
    "message_id": "steer-2",
    "content": "This city.",
    "parts": [{"type": "text", "text": "This city."}, {"type": "image", "file_id": "file_Zq0wXyNn2m1p"}],
}
STEPS_BEGUN: list[JsonDict] = [
    {"stream_id": "sky-2", "seq": 18, "step": 2},
    {"stream_id": "sky-2", "seq": 18, "step": 2, "messages": [STEERED, SHOWN]},
]
TOOL_UPDATES: list[JsonDict] = [
    {"stream_id": "sky-2", "seq": 16, "call_id": "w8LmQ2rVx", "state": "pending", "approved": True},
    {"stream_id": "sky-2", "seq": 17, "call_id": "w8LmQ2rVx", "state": "running"},
]
TOOL_RESULTS: list[JsonDict] = [
    {"stream_id": "sky-2", "seq": 17, "call_id": "k3Zq9TxB1", "status": "ok", "content": "4 degrees, light rain"},
    {
        "stream_id": "sky-2",
        "seq": 17,
        "call_id": "k3Zq9TxB1",
        "status": "ok",
        "content": "",
        "parts": [{"type": "image", "file_id": "file_Zq0wXyNn2m1p"}],
    },
    {
        "stream_id": "sky-2",
        "seq": 17,
        "call_id": "k3Zq9TxB1",
        "status": "ok",
        "content": "Oslo, 1 January: -4 degrees, snow",
        "truncated": True,
    },
    {
        "stream_id": "sky-2",
        "seq": 18,
        "call_id": "w8LmQ2rVx",
        "status": "denied",
        "content": "The call was denied: not that file",
    },
]
ENDED: list[JsonDict] = [
    {
        "stream_id": "sky-2",
        "seq": 9,
        "status": "completed",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 14, "completion_tokens": 11, "total_tokens": 25},
        "text_bytes": 46,
        "history_dropped": 2,
        "content": "Because air scatters blue light more than red.",
        "message_ids": ["msg_9mK3vQx0bTzLw2RfY7cN", "msg_Zq0wXyNn2m1pS8dQ4hKt"],
    },
    {
        "stream_id": "sky-2",
        "seq": 5,
        "status": "completed",
        "finish_reason": "stop",
        "text_bytes": 35,
        "format_valid": False,
        "format_errors": [{"path": "people", "message": 'it is not of type "integer"'}],
    },
    {
        "stream_id": "sky-2",
        "seq": 2,
        "status": "completed",
        "finish_reason": "content_filter",
        "text_bytes": 0,
        "refusal": {"text": "I can't help with that."},
    },
    {"stream_id": "sky-2", "seq": 8, "status": "cancelled", "reason": "client", "text_bytes": 11},
    {
        "stream_id": "sky-2",
        "seq": 31,
        "status": "completed",
        "finish_reason": "stop",
        "text_bytes": 46,
        "steps": 3,
        "unsteered": [STEERED],
    },
    {
        "stream_id": "sky-2",
        "seq": 9,
        "status": "completed",
        "finish_reason": "stop",
        "text_bytes": 46,
        "stored": False,
    },
    {
        "stream_id": "sky-2",
        "seq": 8,
        "status": "incomplete",
        "text_bytes": 11,
        "error": {
            "kind": "upstream_truncated",
            "message": "the answer of ollama stopped without its end",
            "retryable": True,
            "request_id": "con_Zq0wXyNn2m1pS8dQ4hKt.7",
            "stream_id": "sky-2",
            "provider": "ollama",
        },
    },
]
