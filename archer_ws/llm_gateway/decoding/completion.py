"""What the decoders of all providers return and raise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from archer_ws.llm_gateway.chunks import Chunk, LeanChunk
from archer_ws.llm_gateway.native_turns import NativeBlocks
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import FinishReason, Refusal, TokenUsage


class Unreadable(ValueError):
    """The response is not in the provider's format; the message says what it is instead."""


class TooLarge(Unreadable):
    """The response exceeds a limit."""


class ErrorReported(Exception):
    """The provider sent an error instead of a completion, or in the middle of one; `error` is its decoded JSON."""

    def __init__(self, error: object) -> None:
        super().__init__("an error instead of a completion")
        self.error = error


class BrokenOff(Exception):
    """The provider says that it stopped before the completion was complete."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Decoder(Protocol):
    """Chunks from the bytes of a completion, streamed or whole.

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
        """Whether the provider said that the completion is complete."""

    @property
    def names(self) -> object:
        """The document that may have the completion's `id` and `model`."""

    @property
    def native(self) -> NativeBlocks | None:
        """What the provider must receive again of the completion; None unless it is complete and calls tools."""

    def feed(self, data: bytes) -> list[LeanChunk]:
        """The chunks that `data` completes, in order."""

    def finish(self) -> list[LeanChunk]:
        """The chunks at the end of the body that had no end marker of their own."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole completion."""

    content: str
    reasoning: str | None
    finish_reason: str | None
    usage: TokenUsage | None
    id: str | None
    model: str | None
    tool_calls: list[ToolCall] | None = None
    refusal: Refusal | None = None


def folded(chunks: Sequence[Chunk], names: object = None) -> Completion:
    """The completion from its chunks; `names` is the document that may have its `id` and `model`."""
    usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage), None)
    finish_reason = next((chunk.finish_reason for chunk in reversed(chunks) if chunk.finish_reason), None)
    return Completion(
        content="".join(chunk.content for chunk in chunks),
        reasoning="".join(chunk.reasoning or "" for chunk in chunks) or None,
        finish_reason=finish_reason,
        # An estimated count is left out.
        usage=None if usage is None or usage.estimated else usage,
        id=_text(names, "id"),
        model=_text(names, "model"),
        # A call in a truncated or filtered completion may be incomplete, and must not run.
        tool_calls=_calls_in(chunks) if finish_reason == "tool_calls" else None,
        refusal=next((chunk.refusal for chunk in reversed(chunks) if chunk.refusal), None),
    )


def _calls_in(chunks: Sequence[Chunk]) -> list[ToolCall] | None:
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
