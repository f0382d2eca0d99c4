"""Request fields that would change the completion but are not supported: refused with their path, never ignored."""

from collections.abc import Mapping
from typing import Any

from archer_ws.core.wire_model import unsupported

_EFFORT = "Send `reasoning_effort`: none, minimal, low, medium, high, xhigh or max."

#: Fields of other APIs and later versions that would change the completion, and what to do instead. All other unknown
#: fields are ignored.
_NOT_SERVED: dict[str, str] = {
    "format": "Send `response_format`.",
    "reasoning": _EFFORT,
    "thinking": _EFFORT,
    "think": _EFFORT,
    "mcp": "Leave it out: offer `tools`, and run them in the application.",
    "functions": "Send `tools`.",
    "function_call": "Send `tool_choice`.",
    "system": "Send a message with the role system, or `instructions`.",
    "prompt": "Send `messages`.",
    "input": "Send `messages`.",
    "images": 'Send {"type": "image", …} parts in a message\'s `content`.',
    "attachments": 'Send {"type": "file", …} parts in a message\'s `content`.',
    "max_completion_tokens": "Send `max_tokens`.",
    "max_output_tokens": "Send `max_tokens`.",
    "stop_sequences": "Send `stop`.",
    "options": "Send `temperature`, `top_p`, `seed`, `stop` and `max_tokens` beside `messages`.",
    "n": "Leave it out, and send several requests for several completions.",
    "top_k": "Leave it out, or send `top_p`.",
    "min_p": "Leave it out, or send `top_p`.",
    "presence_penalty": "Leave it out.",
    "frequency_penalty": "Leave it out.",
    "repeat_penalty": "Leave it out.",
    "logit_bias": "Leave it out.",
    "logprobs": "Leave it out.",
    "top_logprobs": "Leave it out.",
    "modalities": "Leave it out: completions are text.",
    "audio": "Leave it out: completions are text.",
    "grammar": "Send `response_format` with a JSON Schema.",
}
_NAMES = frozenset(_NOT_SERVED)
#: Their values without an effect, besides those that mean "no" (null, false, 0, an empty list or object).
_CHANGE_NOTHING: dict[str, Any] = {"n": 1, "modalities": ["text"]}
#: Fields for which false does not mean "no": a model that thinks by default would be told not to.
_FALSE_MATTERS = frozenset({"think", "thinking"})


def refuse_not_served(request: Mapping[str, Any]) -> None:
    """Check a request's fields.

    Raises:
        PydanticCustomError: one of them would change the completion (see wire_model.unsupported).
    """
    if _NAMES.isdisjoint(request):
        return
    for name in sorted(_NAMES.intersection(request)):
        value = request[name]
        if (value and value != _CHANGE_NOTHING.get(name)) or (value is False and name in _FALSE_MATTERS):
            raise unsupported("is not supported here", _NOT_SERVED[name], name)
