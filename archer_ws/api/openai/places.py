"""Converts the path of a field in our request to its path in OpenAI's. Pure.

Checks behind the edge (ranges, an adapter that does not support a field) name our fields; a client that sent OpenAI's
form must find the field in its own request.
"""

import re

from archer_ws.core.exceptions import ErrorInfo

#: Our path, and OpenAI's; paths that are already OpenAI's match none of them.
_RENAMED: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^(tools\.\d+)\.(name|description|parameters|strict)\b"), r"\1.function.\2"),
    (re.compile(r"^(messages\.\d+\.tool_calls\.\d+)\.(name|arguments)\b"), r"\1.function.\2"),
    (re.compile(r"^(messages\.\d+\.tool_calls\.\d+)\.call_id\b"), r"\1.id"),
    (re.compile(r"^(messages\.\d+)\.call_id\b"), r"\1.tool_call_id"),
    # The fields of our parts are one level deeper there, at a place that depends on the part's type.
    (re.compile(r"^(messages\.\d+\.content\.\d+)\.(url|file_id|filename|detail)$"), r"\1"),
    (re.compile(r"^tool_choice\.name\b"), "tool_choice.function.name"),
)
_INDEX = re.compile(r"\.(\d+)(?=\.|$)")


def openai_place(path: str) -> str:
    """Our path in OpenAI's names, still with dots: `messages.1.tool_calls.0.function.arguments`."""
    for ours, theirs in _RENAMED:
        path, found = ours.subn(theirs, path, count=1)
        if found:
            break
    return path


def as_param(path: str) -> str:
    """The same path as OpenAI's errors write it in `param`: `messages[1].tool_calls[0].function.arguments`."""
    return _INDEX.sub(r"[\1]", openai_place(path))


def in_openai_places(info: ErrorInfo) -> ErrorInfo:
    """The error with its paths in OpenAI's names, also at the beginning of its message."""
    if not info.errors:
        return info
    first = info.errors[0].path
    message = info.message
    if message.startswith(f"{first}: "):
        message = openai_place(first) + message.removeprefix(first)
    errors = [each.model_copy(update={"path": openai_place(each.path)}) for each in info.errors]
    return info.model_copy(update={"message": message, "errors": errors})
