"""Converts messages between the forms of providers, stores and clients, and estimates their size. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from archer_ws.core.ids import new_id
from archer_ws.llm_gateway.content import AnyPart, MediaPart, TextPart
from archer_ws.llm_gateway.types import ASSISTANT, TOOL, ChatMessage, StreamStatus
from archer_ws.sessions.models import StoredMessage
from archer_ws.sessions.storage.values import EarlierMessage, StoredCompletion

#: The approximate overhead of a stored message, in bytes (measured). It is counted so that empty messages are limited,
#: too.
MESSAGE_OVERHEAD_BYTES = 1024
#: The overhead of each of its calls.
CALL_OVERHEAD_BYTES = 768
#: The overhead of each of its parts.
PART_OVERHEAD_BYTES = 768
#: The approximate overhead of a message, and of each of its calls and parts, in a page, in bytes.
_LISTED_BYTES = 256


def chat_bytes(chat: ChatMessage) -> int:
    """The approximate bytes that a message takes in memory."""
    size = chat.text_bytes + MESSAGE_OVERHEAD_BYTES + CALL_OVERHEAD_BYTES * len(chat.tool_calls or ())
    return size + parts_bytes(chat.parts) if chat.parts else size


def parts_bytes(parts: Sequence[AnyPart] | None) -> int:
    """The bytes of a message's parts: their text is stored in addition to the message's own."""
    return sum(map(_part_bytes, parts or ()))


def _part_bytes(part: AnyPart) -> int:
    match part:
        case TextPart(text=held) | MediaPart(url=str(held)):
            return PART_OVERHEAD_BYTES + len(held.encode())
    return PART_OVERHEAD_BYTES


def listed_bytes(message: StoredMessage) -> int:
    """The approximate bytes that a message takes in a page."""
    texts = [message.content, message.reasoning or "", *(call.arguments for call in message.tool_calls or ())]
    size = sum(_LISTED_BYTES + len(text.encode()) for text in texts)
    if message.parts:
        size += sum(_LISTED_BYTES + len(part.model_dump_json().encode()) for part in message.parts)
    return size


def completion_bytes(completion: StoredCompletion) -> int:
    """The approximate bytes of a completion without its text and calls."""
    refused = (completion.refusal.text or "") if completion.refusal else ""
    failed = f"{completion.error.message}{completion.error.hint or ''}" if completion.error else ""
    size = sum(len(text.encode()) for text in (completion.reasoning or "", refused, failed))
    return size + completion.native.size if completion.native is not None else size


def chat_of(completion: StoredCompletion) -> ChatMessage:
    """A completion as a provider gets it in the next turn."""
    # Validated when it was received.
    return ChatMessage.model_construct(
        role=ASSISTANT, content=completion.content, name=None, tool_calls=list(completion.calls) or None
    )


def left_by(completion: StoredCompletion) -> list[EarlierMessage]:
    """All messages that a stream leaves, in order: the earlier ones, and the last completion. Empty completions are
    left out."""
    left = [*completion.earlier, EarlierMessage(chat_of(completion), replace(completion, earlier=()))]
    return [
        each if each.completion is None else EarlierMessage(chat_of(each.completion), each.completion)
        for each in left
        if each.completion is None or not each.completion.says_nothing
    ]


def ids_for(left: Sequence[EarlierMessage], is_taken: Callable[[str], bool]) -> list[str]:
    """An id for each message: the one that its sender gave it if it is free, otherwise a new one."""
    ids: list[str] = []
    for each in left:
        given = each.chat.message_id
        ids.append(new_id("msg") if given is None or given in ids or is_taken(given) else given)
    return ids


def completion_of(message: StoredMessage) -> StoredCompletion:
    """The completion of a stored message of the assistant."""
    return StoredCompletion(
        message.content,
        message.status,
        calls=tuple(message.tool_calls or ()),
        refusal=message.refusal,
        reasoning=message.reasoning,
        provider=message.provider,
        model=message.model,
        finish_reason=message.finish_reason,
        usage=message.usage,
        error=message.error,
    )


def as_stored(
    chat: ChatMessage,
    *,
    message_id: str,
    stream_id: str | None,
    status: StreamStatus,
    created_at: datetime,
    parent_id: str | None,
    completion: StoredCompletion | None,
) -> StoredMessage:
    """The message as clients see it."""
    return StoredMessage.model_construct(
        message_id=message_id,
        role=chat.role,
        content=chat.content,
        parts=list(chat.parts) if chat.parts else None,
        name=chat.name,
        tool_calls=chat.tool_calls,
        refusal=completion.refusal if completion else None,
        call_id=chat.call_id,
        result_status=(chat.status or "ok") if chat.role is TOOL else None,
        stream_id=stream_id,
        status=status,
        created_at=created_at,
        parent_id=parent_id,
        provider=completion.provider if completion else None,
        model=completion.model if completion else None,
        finish_reason=completion.finish_reason if completion else None,
        usage=completion.usage if completion else None,
        reasoning=completion.reasoning if completion else None,
        error=completion.error if completion else None,
    )
