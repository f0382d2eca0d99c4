"""The messages and options that go to a model for a request. Pure."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from archer_ws.core.exceptions import FieldError, Unsupported
from archer_ws.llm_gateway.chat_options import TakeNativeTurn, TakeProgress
from archer_ws.llm_gateway.extras import TakeLogprobs
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.tools import NamedTool
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ChatRequest, MessageRole, Route

#: The fields of a request that are options, and have no default.
_OPTIONS = frozenset({"stop", "top_p", "seed", "tools", "tool_choice", "parallel_tool_calls", "response_format"})
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def conversation(request: ChatRequest, history: Sequence[ChatMessage] = ()) -> Sequence[ChatMessage]:
    """The instructions, the session's history and the request's messages, in this order."""
    if not history and request.instructions is None:
        return request.messages
    before = [] if request.instructions is None else [_system(request.instructions)]
    return [*before, *history, *request.messages]


def options_of(
    request: ChatRequest,
    route: Route,
    *,
    principal: str = "",
    native_turns: Mapping[str, NativeTurn] = _NOTHING,
    media: Mapping[str, Media] = _NOTHING,
    on_progress: TakeProgress | None = None,
    on_native_turn: TakeNativeTurn | None = None,
    on_logprobs: TakeLogprobs | None = None,
) -> ChatOptions:
    """The request's options, with the names of the values that the route filled in, and the fields of ChatOptions that
    are the caller's own."""
    options = ChatOptions(
        reasoning_effort=route.reasoning_effort,
        extras=request.extras,
        defaulted=route.defaulted,
        principal=principal,
        native_turns=native_turns,
        media=media,
        on_progress=on_progress,
        on_native_turn=on_native_turn,
        on_logprobs=on_logprobs,
    )
    if _OPTIONS.isdisjoint(request.model_fields_set):
        return options
    return replace(
        options,
        stop=tuple(request.stop or ()),
        top_p=request.top_p,
        seed=request.seed,
        tools=tuple(request.tools or ()),
        tool_choice=request.tool_choice,
        parallel_tool_calls=request.parallel_tool_calls,
        response_format=request.asked_format,
    )


def without_tools(options: ChatOptions) -> ChatOptions:
    """The same options without tools."""
    return replace(options, tools=(), tool_choice=None, parallel_tool_calls=None)


def later_step(options: ChatOptions) -> ChatOptions:
    """The options for a step after the first: a forced call was made and is not forced again."""
    is_forced = options.tool_choice == "required" or isinstance(options.tool_choice, NamedTool)
    return replace(options, is_later_step=True, tool_choice=None if is_forced else options.tool_choice)


def format_alone(options: ChatOptions, provider: str) -> ChatOptions:
    """The options for a provider that can't have tools beside a format: without the tools, if they may not be called.

    Raises:
        Unsupported: the tools may be called.
    """
    if options.tools and options.tool_choice != "none":
        what = f"{provider} supports a format or tools, but not both: the format would keep the model from calling"
        raise Unsupported(
            f"response_format: {what}",
            hint="Let the model call without a format, and send the results with the format and without `tools`; or "
            "use openai or anthropic.",
            provider=provider,
            errors=[FieldError(path="response_format", message=what)],
        )
    return without_tools(options)


def _system(text: str) -> ChatMessage:
    # The text was validated with the request.
    return ChatMessage.model_construct(role=MessageRole.SYSTEM, content=text)
