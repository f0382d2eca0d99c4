"""A conversation in which user and assistant take turns, as the chat templates of many models demand.

Pure. A turn that failed, was cancelled or stayed empty leaves two user messages in a row in a session; templates of
Mistral's and Gemma's models, DeepSeek's reasoner and others refuse that ("Conversation roles must alternate"). What is
stored stays as it was said: neighbours are joined where a request is built.
"""

from collections.abc import Sequence
from itertools import pairwise

from archer_ws.llm_gateway.types import ChatMessage, MessageRole

_TAKE_TURNS = frozenset({MessageRole.USER, MessageRole.ASSISTANT})


def alternating(messages: Sequence[ChatMessage], *, keeps_names: bool) -> Sequence[ChatMessage]:
    """The messages, neighbours of one role made one, with a blank line between their texts.

    Where `keeps_names` says that the provider is told who speaks, messages of different names stay apart: what they
    say must not be put into one mouth. System messages, calls and results stay as they are.
    """
    if not any(_belong_together(*pair, keeps_names) for pair in pairwise(messages)):
        return messages
    joined: list[ChatMessage] = []
    for message in messages:
        if joined and _belong_together(joined[-1], message, keeps_names):
            texts = [text for text in (joined[-1].content, message.content) if text.strip()]
            joined[-1] = joined[-1].model_copy(update={"content": "\n\n".join(texts)})
        else:
            joined.append(message)
    return joined


def _belong_together(one: ChatMessage, next_: ChatMessage, keeps_names: bool) -> bool:
    if one.role is not next_.role or one.role not in _TAKE_TURNS or one.tool_calls or next_.tool_calls:
        return False
    return not keeps_names or one.name == next_.name
