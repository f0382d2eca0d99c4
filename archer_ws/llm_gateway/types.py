"""The values that cross the gateway: requests, answers, chunks, models, provider states.

The specification's fields come first in each model and are always sent; what the protocol adds is optional and left
out where it has nothing to say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.core.ids import ID_PATTERN
from archer_ws.core.wire_types import Count, Enumeration
from archer_ws.llm_gateway.examples import (
    CHAT_REQUESTS,
    CHAT_RESPONSES,
    PROVIDER_STATES,
    STREAM_CHUNKS,
    TOKEN_USAGES,
)


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


def _empty_is_missing(given: Any) -> Any:
    """Some clients send what was left blank in a form."""
    return None if given in ("", []) else given


def _without_empty(stop: Any) -> Any:
    """A stop that is no text stops at nothing."""
    return _empty_is_missing([text for text in stop if text != ""] if isinstance(stop, list) else stop)


Text = Annotated[str, AfterValidator(_whole_scalars)]
Identifier = Annotated[str, Field(pattern=ID_PATTERN)]

#: Why a model stopped, normalised over providers; clients must accept values they do not know.
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
#: The same as it stands in what we send: text, unchecked.
FinishReasonText = Annotated[
    str,
    Enumeration(
        "FinishReason", "Why a model stopped, normalised over providers. It may grow.", lambda: get_args(FinishReason)
    ),
]
#: What a stream does before its first token.
ProgressPhase = Annotated[
    Literal["queued", "loading", "retrying", "fallback"],
    Enumeration("ProgressPhase", "What a stream does before its first text. It may grow."),
]
#: A stream's states: live (the first three) and ended (the rest).
StreamStatus = Annotated[
    Literal["queued", "running", "cancelling", "completed", "cancelled", "incomplete", "failed"],
    Enumeration(
        "StreamStatus",
        "A stream's state. Live: queued, running, cancelling. Ended: completed (the provider said it was done), "
        "cancelled, incomplete (it just stopped), failed. It may grow.",
    ),
]
#: Who ended a cancelled stream.
CancelReason = Annotated[
    Literal["client", "disconnected", "interrupted", "draining"],
    Enumeration("CancelReason", "Who or what cancelled a stream. It may grow."),
]
OnDisconnect = Annotated[
    Literal["continue", "cancel"],
    Enumeration("OnDisconnect", "What becomes of a stream when the last connection that holds it is gone."),
]
OnBusy = Annotated[
    Literal["reject", "interrupt"], Enumeration("OnBusy", "What a request does to a session that runs a stream.")
]


class MessageRole(StrEnum):
    """Who says a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class ChatMessage(WireModel):
    """One message of a chat."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"role": "system", "content": "Answer in one sentence."},
                {"role": "user", "content": "Why is the sky blue?", "name": "ada"},
            ]
        }
    )

    role: MessageRole = Field(description="Who says it.")
    content: Text = Field(description="The text: whole Unicode characters, no lone surrogates.")
    name: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="Which of several speakers of that role; not every provider is told."
    )


class ChatRequest(WireModel):
    """What to generate: the same on every transport (protocol section 1).

    `stream_id` is the idempotency key: the same id with the same parameters attaches to the running stream.
    With `session_id`, `messages` holds the new turn only.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [*CHAT_REQUESTS]})

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)] = Field(
        description="The conversation so far, the new turn last; with `session_id` the new turn alone."
    )
    model: Annotated[str | None, Field(max_length=256), AfterValidator(_empty_is_missing)] = Field(
        default=None,
        description="The model, also as `provider/model`; the configured default where it is missing or empty.",
    )
    temperature: Annotated[float | None, Field(ge=0, le=2)] = Field(
        default=None, description="How much chance decides, 0 to 2; the configured default where it is missing."
    )
    max_tokens: Annotated[int | None, Field(ge=1, le=2**31 - 1)] = Field(
        default=None, description="The most tokens of the answer; the configured default where it is missing."
    )
    stream: bool = Field(default=False, description="Give the answer as it comes, instead of whole at its end.")

    provider: Annotated[str | None, Field(min_length=1, max_length=64)] = Field(
        default=None, description="The provider; without it, the one the model's name belongs to, or the default."
    )
    stop: Annotated[
        list[Text] | None,
        Field(max_length=16),
        BeforeValidator(_without_empty),
    ] = Field(
        default=None,
        description="Texts at which the model stops; they are not part of the answer. Empty ones are left out.",
    )
    top_p: Annotated[float | None, Field(gt=0, le=1)] = Field(
        default=None, description="Choose among the likeliest tokens that make up this share, above 0 to 1."
    )
    seed: Annotated[int | None, Field(ge=-(2**53 - 1), le=2**53 - 1)] = Field(
        default=None, description="Makes chance repeatable, where the provider can."
    )
    stream_id: Identifier | None = Field(
        default=None, description="An id of your own for the stream, and the idempotency key; the server's if missing."
    )
    session_id: Identifier | None = Field(
        default=None, description="The conversation this turn belongs to; without it nothing is stored."
    )
    replace_from: Identifier | None = Field(
        default=None,
        description="Drop this stored message and what follows before the turn (a retry, an edit); needs `session_id`.",
    )
    on_disconnect: OnDisconnect | None = Field(
        default=None,
        description="What to do when the last connection that holds the stream is gone: by default continue on the "
        "socket, cancel over HTTP.",
    )
    on_busy: OnBusy | None = Field(
        default=None, description="What to do where the session runs a stream already: reject by default."
    )


