"""Builds the messages and tools of a request of OpenAI's chat API.

Pure. Other servers with the same API get the same request, except for ids: each host accepts different forms.
https://developers.openai.com/api/docs/guides/function-calling
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from archer_ws.llm_gateway.content import Part, TextPart, text_of
from archer_ws.llm_gateway.extras import NO_EXTRAS, Extras
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.openai.native import Replayed
from archer_ws.llm_gateway.parts import Document, Picture, as_data_url, resolved
from archer_ws.llm_gateway.tools import NamedTool, Tool, ToolCall, ToolChoice
from archer_ws.llm_gateway.types import TOOL, USER, ChatMessage, ChatOptions

#: The longest call id that OpenAI accepts, and therefore most other servers, in characters.
_ID_CHARS = 40
_NINE = re.compile(r"[A-Za-z0-9]{9}")
#: What OpenAI accepts in no speaker's name ("expected a string that matches the pattern '^[^\\s<|\\\\/>]+$'"), nor an
#: empty one.
_NOT_IN_NAMES = re.compile(r"[\s<|\\/>]+")
#: The API requires a name.
UNNAMED = "document.pdf"
#: The text of a tool result that is more than text.
SEE_NEXT = "(See the next message for the pictures and files.)"
#: The schema of a tool without parameters. OpenAI refuses a schema without these two, llama.cpp a tool without a
#: schema.
_NOTHING: dict[str, Any] = {"type": "object", "properties": {}}


def fitting_ids(base_url: str) -> Callable[[str], bool]:
    """A function that says whether the server at this URL accepts a call's id."""
    if f".{urlsplit(base_url).hostname}".endswith(".mistral.ai"):
        return lambda call_id: _NINE.fullmatch(call_id) is not None
    return lambda call_id: len(call_id) <= _ID_CHARS


def chat_messages(
    messages: Iterable[ChatMessage], replayed: Replayed | None = None, media: Mapping[str, Media] | None = None
) -> list[dict[str, Any]]:
    """The `messages` of a request. Calls and results must be `repaired`, with fitting ids, and results must be text
    only.

    Args:
        replayed: the fields that are sent back with some of the messages.
        media: the uploaded files that the messages name, by their ids.
    """
    return [_message(message, replayed, media or {}) for message in messages]


def text_messages(messages: Iterable[ChatMessage]) -> list[dict[str, Any]]:
    """The same for messages that are only text."""
    return [_said(message, message.content) for message in messages]


