"""Converts the path of a field in our request to its path in OpenAI's, and what hints show of a request. Pure.

Checks behind the edge (ranges, an adapter that does not support a field) name our fields; a client that sent OpenAI's
form must find the field in its own request, and be able to do what a hint says.
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
#: What hints show of our requests and errors, and the same in OpenAI's form.
_SHOWN: tuple[tuple[str, str], ...] = (
    ("`errors`", "`param`"),
    ('{"type": "image", "url": …}', '{"type": "image_url", "image_url": {"url": …}}'),
    ('{"type": "image", …}', '{"type": "image_url", …}'),
    ('{"type": "file", "url": …}', '{"type": "file", "file": {"file_data": …}}'),
    # Its pictures have no such field.
    (", or the file_id of an uploaded file", ""),
)
_DETAIL = ".detail"
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
    """The error with its paths in OpenAI's names, also at the beginning of its message, and its hint in OpenAI's
    form."""
    if not info.errors:
        return info
    first = info.errors[0].path
    message, hint = info.message, info.hint
    if message.startswith(f"{first}: "):
        # The place is that of the whole part, whose other fields the messages name.
        field = "image_url.detail: " if first.endswith(_DETAIL) else ""
        message = f"{openai_place(first)}: {field}{message.removeprefix(f'{first}: ')}"
    for ours, theirs in _SHOWN if hint else ():
        hint = hint and hint.replace(ours, theirs)
    errors = [each.model_copy(update={"path": openai_place(each.path)}) for each in info.errors]
    return info.model_copy(update={"message": message, "hint": hint, "errors": errors})
