"""Keeps what a model of Ollama's thought before its calls, to be sent again in the tool loop that they began. Pure.

The model's template puts it back in its place; without it, a model that thinks starts again after each result
(openclaw/openclaw#141356).
"""

from collections.abc import Sequence

import msgspec

from archer_ws.llm_gateway.chunks import Chunk
from archer_ws.llm_gateway.decoding.tool_calls import AssembledCall
from archer_ws.llm_gateway.native_turns import NATIVE_BYTES_MAX, NativeBlocks, NativeCall, add_piece, whole_text


class _Thought(msgspec.Struct):
    thinking: str


_THOUGHT = msgspec.json.Decoder(list[_Thought])


class KeptThought:
    """The reasoning of one completion and the arguments of its calls, from its chunks.

    NATIVE_BYTES_MAX is the limit: nothing is kept of a larger completion.
    """

    def __init__(self) -> None:
        self._thinking: list[str] = []
        self._arguments: dict[str, list[str]] = {}
        self._size = 0

    def add(self, chunk: Chunk) -> None:
        """Add a chunk of the completion."""
        if self._size > NATIVE_BYTES_MAX:
            return
        if chunk.reasoning:
            add_piece(self._thinking, chunk.reasoning)
            self._size += len(chunk.reasoning)
        elif chunk.arguments is not None and chunk.call_id is not None:
            add_piece(self._arguments.setdefault(chunk.call_id, []), chunk.arguments)
            self._size += len(chunk.arguments)

    def blocks(self, calls: Sequence[AssembledCall]) -> NativeBlocks | None:
        """What is kept of a completion that ended well, with these calls."""
        if self._size > NATIVE_BYTES_MAX:
            return None
        told = [
            NativeCall(call.call_id, call.foreign_id or "", call.name, "".join(self._arguments.get(call.call_id, ())))
            for call in calls
        ]
        try:
            return NativeBlocks.of(msgspec.json.encode([_Thought(whole_text("".join(self._thinking)))]), told)
        except ValueError:
            # It contains half of a character and can't be sent.
            return None


def thinking_of(kept: NativeBlocks) -> str:
    """The thinking; empty if there was none."""
    return _THOUGHT.decode(kept.blocks)[0].thinking
