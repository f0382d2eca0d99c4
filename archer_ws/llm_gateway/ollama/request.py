"""Builds requests of Ollama's `/api/chat`.

Pure. Format: https://docs.ollama.com/api/chat and https://docs.ollama.com/capabilities/tool-calling
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from archer_ws.core.exceptions import FieldError, Unsupported
from archer_ws.llm_gateway.alternation import alternating
from archer_ws.llm_gateway.asking import format_alone
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.native_replay import replayable
from archer_ws.llm_gateway.ollama.native import thinking_of
from archer_ws.llm_gateway.parts import Document, Picture, as_base64, resolved
from archer_ws.llm_gateway.tool_history import repaired
from archer_ws.llm_gateway.tools import Tool
from archer_ws.llm_gateway.transport.json_body import LongText
from archer_ws.llm_gateway.types import TOOL, ChatMessage, ChatOptions, ReasoningEffort


def chat_payload(
    messages: Sequence[ChatMessage],
    model: str,
    temperature: float | None,
    max_tokens: int | None,
    options: ChatOptions,
    *,
    stream: bool,
) -> dict[str, Any]:
    """The body of a chat request. Ollama has no field for a message's `name`: it is left out.

    Ollama applies the model's own chat template, which may require that user and assistant alternate. The arguments of
    calls are raw JSON.

    Raises:
        Unsupported: Ollama has no way to call the tools as the request says, or the request has a format beside tools.
    """
    if options.response_format is not None:
        # The format's grammar would suppress every call (ollama/ollama#8095).
        options = format_alone(options, "ollama")
    tools = offered_tools(options)
    named = {
        "temperature": temperature,
        "num_predict": max_tokens,
        "top_p": options.top_p,
        "seed": options.seed,
        "presence_penalty": options.extras.presence_penalty,
        "frequency_penalty": options.extras.frequency_penalty,
        "stop": list(options.stop) or None,
    }
    return {
        "model": model,
        "messages": _messages(messages, model, options),
        **({"tools": [_declared(tool) for tool in tools]} if tools else {}),
        **_format(options),
        "stream": stream,
        # Otherwise it silently drops the middle of a prompt that is too long, or the beginning of a completion.
        "truncate": False,
        "shift": False,
        "options": {name: value for name, value in named.items() if value is not None},
    }


def _format(options: ChatOptions) -> dict[str, Any]:
    asked = options.response_format
    if asked is None:
        return {}
    return {"format": asked.json_schema.schema_ if asked.json_schema else "json"}


def think_field(effort: ReasoningEffort, *, in_levels: bool) -> dict[str, Any]:
    """The field for thinking; without it, models that can think do so.

    Args:
        in_levels: whether the value is a word, and not true or false.
    """
    return {"think": effort if in_levels else effort != "none"}


def offered_tools(options: ChatOptions) -> tuple[Tool, ...]:
    """The tools that are sent to Ollama: it can't be told not to call them, so with `none` there are none.

    Raises:
        Unsupported: the request forces a call, or forbids parallel calls: Ollama leaves both to the model.
    """
    if not options.tools or options.tool_choice == "none":
        return ()
    if options.tool_choice not in (None, "auto"):
        raise _not_told("tool_choice", 'Send "auto" and say in a message which tool to use, or use another provider.')
    if options.parallel_tool_calls is False:
        raise _not_told("parallel_tool_calls", "Leave it out, or use another provider.")
    return options.tools


def _not_told(field: str, hint: str) -> Unsupported:
    return Unsupported(
        f"{field}: ollama leaves it to the model whether and what it calls",
        hint=hint,
        provider="ollama",
        errors=[FieldError(path=field, message="ollama has no such setting")],
    )


def _declared(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            **({"description": tool.description} if tool.description else {}),
            # The models' templates iterate over the properties.
            "parameters": {"type": "object", "properties": {}, **(tool.parameters or {})},
        },
    }


def _messages(messages: Sequence[ChatMessage], model: str, options: ChatOptions) -> list[dict[str, Any]]:
    messages = repaired(messages)
    replayed = replayable(messages, options, "ollama", model)
    # Messages with calls stay unchanged when neighbours are joined.
    thinking = {id(messages[place]): thinking_of(kept) for place, kept in replayed.items()}
    told: list[dict[str, Any]] = []
    #: The tools' names by the ids of the last calls: their results follow at once.
    names: dict[str, str] = {}
    for message in alternating(messages, keeps_names=False):
        text, images = (message.content, []) if message.parts is None else _split(message, options.media)
        entry: dict[str, Any] = {"role": message.role.value, "content": text}
        if images:
            entry["images"] = images
        if message.tool_calls:
            if thinking.get(id(message)):
                entry["thinking"] = thinking[id(message)]
            names.update((call.call_id, call.name) for call in message.tool_calls)
            entry["tool_calls"] = [
                {
                    "id": call.call_id,
                    "type": "function",
                    "function": {
                        "index": index,
                        "name": call.name,
                        # Sent as text: the JSON text of an object is an object.
                        "arguments": msgspec.Raw(call.arguments.encode()),
                    },
                }
                for index, call in enumerate(message.tool_calls)
            ]
        elif message.role is TOOL and message.call_id is not None:
            entry["content"] = _result(message, text)
            entry |= {"tool_name": names[message.call_id], "tool_call_id": message.call_id}
        told.append(entry)
    return told


def _split(message: ChatMessage, media: Mapping[str, Media]) -> tuple[str, list[LongText]]:
    """The texts of a message with parts, joined by line breaks, and its pictures as plain base64.

    Ollama does not keep the order of texts and pictures (https://docs.ollama.com/capabilities/vision).
    """
    texts: list[str] = []
    images: list[LongText] = []
    for said in resolved(message, media):
        match said:
            case str():
                texts.append(said)
            case Picture(source=Media() as source):
                images.append(as_base64(source))
            case Document(is_text=True):
                texts.append(said.headed_text)
    return "\n".join(texts), images


def _result(message: ChatMessage, text: str) -> str:
    """The text of a tool result; Ollama has no field for a failure."""
    if message.status in (None, "ok"):
        return text
    return f"Error: {text.strip() or message.status}"
