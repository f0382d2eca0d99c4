"""Keeps the content of a completion of Anthropic's unchanged, to be sent again in the tool loop that it began. Pure.

Thinking blocks must be sent back unchanged and complete, including redacted ones and those with only a signature, and
all blocks in their order (https://platform.claude.com/docs/en/build-with-claude/thinking-tool-workflows).
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

#: By the kind of a piece: the piece's field that has the text, and the block's field that the text is appended to.
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
#: The API's words for thinking that it refuses: about thinking in messages, never about the parameter. What follows
#: "messages." is searched up to the next "messages." only, so that no part of a text is read many times.
_OF_THOUGHTS = re.compile(
    r"messages\.(?:(?!messages\.).){0,200}?(signature|thinking)|(signature|thinking`?) .{0,40}block", re.IGNORECASE
)


@dataclass(slots=True)
class _Block:
    #: The block as it began.
    begun: dict[str, Any]
    #: The text appended to its fields.
    pieces: dict[str, list[str]] = field(default_factory=dict)
    citations: list[Any] = field(default_factory=list)

    @property
    def has_input(self) -> bool:
        """Whether it is a call, of our tools or of the server's."""
        return "input" in self.pieces or "input" in self.begun or self.begun.get("type") == "tool_use"

    @property
    def arguments(self) -> str:
        """A call's input as JSON text."""
        said = whole_text("".join(self.pieces.get("input", ())))
        return said or msgspec.json.encode(self.begun.get("input") or {}).decode()

    def foreign_id_of(self, call: AssembledCall) -> str:
        """The API's id of the call in this block. Empty if there is none, or if the block could not be sent again: a
        name that the model invented was changed for the client, since the API does not accept it in a history.
        """
        given = self.begun.get("id")
        return given if isinstance(given, str) and self.begun.get("name") == call.name else ""

    def whole(self) -> dict[str, Any] | None:
        """The complete block; None for an empty one, which the API refuses."""
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
    """The blocks of one completion, in the order in which they began.

    NATIVE_BYTES_MAX limits them: nothing is kept of a larger completion, nor of one with unknown pieces, since it would
    not be complete.
    """

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._by_index: dict[object, _Block] = {}
        self._size = 0
        self._is_lost = False

    def begin(self, index: object, block: object) -> None:
        """Add a block that begins, or a complete one."""
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
        """Append a piece of a block's text."""
        if self._is_lost:
            return
        block = self._by_index.get(index)
        if block is None:
            # Some servers send no start of a text block.
            block = self._begun_unsaid(index, kind)
            if block is None:
                return
        add_piece(block.pieces.setdefault(_PIECES[kind][1], []), text)
        self._count(len(text))

    def add(self, index: object, delta: object) -> None:
        """Append a piece of a block, of any kind."""
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
        """The blocks of a completion that ended well, with these calls; None if they are not complete."""
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
            # It contains half of a character and can't be sent.
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
    """Whether the tool loop continues without the thinking that it began with, or began without any.

    A model with a thinking budget must not be asked to think then: the API requires that the loop begins with a
    thinking block (anthropics/claude-code#14264).
    """
    places = calling_in_loop(messages)
    if not places:
        return False
    first = replayed.get(places[0])
    return first is None or not any(block.type in _THOUGHTS for block in _TYPES.decode(first.blocks)[:1])


def refuses_thoughts(status: int, body: bytes) -> bool:
    """Whether an error is about thinking that was sent again: signed for another account or another model of the same
    name, or with a history that a server in between changed.
    """
    return status in REFUSAL_STATUSES and _OF_THOUGHTS.search(ErrorText.of(body).text) is not None


def without_thoughts(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The request without the thinking in its messages; None if there is none.

    It does not ask for thinking with a budget, either: a loop that continues without its thinking would be refused.
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
