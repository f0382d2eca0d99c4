"""The messages of OpenAI's chat requests as ours. Pure."""

from typing import Annotated, Any, NoReturn

from pydantic import BeforeValidator, Field

from archer_ws.api.openai.tools import MessageToolCall
from archer_ws.core.exceptions import FieldError, InvalidParams, Unsupported
from archer_ws.core.wire_model import Text, WireModel

TEXT_ONLY = "Send text alone: no images, audio or files."


class ContentPart(WireModel):
    """A part of a message: `text`, or in an assistant's message `refusal`."""

    type: str
    text: Text | None = None
    refusal: Text | None = None


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


Content = Annotated[
    list[ContentPart] | None, BeforeValidator(_as_parts, json_schema_input_type=str | list[ContentPart] | None)
]


class CompletionMessage(WireModel):
    """A message as OpenAI's API has it."""

    role: Annotated[str, Field(description="system, developer (as system), user, assistant or tool.")]
    content: Annotated[
        Content, Field(description="Text, or parts of text, which are joined by line breaks; none beside `tool_calls`.")
    ] = None
    name: str | None = None
    refusal: Annotated[Text | None, Field(description="What an assistant said instead of an answer.")] = None
    tool_calls: Annotated[
        list[MessageToolCall] | None, Field(description="The calls that an assistant's message makes.")
    ] = None
    tool_call_id: Annotated[str | None, Field(description="Which call a tool's message is the result of.")] = None
    function_call: Annotated[Any, Field(description="Not served: send `tool_calls`.")] = None
    audio: Annotated[Any, Field(description="Not served.")] = None


def chat_message(message: CompletionMessage, path: str) -> dict[str, Any]:
    """The fields of our ChatMessage.

    Args:
        message: as it was sent.
        path: its place in the request, for errors.

    Raises:
        Unsupported: something in it would change the answer, and is not served.
        InvalidParams: it has nothing to say, or does not name its call.
    """
    if message.role == "function":
        refuse(f"{path}.role", "function is not supported", "Send a message with the role tool, and its tool_call_id.")
    if message.function_call:
        refuse(f"{path}.function_call", "is not supported", "Send `tool_calls`: a list, with an id for each call.")
    if message.audio:
        refuse(f"{path}.audio", "is not supported", "Tell what it says as text.")
    ours: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": _text(message, path),
        "name": message.name,
    }
    if message.tool_calls:
        if len({call.id for call in message.tool_calls}) < len(message.tool_calls):
            _wrong(f"{path}.tool_calls", "two calls have one id", "Give each call an id of its own.")
        ours["tool_calls"] = [call.as_ours() for call in message.tool_calls]
    if message.role == "tool":
        if not message.tool_call_id:
            _wrong(f"{path}.tool_call_id", "is missing", "Send the id of the call that this is the result of.")
        ours["call_id"] = message.tool_call_id
    return ours


def _text(message: CompletionMessage, path: str) -> str:
    if message.content is None:
        if message.role != "assistant":
            _wrong(f"{path}.content", "has no text", "Send a string, or a list of text parts.")
        return message.refusal or ""
    texts = []
    for index, part in enumerate(message.content):
        place = f"{path}.content.{index}"
        match part:
            case ContentPart(type="text", text=str(text)) | ContentPart(type="refusal", refusal=str(text)):
                texts.append(text)
            case ContentPart(type="text" | "refusal"):
                _wrong(place, "has no text", 'Send {"type": "text", "text": …}.')
            case _:
                refuse(f"{place}.type", "parts other than text are not supported", TEXT_ONLY)
    return "\n".join(texts)


def refuse(path: str, reason: str, advice: str) -> NoReturn:
    """Say that something is not served, and what to do instead."""
    raise Unsupported(f"{path}: {reason}", hint=advice, errors=[FieldError(path=path, message=reason)])


def _wrong(path: str, reason: str, advice: str) -> NoReturn:
    raise InvalidParams(f"{path}: {reason}", hint=advice, errors=[FieldError(path=path, message=reason)])
