"""Examples of the values in types.py: they stand in the schemas, the documents and the tests."""

from pydantic import JsonValue
from pydantic.config import JsonDict

#: What Ollama's errors say (ollama/failures.py) where nothing answers.
OLLAMA_IS_AWAY = "nothing answers at http://localhost:11434 (ollama)"
START_OLLAMA = "Start Ollama (ollama serve), or set OLLAMA_HOST, or run: archer-ws serve --provider local"

_USAGE: JsonDict = {"prompt_tokens": 14, "completion_tokens": 11, "total_tokens": 25}

UNAVAILABLE: JsonDict = {
    "kind": "provider_unavailable",
    "message": OLLAMA_IS_AWAY,
    "hint": START_OLLAMA,
    "retryable": True,
    "request_id": "req_Zq0wXyNn2m1pS8dQ4hKt",
    "provider": "ollama",
}
_CALL: JsonDict = {"call_id": "k3Zq9TxB1", "name": "get_weather", "arguments": '{"city": "Oslo"}'}
#: The smallest PNG: one pixel.
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJgg"
    "g=="
)
_PHOTO: list[JsonValue] = [{"type": "text", "text": "What is this?"}, {"type": "image", "url": _PIXEL, "detail": "low"}]
CHAT_MESSAGES: list[JsonDict] = [
    {"role": "system", "content": "Answer in one sentence."},
    {"role": "user", "content": "Why is the sky blue?", "name": "ada", "message_id": "msg-1"},
    {"role": "user", "content": _PHOTO},
    {"role": "user", "content": "What is this?", "parts": _PHOTO},
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "content": "4 °C, rain", "call_id": "k3Zq9TxB1", "status": "ok"},
]
CHAT_REQUESTS: list[JsonDict] = [
    {"messages": [{"role": "user", "content": "Why is the sky blue?"}]},
    {
        "messages": [
            {
                "role": "user",
                "content": "Compare these.",
                "parts": [
                    {"type": "text", "text": "Compare these."},
                    {"type": "image", "file_id": "file_Zq0wXyNn2m1p", "detail": "high"},
                    {"type": "file", "url": "https://example.com/report.pdf", "filename": "report.pdf"},
                ],
            }
        ]
    },
    {
        "messages": [{"role": "user", "content": "And at sunset?"}],
        "model": "llama3.2",
        "provider": "ollama",
        "temperature": 0.2,
        "top_p": 0.9,
        "max_tokens": 500,
        "stop": ["\n\n"],
        "seed": 42,
        "stream": True,
        "stream_id": "sky-2",
        "session_id": "sky",
        "replace_from": "msg_9mK3vQx0bTzLw2RfY7cN",
        "session_version": 3,
        "on_disconnect": "continue",
        "on_busy": "interrupt",
    },
    {
        "messages": [{"role": "user", "content": "Do I need an umbrella in Oslo?"}],
        "instructions": "Answer in one sentence.",
        "tools": [
            {
                "name": "get_weather",
                "description": "The weather in a city, now.",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
                "strict": True,
                "idempotent": True,
                "needs_approval": False,
            }
        ],
        "tool_choice": {"name": "get_weather"},
        "parallel_tool_calls": False,
        "on_tool_call": "end",
    },
    {
        "messages": [{"role": "user", "content": "Do I need an umbrella in Oslo?"}],
        "tools": [{"name": "get_weather", "description": "The weather in a city, now."}],
        "stream": True,
        "on_tool_call": "wait",
        "max_steps": 8,
        "tool_timeout_s": 120,
    },
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Do I need an umbrella in Oslo?"}]},
            {"role": "assistant", "content": "", "tool_calls": [_CALL]},
            {"role": "tool", "content": "4 °C, rain", "call_id": "k3Zq9TxB1"},
        ],
        "tools": [{"name": "get_weather"}],
        "tool_choice": "auto",
    },
    {"messages": [{"role": "user", "content": "Is 3599 a prime?"}], "model": "gpt-5.1", "reasoning_effort": "low"},
    {
        "messages": [{"role": "user", "content": "How many people live in Oslo?"}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "city",
                "description": "A city and its people.",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
                    "required": ["name", "people"],
                    "additionalProperties": False,
                },
            },
        },
    },
]
REFUSALS: list[JsonDict] = [{"text": "I can't help with that."}, {"text": "It may harm systems.", "category": "cyber"}]
TOKEN_USAGES: list[JsonDict] = [
    {**_USAGE, "cached_tokens": 8, "reasoning_tokens": 4},
    {"prompt_tokens": 6, "completion_tokens": 11, "total_tokens": 17, "estimated": True},
]
_CANCELLED: JsonDict = {
    "id": "str_9mK3vQx0bTzLw2RfY7cN",
    "content": "Because air",
    "model": "llama3.2",
    "provider": "ollama",
    "finish_reason": None,
    "usage": None,
    "created_at": "2026-11-22T10:15:30Z",
    "status": "cancelled",
    "reason": "client",
}
CHAT_RESPONSES: list[JsonDict] = [
    {
        "id": "sky-1",
        "content": "Because air scatters blue light more than red.",
        "model": "llama3.2",
        "provider": "ollama",
        "finish_reason": "stop",
        "usage": _USAGE,
        "created_at": "2026-11-22T10:15:30Z",
        "status": "completed",
        "session_id": "sky",
        "reasoning": "Rayleigh scattering.",
        "history_dropped": 2,
        "stored": False,
        "message_ids": ["msg_9mK3vQx0bTzLw2RfY7cN"],
        "steps": 2,
    },
    {
        "id": "oslo-1",
        "content": "",
        "model": "llama3.2",
        "provider": "ollama",
        "finish_reason": "tool_calls",
        "usage": _USAGE,
        "created_at": "2026-11-22T10:15:30Z",
        "status": "completed",
        "tool_calls": [_CALL],
    },
    {
        "id": "oslo-2",
        "content": '{"name": "Oslo", "people": "many"}',
        "model": "llama3.2",
        "provider": "ollama",
        "finish_reason": "stop",
        "usage": _USAGE,
        "created_at": "2026-11-22T10:15:30Z",
        "status": "completed",
        "format_valid": False,
        "format_errors": [{"path": "people", "message": 'it is not of type "integer"'}],
    },
    {
        "id": "oslo-3",
        "content": "",
        "model": "gpt-5.4",
        "provider": "openai",
        "finish_reason": "content_filter",
        "usage": _USAGE,
        "created_at": "2026-11-22T10:15:30Z",
        "status": "completed",
        "refusal": {"text": "I can't help with that."},
    },
    _CANCELLED,
    {
        "id": "sky-3",
        "content": "",
        "model": "llama3.2",
        "provider": "ollama",
        "finish_reason": None,
        "usage": None,
        "created_at": "2026-11-22T10:15:30Z",
        "status": "failed",
        "error": UNAVAILABLE,
    },
]
STREAM_CHUNKS: list[JsonDict] = [
    {"content": "Because air", "finish_reason": None},
    {"content": "", "finish_reason": None, "reasoning": "Rayleigh scattering."},
    {
        "content": "",
        "finish_reason": None,
        "arguments": '{"city":',
        "call_id": "k3Zq9TxB1",
        "name": "get_weather",
    },
    {"content": "", "finish_reason": "stop", "usage": _USAGE},
    {"content": "", "finish_reason": "content_filter", "refusal": {"text": "I can't help with that."}},
    {"content": "Because air", "finish_reason": None, "reset": True},
]
PROVIDER_STATES: list[JsonDict] = [
    {
        "provider": "ollama",
        "available": True,
        "latency_ms": 3.2,
        "error": None,
        "models": ["llama3.2"],
        "configured": True,
    },
    {
        "provider": "openai",
        "available": False,
        "latency_ms": None,
        "error": "OPENAI_API_KEY is not set",
        "models": [],
        "hint": "Set OPENAI_API_KEY.",
        "configured": False,
    },
]
