"""Examples of the values in types.py: they stand in the schemas, the documents and the tests."""

from pydantic.config import JsonDict

_USAGE: JsonDict = {"prompt_tokens": 14, "completion_tokens": 11, "total_tokens": 25}

UNAVAILABLE: JsonDict = {
    "kind": "provider_unavailable",
    "message": "nothing answers at http://localhost:11434",
    "hint": "Start Ollama: ollama serve",
    "retryable": True,
    "request_id": "req_Zq0wXyNn2m1pS8dQ4hKt",
    "provider": "ollama",
}
CHAT_REQUESTS: list[JsonDict] = [
    {"messages": [{"role": "user", "content": "Why is the sky blue?"}]},
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
        "on_disconnect": "continue",
        "on_busy": "interrupt",
    },
]
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
    {"content": "", "finish_reason": "stop", "usage": _USAGE},
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
