"""Errors of every transport: the values of core/exceptions.py."""

from pydantic.config import JsonDict

from archer_ws.examples.story import CONNECTION_ID, OTHER_PROVIDER, PRIME_STREAM_ID

FIELD_ERROR: JsonDict = {
    "path": "messages.0.role",
    "message": "Input should be 'system', 'user' or 'assistant'",
}
ERRORS: list[JsonDict] = [
    {
        "kind": "provider_rate_limited",
        "message": "openai answered 429: too many requests",
        "hint": "Wait a little, or ask for a higher limit.",
        "retryable": True,
        "retry_after_ms": 2000,
        "request_id": f"{CONNECTION_ID}.7",
        "stream_id": PRIME_STREAM_ID,
        "provider": OTHER_PROVIDER,
    },
    {
        "kind": "invalid_params",
        "message": f"{FIELD_ERROR['path']}: {FIELD_ERROR['message']}",
        "hint": "Correct what `errors` names.",
        "retryable": False,
        "request_id": f"{CONNECTION_ID}.8",
        "errors": [FIELD_ERROR],
    },
]
