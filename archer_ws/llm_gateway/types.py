"""The values that cross the gateway: requests, answers, chunks, models, provider states.

The specification's fields come first in each model and are always sent; what the protocol adds is optional and left
out where it has nothing to say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.core.ids import ID_PATTERN


def _is_none(value: object) -> bool:
    return value is None


def _whole_scalars(text: str) -> str:
    """Refuse lone surrogates: JSON can carry them, UTF-8 cannot (protocol section 1)."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} is a lone surrogate; send whole Unicode characters (a surrogate pair together)"
        ) from None
    return text


def optional(description: str, **extra: Any) -> Any:
    """A field the protocol adds: absent from the wire when it is None."""
    return Field(default=None, exclude_if=_is_none, description=description, **extra)


class WireModel(BaseModel):
    """Base of what clients send: a field that is null is as good as missing (protocol section 1)."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_missing(cls, given: Any) -> Any:
        if isinstance(given, dict) and None in given.values():
            return {name: value for name, value in given.items() if value is not None}
        return given


Text = Annotated[str, AfterValidator(_whole_scalars)]
Identifier = Annotated[str, Field(pattern=ID_PATTERN)]

#: Why a model stopped, normalised over providers; clients must accept values they do not know.
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
#: What a stream does before its first token.
ProgressPhase = Literal["queued", "loading", "retrying", "fallback"]
#: A stream's states: live (the first three) and ended (the rest).
StreamStatus = Literal["queued", "running", "cancelling", "completed", "cancelled", "incomplete", "failed"]
#: Who ended a cancelled stream.
CancelReason = Literal["client", "disconnected", "interrupted", "draining"]


class MessageRole(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class ChatMessage(WireModel):
    role: MessageRole
    content: Text
    name: Annotated[str | None, Field(max_length=64)] = None


class ChatRequest(WireModel):
    """What to generate: the same on every transport (protocol section 1).

    `stream_id` is the idempotency key: the same id with the same parameters attaches to the running stream.
    With `session_id`, `messages` holds the new turn only.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"messages": [{"role": "user", "content": "Why is the sky blue?"}]}]}
    )

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)]
    model: Annotated[str | None, Field(min_length=1, max_length=256)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=2**31 - 1)] = None
    stream: bool = False

    provider: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    stop: Annotated[list[Annotated[Text, Field(min_length=1)]] | None, Field(max_length=16)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-(2**53 - 1), le=2**53 - 1)] = None
    stream_id: Identifier | None = None
    session_id: Identifier | None = None
    replace_from: Identifier | None = None
    on_disconnect: Literal["continue", "cancel"] | None = None
    on_busy: Literal["reject", "interrupt"] | None = None


class TokenUsage(BaseModel):
    """Tokens as the provider counted them; `estimated` where it did not (a cancelled stream)."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated: bool | None = optional("True when the figures are ours: UTF-8 bytes / 4, or chunks seen.")
    cached_tokens: int | None = optional("Of the prompt's tokens, those read from the provider's cache.")
    reasoning_tokens: int | None = optional("Of the completion's tokens, those spent on reasoning.")


class ChatResponse(BaseModel):
    """A whole answer; `id` is the stream id."""

    id: str
    content: str
    model: str
    provider: str
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    created_at: datetime
    status: StreamStatus | None = optional("How the stream ended.")
    reason: CancelReason | None = optional("Who cancelled it.")
    session_id: str | None = optional("The conversation this answer was stored in.")
    reasoning: str | None = optional("The model's visible reasoning.")
    error: ErrorInfo | None = optional("Why the answer failed or is incomplete.")
    history_dropped: int | None = optional("Messages of the session left out to fit the model's context.")


class StreamChunk(BaseModel):
    """A piece of an answer as an adapter yields it.

    One of `content` and `reasoning` has text. Both may be empty: the provider answered or is alive, without text yet.
    `finish_reason` comes at most once, with or after the last text; `usage` whenever the provider tells it, the newest
    replacing the older.
    """

    content: str
    finish_reason: str | None = None
    reasoning: str | None = optional("A piece of the model's visible reasoning.")
    usage: TokenUsage | None = optional("Token counts known so far.")


class ModelInfo(BaseModel):
    id: str
    name: str
    provider: str
    context_window: int | None = None
    supports_streaming: bool = True


class ProviderStatus(BaseModel):
    """Whether a provider answers, and how fast."""

    provider: str
    available: bool
    latency_ms: float | None = None
    error: str | None = None
    models: list[str] = []
    hint: str | None = optional("What to do about the error.")
    configured: bool | None = optional("False where a key or a package is missing.")


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What `chat` and `stream_chat` take beyond the specification's arguments.

    `on_progress(phase, detail)` is called from the event loop before the first token; it must not block or raise.
    """

    stop: tuple[str, ...] = ()
    top_p: float | None = None
    seed: int | None = None
    on_progress: Callable[[ProgressPhase, str | None], None] | None = None

    def progress(self, phase: ProgressPhase, detail: str | None = None) -> None:
        """Report a phase to whoever listens."""
        if self.on_progress is not None:
            self.on_progress(phase, detail)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes, with the configured defaults filled in."""

    provider: str
    model: str
    temperature: float | None
    max_tokens: int
    #: Whether the request itself named the model.
    model_was_named: bool = True
