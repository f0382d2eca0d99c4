"""What the decoders of all providers give and raise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from archer_ws.llm_gateway.native_turns import NativeBlocks
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import FinishReason, Refusal, StreamChunk, TokenUsage


class Unreadable(ValueError):
    """What came is not the provider's API; the text says what it is instead."""


class TooLarge(Unreadable):
    """More came than is read of such a thing."""


class ErrorReported(Exception):
    """The provider sent an error in place of an answer, or in the middle of one; `error` is what it said, decoded."""

    def __init__(self, error: object) -> None:
        super().__init__("an error in place of an answer")
        self.error = error


class BrokenOff(Exception):
    """The provider says that it stopped before the answer was complete."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Decoder(Protocol):
    """Chunks from the bytes of an answer, streamed or whole.

    Attributes:
        done: the provider's end marker came.
        finish_reason: why the model stopped, once it has said so.
        fault: what is wrong with the completion: an ErrorReported, BrokenOff or Unreadable. The caller raises it after
            it has handed on the chunks before it.
    """

    done: bool
    finish_reason: FinishReason | None
    fault: Exception | None

    @property
    def is_whole(self) -> bool:
        """Whether the provider said that the answer is complete."""

    @property
    def names(self) -> object:
        """The document that may have the answer's `id` and `model`."""

    @property
    def native(self) -> NativeBlocks | None:
        """What the provider must see again of the answer; None unless it is whole and calls tools."""

    def feed(self, data: bytes) -> list[StreamChunk]:
        """What `data` completes, in order."""

    def finish(self) -> list[StreamChunk]:
        """What stood at the end of the body without an end of its own."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer."""

    content: str
    reasoning: str | None
    finish_reason: str | None
    usage: TokenUsage | None
    id: str | None
    model: str | None
    tool_calls: list[ToolCall] | None = None
    refusal: Refusal | None = None


def folded(chunks: Sequence[StreamChunk], names: object = None) -> Completion:
    """The answer that these chunks are; `names` is the document that may have its `id` and `model`."""
    usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage), None)
    finish_reason = next((chunk.finish_reason for chunk in reversed(chunks) if chunk.finish_reason), None)
    return Completion(
        content="".join(chunk.content for chunk in chunks),
        reasoning="".join(chunk.reasoning or "" for chunk in chunks) or None,
        finish_reason=finish_reason,
        # A count that is only half known is no count.
        usage=None if usage is None or usage.estimated else usage,
        id=_text(names, "id"),
        model=_text(names, "model"),
        # Cut off or filtered, a call may lack its end, and must not be run.
        tool_calls=_calls_in(chunks) if finish_reason == "tool_calls" else None,
        refusal=next((chunk.refusal for chunk in reversed(chunks) if chunk.refusal), None),
    )


def _calls_in(chunks: Sequence[StreamChunk]) -> list[ToolCall] | None:
    arguments: dict[tuple[str, str], list[str]] = {}
    for chunk in chunks:
        if chunk.arguments is not None and chunk.call_id is not None and chunk.name is not None:
            arguments.setdefault((chunk.call_id, chunk.name), []).append(chunk.arguments)
    return [
        ToolCall.model_construct(call_id=call_id, name=name, arguments="".join(pieces))
        for (call_id, name), pieces in arguments.items()
    ] or None


def _text(fields: object, name: str) -> str | None:
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) and value else None
