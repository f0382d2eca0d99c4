"""Forces calls by llama.cpp's grammar: builds the format, and reads the completion's text as a call. Pure.

llama.cpp's server accepts `tool_choice`, but leaves it to the model whether it calls (ggml-org/llama.cpp#27217, #26535,
and tried with 2026.10, with and without tools in the chat template). But it enforces a schema, token by token, with any
model. So the arguments are requested as the completion itself: those of the only possible tool; or, of one of several
tools, as `{"name": …, "arguments": …}`.
"""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

from archer_ws.llm_gateway.decoding.tool_calls import new_call_id
from archer_ws.llm_gateway.tools import NamedTool, Tool, is_json_object
from archer_ws.llm_gateway.types import ChatOptions, StreamChunk

#: The beginning of a completion with a tool's name; the grammar fixes the order, but not the spaces.
_NAMED = re.compile(r'\s*\{\s*"name"\s*:\s*"([A-Za-z0-9_-]+)"\s*,\s*"arguments"\s*:\s*(?=\{)')


def forced_tools(options: ChatOptions) -> tuple[Tool, ...]:
    """The tools of which the model must call one; none if it need not call."""
    match options.tool_choice:
        case NamedTool(name=name):
            return tuple(tool for tool in options.tools if tool.name == name)
        case "required":
            return options.tools
    return ()


def forced_format(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The `response_format` that makes the completion a call of one of these tools, from the schemas of their
    arguments."""
    if len(schemas) == 1:
        ((name, schema),) = schemas.items()
    else:
        name, schema = "call", _one_of(schemas)
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def with_named_root(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema without references to `#`, which llama.cpp's server refuses (measured): its root gets a name."""
    if not _refers_to_root(schema):
        return schema
    return {"$ref": "#/$defs/root", "$defs": {"root": _moved(schema, "#/$defs/root")}}


def told_in_words(tools: Sequence[Tool]) -> str:
    """The instructions for a model whose template can't describe the tools."""
    functions = [tool.model_dump(include={"name", "description", "parameters"}, exclude_none=True) for tool in tools]
    listed = "\n".join(json.dumps(each, ensure_ascii=False) for each in functions)
    if len(tools) == 1:
        return f"Call this function: answer with its arguments alone, a JSON object.\n{listed}"
    return f'Call one of these functions: answer with {{"name": …, "arguments": {{…}}}} alone.\n{listed}'


async def as_call(chunks: AsyncIterator[StreamChunk], tools: Sequence[Tool]) -> AsyncGenerator[StreamChunk, None]:
    """The chunks of such a completion, with its text as the arguments of a call.

    The call is complete if the model stopped by itself after a whole object. Otherwise its finish reason stays, and
    there is no call to run.
    """
    call = ForcedCall(tools[0].name if len(tools) == 1 else None)
    async for chunk in chunks:
        changed: dict[str, Any] = {}
        if chunk.content:
            text = call.feed(chunk.content)
            changed = {"content": "", "arguments": text or None}
            if text:
                changed |= {"call_id": call.call_id, "name": call.name}
        if chunk.finish_reason == "stop" and call.is_whole:
            changed["finish_reason"] = "tool_calls"
        yield chunk.model_copy(update=changed) if changed else chunk


class ForcedCall:
    """Reads the call in a completion's text, piece by piece.

    Args:
        name: the tool's name, or None if the completion contains it.
    """

    def __init__(self, name: str | None) -> None:
        self.call_id = new_call_id()
        self.name = name
        #: The text before the arguments.
        self._head: str | None = ""
        self._arguments: list[str] = []
        self._depth = 0
        self._in_text = self._is_escaped = self._is_closed = False

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are a JSON object with its end."""
        return self._is_closed and is_json_object("".join(self._arguments))

    def feed(self, text: str) -> str:
        """The part of this text that belongs to the arguments."""
        if self._head is not None:
            text = self._head + text
            start = self._start_of_arguments(text)
            if start is None:
                self._head = text
                return ""
            self._head, text = None, text[start:]
        end = self._end_of_object(text)
        self._arguments.append(text[:end])
        return text[:end]

    def _start_of_arguments(self, text: str) -> int | None:
        if self.name is not None:
            # If the grammar failed, a Markdown fence comes before it.
            place = text.find("{")
            return place if place >= 0 else None
        found = _NAMED.match(text)
        if found is None:
            return None
        self.name = found[1]
        return found.end()

    def _end_of_object(self, text: str) -> int:
        """The end of the object in the text; all of the text until the last brace."""
        if self._is_closed:
            return 0
        for place, character in enumerate(text):
            if self._in_text:
                if self._is_escaped:
                    self._is_escaped = False
                elif character == "\\":
                    self._is_escaped = True
                elif character == '"':
                    self._in_text = False
            elif character == '"':
                self._in_text = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self._is_closed = True
                    return place + 1
        return len(text)


def _one_of(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The schema with name first, then arguments; each tool's schema is referenced, so that references in it have a
    fixed root."""
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/{name}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for name in schemas
        ],
        "$defs": {name: _moved(schema, f"#/$defs/{name}") for name, schema in schemas.items()},
    }


def _refers_to_root(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return schema.get("$ref") == "#" or any(map(_refers_to_root, schema.values()))
    return isinstance(schema, list) and any(map(_refers_to_root, schema))


def _moved(schema: Any, root: str) -> Any:
    """A schema whose references start from `root`."""
    if isinstance(schema, list):
        return [_moved(each, root) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: root + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, root)
        for key, value in schema.items()
    }
