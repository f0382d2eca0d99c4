"""Keeps the keys that providers are sent out of the answers they give."""

from archer_ws.core.secrets import AnswerScrubber
from archer_ws.llm_gateway.types import StreamChunk


class ChunkScrubber:
    """Masks known secrets in the chunks of one answer, also where one is split over several chunks."""

    def __init__(self) -> None:
        self._content = AnswerScrubber()
        self._reasoning = AnswerScrubber()
        #: By a call's id: the tool's name, and what masks its arguments.
        self._calls: dict[str | None, tuple[str | None, AnswerScrubber]] = {}

    def clean(self, chunk: StreamChunk) -> None:
        """Mask what the chunk has; its end may be held back for a chunk that follows, but not behind the last.

        Of other calls than the chunk's own, `held_arguments` gives what is to go before the last chunk.
        """
        content, reasoning = chunk.content, chunk.reasoning
        if content:
            # Not assigned where nothing changes: a model's own assignment costs more than the look.
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
        """What was held back of arguments, call by call; to be asked for when no more of them come."""
        return [
            StreamChunk(content="", arguments=held, call_id=call_id, name=name)
            for call_id, (name, scrubber) in self._calls.items()
            if (held := scrubber.rest())
        ]

    def rest(self) -> list[StreamChunk]:
        """What was held back, at the end of an answer that broke off."""
        content, reasoning = self._content.rest(), self._reasoning.rest()
        text = [StreamChunk(content=content, reasoning=reasoning or None)] if content or reasoning else []
        return [*text, *self.held_arguments()]

    def _clean_arguments(self, chunk: StreamChunk, arguments: str) -> None:
        if self._content.held:
            # The text stands before the call that follows it.
            chunk.content = self._content.rest()
        call = self._calls.get(chunk.call_id)
        if call is None:
            call = self._calls[chunk.call_id] = (chunk.name, AnswerScrubber())
        scrubber = call[1]
        if (shown := scrubber.feed(arguments)) is not arguments:
            chunk.arguments = shown
        if chunk.finish_reason is not None and (held := scrubber.rest()):
            chunk.arguments = f"{chunk.arguments}{held}"


def without_secrets_in(text: str) -> str:
    """The text of a whole answer, masked as the chunks of a stream are."""
    scrubber = AnswerScrubber()
    return scrubber.feed(text) + scrubber.rest()
