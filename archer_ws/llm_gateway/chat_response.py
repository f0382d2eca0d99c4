"""What a model made: a piece of it (StreamChunk), the whole (ChatResponse), its cost (TokenUsage)."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from archer_ws.core.exceptions import ErrorInfo, FieldError
from archer_ws.core.wire_model import optional
from archer_ws.core.wire_types import Count
from archer_ws.llm_gateway.enumerations import CancelReason, FinishReasonText, StreamStatus
from archer_ws.llm_gateway.examples import (
    CHAT_RESPONSES,
    REFUSALS,
    STREAM_CHUNKS,
    TOKEN_USAGES,
)
from archer_ws.llm_gateway.tools import ToolCall


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
MESSAGE_IDS = "The ids of the messages that this stream stored in its session: the turn's own, and the answer's."
#: What `steps` means there.
STEPS = "How many answers of the model it took; absent for one."
NOT_STORED = "False where the answer could not be kept in its session in time: the next turn may not know of it."


class Refusal(BaseModel):
    """The model declined to answer; what it gave of reasons."""

    model_config = ConfigDict(json_schema_extra={"examples": [*REFUSALS]})

    text: str | None = optional("What the model, or its provider, said instead of an answer.")
    category: str | None = optional("What kind of request the provider took it for, in its own words.")


#: What `format_valid`, `format_errors` and `refusal` mean, where an answer is told.
FORMAT_VALID = (
    "Whether the whole answer is what `response_format` asked for; absent where nothing was asked for, the model "
    "stopped to call tools, the answer did not complete, or it could not be judged within 2 s."
)
FORMAT_ERRORS = 'What is wrong with the answer\'s form: up to 20, with paths into the answer, "" for all of it.'
REFUSED = "The model declined to answer."
RESET = "True: discard the text and the calls you have; all of it comes again from the first on."


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
    tool_calls: list[ToolCall] | None = optional("The calls that the model made, complete, in order: run them.")
    refusal: Refusal | None = optional(REFUSED)
    format_valid: bool | None = optional(FORMAT_VALID)
    format_errors: list[FieldError] | None = optional(FORMAT_ERRORS)
    error: ErrorInfo | None = optional("Why the answer failed or is incomplete.")
    history_dropped: Count | None = optional("Messages of the session left out to fit the model's context.")
    stored: bool | None = optional(NOT_STORED)
    message_ids: list[str] | None = optional(MESSAGE_IDS)
    steps: Count | None = optional(STEPS)


class StreamChunk(BaseModel):
    """A piece of an answer, as an adapter yields it and as the data of a server-sent event.

    One of `content`, `reasoning` and `arguments` has text. All may be empty: the provider answered or is alive, without
    text yet. With `arguments` stand the call's `call_id` and `name`; a call that takes none has one piece `{}`.
    `finish_reason` comes at most once, with or after the last text, and a `refusal` with it; `usage` whenever the
    provider tells it, the newest replacing the older.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [*STREAM_CHUNKS]})

    content: str = Field(description="A piece of the answer; empty where the event brings none.")
    finish_reason: FinishReasonText | None = Field(
        default=None, description="Why the model stopped; none before it did."
    )
    reasoning: str | None = optional("A piece of the model's visible reasoning.")
    usage: TokenUsage | None = optional("Token counts known so far.")
    arguments: str | None = optional("A piece of the JSON text of a tool call's arguments.")
    call_id: str | None = optional("Which call the arguments are of.")
    name: str | None = optional("Which tool is called.")
    refusal: Refusal | None = optional(REFUSED)
    reset: bool | None = optional(RESET)
