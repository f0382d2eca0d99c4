"""Masks the keys that providers are sent in the completions that they return."""

from archer_ws.core.secrets import TextScrubber
from archer_ws.llm_gateway.types import Chunk, StreamChunk


class ChunkScrubber:
    """Masks known secrets in the chunks of one completion, even if one is split over several chunks."""

    def __init__(self) -> None:
        self._content = TextScrubber()
        self._reasoning = TextScrubber()
        #: By a call's id: the tool's name, and the scrubber of its arguments.
        self._calls: dict[str | None, tuple[str | None, TextScrubber]] = {}

    def clean(self, chunk: Chunk) -> None:
        """Mask secrets in the chunk; the end of its text may be held back for the next chunk, but not after the last
        one.

        For calls other than the chunk's, `held_arguments` returns what must be sent before the last chunk.
        """
        content, reasoning = chunk.content, chunk.reasoning
        if content:
            # Assigned only if changed: of a pulled chunk, a model, assigning a field costs more than comparing.
            if (shown := self._content.feed(content)) is not content:
                chunk.content = shown
            if self._reasoning.held and not reasoning:
                chunk.reasoning = self._reasoning.rest()
        if reasoning and (shown := self._reasoning.feed(reasoning)) is not reasoning:
            chunk.reasoning = shown
        if arguments := chunk.arguments:
            self._clean_arguments(chunk, arguments)
        if chunk.refusal is not None and chunk.refusal.text:
            chunk.refusal.text = without_secrets_in(chunk.refusal.text)
        if chunk.finish_reason is not None:
            if held := self._content.rest():
                chunk.content += held
            if held := self._reasoning.rest():
                chunk.reasoning = (chunk.reasoning or "") + held

    def held_arguments(self) -> list[StreamChunk]:
        """The held-back arguments of each call; to be called when no more arguments come."""
        return [
            StreamChunk(content="", arguments=held, call_id=call_id, name=name)
            for call_id, (name, scrubber) in self._calls.items()
            if (held := scrubber.rest())
        ]

    def rest(self) -> list[StreamChunk]:
        """Everything held back, at the end of a completion that broke off."""
        content, reasoning = self._content.rest(), self._reasoning.rest()
        text = [StreamChunk(content=content, reasoning=reasoning or None)] if content or reasoning else []
        return [*text, *self.held_arguments()] if self._calls else text

    def _clean_arguments(self, chunk: Chunk, arguments: str) -> None:
        if self._content.held:
            # The text comes before the call after it.
            chunk.content = self._content.rest()
        call = self._calls.get(chunk.call_id)
        if call is None:
            call = self._calls[chunk.call_id] = (chunk.name, TextScrubber())
        scrubber = call[1]
        if (shown := scrubber.feed(arguments)) is not arguments:
            chunk.arguments = shown
        if chunk.finish_reason is not None and (held := scrubber.rest()):
            chunk.arguments = f"{chunk.arguments}{held}"


def without_secrets_in(text: str) -> str:
    """The text of a whole completion, masked like the chunks of a stream."""
    scrubber = TextScrubber()
    return scrubber.feed(text) + scrubber.rest()
