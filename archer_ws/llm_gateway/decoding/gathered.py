"""The pieces of one network read, joined: a chunk for each run of content or reasoning, however many events it had."""

from archer_ws.llm_gateway.types import FinishReason, StreamChunk, TokenUsage


class Gathered:
    """What one read brought.

    Attributes:
        alive: something came, perhaps without text.
        finish_reason: why the model stopped, if this read says so.
        usage: the newest token counts in this read.
    """

    __slots__ = ("_chunks", "_pieces", "_reasoning", "alive", "finish_reason", "usage")

    def __init__(self) -> None:
        self.alive = False
        self.finish_reason: FinishReason | None = None
        self.usage: TokenUsage | None = None
        self._chunks: list[StreamChunk] = []
        self._pieces: list[str] = []
        self._reasoning = False

    def add(self, text: str, *, reasoning: bool) -> None:
        """Append a piece."""
        if not text:
            return
        if reasoning is not self._reasoning:
            self._end_run()
            self._reasoning = reasoning
        self._pieces.append(text)

    def has_text(self, *, reasoning: bool | None = None) -> bool:
        """Whether text came with this read: content, reasoning, or (None) either."""
        return any(
            bool(pieces) and reasoning in (None, kind)
            for pieces, kind in (
                (self._pieces, self._reasoning),
                (any(chunk.content for chunk in self._chunks), False),
                (any(chunk.reasoning for chunk in self._chunks), True),
            )
        )

    def close(self) -> list[StreamChunk]:
        """The chunks, in order; finish reason and usage stand on the last. Empty where nothing came."""
        self._end_run()
        if not self._chunks and (self.alive or self.finish_reason or self.usage):
            self._chunks.append(StreamChunk(content=""))
        if self.finish_reason is not None:
            self._chunks[-1].finish_reason = self.finish_reason
        if self.usage is not None:
            self._chunks[-1].usage = self.usage
        return self._chunks

    def _end_run(self) -> None:
        if self._pieces:
            text = "".join(self._pieces)
            self._pieces.clear()
            chunk = StreamChunk(content="", reasoning=text) if self._reasoning else StreamChunk(content=text)
            self._chunks.append(chunk)
