"""The messages of OpenAI's chat requests, converted to ours. Pure."""

from typing import Annotated, Any, NoReturn

from pydantic import BeforeValidator, Field

from archer_ws.api.openai.tools import MessageToolCall
from archer_ws.core.exceptions import FieldError, InvalidParams, Unsupported
from archer_ws.core.wire_model import Text, WireModel, wrong

TEXT_ONLY = "Leave it out: completions are text."
_TEXT_OR_PARTS = "Send a string, or a list of parts."
_PARTS = "Send parts of the types text, image_url and file."
_FILE = 'Send {"type": "file", "file": {"file_data": …, "filename": …}}.'
_NOT_SAID = "data:application/octet-stream;base64,"


class ImageUrl(WireModel):
    """Where a picture is."""

    url: Annotated[str, Field(description="`data:<media type>;base64,…` or `https://…`.")]
    detail: Annotated[str | None, Field(description="The level of detail: low, high or auto.")] = None


class FileData(WireModel):
    """A document: its data, or the id of an uploaded file."""

    file_data: Annotated[str | None, Field(description="A data URL, or base64 alone.")] = None
    file_id: Annotated[str | None, Field(description="The `file_id` that POST /api/v1/files returned.")] = None
    filename: str | None = None


def _as_image_url(given: Any) -> Any:
    return {"url": given} if isinstance(given, str) else given


class ContentPart(WireModel):
    """A part of a message: `text`, `image_url` or `file`, or in an assistant's message `refusal`."""

    type: str
    text: Text | None = None
    image_url: Annotated[
        ImageUrl | None, BeforeValidator(_as_image_url, json_schema_input_type=str | ImageUrl | None)
    ] = None
    file: FileData | None = None
    refusal: Text | None = None


def _as_parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if content is not None and not isinstance(content, list):
        raise wrong("should be a text, or a list of parts", "", _TEXT_OR_PARTS)
    return content


Content = Annotated[
    list[ContentPart] | None, BeforeValidator(_as_parts, json_schema_input_type=str | list[ContentPart] | None)
]


class CompletionMessage(WireModel):
    """A message in the form of OpenAI's API."""

    role: Annotated[str, Field(description="system, developer (as system), user, assistant or tool.")]
    content: Annotated[
        Content,
        Field(description="A text, or parts: text, pictures and files. May be missing if there are `tool_calls`."),
    ] = None
    name: str | None = None
    refusal: Annotated[Text | None, Field(description="The refusal in an assistant's message.")] = None
    tool_calls: Annotated[list[MessageToolCall] | None, Field(description="The calls in an assistant's message.")] = (
        None
    )
    tool_call_id: Annotated[str | None, Field(description="The call whose result a tool's message is.")] = None
    function_call: Annotated[Any, Field(description="Not supported: send `tool_calls`.")] = None
    audio: Annotated[Any, Field(description="Not served.")] = None


def chat_message(message: CompletionMessage, path: str) -> dict[str, Any]:
    """The fields of our ChatMessage.

    Args:
        message: the message of the request.
        path: its place in the request, for errors.

    Raises:
        Unsupported: a field of it would change the completion, and is not supported.
        InvalidParams: it has no content, or does not name its call.
    """
    if message.role == "function":
        refuse(f"{path}.role", "function is not supported", "Send a message with the role tool, and its tool_call_id.")
    if message.function_call:
        refuse(f"{path}.function_call", "is not supported", "Send `tool_calls`: a list, with an id for each call.")
    if message.audio:
        refuse(f"{path}.audio", "is not supported", "Tell what it says as text.")
    ours: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": _content(message, path),
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


def _content(message: CompletionMessage, path: str) -> str | list[dict[str, Any]]:
    if message.content is None:
        if message.role != "assistant":
            _wrong(f"{path}.content", "has no text", _TEXT_OR_PARTS)
        return message.refusal or ""
    parts = [_part(part, f"{path}.content.{index}") for index, part in enumerate(message.content)]
    return parts if any(part["type"] != "text" for part in parts) else "\n".join(part["text"] for part in parts)


def _part(part: ContentPart, place: str) -> dict[str, Any]:
    if part.type not in ("text", "refusal", "image_url", "file"):
        refuse(f"{place}.type", "parts of this type are not supported", _PARTS)
    if part.type == "image_url":
        if part.image_url is None:
            _wrong(f"{place}.image_url", "is missing", 'Send {"type": "image_url", "image_url": {"url": …}}.')
        return {"type": "image", "url": part.image_url.url, "detail": part.image_url.detail}
    if part.type == "file":
        file = part.file
        if file is None:
            _wrong(f"{place}.file", "is missing", _FILE)
        if file.file_data is None and file.file_id is None:
            _wrong(place, "has neither file_data nor file_id", _FILE)
        if file.file_data is not None and file.file_id is not None:
            _wrong(place, "has both file_data and file_id", "Send only one of them.")
        return {"type": "file", "url": _data_url(file.file_data), "file_id": file.file_id, "filename": file.filename}
    text = part.text if part.type == "text" else part.refusal
    if text is None:
        _wrong(place, "has no text", 'Send {"type": "text", "text": …}.')
    return {"type": "text", "text": text}


def _data_url(data: str | None) -> str | None:
    """A file's data as a URL; if it is only base64, its first bytes show its type."""
    return data if not data or ":" in data[:8] else _NOT_SAID + data


def refuse(path: str, reason: str, advice: str) -> NoReturn:
    """Raise that something is not supported, with what to do instead."""
    raise Unsupported(f"{path}: {reason}", hint=advice, errors=[FieldError(path=path, message=reason)])


def _wrong(path: str, reason: str, advice: str) -> NoReturn:
    raise InvalidParams(f"{path}: {reason}", hint=advice, errors=[FieldError(path=path, message=reason)])
