"""What of a request goes to a model: its messages, and what the adapters' fixed arguments lack. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from archer_ws.core.exceptions import FieldError, Unsupported
from archer_ws.llm_gateway.tools import NamedTool
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
        response_format=request.asked_format,
        reasoning_effort=route.reasoning_effort,
        extras=request.extras,
        defaulted=route.defaulted,
        **told,
    )


def without_tools(options: ChatOptions) -> ChatOptions:
    """The options of a request that offers no tools."""
    return replace(options, tools=(), tool_choice=None, parallel_tool_calls=None)


def later_step(options: ChatOptions) -> ChatOptions:
    """The options of a step behind the first: a call that was demanded has been made, and is not demanded again."""
    is_forced = options.tool_choice == "required" or isinstance(options.tool_choice, NamedTool)
    return replace(options, is_later_step=True, tool_choice=None if is_forced else options.tool_choice)


def format_alone(options: ChatOptions, provider: str) -> ChatOptions:
    """The options for a provider that can't have tools beside a format: without those that may not be called.

    Raises:
        Unsupported: there are others.
    """
    if options.tools and options.tool_choice != "none":
        what = f"{provider} has a format or tools, not both: the format would keep the model from calling"
        raise Unsupported(
            f"response_format: {what}",
            hint="Let the model call without a format, and ask for the format with the results, without `tools`; or "
            "use openai or anthropic.",
            provider=provider,
            errors=[FieldError(path="response_format", message=what)],
        )
    return without_tools(options)


def _system(text: str) -> ChatMessage:
    # Validated as it came.
    return ChatMessage.model_construct(role=MessageRole.SYSTEM, content=text)
