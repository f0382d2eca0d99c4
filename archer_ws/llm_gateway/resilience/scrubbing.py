"""Keeps the keys that providers are sent out of the answers they give."""

from archer_ws.core.secrets import AnswerScrubber
from archer_ws.llm_gateway.types import StreamChunk


class ChunkScrubber:
    """Masks known secrets in the chunks of one answer, also where one is split over several chunks."""

    def __init__(self) -> None:
        self._content = AnswerScrubber()
        self._reasoning = AnswerScrubber()

    def clean(self, chunk: StreamChunk) -> None:
        """Mask what the chunk has; its end may be held back for a chunk that follows, but not behind the last."""
        content, reasoning = chunk.content, chunk.reasoning
        if content:
            # Not assigned where nothing changes: a model's own assignment costs more than the look.
            if (shown := self._content.feed(content)) is not content:
                chunk.content = shown
            if not reasoning and (held := self._reasoning.rest()):
                chunk.reasoning = held
        if reasoning and (shown := self._reasoning.feed(reasoning)) is not reasoning:
            chunk.reasoning = shown
        if chunk.finish_reason is not None:
            if held := self._content.rest():
                chunk.content += held
            if held := self._reasoning.rest():
                chunk.reasoning = (chunk.reasoning or "") + held

    def rest(self) -> StreamChunk | None:
        """What was held back, at the end of an answer that broke off."""
        content, reasoning = self._content.rest(), self._reasoning.rest()
        return StreamChunk(content=content, reasoning=reasoning or None) if content or reasoning else None


def without_secrets_in(text: str) -> str:
    """The text of a whole answer, masked as the chunks of a stream are."""
    scrubber = AnswerScrubber()
    return scrubber.feed(text) + scrubber.rest()
