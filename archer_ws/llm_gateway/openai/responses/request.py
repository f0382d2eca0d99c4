"""Builds a request of OpenAI's Responses API: conversation, tools and response format. Pure.

https://developers.openai.com/api/docs/guides/migrate-to-responses
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.native_turns import NativeBlocks
from archer_ws.llm_gateway.openai.request import UNNAMED, parameters_of, result_text
from archer_ws.llm_gateway.parts import Document, Picture, as_data_url, resolved
from archer_ws.llm_gateway.resilience.refused_parameters import ErrorText
from archer_ws.llm_gateway.tools import NamedTool, Tool, ToolCall
from archer_ws.llm_gateway.types import ASSISTANT, TOOL, ChatMessage, ChatOptions

#: The longest call id that this API accepts, in characters.
ID_CHARS = 64
#: The lowest limit of a completion, in tokens; less is a 400.
LEAST_TOKENS = 16

#: Fields that are removed when items are sent again: the API stores nothing here, so their ids are unknown to it
#: (vercel/ai#7543, NousResearch/hermes-agent#10217).
_OF_STORED_ITEMS = ("id", "status")
_ITEMS: msgspec.json.Decoder[list[dict[str, msgspec.Raw]]] = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_NOT_VERIFIED = re.compile(r"encrypted content.{0,200}could not be (verified|decrypted)", re.IGNORECASE | re.DOTALL)
_NO_SUMMARY = msgspec.Raw(b"[]")


def fits(call_id: str) -> bool:
    """Whether the API accepts a call's id."""
    return len(call_id) <= ID_CHARS


def fixed_fields() -> dict[str, Any]:
    """The fields of every request: a streamed completion that OpenAI does not store, with encrypted reasoning to send
    back."""
    return {"store": False, "include": ["reasoning.encrypted_content"], "stream": True}


def reasoning_field(options: ChatOptions) -> dict[str, Any]:
    """`reasoning`: the effort, if the request names one, and a summary, if the model reasons."""
    effort = options.reasoning_effort
    asked = {} if effort is None else {"effort": effort}
    return {"reasoning": asked if effort == "none" else {**asked, "summary": "auto"}}


def input_items(
    messages: Sequence[ChatMessage], replayed: Mapping[int, NativeBlocks], media: Mapping[str, Media] | None = None
) -> list[Any]:
    """The `input` of a request. Calls and results must be `repaired`, with fitting ids.

    System messages stay at their place among the others, and do not go into `instructions`: `json_object` is refused if
    no message mentions JSON, and instructions do not count.

    Args:
        replayed: by index, the completions that the model must receive again unchanged.
        media: the uploaded files that the messages name, by their ids.
    """
    media = media or {}
    items: list[Any] = []
    foreign_ids: Mapping[str, str] = {}
    for place, message in enumerate(messages):
        kept = replayed.get(place)
        if kept is not None:
            items += _items_again(kept.blocks)
            foreign_ids = kept.call_ids
        elif message.role is TOOL:
            items.append(_result(message, foreign_ids, media))
        else:
            items += _message(message, media)
            foreign_ids = {}
    return items


def without_reasoning(items: Sequence[Any]) -> list[Any] | None:
    """The `input` without its reasoning; None if there is none."""
    left = [item for item in items if bytes(item.get("encrypted_content", b"null")) == b"null"]
    return left if len(left) < len(items) else None


def refuses_reasoning(body: bytes) -> bool:
    """Whether an error is about encrypted reasoning that was sent again: from another account or another model of the
    same name, or because of OpenAI's own mistake (openai/codex#8119).
    """
    said = ErrorText.of(body)
    return "invalid_encrypted_content" in body.decode("utf-8", "replace") or bool(_NOT_VERIFIED.search(said.text))


def tool_fields(options: ChatOptions) -> dict[str, Any]:
    """`tools` and the fields for them; empty without tools."""
    if not options.tools:
        return {}
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in options.tools]}
    choice = options.tool_choice
    if isinstance(choice, NamedTool):
        fields["tool_choice"] = {"type": "function", "name": choice.name}
    elif choice is not None:
        fields["tool_choice"] = choice
    if options.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = options.parallel_tool_calls
    return fields


