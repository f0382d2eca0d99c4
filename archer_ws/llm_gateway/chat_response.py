"""What a model made: a piece of it (StreamChunk), the whole (ChatResponse), its cost (TokenUsage)."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from archer_ws.core.exceptions import ErrorInfo, FieldError
from archer_ws.core.wire_model import optional
from archer_ws.core.wire_types import Count
from archer_ws.examples.chat import (
    CHAT_RESPONSES,
    REFUSALS,
    STREAM_CHUNKS,
    TOKEN_USAGES,
)
from archer_ws.llm_gateway.enumerations import CancelReason, FinishReasonText, StreamStatus
from archer_ws.llm_gateway.tools import ToolCall


class TokenUsage(BaseModel):
    """Tokens as the provider counted them; `estimated` if it did not (a cancelled stream)."""

    model_config = ConfigDict(json_schema_extra={"examples": [*TOKEN_USAGES]})

    prompt_tokens: Count = Field(description="Tokens of the prompt.")
    completion_tokens: Count = Field(description="Tokens of the completion, including reasoning.")
    total_tokens: Count = Field(description="Both together, as the provider bills them.")
    estimated: bool | None = optional("True if the counts are estimated by the server: UTF-8 bytes / 4, or chunks.")
    cached_tokens: Count | None = optional("Of the prompt's tokens, those read from the provider's cache.")
    reasoning_tokens: Count | None = optional("Of the completion's tokens, those spent on reasoning.")


#: The descriptions of `message_ids`, `steps` and `stored`.
MESSAGE_IDS = "The ids of the messages that this stream stored in its session: the turn's, and the completion's."
#: What `steps` means there.
STEPS = "The number of steps of the model; absent for one."
NOT_STORED = "False if the completion could not be stored in its session in time: the next turn may not have it."


class Refusal(BaseModel):
    """The model declined to respond; its reasons, if it gave any."""

    model_config = ConfigDict(json_schema_extra={"examples": [*REFUSALS]})

    text: str | None = optional("What the model, or its provider, said instead.")
    category: str | None = optional("The provider's category for the request, in its own words.")


#: The descriptions of `format_valid`, `format_errors`, `refusal` and `reset`.
FORMAT_VALID = (
    "Whether the whole completion has the requested `response_format`; absent if none was requested, the model "
    "stopped to call tools, the completion is incomplete, or it could not be checked within 2 s."
)
FORMAT_ERRORS = 'The format errors: up to 20, with paths in the completion, "" for all of it.'
REFUSED = "The model declined to respond."
RESET = "True: discard the text and the calls received so far; all of it is sent again."


class ChatResponse(BaseModel):
    """A whole completion; `id` is the stream id."""

    model_config = ConfigDict(json_schema_extra={"examples": [*CHAT_RESPONSES]})

    id: str = Field(description="The stream's id.")
    content: str = Field(description="The completion's text; the part that came, if it is incomplete.")
    model: str = Field(description="The model that generated it.")
    provider: str = Field(description="The model's provider.")
    finish_reason: FinishReasonText | None = Field(
        default=None, description="Why the model stopped; none if it did not say."
    )
    usage: TokenUsage | None = Field(default=None, description="What it cost, in tokens.")
    created_at: datetime = Field(description="When the request was accepted, RFC 3339 in UTC.")
    status: StreamStatus | None = optional("How the stream ended.")
    reason: CancelReason | None = optional("Who cancelled it.")
    session_id: str | None = optional("The conversation in which it was stored.")
    reasoning: str | None = optional("The model's visible reasoning.")
    tool_calls: list[ToolCall] | None = optional("The calls that the model made, complete, in order: run them.")
    refusal: Refusal | None = optional(REFUSED)
    format_valid: bool | None = optional(FORMAT_VALID)
    format_errors: list[FieldError] | None = optional(FORMAT_ERRORS)
    error: ErrorInfo | None = optional("Why it failed or is incomplete.")
    history_dropped: Count | None = optional("Messages of the session left out to fit the model's context.")
    stored: bool | None = optional(NOT_STORED)
    message_ids: list[str] | None = optional(MESSAGE_IDS)
    steps: Count | None = optional(STEPS)


class StreamChunk(BaseModel):
    """A piece of a completion, as an adapter yields it and as the data of a server-sent event.

    At most one of `content`, `reasoning` and `arguments` has text. If none has, the provider has responded or is alive,
    but sent no text yet. With `arguments` come the call's `call_id` and `name`; a call without arguments has one piece
    `{}`. `finish_reason` comes at most once, with or after the last text, and a `refusal` with it; `usage` comes
    whenever the provider reports it, and replaces the earlier one.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [*STREAM_CHUNKS]})

    content: str = Field(description="A piece of the text; empty if the event has none.")
    finish_reason: FinishReasonText | None = Field(default=None, description="Why the model stopped; none before that.")
    reasoning: str | None = optional("A piece of the model's visible reasoning.")
    usage: TokenUsage | None = optional("Token counts known so far.")
    arguments: str | None = optional("A piece of the JSON text of a tool call's arguments.")
    call_id: str | None = optional("The call of the arguments.")
    name: str | None = optional("The tool of the call.")
    refusal: Refusal | None = optional(REFUSED)
    reset: bool | None = optional(RESET)
