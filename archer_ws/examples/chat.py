"""Chat requests and completions, tools, parts, models and providers: the values of llm_gateway/."""

from pydantic import JsonValue
from pydantic.config import JsonDict

from archer_ws.examples.story import (
    ARGUMENTS,
    ASKED_AT,
    BEGINNING,
    CALL,
    CALL_ID,
    CITY_STREAM_ID,
    CITY_TEXT,
    COMPLETION,
    CONTEXT_WINDOW,
    FAILED_STREAM_ID,
    FILE_BYTES,
    FILE_ID,
    FORMAT_ERRORS,
    MODEL,
    MODEL_NAME,
    NO_KEY,
    OSLO_STREAM_ID,
    OTHER_MODEL,
    OTHER_PROVIDER,
    PICTURE,
    PRIME_STREAM_ID,
    PROVIDER,
    QUESTION,
    QUESTION_ID,
    REASONING,
    REFUSAL,
    REFUSED_STREAM_ID,
    RESULT,
    SESSION_ID,
    SET_KEY,
    SKY_STREAM_ID,
    SUNSET,
    SUNSET_STREAM_ID,
    TOOL,
    UMBRELLA,
    UNAVAILABLE,
    USAGE,
    WEATHER,
    WEATHER_PARAMETERS,
)

#: The smallest PNG: one pixel.
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJgg"
    "g=="
)
_PHOTO: list[JsonValue] = [{"type": "text", "text": "What is this?"}, {"type": "image", "url": _PIXEL, "detail": "low"}]
TEXT_PARTS: list[JsonDict] = [{"type": "text", "text": "What is this?"}]
IMAGE_PARTS: list[JsonDict] = [{"type": "image", "url": "https://example.com/cat.jpg", "detail": "low"}, PICTURE]
FILE_PARTS: list[JsonDict] = [
    {"type": "file", "file_id": FILE_ID, "filename": "report.pdf"},
    {"type": "file", "url": "https://example.com/report.pdf"},
]
TOOLS: list[JsonDict] = [
    {**WEATHER, "parameters": WEATHER_PARAMETERS, "strict": True, "idempotent": True, "needs_approval": False}
]
CITY_SCHEMA: JsonDict = {
    "name": "city",
    "description": "A city and its people.",
    "schema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["name", "people"],
        "additionalProperties": False,
    },
    "strict": True,
}
CHAT_MESSAGES: list[JsonDict] = [
    {"role": "system", "content": "Answer in one sentence."},
    {"role": "user", "content": QUESTION, "name": "ada", "message_id": "msg-1"},
    {"role": "user", "content": _PHOTO},
    {"role": "user", "content": "What is this?", "parts": _PHOTO},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": RESULT, "call_id": CALL_ID, "status": "ok"},
]
PLAIN_REQUEST: JsonDict = {"messages": [{"role": "user", "content": QUESTION}]}
#: The next turn of the stored conversation.
SUNSET_REQUEST: JsonDict = {"session_id": SESSION_ID, "messages": [{"role": "user", "content": SUNSET}]}
CHAT_REQUESTS: list[JsonDict] = [
    PLAIN_REQUEST,
    {
        "messages": [
            {
                "role": "user",
                "content": "Compare these.",
                "parts": [
                    {"type": "text", "text": "Compare these."},
                    {**PICTURE, "detail": "high"},
                    {"type": "file", "url": "https://example.com/report.pdf", "filename": "report.pdf"},
                ],
            }
        ]
    },
    {
        **SUNSET_REQUEST,
        "model": MODEL,
        "provider": PROVIDER,
        "temperature": 0.2,
        "top_p": 0.9,
        "max_tokens": 500,
        "stop": ["\n\n"],
        "seed": 42,
        "stream": True,
        "stream_id": SUNSET_STREAM_ID,
        "replace_from": QUESTION_ID,
        "session_version": 3,
        "on_disconnect": "continue",
        "on_busy": "interrupt",
    },
    {
        "messages": [{"role": "user", "content": UMBRELLA}],
        "instructions": "Answer in one sentence.",
        "tools": [*TOOLS],
        "tool_choice": {"name": TOOL},
        "parallel_tool_calls": False,
        "on_tool_call": "end",
    },
    {
        "messages": [{"role": "user", "content": UMBRELLA}],
        "tools": [WEATHER],
        "stream": True,
        "stream_id": OSLO_STREAM_ID,
        "on_tool_call": "wait",
        "max_steps": 8,
        "tool_timeout_s": 120,
    },
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": UMBRELLA}]},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": RESULT, "call_id": CALL_ID},
        ],
        "tools": [{"name": TOOL}],
        "tool_choice": "auto",
    },
    {
        "messages": [{"role": "user", "content": "Is 3599 a prime?"}],
        "model": OTHER_MODEL,
        "reasoning_effort": "low",
        "stream_id": PRIME_STREAM_ID,
    },
    {
        "messages": [{"role": "user", "content": "How many people live in Oslo?"}],
        "stream_id": CITY_STREAM_ID,
        "response_format": {"type": "json_schema", "json_schema": CITY_SCHEMA},
    },
]
REFUSALS: list[JsonDict] = [REFUSAL, {"text": "It may harm systems.", "category": "cyber"}]
TOKEN_USAGES: list[JsonDict] = [
    {**USAGE, "cached_tokens": 8, "reasoning_tokens": 4},
    {"prompt_tokens": 6, "completion_tokens": 11, "total_tokens": 17, "estimated": True},
]


