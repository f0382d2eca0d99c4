"""What the decoders of all providers give and raise."""

from collections.abc import Sequence
from dataclasses import dataclass

from archer_ws.llm_gateway.types import FinishReason, StreamChunk, TokenUsage


class Unreadable(ValueError):
    """What came is not the provider's API; the text says what it is instead."""


class TooLarge(Unreadable):
    """More came than is read of such a thing."""


class ErrorSaid(Exception):
    """The provider sent an error in place of an answer, or in the middle of one; `error` is what it said, decoded."""

    def __init__(self, error: object) -> None:
        super().__init__("an error in place of an answer")
        self.error = error


class BrokenOff(Exception):
    """The provider says that it stopped before the answer was complete."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    content: str
    reasoning: str | None
    finish_reason: FinishReason | None
    usage: TokenUsage | None
    id: str | None
    model: str | None


def folded(chunks: Sequence[StreamChunk], reason: FinishReason | None, names: object) -> Answer:
    """The answer that these chunks are; `names` is the document that may have its `id` and `model`."""
    usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage), None)
    return Answer(
        content="".join(chunk.content for chunk in chunks),
        reasoning="".join(chunk.reasoning or "" for chunk in chunks) or None,
        finish_reason=reason,
        # A count that is only half known is no count.
        usage=None if usage is None or usage.estimated else usage,
        id=_text(names, "id"),
        model=_text(names, "model"),
    )


def _text(fields: object, name: str) -> str | None:
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) and value else None
