"""Keeps the fields of a completion that must be sent back: reasoning, and servers' signatures of it. Pure.

Servers of this API use different names; each gets back the field that it sent, on the same message:

- `reasoning_content` (DeepSeek, Kimi, llama.cpp), `reasoning` (OpenRouter, newer vLLM, Ollama's /v1);
- `reasoning_details`, a list whose pieces are identified by their `index`
  (https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning-blocks);
- `extra_content`, of a message or of one of its calls (https://ai.google.dev/gemini-api/docs/thought-signatures).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from archer_ws.llm_gateway.decoding.tool_calls import AssembledCall
from archer_ws.llm_gateway.native_turns import (
    NATIVE_BYTES_MAX,
    NativeBlocks,
    NativeCall,
    add_piece,
    size_of,
    whole_text,
)
from archer_ws.llm_gateway.types import ChatMessage

_TEXTS = ("reasoning_content", "reasoning")
_DETAILS, EXTRA = "reasoning_details", "extra_content"
#: Fields of a detail whose pieces are appended; of other fields the last value counts.
_GROWING = frozenset({"text", "summary", "data", "signature"})
#: The memory of a detail besides its fields' JSON, in bytes: without it, empty ones would count as free.
_DETAIL_BYTES = 64


class SentFields(msgspec.Struct):
    """The fields of one completion that are sent back: those of its message, and of each call by our id."""

    message: dict[str, Any]
    calls: dict[str, dict[str, Any]]


_SENT = msgspec.json.Decoder(list[SentFields])


@dataclass(frozen=True, slots=True)
class Replayed:
    """The fields sent back in a request.

    Attributes:
        fields: by the `id()` of their messages: the conversions for a server keep messages with calls unchanged.
        own_ids: by our id of each of their calls, the server's own id.
    """

    fields: Mapping[int, SentFields]
    own_ids: Mapping[str, str]

    @classmethod
    def of(
        cls, replayed: Mapping[int, NativeBlocks], messages: Sequence[ChatMessage], fits: Callable[[str], bool]
    ) -> "Replayed | None":
        """The fields for these messages, by their indices; with the server's ids, if it accepts them and they are
        unique."""
        if not replayed:
            return None
        own_ids = {our_id: own for kept in replayed.values() for our_id, own in kept.call_ids.items()}
        others = {
            call.call_id
            for place, message in enumerate(messages)
            if place not in replayed
            for call in message.tool_calls or ()
        }
        is_unique = len(set(own_ids.values())) == len(own_ids) and others.isdisjoint(own_ids.values())
        can_be_sent = is_unique and all(own and fits(own) for own in own_ids.values())
        fields = {id(messages[place]): _SENT.decode(kept.blocks)[0] for place, kept in replayed.items()}
        return cls(fields, own_ids if can_be_sent else {})


@dataclass(slots=True)
class _Detail:
    """One of `reasoning_details`, assembled from its pieces."""

    fields: dict[str, Any]
    #: The pieces of its texts.
    pieces: dict[str, list[str]] = field(default_factory=dict)

    def is_gone_on_with(self, piece: Mapping[str, Any]) -> bool:
        """Whether a piece continues this detail, and is not a new one."""
        return "index" in piece and all(self.fields.get(name) == piece.get(name) for name in ("type", "index"))

    def go_on(self, piece: Mapping[str, Any]) -> int:
        """Add a piece; returns the approximate growth in bytes."""
        grown = 0
        for name, value in piece.items():
            begun = self.fields.get(name)
            if name in _GROWING and isinstance(value, str) and isinstance(begun, str):
                add_piece(self.pieces.setdefault(name, []), value)
                grown += len(value)
            elif (value is not None or name not in self.fields) and value != begun:
                self.pieces.pop(name, None)
                self.fields[name] = value
                grown += size_of(value)
        return grown

    def whole(self) -> dict[str, Any]:
        """The complete detail, with its texts joined."""
        grown = {name: "".join((self.fields[name], *pieces)) for name, pieces in self.pieces.items()}
        return {**self.fields, **grown}


class KeptFields:
    """The fields of one completion, assembled from its pieces. If they exceed NATIVE_BYTES_MAX, nothing is kept."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._details: list[_Detail] = []
        self._extra: object = None
        self._of_calls: dict[str, object] = {}
        self._arguments: dict[str, list[str]] = {}
        self._size = 0

    @property
    def has_reasoning_content(self) -> bool:
        """Whether the server uses this name for reasoning."""
        return "reasoning_content" in self._texts

    def add(self, reasoning_content: object, reasoning: object, details: object, extra: object) -> None:
        """Add a piece's values of these fields."""
        if not (reasoning_content or reasoning or details or extra):
            return
        for name, text in zip(_TEXTS, (reasoning_content, reasoning), strict=True):
            if isinstance(text, str) and text:
                add_piece(self._texts.setdefault(name, []), text)
                self._size += len(text)
        if isinstance(details, list):
            for detail in details:
                self._add_detail(detail)
        if extra:
            self._extra = extra
            self._count(extra)
        self._bound()

    def add_document(self, document: Mapping[str, Any]) -> None:
        """Add the fields of a document: from its deltas or, if nothing came before, from its message."""
        choices = document.get("choices")
        for choice in choices if isinstance(choices, list) else [choices]:
            if not isinstance(choice, dict):
                continue
            for said in (choice.get("delta"), None if self._texts or self._details else choice.get("message")):
                if isinstance(said, dict):
                    self.add(*(said.get(name) for name in (*_TEXTS, _DETAILS, EXTRA)))

    def add_to_call(self, call_id: str | None, extra: object) -> None:
        """Add a call's extra data."""
        if extra and call_id is not None:
            self._of_calls[call_id] = extra
            self._count(extra)
            self._bound()

    def tell(self, call_id: str, arguments: str) -> None:
        """Add a piece of a call's arguments, as it is reported to readers."""
        add_piece(self._arguments.setdefault(call_id, []), arguments)
        self._size += len(arguments)
        self._bound()

    def arguments_of(self, call_id: str) -> str:
        """A call's arguments so far; empty if nothing is kept."""
        return "".join(self._arguments.get(call_id, ())) if self._size <= NATIVE_BYTES_MAX else ""

    def _whole_arguments(self, call_id: str) -> str:
        return whole_text(self.arguments_of(call_id)) or "{}"

    def blocks(self, calls: Sequence[AssembledCall]) -> NativeBlocks | None:
        """What is kept of a completion that ended well, with these calls."""
        if self._size > NATIVE_BYTES_MAX:
            return None
        message: dict[str, Any] = {name: whole_text("".join(pieces)) for name, pieces in self._texts.items()}
        if self._details:
            message[_DETAILS] = [detail.whole() for detail in self._details]
        if self._extra:
            message[EXTRA] = self._extra
        of_calls = {call_id: {EXTRA: extra} for call_id, extra in self._of_calls.items()}
        told = [
            NativeCall(call.call_id, call.foreign_id or "", call.name, self._whole_arguments(call.call_id))
            for call in calls
        ]
        try:
            return NativeBlocks.of(msgspec.json.encode([SentFields(message, of_calls)]), told)
        except (ValueError, RecursionError):
            # It contains half of a character and can't be sent.
            return None

    def _add_detail(self, piece: object) -> None:
        if not isinstance(piece, dict):
            return
        last = self._details[-1] if self._details else None
        if last is not None and last.is_gone_on_with(piece):
            self._size += last.go_on(piece)
            return
        self._details.append(_Detail(dict(piece)))
        self._size += _DETAIL_BYTES
        self._count(piece)

    def _count(self, value: object) -> None:
        self._size += size_of(value)

    def _bound(self) -> None:
        if self._size > NATIVE_BYTES_MAX:
            self._texts.clear()
            self._details.clear()
            self._of_calls.clear()
            self._arguments.clear()
            self._extra = None