class TokenUsage(BaseModel):
    """Tokens as the provider counted them; `estimated` where it did not (a cancelled stream)."""

    model_config = ConfigDict(json_schema_extra={"examples": [*TOKEN_USAGES]})

    prompt_tokens: Count = Field(description="Tokens of what was sent to the model.")
    completion_tokens: Count = Field(description="Tokens of what the model said, its reasoning included.")
    total_tokens: Count = Field(description="Both together, as the provider bills them.")
    estimated: bool | None = optional("True when the figures are ours: UTF-8 bytes / 4, or chunks seen.")
    cached_tokens: Count | None = optional("Of the prompt's tokens, those read from the provider's cache.")
    reasoning_tokens: Count | None = optional("Of the completion's tokens, those spent on reasoning.")


#: What `stored` means, where an answer is told.
NOT_STORED = "False where the answer could not be kept in its session in time: the next turn may not know of it."


class ChatResponse(BaseModel):
    """A whole answer; `id` is the stream id."""

    model_config = ConfigDict(json_schema_extra={"examples": [*CHAT_RESPONSES]})

    id: str = Field(description="The stream's id.")
    content: str = Field(description="The answer's text; what came of it, if it did not complete.")
    model: str = Field(description="The model that answered.")
    provider: str = Field(description="The provider that answered.")
    finish_reason: FinishReasonText | None = Field(
        default=None, description="Why the model stopped; none where it did not say."
    )
    usage: TokenUsage | None = Field(default=None, description="What it cost, in tokens.")
    created_at: datetime = Field(description="When the request was accepted, RFC 3339 in UTC.")
    status: StreamStatus | None = optional("How the stream ended.")
    reason: CancelReason | None = optional("Who cancelled it.")
    session_id: str | None = optional("The conversation this answer was stored in.")
    reasoning: str | None = optional("The model's visible reasoning.")
    error: ErrorInfo | None = optional("Why the answer failed or is incomplete.")
    history_dropped: Count | None = optional("Messages of the session left out to fit the model's context.")
    stored: bool | None = optional(NOT_STORED)


class StreamChunk(BaseModel):
    """A piece of an answer, as an adapter yields it and as the data of a server-sent event.

    One of `content` and `reasoning` has text. Both may be empty: the provider answered or is alive, without text yet.
    `finish_reason` comes at most once, with or after the last text; `usage` whenever the provider tells it, the newest
    replacing the older.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [*STREAM_CHUNKS]})

    content: str = Field(description="A piece of the answer; empty where the event brings none.")
    finish_reason: FinishReasonText | None = Field(
        default=None, description="Why the model stopped; none before it did."
    )
    reasoning: str | None = optional("A piece of the model's visible reasoning.")
    usage: TokenUsage | None = optional("Token counts known so far.")


class ModelInfo(BaseModel):
    """A model that a request can name."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "llama3.2",
                    "name": "Llama 3.2",
                    "provider": "ollama",
                    "context_window": 131072,
                    "supports_streaming": True,
                }
            ]
        }
    )

    id: str = Field(description="What to send as `model`.")
    name: str = Field(description="A name for people.")
    provider: str = Field(description="What to send as `provider`.")
    context_window: Count | None = Field(
        default=None, description="The most tokens of prompt and answer together, where it is known."
    )
    supports_streaming: bool = Field(default=True, description="Whether its answers come piece by piece.")


class ProviderStatus(BaseModel):
    """Whether a provider answers, and how fast."""

    model_config = ConfigDict(json_schema_extra={"examples": [*PROVIDER_STATES]})

    provider: str = Field(description="The provider's name.")
    available: bool = Field(description="Whether it answered.")
    latency_ms: float | None = Field(default=None, description="How long its answer took, in milliseconds.")
    error: str | None = Field(default=None, description="What is wrong with it.")
    models: list[str] = Field(default=[], description="The ids of its models; none where it was not asked for them.")
    hint: str | None = optional("What to do about the error.")
    configured: bool | None = optional("False where a key or a package is missing.")


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What `chat` and `stream_chat` take beyond the specification's arguments.

    `defaulted` names the parameters (as the arguments are named) whose values are ours and not the client's: a server
    that refuses one of them may be asked without it. `principal` is whom the answer is for: it never comes over a
    connection that carried another principal's. `on_progress(phase, detail)` is called from the event loop before the
    first token; it must not block or raise.
    """

    stop: tuple[str, ...] = ()
    top_p: float | None = None
    seed: int | None = None
    defaulted: frozenset[str] = frozenset()
    principal: str = ""
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
    #: Which of these values the request left open: `temperature`, `max_tokens`.
    defaulted: frozenset[str] = frozenset()
