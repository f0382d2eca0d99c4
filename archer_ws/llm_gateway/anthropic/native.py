"""The content of an answer of Anthropic's as it came, for the requests of the tool loop that it began. Pure.

Thinking blocks go back unchanged and complete, also those of a signature alone and redacted ones, and all blocks in
their order (https://platform.claude.com/docs/en/build-with-claude/thinking-tool-workflows).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from archer_ws.core.limits import PROVIDER_PARTS
from archer_ws.llm_gateway.decoding.tool_calls import AssembledCall
from archer_ws.llm_gateway.native_replay import calling_in_loop
from archer_ws.llm_gateway.native_turns import (
    NATIVE_BYTES_MAX,
    NativeBlocks,
    NativeCall,
    add_piece,
    size_of,
    whole_text,
)
from archer_ws.llm_gateway.resilience.refused_parameters import REFUSAL_STATUSES, ErrorText
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
_BLOCKS, _KIND = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]), msgspec.json.Decoder(str)
#: The words of the API for thinking that it does not take, all of a message and never of the parameter.
_OF_THOUGHTS = re.compile(r"messages\..{0,200}(signature|thinking)|(signature|thinking`?) .{0,40}block", re.IGNORECASE)


@dataclass(slots=True)
class _Block:
    #: As it began.
    begun: dict[str, Any]
    #: What was added to its fields.
    pieces: dict[str, list[str]] = field(default_factory=dict)
    citations: list[Any] = field(default_factory=list)

    @property
    def has_input(self) -> bool:
        """Whether it is a call, of our tools or of the server's own."""
        return "input" in self.pieces or "input" in self.begun or self.begun.get("type") == "tool_use"

    @property
    def arguments(self) -> str:
        """The JSON text of a call's input."""
        said = whole_text("".join(self.pieces.get("input", ())))
        return said or msgspec.json.encode(self.begun.get("input") or {}).decode()

    def foreign_id_of(self, call: AssembledCall) -> str:
        """The API's id of the call that the block is; empty where there is none, or the block could not be sent again:
        a name that the model made up was changed for the client, since the API takes no such name in a history."""
        given = self.begun.get("id")
        return given if isinstance(given, str) and self.begun.get("name") == call.name else ""

    def whole(self) -> dict[str, Any] | None:
        """The block; None for one that says nothing, which the API refuses to be sent."""
        block = dict(self.begun)
        for name, pieces in self.pieces.items():
            if name != "input":
                block[name] = str(block.get(name) or "") + whole_text("".join(pieces))
        if self.has_input:
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
        if (
            not isinstance(block, dict)
            or not isinstance(block.get("type"), str)
            or len(self._blocks) >= PROVIDER_PARTS
            or not _fits(index)
        ):
            self._lose()
        elif not self._is_lost:
            self._by_index[index] = made = _Block(block)
            self._blocks.append(made)
            self._count(size_of(block))

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
        add_piece(block.pieces.setdefault(_PIECES[kind][1], []), text)
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
            self._count(size_of(delta["citation"]))
        else:
            self._lose()

    def blocks(self, calls: Sequence[AssembledCall]) -> NativeBlocks | None:
        """What is kept of an answer that ended well, with these calls; None where it is not whole."""
        uses = [block for block in self._blocks if block.begun.get("type") == "tool_use"]
        if self._is_lost or len(uses) != len(calls):
            return None
        if not all(is_json_object(block.arguments) for block in self._blocks if block.has_input):
            return None
        told = [
            NativeCall(call.call_id, block.foreign_id_of(call), call.name, block.arguments)
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


def refuses_thoughts(status: int, body: bytes) -> bool:
    """Whether an error is about thinking that was sent again: signed for another account, or another model behind the
    same name, or behind something that a server between changed."""
    return status in REFUSAL_STATUSES and _OF_THOUGHTS.search(ErrorText.of(body).text) is not None


def without_thoughts(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """A request without the thinking that stands in its messages; None where there is none.

    It does not ask for thinking by a budget either: a loop that goes on without its own would be refused.
    """
    messages: list[Any] = []
    for message in body["messages"]:
        content = message["content"]
        if isinstance(content, msgspec.Raw):
            blocks = _BLOCKS.decode(content)
            left = [block for block in blocks if _KIND.decode(block["type"]) not in _THOUGHTS]
            messages.append({**message, "content": left} if len(left) < len(blocks) else message)
        else:
            messages.append(message)
    if all(changed is message for changed, message in zip(messages, body["messages"], strict=True)):
        return None
    changed = {**body, "messages": messages}
    if body.get("thinking", {}).get("type") == "enabled":
        del changed["thinking"]
    return changed


def _fits(index: object) -> bool:
    return index is None or isinstance(index, int | str)
