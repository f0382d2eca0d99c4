"""Tool calls as adapters give them, for tests whose model calls."""

from collections.abc import Sequence
from typing import Any

from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import StreamChunk

#: Two tools, of which one needs a person's word.
TOOLS: list[dict[str, Any]] = [
    {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    {"name": "delete_file", "needs_approval": True},
]
#: A model that stopped to have its calls run.
CALLS_MADE = StreamChunk(content="", finish_reason="tool_calls")


def piece(call_id: str, name: str, arguments: str) -> StreamChunk:
    """A piece of a call's arguments."""
    return StreamChunk(content="", arguments=arguments, call_id=call_id, name=name)


#: Two calls whose arguments come by turns.
INTERLEAVED: Sequence[StreamChunk] = (
    piece("call1", "get_weather", '{"city":'),
    piece("call2", "delete_file", "{"),
    piece("call1", "get_weather", ' "Oslo'),
    piece("call1", "get_weather", '"}'),
    piece("call2", "delete_file", "}"),
)
#: What they amount to.
WHOLE = (
    ToolCall(call_id="call1", name="get_weather", arguments='{"city": "Oslo"}'),
    ToolCall(call_id="call2", name="delete_file", arguments="{}"),
)
