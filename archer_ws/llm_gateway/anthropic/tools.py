"""The tools of a request of Anthropic's Messages API.

Pure. Format: https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools
"""

from collections.abc import Sequence
from typing import Any

from archer_ws.core.exceptions import FieldError, Unsupported
from archer_ws.llm_gateway.catalog import ModelFacts
from archer_ws.llm_gateway.tools import NamedTool, Tool
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions

#: The API requires a schema, even for a tool without arguments.
_ANY_OBJECT: dict[str, Any] = {"type": "object"}


def tool_fields(
    messages: Sequence[ChatMessage], options: ChatOptions, *, model: str, facts: ModelFacts, streams_arguments: bool
) -> dict[str, Any]:
    """`tools` and `tool_choice`; empty if the conversation has no tools.

    If the conversation has calls but the request offers no tools, the called tools are declared and forbidden: several
    servers refuse calls of undeclared tools (earendil-works/pi#149), and models responded with nothing
    (vercel/ai#16991).

    Args:
        streams_arguments: have arguments streamed while they are generated. Otherwise the API holds them back until a
            value is complete: minutes of silence for a long one. Other servers refuse the field for it
            (vercel/ai#17179).

    Raises:
        Unsupported: the model can't be forced to call a tool.
    """
    if not options.tools:
        called = {call.name: None for message in messages for call in message.tool_calls or ()}
        if not called:
            return {}
        return {
            "tools": [{"name": name, "input_schema": _ANY_OBJECT} for name in called],
            "tool_choice": {"type": "none"},
        }
    choice = _choice(options, model, facts)
    return {
        "tools": [_declared(tool, streams_arguments=streams_arguments) for tool in options.tools],
        **({"tool_choice": choice} if choice else {}),
    }


def _declared(tool: Tool, *, streams_arguments: bool) -> dict[str, Any]:
    return {
        "name": tool.name,
        **({"description": tool.description} if tool.description else {}),
        "input_schema": _ANY_OBJECT if tool.parameters is None else {**_ANY_OBJECT, **tool.parameters},
        **({} if tool.strict is None else {"strict": tool.strict}),
        **({"eager_input_streaming": True} if streams_arguments else {}),
    }


def _choice(options: ChatOptions, model: str, facts: ModelFacts) -> dict[str, Any]:
    choice: dict[str, Any]
    match options.tool_choice:
        case "none":
            return {"type": "none"}
        case "required":
            choice = {"type": "any"}
        case NamedTool(name=name):
            choice = {"type": "tool", "name": name}
        case "auto":
            choice = {"type": "auto"}
        case None:
            choice = {"type": "auto"} if options.parallel_tool_calls is False else {}
    if facts.refuses_forced_calls and choice.get("type") in ("any", "tool"):
        raise Unsupported(
            f"tool_choice: {model} can't be forced to call a tool",
            hint='Send "auto" and say in a message which tool to use, or choose another model.',
            provider="anthropic",
            errors=[FieldError(path="tool_choice", message="the model takes only auto and none")],
        )
    if options.parallel_tool_calls is False:
        choice["disable_parallel_tool_use"] = True
    return choice
