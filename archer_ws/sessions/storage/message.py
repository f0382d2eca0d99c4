"""A stored message, from what it was sent or said as to what clients see, and what it costs. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from archer_ws.core.ids import new_id
from archer_ws.llm_gateway.content import MediaPart, Part, TextPart
from archer_ws.llm_gateway.types import ChatMessage, MessageRole, StreamStatus
from archer_ws.sessions.models import StoredMessage
from archer_ws.sessions.storage.values import EarlierMessage, StoredCompletion

#: What a stored message costs beside its text, about, in bytes (measured): without it, empty ones would cost nothing.
MESSAGE_OVERHEAD_BYTES = 1024
#: What each of its calls costs beside the arguments, likewise.
CALL_OVERHEAD_BYTES = 768
#: What each of its parts costs, likewise.
PART_OVERHEAD_BYTES = 768


def chat_bytes(chat: ChatMessage) -> int:
    """What a message costs in memory, about."""
    size = chat.text_bytes + MESSAGE_OVERHEAD_BYTES + CALL_OVERHEAD_BYTES * len(chat.tool_calls or ())
    return size + parts_bytes(chat) if chat.parts else size


def parts_bytes(chat: ChatMessage) -> int:
    """What a message's parts cost in memory: their text stands beside the message's own."""
    return sum(map(_part_bytes, chat.parts or ()))


def _part_bytes(part: Part) -> int:
    match part:
        case TextPart(text=held) | MediaPart(url=str(held)):
            return PART_OVERHEAD_BYTES + len(held.encode())
    return PART_OVERHEAD_BYTES


def completion_bytes(completion: StoredCompletion) -> int:
    """What is told of an answer beside its text and calls costs, about, in bytes."""
    refused = (completion.refusal.text or "") if completion.refusal else ""
    failed = f"{completion.error.message}{completion.error.hint or ''}" if completion.error else ""
    size = sum(len(text.encode()) for text in (completion.reasoning or "", refused, failed))
    return size + completion.native.size if completion.native is not None else size


def chat_of(completion: StoredCompletion) -> ChatMessage:
    """An answer as a provider gets it in the next turn."""
    # Validated as it came.
    return ChatMessage.model_construct(
        role=MessageRole.ASSISTANT, content=completion.content, name=None, tool_calls=list(completion.calls) or None
    )


def left_by(completion: StoredCompletion) -> list[EarlierMessage]:
    """The messages that a stream leaves, in order, its last answer among them; none is made of what says nothing."""
    left = [*completion.earlier, EarlierMessage(chat_of(completion), replace(completion, earlier=()))]
    return [
        each if each.completion is None else EarlierMessage(chat_of(each.completion), each.completion)
        for each in left
        if each.completion is None or not each.completion.says_nothing
    ]


def ids_for(left: Sequence[EarlierMessage], is_taken: Callable[[str], bool]) -> list[str]:
    """An id for each message: the one that its sender gave it, unless another message has it."""
    ids: list[str] = []
    for each in left:
        given = each.chat.message_id
        ids.append(new_id("msg") if given is None or given in ids or is_taken(given) else given)
    return ids


def completion_of(message: StoredMessage) -> StoredCompletion:
    """The answer that a stored message of the assistant is."""
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
        result_status=(chat.status or "ok") if chat.role is MessageRole.TOOL else None,
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
