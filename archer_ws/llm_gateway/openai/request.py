"""What a request of OpenAI's chat API says of a conversation and of tools.

Pure. Other servers behind the same API get the same, but for ids: each host has its own idea of what one may be.
https://developers.openai.com/api/docs/guides/function-calling
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from archer_ws.llm_gateway.extras import NO_EXTRAS, Extras
from archer_ws.llm_gateway.openai.native import Replayed
from archer_ws.llm_gateway.tools import NamedTool, Tool, ToolCall, ToolChoice
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole

#: The longest id of a call that OpenAI takes, and by example most others, in characters.
_ID_CHARS = 40
_NINE = re.compile(r"[A-Za-z0-9]{9}")
#: A tool without parameters. OpenAI refuses a schema without these two, llama.cpp a tool without a schema.
_NOTHING: dict[str, Any] = {"type": "object", "properties": {}}


def fitting_ids(base_url: str) -> Callable[[str], bool]:
    """Whether the server at this URL takes an id of a call."""
    if f".{urlsplit(base_url).hostname}".endswith(".mistral.ai"):
        return lambda call_id: _NINE.fullmatch(call_id) is not None
    return lambda call_id: len(call_id) <= _ID_CHARS


def chat_messages(messages: Iterable[ChatMessage], replayed: Replayed | None = None) -> list[dict[str, Any]]:
    """The `messages` of a request; calls and results must be `repaired`, with ids that fit.

    Args:
        replayed: what goes back beside which of them.
    """
    return [_message(message, replayed) for message in messages]


def tool_fields(options: ChatOptions) -> dict[str, Any]:
    """`tools` and what goes with them. Without tools nothing: the API refuses a choice among none."""
    if not options.tools:
        return {}
    fields: dict[str, Any] = {"tools": functions(options.tools)}
    if options.tool_choice is not None:
        fields["tool_choice"] = _choice(options.tool_choice)
    if options.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = options.parallel_tool_calls
    return fields


def format_fields(options: ChatOptions) -> dict[str, Any]:
    """`response_format`, as the request says it; nothing for text."""
    if options.response_format is None:
        return {}
    return {"response_format": options.response_format.model_dump(by_alias=True, exclude_none=True)}


def effort_fields(options: ChatOptions) -> dict[str, Any]:
    """`reasoning_effort`, where the request names one."""
    return {} if options.reasoning_effort is None else {"reasoning_effort": options.reasoning_effort}


def extra_fields(extras: Extras) -> dict[str, Any]:
    """Penalties, and whether tokens' probabilities are told; nothing of what the request does not name."""
    if extras is NO_EXTRAS:
        return {}
    named = {
        "presence_penalty": extras.presence_penalty,
        "frequency_penalty": extras.frequency_penalty,
        "logprobs": None if extras.top_logprobs is None else True,
        # 0 is the API's own default, and some servers take no 0.
        "top_logprobs": extras.top_logprobs or None,
    }
    return {name: value for name, value in named.items() if value is not None}


def functions(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools in the API's nested form."""
    return [{"type": "function", "function": _function(tool)} for tool in tools]


def parameters_of(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, with what servers insist on."""
    given = tool.parameters
    if given is None:
        # Strict ones must say that there is nothing else.
        return {**_NOTHING, "additionalProperties": False} if tool.strict else _NOTHING
    return given if _NOTHING.keys() <= given.keys() else {**_NOTHING, **given}


def result_text(message: ChatMessage) -> str:
    """A result's text, where the API has no field for how the call ended."""
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


def _message(message: ChatMessage, replayed: Replayed | None) -> dict[str, Any]:
    if message.role is MessageRole.TOOL:
        call_id = message.call_id or ""
        own_id = replayed.own_ids.get(call_id, call_id) if replayed else call_id
        return {"role": "tool", "tool_call_id": own_id, "content": result_text(message)}
    said: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.name is not None:
        said["name"] = message.name
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


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