def with_shown_results(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """The messages, with pictures and files of tool results in a user message after them, since results are text only.

    The message comes after all results of a step, since no other message may come between them.
    """
    if not any(message.parts for message in messages if message.role is TOOL):
        return messages
    told: list[ChatMessage] = []
    shown: list[Part] = []
    #: The tools' names by the ids of the last calls: their results follow at once.
    names: dict[str, str] = {}
    for message in messages:
        names.update((call.call_id, call.name) for call in message.tool_calls or ())
        if shown and message.role is not TOOL:
            told.append(_showing(shown))
            shown = []
        if message.role is TOOL and message.parts is not None:
            shown += [TextPart(type="text", text=f"What {names[message.call_id or '']} gave:")]
            shown += [part for part in message.parts if not isinstance(part, TextPart)]
            text = f"{message.content}\n\n{SEE_NEXT}" if message.content else SEE_NEXT
            told.append(message.model_copy(update={"content": text, "parts": None}))
        else:
            told.append(message)
    return [*told, _showing(shown)] if shown else told


def _showing(parts: Sequence[Part]) -> ChatMessage:
    return ChatMessage.model_construct(role=USER, content=text_of(parts), parts=list(parts))


def tool_fields(options: ChatOptions) -> dict[str, Any]:
    """`tools` and the fields for them. Empty without tools: the API refuses a choice without tools."""
    if not options.tools:
        return {}
    fields: dict[str, Any] = {"tools": functions(options.tools)}
    if options.tool_choice is not None:
        fields["tool_choice"] = _choice(options.tool_choice)
    if options.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = options.parallel_tool_calls
    return fields


def format_fields(options: ChatOptions) -> dict[str, Any]:
    """`response_format`, as in the request; empty for text."""
    if options.response_format is None:
        return {}
    return {"response_format": options.response_format.model_dump(by_alias=True, exclude_none=True)}


def effort_fields(options: ChatOptions) -> dict[str, Any]:
    """`reasoning_effort`, if the request names one."""
    return {} if options.reasoning_effort is None else {"reasoning_effort": options.reasoning_effort}


def extra_fields(extras: Extras) -> dict[str, Any]:
    """Penalties, and the fields for tokens' probabilities; only those that the request names."""
    if extras is NO_EXTRAS:
        return {}
    named = {
        "presence_penalty": extras.presence_penalty,
        "frequency_penalty": extras.frequency_penalty,
        "logprobs": None if extras.top_logprobs is None else True,
        # 0 is the API's default, and some servers refuse 0.
        "top_logprobs": extras.top_logprobs or None,
    }
    return {name: value for name, value in named.items() if value is not None}


def functions(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools in the API's nested form."""
    return [{"type": "function", "function": _function(tool)} for tool in tools]


def parameters_of(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, with the keywords that servers require."""
    given = tool.parameters
    if given is None:
        # Strict schemas must forbid further properties.
        return {**_NOTHING, "additionalProperties": False} if tool.strict else _NOTHING
    return given if _NOTHING.keys() <= given.keys() else {**_NOTHING, **given}


def result_text(message: ChatMessage) -> str:
    """A tool result's text, which includes a failure, since the API has no field for it."""
    return message.content if message.status in (None, "ok") else f"Error: {message.content}"


def _function(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = parameters_of(tool)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return function


def _choice(choice: ToolChoice) -> str | dict[str, Any]:
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _message(message: ChatMessage, replayed: Replayed | None, media: Mapping[str, Media]) -> dict[str, Any]:
    if message.role is TOOL:
        call_id = message.call_id or ""
        own_id = replayed.own_ids.get(call_id, call_id) if replayed else call_id
        return {"role": "tool", "tool_call_id": own_id, "content": result_text(message)}
    content = message.content if message.parts is None else _content(message, media)
    said = _said(message, content)
    if message.tool_calls:
        said["content"] = message.content or None
        said["tool_calls"] = [_call(call) for call in message.tool_calls]
        sent = replayed.fields.get(id(message)) if replayed else None
        if replayed and sent is not None:
            said |= sent.message
            said["tool_calls"] = [
                {**call, "id": replayed.own_ids.get(call["id"], call["id"]), **sent.calls.get(call["id"], {})}
                for call in said["tool_calls"]
            ]
    return said


def _said(message: ChatMessage, content: object) -> dict[str, Any]:
    said = {"role": str(message.role), "content": content}
    if message.name:
        said["name"] = _NOT_IN_NAMES.sub("_", message.name)
    return said


def _content(message: ChatMessage, media: Mapping[str, Media]) -> str | list[dict[str, Any]]:
    """Parts in the API's form. Content of text alone is one string, since many servers accept no list.

    https://developers.openai.com/api/docs/guides/images-vision and …/guides/file-inputs
    """
    parts = [_part(said) for said in resolved(message, media)]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(said: str | Picture | Document) -> dict[str, Any]:
    match said:
        case str():
            return {"type": "text", "text": said}
        case Picture(source=source, detail=detail):
            url = as_data_url(source) if isinstance(source, Media) else source
            return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail else {})}}
        case Document(is_text=True):
            return {"type": "text", "text": said.headed_text}
        case Document(source=Media() as source, filename=filename):
            return {"type": "file", "file": {"filename": filename or UNNAMED, "file_data": as_data_url(source)}}
    raise AssertionError("a file at a URL was refused before")


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
