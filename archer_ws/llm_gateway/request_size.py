"""Limits the number of messages in a request, with their contents, before anything is validated. Pure.

It is the same for every transport and dialect: all have `messages`, whose `content` may be parts, and which may have
`tool_calls`.
"""

from typing import Any

from archer_ws.core.limits import REQUEST_MESSAGES_MAX
from archer_ws.core.wire_model import wrong


def refuse_too_many(given: Any) -> None:
    """Refuse a request with more messages than REQUEST_MESSAGES_MAX. A call counts as a message, and so does each
    further part.

    Values of a wrong type are ignored here.

    Raises:
        PydanticCustomError: with the path below the request.
    """
    messages = given.get("messages") if isinstance(given, dict) else None
    if isinstance(messages, list) and len(messages) + sum(map(_more_in, messages)) > REQUEST_MESSAGES_MAX:
        raise wrong(
            f"has more than {REQUEST_MESSAGES_MAX} messages, parts and calls",
            "messages",
            "Leave the oldest out, or join parts that belong together.",
        )


def _more_in(message: Any) -> int:
    if not isinstance(message, dict):
        return 0
    if "parts" not in message and "tool_calls" not in message and isinstance(message.get("content"), str):
        return 0  # As nearly all messages.
    calls = message.get("tool_calls")
    more = len(calls) if isinstance(calls, list) else 0
    for parts in (message.get("content"), message.get("parts")):
        if isinstance(parts, list) and parts:
            more += len(parts) - 1
    return more
