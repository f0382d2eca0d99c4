"""OpenAI's chat requests as ours. Pure.

What OpenAI's API takes and this server does not serve is refused where it would change the answer, and ignored where it
would not (`user`, `metadata`, `store`, `service_tier`, …). Ranges are ChatRequest's to check.
"""

from collections.abc import Callable
from typing import Annotated, Any, NoReturn

from pydantic import BeforeValidator, ConfigDict, Field

from archer_ws.api.openai.errors import UnsupportedParameter
from archer_ws.core.exceptions import FieldError, InvalidParams
from archer_ws.core.wire_model import Text, WireModel
from archer_ws.llm_gateway.types import ChatRequest

_TEXT_ONLY = "Send text alone: no images, audio or files."
_NO_TOOLS = "Leave it out: tools are not served here."


class ContentPart(WireModel):
    """A part of a message: `text`, or in an assistant's message `refusal`."""

    type: str
    text: Text | None = None
    refusal: Text | None = None


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _as_list(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


Content = Annotated[
    list[ContentPart] | None, BeforeValidator(_as_parts, json_schema_input_type=str | list[ContentPart] | None)
]
Stop = Annotated[list[str] | None, BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None)]


class CompletionMessage(WireModel):
    """A message as OpenAI's API has it."""

    role: Annotated[str, Field(description="system, developer (as system), user or assistant.")]
    content: Annotated[Content, Field(description="Text, or parts of text, which are joined by line breaks.")] = None
    name: str | None = None
    refusal: Annotated[Text | None, Field(description="What an assistant said instead of an answer.")] = None
    tool_calls: Annotated[Any, Field(description="Not served.")] = None
    function_call: Annotated[Any, Field(description="Not served.")] = None
    audio: Annotated[Any, Field(description="Not served.")] = None


class StreamOptions(WireModel):
    """How a stream is told."""

    include_usage: Annotated[bool, Field(description="A last chunk without choices, with the tokens used.")] = False


class CompletionRequest(WireModel):
    """A request as OpenAI's API has it. Fields that are not listed are ignored."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "local/SmolLM2-135M-Instruct",
                    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
                }
            ]
        }
    )

    messages: list[CompletionMessage]
    model: Annotated[
        str | None, Field(description="A name, or provider/name as GET /v1/models lists them; absent: the default.")
    ] = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_completion_tokens: Annotated[int | None, Field(description="Wins over `max_tokens`.")] = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: Stop = None
    seed: int | None = None

    n: Annotated[int | None, Field(description="1 alone is served.")] = None
    presence_penalty: Annotated[float | None, Field(description="0 alone is served.")] = None
    frequency_penalty: Annotated[float | None, Field(description="0 alone is served.")] = None
    logprobs: Annotated[bool | None, Field(description="false alone is served.")] = None
    top_logprobs: Annotated[int | None, Field(description="0 alone is served.")] = None
    logit_bias: Annotated[dict[str, Any] | None, Field(description="Empty alone is served.")] = None
    response_format: Annotated[dict[str, Any] | None, Field(description="`text` alone is served.")] = None
    modalities: Annotated[list[str] | None, Field(description="`text` alone is served.")] = None
    tools: Annotated[list[Any] | None, Field(description="Empty alone is served.")] = None
    tool_choice: Annotated[Any, Field(description="`none` and `auto` alone are served.")] = None
    functions: Annotated[list[Any] | None, Field(description="Empty alone is served.")] = None
    function_call: Annotated[Any, Field(description="`none` and `auto` alone are served.")] = None
    audio: Annotated[Any, Field(description="Not served.")] = None
    web_search_options: Annotated[Any, Field(description="Not served.")] = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


def _is_default_choice(choice: Any) -> bool:
    return choice in ("none", "auto")


#: The parameters that change the answer: which of their values change nothing, and what to do instead of the others.
_SERVED: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("n", lambda n: n == 1, "Leave it out, and ask several times for several answers."),
    ("presence_penalty", lambda penalty: penalty == 0, "Leave it out, or send 0."),
    ("frequency_penalty", lambda penalty: penalty == 0, "Leave it out, or send 0."),
    ("logprobs", lambda wanted: not wanted, "Leave it out, or send false."),
    ("top_logprobs", lambda count: count == 0, "Leave it out."),
    ("logit_bias", lambda bias: not bias, "Leave it out."),
    (
        "response_format",
        lambda form: form.get("type") == "text",
        'Leave it out, or send {"type": "text"}, and ask for the form in a message.',
    ),
    ("modalities", lambda modalities: set(modalities) <= {"text"}, _TEXT_ONLY),
    ("tools", lambda tools: not tools, _NO_TOOLS),
    ("tool_choice", _is_default_choice, _NO_TOOLS),
    ("functions", lambda functions: not functions, _NO_TOOLS),
    ("function_call", _is_default_choice, _NO_TOOLS),
    ("audio", lambda _: False, _TEXT_ONLY),
    ("web_search_options", lambda _: False, "Leave it out: answers come from the model alone."),
)


def chat_request(body: CompletionRequest) -> ChatRequest:
    """The request as every transport has it.

    Raises:
        UnsupportedParameter: something in it would change the answer, and is not served.
        InvalidParams: a message has nothing to say.
        pydantic.ValidationError: a value is out of range; the places are the body's.
    """
    for name, is_served, advice in _SERVED:
        value = getattr(body, name)
        if value is not None and not is_served(value):
            _refuse(name, "is not supported with this value", advice)
    return ChatRequest.model_validate(
        {
            "messages": [_message(message, f"messages.{index}") for index, message in enumerate(body.messages)],
            "model": body.model,
            "stream": body.stream,
            "max_tokens": _max_tokens(body),
            "temperature": body.temperature,
            "top_p": body.top_p,
            "stop": body.stop,
            "seed": body.seed,
        }
    )


def _max_tokens(body: CompletionRequest) -> int | None:
    return body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens


def _message(message: CompletionMessage, path: str) -> dict[str, Any]:
    if message.role in {"tool", "function"}:
        _refuse(f"{path}.role", f"{message.role} is not supported", "Leave tools' results out, or tell them as text.")
    for name in ("tool_calls", "function_call", "audio"):
        if getattr(message, name):
            _refuse(f"{path}.{name}", "is not supported", "Leave it out, or tell what it says as text.")
    return {
        "role": "system" if message.role == "developer" else message.role,
        "content": _text(message, path),
        "name": message.name,
    }


def _text(message: CompletionMessage, path: str) -> str:
    if message.content is None:
        if message.role != "assistant":
            reason = "has no text"
            raise InvalidParams(
                f"{path}.content: {reason}",
                hint="Send a string, or a list of text parts.",
                errors=[FieldError(path=f"{path}.content", message=reason)],
            )
        return message.refusal or ""
    texts = []
    for index, part in enumerate(message.content):
        place = f"{path}.content.{index}"
        match part:
            case ContentPart(type="text", text=str(text)) | ContentPart(type="refusal", refusal=str(text)):
                texts.append(text)
            case ContentPart(type="text" | "refusal"):
                raise InvalidParams(
                    f"{place}: has no text",
                    hint='Send {"type": "text", "text": …}.',
                    errors=[FieldError(path=place, message="has no text")],
                )
            case _:
                _refuse(f"{place}.type", "parts other than text are not supported", _TEXT_ONLY)
    return "\n".join(texts)


def _refuse(path: str, reason: str, advice: str) -> NoReturn:
    raise UnsupportedParameter(f"{path}: {reason}", hint=advice, errors=[FieldError(path=path, message=reason)])
