"""The content of an answer of Anthropic's as it came, for the requests of the tool loop that it began. Pure.

Thinking blocks go back unchanged and complete, also those of a signature alone and redacted ones, and all blocks in
their order (https://platform.claude.com/docs/en/build-with-claude/thinking-tool-workflows).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from archer_ws.llm_gateway.decoding.tool_calls import AssembledCall
from archer_ws.llm_gateway.native_replay import calling_in_loop
from archer_ws.llm_gateway.native_turns import NATIVE_BYTES_MAX, NativeBlocks, NativeCall, whole_text
from archer_ws.llm_gateway.tools import is_json_object
from archer_ws.llm_gateway.types import ChatMessage

#: By the kind of a piece: the field of its own that has it, and the field of the block that it goes on with.
_PIECES = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
    "input_json_delta": ("partial_json", "input"),
}
_THOUGHTS = frozenset({"thinking", "redacted_thinking"})


class _Typed(msgspec.Struct):
    type: str = ""


_TYPES = msgspec.json.Decoder(list[_Typed])


@dataclass(slots=True)
class _Block:
    #: As it began.
    begun: dict[str, Any]
    #: What was added to its fields.
    pieces: dict[str, list[str]] = field(default_factory=dict)
    citations: list[Any] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        """The JSON text of a call's input."""
        said = whole_text("".join(self.pieces.get("input", ())))
        return said or msgspec.json.encode(self.begun.get("input") or {}).decode()

    def whole(self) -> dict[str, Any] | None:
        """The block; None for one that says nothing, which the API refuses to be sent."""
        block = dict(self.begun)
        for name, pieces in self.pieces.items():
            if name != "input":
                block[name] = str(block.get(name) or "") + whole_text("".join(pieces))
        if "input" in self.pieces or "input" in block or block.get("type") == "tool_use":
            block["input"] = msgspec.Raw(self.arguments.encode())
        if self.citations:
            block["citations"] = [*(block.get("citations") or ()), *self.citations]
        return None if block.get("type") == "text" and not str(block.get("text", "")).strip() else block


class KeptContent:
    """The blocks of one answer, in the order in which they began.

    Bounded by NATIVE_BYTES_MAX: of a longer answer nothing is kept, and neither of one with pieces that nobody knows,
    for it would not be whole.
    """

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._by_index: dict[object, _Block] = {}
        self._size = 0
        self._is_lost = False

    def begin(self, index: object, block: object) -> None:
        """A block begins, or comes whole."""
        if isinstance(block, str):
            block = {"type": "text", "text": block}
        if not isinstance(block, dict) or not _fits(index):
            self._lose()
        elif not self._is_lost:
            self._by_index[index] = made = _Block(block)
            self._blocks.append(made)
            self._count(_size_of(block))

    def go_on(self, index: object, kind: str, text: str) -> None:
        """A piece of a block's text."""
        if self._is_lost:
            return
        block = self._by_index.get(index)
        if block is None:
            # Some servers begin no text.
            block = self._begun_unsaid(index, kind)
            if block is None:
                return
        block.pieces.setdefault(_PIECES[kind][1], []).append(text)
        self._count(len(text))

    def add(self, index: object, delta: object) -> None:
        """A piece of a block, of whatever kind."""
        if self._is_lost:
            return
        if not isinstance(delta, dict) or not _fits(index):
            self._lose()
            return
        kind, block = str(delta.get("type")), self._by_index.get(index)
        text = delta.get(_PIECES[kind][0]) if kind in _PIECES else None
        if isinstance(text, str):
            self.go_on(index, kind, text)
        elif kind == "citations_delta" and block is not None and "citation" in delta:
            block.citations.append(delta["citation"])
            self._count(_size_of(delta["citation"]))
        else:
            self._lose()

    def blocks(self, calls: Sequence[AssembledCall]) -> NativeBlocks | None:
        """What is kept of an answer that ended well, with these calls; None where it is not whole."""
        uses = [block for block in self._blocks if block.begun.get("type") == "tool_use"]
        if self._is_lost or len(uses) != len(calls) or not all(is_json_object(block.arguments) for block in uses):
            return None
        told = [
            NativeCall(call.call_id, str(block.begun.get("id") or ""), call.name, block.arguments)
            for call, block in zip(calls, uses, strict=True)
        ]
        if len({call.foreign_id for call in told} - {""}) < len(told):
            return None
        content = [whole for block in self._blocks if (whole := block.whole()) is not None]
        try:
            return NativeBlocks.of(msgspec.json.encode(content), told)
        except (ValueError, RecursionError):
            # Half of a character: it could not be sent.
            return None

    def _begun_unsaid(self, index: object, kind: str) -> _Block | None:
        if kind not in ("text_delta", "thinking_delta") or not _fits(index):
            self._lose()
            return None
        self.begin(index, {"type": _PIECES[kind][1], _PIECES[kind][1]: ""})
        return self._by_index.get(index)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > NATIVE_BYTES_MAX:
            self._lose()

    def _lose(self) -> None:
        self._is_lost = True
        self._blocks.clear()
        self._by_index.clear()


def with_own_ids(replayed: Mapping[int, NativeBlocks]) -> Mapping[int, NativeBlocks]:
    """What is replayed, or nothing where an id of the provider's comes twice: the API refuses that."""
    ids = [foreign_id for kept in replayed.values() for foreign_id in kept.call_ids.values()]
    return replayed if len(set(ids)) == len(ids) else {}


def goes_on_without_thinking(messages: Sequence[ChatMessage], replayed: Mapping[int, NativeBlocks]) -> bool:
    """Whether the loop goes on without the thinking that it began with, or began with none.

    A model that thinks by a budget must not be asked to think then: the API demands that the loop begins with a
    thinking block (anthropics/claude-code#14264).
    """
    places = calling_in_loop(messages)
    if not places:
        return False
    first = replayed.get(places[0])
    return first is None or not any(block.type in _THOUGHTS for block in _TYPES.decode(first.blocks)[:1])


def _size_of(value: object) -> int:
    try:
        return len(msgspec.json.encode(value))
    except (ValueError, RecursionError):
        # Half of a character, say: it could not be sent again either.
        return NATIVE_BYTES_MAX + 1


def _fits(index: object) -> bool:
    return index is None or isinstance(index, int | str)
