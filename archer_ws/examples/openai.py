"""The story in the form of OpenAI's API."""

from pydantic.config import JsonDict

from archer_ws.examples.story import (
    ARGUMENTS,
    ASKED_AT_S,
    CALL_ID,
    COMPLETION,
    MODEL,
    PROVIDER,
    QUESTION,
    RESULT,
    SKY_STREAM_ID,
    TOOL,
    UMBRELLA,
    USAGE,
    WEATHER,
    WEATHER_PARAMETERS,
)

MODEL_ID = f"{PROVIDER}/{MODEL}"
MODEL_OBJECT: JsonDict = {"id": MODEL_ID, "object": "model", "created": 0, "owned_by": PROVIDER}
_WEATHER: JsonDict = {"type": "function", "function": {**WEATHER, "parameters": WEATHER_PARAMETERS}}
_ASKED: JsonDict = {"role": "user", "content": UMBRELLA}
PLAIN: JsonDict = {"model": MODEL_ID, "messages": [{"role": "user", "content": QUESTION}]}
STREAMED: JsonDict = {
    "messages": [
        {"role": "developer", "content": "Answer in one sentence."},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
    ],
    "max_completion_tokens": 100,
    "stream": True,
    "stream_options": {"include_usage": True},
}
WITH_TOOL: JsonDict = {"messages": [_ASKED], "tools": [_WEATHER]}
WITH_RESULT: JsonDict = {
    "messages": [
        _ASKED,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": CALL_ID, "type": "function", "function": {"name": TOOL, "arguments": ARGUMENTS}},
            ],
        },
        {"role": "tool", "tool_call_id": CALL_ID, "content": RESULT},
    ],
    "tools": [_WEATHER],
}
COMPLETION_OBJECT: JsonDict = {
    "id": SKY_STREAM_ID,
    "object": "chat.completion",
    "created": ASKED_AT_S,
    "model": MODEL,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": COMPLETION, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        **USAGE,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    },
}


def _chunk(delta: JsonDict, finish_reason: str | None = None) -> JsonDict:
    return {
        "id": SKY_STREAM_ID,
        "object": "chat.completion.chunk",
        "created": ASKED_AT_S,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
    }


CHUNKS: list[JsonDict] = [
    _chunk({"role": "assistant", "content": "", "refusal": None}),
    _chunk({"content": COMPLETION}),
    _chunk({}, "stop"),
]
