"""Joins the pieces of one network read: one chunk for each run of content, of reasoning or of one call's arguments,
whatever the number of events.
"""

from collections.abc import Iterable
from typing import Final

from archer_ws.llm_gateway.chunks import LeanChunk
from archer_ws.llm_gateway.decoding.tool_calls import ArgumentsPiece
from archer_ws.llm_gateway.types import FinishReason, Refusal, TokenUsage

#: A call's id and name.
CallIdentity = tuple[str, str]
#: The kind of a run of text: True for reasoning, False for content, or the call whose arguments it is.
Kind = bool | CallIdentity
CONTENT: Final = False
REASONING: Final = True


class Gathered:
    """The contents of one read.

    Attributes:
        alive: something came, perhaps without text.
        finish_reason: why the model stopped, if this read says so.
        usage: the newest token counts in this read.
        refusal: the model's refusal, if this read has one.
    """

    __slots__ = ("_chunks", "_kind", "_pieces", "alive", "finish_reason", "refusal", "usage")

    def __init__(self) -> None:
        self.alive = False
        self.finish_reason: FinishReason | None = None
        self.usage: TokenUsage | None = None
        self.refusal: Refusal | None = None
        self._chunks: list[LeanChunk] = []
        self._pieces: list[str] = []
        #: The kind of the current pieces.
        self._kind: Kind = CONTENT

    def add(self, text: str, *, reasoning: bool) -> None:
        """Append a piece."""
        if not text:
            return
        if reasoning is not self._kind:
            self._turn_to(reasoning)
        self._pieces.append(text)

    def add_arguments(self, pieces: Iterable[ArgumentsPiece]) -> None:
        """Append pieces of calls' arguments."""
        for call_id, name, text in pieces:
            if self._kind != (call_id, name):
                self._turn_to((call_id, name))
            self._pieces.append(text)

    def go_on(self, kind: Kind, text: str) -> None:
        """Append to a run; fast if a call is always the same object."""
        if kind is not self._kind:
            if kind != self._kind:
                self._turn_to(kind)
            self._kind = kind
        if text:
            self._pieces.append(text)

    def _turn_to(self, kind: Kind) -> None:
        if self._pieces:
            self._chunks.append(self._run())
        self._kind = kind

    @property
    def has_pieces(self) -> bool:
        """Whether the last run has text."""
        return bool(self._pieces)

    def has_text(self, *, reasoning: bool | None = None) -> bool:
        """Whether this read has text: content, reasoning, or (None) either."""
        if self._pieces and (self._kind is reasoning if reasoning is not None else isinstance(self._kind, bool)):
            return True
        return bool(self._chunks) and any(
            (chunk.content and reasoning is not True) or (chunk.reasoning and reasoning is not False)
            for chunk in self._chunks
        )

    def arguments_of(self, call: CallIdentity) -> str:
        """The arguments of a call in this read."""
        pieces = [chunk.arguments for chunk in self._chunks if chunk.arguments and chunk.call_id == call[0]]
        return "".join([*pieces, *self._pieces] if self._kind == call else pieces)

    def close(self) -> list[LeanChunk]:
        """The chunks, in order; finish reason, usage and refusal are on the last one. Empty if nothing came."""
        chunks = self._chunks
        if self._pieces or not chunks:
            if not (self._pieces or self.alive or self.finish_reason or self.usage):
                return chunks
            chunks.append(self._run())
        last = chunks[-1]
        last.finish_reason, last.usage, last.refusal = self.finish_reason, self.usage, self.refusal
        return chunks

    def _run(self) -> LeanChunk:
        text = "".join(self._pieces)
        self._pieces.clear()
        return chunk_of(self._kind, text)


def chunk_of(kind: Kind, text: str) -> LeanChunk:
    """A chunk with only a run's text; without text it is a sign of life."""
    if kind is CONTENT or not text:
        return LeanChunk(text)
    if kind is REASONING:
        return LeanChunk(reasoning=text)
    call_id, name = kind
    return LeanChunk(arguments=text, call_id=call_id, name=name)
