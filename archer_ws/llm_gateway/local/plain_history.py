"""Calls and results as plain text, for a model whose chat template does not support them. Pure."""

from collections.abc import Callable, Sequence

from archer_ws.llm_gateway.content import TextPart
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, MessageRole


def in_words(messages: Sequence[ChatMessage], result_text: Callable[[ChatMessage], str]) -> list[ChatMessage]:
    """A repaired conversation in which calls and results are texts of the assistant and the user.

    Such a template may drop everything but a message's text, or fail at an unknown role.
    """
    names = {call.call_id: call.name for message in messages for call in message.tool_calls or ()}
    return [_said(message, names, result_text) for message in messages]


def with_instructions(messages: Sequence[ChatMessage], text: str) -> list[ChatMessage]:
    """The messages with this text at the end of the first system message."""
    first, *rest = messages
    if first.role is MessageRole.SYSTEM:
        return [first.model_copy(update={"content": f"{first.content}\n\n{text}"}), *rest]
    return [ChatMessage(role=MessageRole.SYSTEM, content=text), first, *rest]


def _said(message: ChatMessage, names: dict[str, str], result_text: Callable[[ChatMessage], str]) -> ChatMessage:
    if message.role is MessageRole.TOOL:
        content = f"Result of {names[message.call_id or '']}: {result_text(message)}"
        if message.parts is None:
            return ChatMessage(role=MessageRole.USER, content=content)
        shown = [part for part in message.parts if not isinstance(part, TextPart)]
        return ChatMessage.model_construct(
            role=MessageRole.USER, content=content, parts=[TextPart(type="text", text=content), *shown]
        )
    if message.tool_calls:
        lines = [message.content] if message.content else []
        return message.model_copy(
            update={"content": "\n".join([*lines, *map(_call, message.tool_calls)]), "tool_calls": None}
        )
    return message


def _call(call: ToolCall) -> str:
    return f"Call of {call.name}: {call.arguments}"
