"""OpenAI's chat requests, converted to ours. Pure.

A field of OpenAI's API that this server does not support is refused if it would change the completion. Other fields
(`user`, `metadata`, `store`, `service_tier`, …) are left out, and ignored.py lists them. ChatRequest checks ranges.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from archer_ws.api.openai.messages import TEXT_ONLY, CompletionMessage, chat_message, refuse
from archer_ws.api.openai.tools import FunctionTool, ToolChoiceField, choice_as_ours
from archer_ws.core.exceptions import FieldError, InvalidParams
from archer_ws.core.wire_model import NUMBER, WireModel
from archer_ws.examples.openai import PLAIN
from archer_ws.llm_gateway.extras import NO_EXTRAS, Extras
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.request_size import refuse_too_many
from archer_ws.llm_gateway.tools import TOOLS_MAX
from archer_ws.llm_gateway.types import ChatRequest, ReasoningEffort


def _as_list(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


def _blank_is_missing(given: Any) -> Any:
    return None if given == "" else given


#: Nobody sends more entries than this, and each wrong one produces an error.
_TEXTS_MAX = 256
Stop = Annotated[
    list[str] | None,
    Field(max_length=_TEXTS_MAX),
    BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None),
]


class StreamOptions(WireModel):
    """Options of a stream."""

    include_usage: Annotated[bool, Field(description="Add a last chunk without choices, with the token counts.")] = (
        False
    )


class CompletionRequest(WireModel):
    """A request in the form of OpenAI's API. Fields that are not listed are left out, and named in
    `X-Archer-Ignored`."""

    model_config = ConfigDict(
        # Only the names of extra fields are reported; their values are not read.
        extra="allow",
        json_schema_extra={"examples": [PLAIN]},
    )

    messages: list[CompletionMessage]
    model: Annotated[
        str | None, Field(description="A name, or provider/name as in GET /v1/models; by default the default model.")
    ] = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_completion_tokens: Annotated[int | None, Field(description="Wins over `max_tokens`."), NUMBER] = None
    max_tokens: Annotated[int | None, NUMBER] = None
    temperature: Annotated[float | None, NUMBER] = None
    top_p: Annotated[float | None, NUMBER] = None
    stop: Stop = None
    seed: Annotated[int | None, NUMBER] = None
    tools: Annotated[
        list[FunctionTool] | None, Field(max_length=TOOLS_MAX, description="The tools that the model may call.")
    ] = None
    tool_choice: Annotated[
        ToolChoiceField | None,
        Field(description="Whether it must call a tool: auto (the default), none, required, or one function."),
    ] = None
    parallel_tool_calls: Annotated[
        bool | None, Field(description="Whether it may make several calls at once; by default as the provider does.")
    ] = None
    response_format: Annotated[
        ResponseFormat | None,
        Field(description="The form of the completion: text (the default), json_object, json_schema."),
    ] = None

    reasoning_effort: Annotated[
        ReasoningEffort | None,
        BeforeValidator(_blank_is_missing),
        Field(description="How much the model thinks; a level that it lacks becomes the next lower one."),
    ] = None
    presence_penalty: Annotated[
        float | None,
        Field(ge=-2, le=2, description="Refused if the model has no such parameter; so is frequency_penalty."),
        NUMBER,
    ] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2), NUMBER] = None
    logprobs: Annotated[
        bool | None,
        Field(description="Whether to return the tokens' log probabilities; refused if the provider has none."),
    ] = None
    top_logprobs: Annotated[
        int | None,
        Field(ge=0, le=20, description="How many likely tokens to return for each position; needs `logprobs`."),
        NUMBER,
    ] = None

    n: Annotated[int | None, Field(description="Only 1 is supported."), NUMBER] = None
    logit_bias: Annotated[dict[str, Any] | None, Field(description="Only an empty object is supported.")] = None
    modalities: Annotated[list[str] | None, Field(max_length=_TEXTS_MAX, description="Only `text` is supported.")] = (
        None
    )
    functions: Annotated[list[Any] | None, Field(description="Not supported: send `tools`.")] = None
    function_call: Annotated[Any, Field(description="Not supported: send `tool_choice`.")] = None
    audio: Annotated[Any, Field(description="Not served.")] = None
    web_search_options: Annotated[Any, Field(description="Not served.")] = None

    @model_validator(mode="before")
    @classmethod
    def _not_too_many(cls, given: Any) -> Any:
        refuse_too_many(given)
        return given

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


#: The parameters that change the completion: which of their values change nothing, and what to do instead of the
#: others.
_SERVED: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("n", lambda n: n == 1, "Leave it out, and send several requests for several completions."),
    ("logit_bias", lambda bias: not bias, "Leave it out."),
    ("modalities", lambda modalities: set(modalities) <= {"text"}, TEXT_ONLY),
    ("functions", lambda functions: not functions, 'Send `tools`: [{"type": "function", "function": {…}}].'),
    ("function_call", lambda choice: choice in ("none", "auto"), "Send `tool_choice`."),
    ("audio", lambda _: False, TEXT_ONLY),
    ("web_search_options", lambda _: False, "Leave it out: completions come from the model alone."),
)


def chat_request(body: CompletionRequest) -> ChatRequest:
    """The request in the form that every transport uses.

    Raises:
        Unsupported: a field of it would change the completion, and is not supported.
        InvalidParams: a message has no content, or does not name its call.
        pydantic.ValidationError: a value is out of range. Its paths are ours, except the inner ones of messages and
            tools, which are the body's (see places.py).
    """
    for name, is_served, advice in _SERVED:
        value = getattr(body, name)
        if value is not None and not is_served(value):
            refuse(name, "is not supported with this value", advice)
    tools = [tool.as_ours() for tool in body.tools or ()]
    needs_tools = {
        "tools": tools,
        "tool_choice": choice_as_ours(body.tool_choice),
        "parallel_tool_calls": body.parallel_tool_calls,
    }
    return ChatRequest.model_validate(
        {
            "messages": [chat_message(message, f"messages.{index}") for index, message in enumerate(body.messages)],
            "model": body.model,
            "stream": body.stream,
            "max_tokens": body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "stop": body.stop,
            "seed": body.seed,
            "response_format": body.response_format,
            "reasoning_effort": body.reasoning_effort,
            **(needs_tools if tools or demands_call(body) else {}),
        }
    ).with_extras(_extras(body))


def _extras(body: CompletionRequest) -> Extras:
    if body.top_logprobs and not body.logprobs:
        advice = 'Send "logprobs": true, too.'
        raise InvalidParams(
            "top_logprobs: needs logprobs",
            hint=advice,
            errors=[FieldError(path="top_logprobs", message=f"needs logprobs. {advice}")],
        )
    # A penalty of 0 has no effect.
    extras = Extras(
        presence_penalty=body.presence_penalty or None,
        frequency_penalty=body.frequency_penalty or None,
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    return extras if extras.named() else NO_EXTRAS


def demands_call(body: CompletionRequest) -> bool:
    """Whether the model must make a call: without tools that is an error, not a field to leave out."""
    return body.tool_choice not in (None, "auto", "none")