def format_fields(options: ChatOptions) -> dict[str, Any]:
    """`text`, with the response format; empty for plain text."""
    asked = options.response_format
    if asked is None:
        return {}
    if asked.json_schema is None:
        return {"text": {"format": {"type": asked.type}}}
    schema = asked.json_schema.model_dump(by_alias=True, exclude_none=True)
    return {"text": {"format": {"type": "json_schema", "strict": False, **schema}}}


def _message(message: ChatMessage, media: Mapping[str, Media]) -> list[dict[str, Any]]:
    """A message of the user, the system or the assistant, and then the assistant's calls."""
    said: list[dict[str, Any]] = []
    if message.content or not message.tool_calls:
        said.append({"type": "message", "role": message.role.value, "content": _content(message, media)})
    return said + [_call(call) for call in message.tool_calls or ()]


def _content(message: ChatMessage, media: Mapping[str, Media]) -> str | list[dict[str, Any]]:
    """A message's content: its parts in order."""
    if message.role is ASSISTANT:
        # Content of the model in parts would belong to a stored item with an id.
        return message.content
    if message.parts is None:
        return [{"type": "input_text", "text": message.content}]
    return _parts(message, media)


def _parts(message: ChatMessage, media: Mapping[str, Media]) -> list[dict[str, Any]]:
    """https://developers.openai.com/api/docs/guides/images-vision and …/guides/file-inputs"""
    return [_part(said) for said in resolved(message, media)]


def _part(said: str | Picture | Document) -> dict[str, Any]:
    match said:
        case str():
            return {"type": "input_text", "text": said}
        case Picture(source=source, detail=detail):
            url = source if isinstance(source, str) else as_data_url(source)
            return {"type": "input_image", "image_url": url, "detail": detail or "auto"}
        case Document(is_text=True):
            return {"type": "input_text", "text": said.headed_text}
        case Document(source=Media() as source, filename=filename):
            return {"type": "input_file", "filename": filename or UNNAMED, "file_data": as_data_url(source)}
        case Document(source=url, filename=filename):
            return {"type": "input_file", "file_url": url, **({"filename": filename} if filename else {})}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}


def _result(message: ChatMessage, foreign_ids: Mapping[str, str], media: Mapping[str, Media]) -> dict[str, Any]:
    call_id = message.call_id or ""
    output: str | list[dict[str, Any]] = result_text(message)
    if message.parts is not None:
        has_failed = message.status not in (None, "ok")
        # The API has no field for a failed call.
        failed = [{"type": "input_text", "text": f"Error: the call ended: {message.status}."}] if has_failed else []
        output = failed + _parts(message, media)
    return {
        "type": "function_call_output",
        "call_id": foreign_ids.get(call_id, call_id),
        "output": output,
    }


def _items_again(blocks: bytes) -> list[dict[str, msgspec.Raw]]:
    """A completion's items as they are sent again, with unchanged fields.

    Reasoning is sent only as its encrypted form and the summary, which is required. Its plain text is refused
    (microsoft/agent-framework-go#784), and without the encrypted form it is only an id of something that was not
    stored.
    """
    items: list[dict[str, msgspec.Raw]] = []
    for item in _ITEMS.decode(blocks):
        kept = {name: value for name, value in item.items() if name not in _OF_STORED_ITEMS}
        if bytes(item.get("type", b"")) == b'"reasoning"':
            if bytes(item.get("encrypted_content", b"null")) == b"null":
                continue
            kept.pop("content", None)
            kept.setdefault("summary", _NO_SUMMARY)
        items.append(kept)
    return items


def _tool(tool: Tool) -> dict[str, Any]:
    said: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description is not None:
        said["description"] = tool.description
    # In this API a tool is strict by default, and the model fills in every argument of strict tools
    # (onyx-dot-app/onyx#15008, open-webui/open-webui#27750).
    return {**said, "parameters": parameters_of(tool), "strict": bool(tool.strict)}
