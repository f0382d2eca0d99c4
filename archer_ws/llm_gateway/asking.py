"""What of a request goes to a model: its messages, and what the adapters' fixed arguments lack. Pure."""

from collections.abc import Sequence
from typing import Any

from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ChatRequest, MessageRole, Route


def conversation(request: ChatRequest, history: Sequence[ChatMessage] = ()) -> Sequence[ChatMessage]:
    """The request's messages with its session's history before them, and its instructions before all."""
    if not history and request.instructions is None:
        return request.messages
    before = [] if request.instructions is None else [_system(request.instructions)]
    return [*before, *history, *request.messages]


def options_of(request: ChatRequest, route: Route, **told: Any) -> ChatOptions:
    """The request's options and which values the route gave it, with what the caller adds (see ChatOptions)."""
    return ChatOptions(
        stop=tuple(request.stop or ()),
        top_p=request.top_p,
        seed=request.seed,
        tools=tuple(request.tools or ()),
        tool_choice=request.tool_choice,
        parallel_tool_calls=request.parallel_tool_calls,
        defaulted=route.defaulted,
        **told,
    )


def _system(text: str) -> ChatMessage:
    # Validated as it came.
    return ChatMessage.model_construct(role=MessageRole.SYSTEM, content=text)
