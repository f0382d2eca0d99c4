"""Makes user and assistant alternate in a conversation, as the chat templates of many models require.

Pure. A turn that failed, was cancelled or stayed empty leaves two user messages in a row in a session. The templates of
Mistral's and Gemma's models, DeepSeek's reasoner and others refuse that ("Conversation roles must alternate"). Stored
messages stay unchanged: neighbours are joined when a request is built.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from archer_ws.llm_gateway.content import Part, TextPart
from archer_ws.llm_gateway.types import ASSISTANT, USER, ChatMessage

_TAKE_TURNS = frozenset({USER, ASSISTANT})


def alternating(messages: Sequence[ChatMessage], *, keeps_names: bool) -> Sequence[ChatMessage]:
    """The messages, in which neighbours of one role are joined, with a blank line between their texts.

    If `keeps_names` says that the provider gets the speakers' names, messages of different names stay apart. System
    messages, calls and tool results stay unchanged.
    """
    for one, next_ in pairwise(messages):
        if _belong_together(one, next_, keeps_names):
            break
    else:
        return messages
    neighbours: list[list[ChatMessage]] = []
    for message in messages:
        if neighbours and _belong_together(neighbours[-1][-1], message, keeps_names):
            neighbours[-1].append(message)
        else:
            neighbours.append([message])
    return [each[0] if len(each) == 1 else _joined(each) for each in neighbours]


def _joined(messages: Sequence[ChatMessage]) -> ChatMessage:
    # Joined at once: joining text by text would copy megabytes for each.
    texts = [message.content for message in messages if message.content.strip()]
    joined: dict[str, Any] = {"content": "\n\n".join(texts)}
    if any(message.parts for message in messages):
        joined["parts"] = [part for message in messages for part in _parts(message)]
    return messages[0].model_copy(update=joined)


def _parts(message: ChatMessage) -> Sequence[Part]:
    if message.parts is not None:
        return message.parts
    return [TextPart(type="text", text=message.content)] if message.content.strip() else []


def _belong_together(one: ChatMessage, next_: ChatMessage, keeps_names: bool) -> bool:
    if one.role is not next_.role or one.role not in _TAKE_TURNS or one.tool_calls or next_.tool_calls:
        return False
    return not keeps_names or one.name == next_.name