def _response(stream_id: str, content: str, finish_reason: str | None, status: str = "completed") -> JsonDict:
    return {
        "id": stream_id,
        "content": content,
        "model": MODEL,
        "provider": PROVIDER,
        "finish_reason": finish_reason,
        "usage": USAGE if finish_reason else None,
        "created_at": ASKED_AT,
        "status": status,
    }


COMPLETED_RESPONSE: JsonDict = _response(SKY_STREAM_ID, COMPLETION, "stop")
CHAT_RESPONSES: list[JsonDict] = [
    {
        **COMPLETED_RESPONSE,
        "session_id": SESSION_ID,
        "reasoning": REASONING,
        "history_dropped": 2,
        "stored": False,
        "message_ids": [QUESTION_ID],
        "steps": 2,
    },
    {**_response(OSLO_STREAM_ID, "", "tool_calls"), "tool_calls": [CALL]},
    {**_response(CITY_STREAM_ID, CITY_TEXT, "stop"), "format_valid": False, "format_errors": FORMAT_ERRORS},
    {**_response(REFUSED_STREAM_ID, "", "content_filter"), "refusal": REFUSAL},
    {**_response(SKY_STREAM_ID, BEGINNING, None, "cancelled"), "reason": "client"},
    {**_response(FAILED_STREAM_ID, "", None, "failed"), "error": UNAVAILABLE},
]
STREAM_CHUNKS: list[JsonDict] = [
    {"content": BEGINNING, "finish_reason": None},
    {"content": "", "finish_reason": None, "reasoning": REASONING},
    {"content": "", "finish_reason": None, "arguments": ARGUMENTS, "call_id": CALL_ID, "name": TOOL},
    {"content": "", "finish_reason": "stop", "usage": USAGE},
    {"content": "", "finish_reason": "content_filter", "refusal": REFUSAL},
    {"content": BEGINNING, "finish_reason": None, "reset": True},
]
PROVIDER_STATES: list[JsonDict] = [
    {
        "provider": PROVIDER,
        "available": True,
        "latency_ms": 3.2,
        "error": None,
        "models": [MODEL],
        "configured": True,
    },
    {
        "provider": OTHER_PROVIDER,
        "available": False,
        "latency_ms": None,
        "error": NO_KEY,
        "models": [],
        "hint": SET_KEY,
        "configured": False,
    },
]
PROVIDERS: JsonDict = {PROVIDER: PROVIDER_STATES[0], OTHER_PROVIDER: PROVIDER_STATES[1]}
MODEL_INFO: JsonDict = {
    "id": MODEL,
    "name": MODEL_NAME,
    "provider": PROVIDER,
    "context_window": CONTEXT_WINDOW,
    "supports_streaming": True,
}
UPLOADED: JsonDict = {"file_id": FILE_ID, "media_type": "image/png", "bytes": FILE_BYTES}
