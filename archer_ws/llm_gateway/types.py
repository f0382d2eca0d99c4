"""The values that cross the gateway: requests, answers, chunks, models, provider states.

The specification's fields come first in each model and are always sent; what the protocol adds is optional and left
out where it has nothing to say.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator
from pydantic.config import JsonDict

from archer_ws.core.exceptions import ErrorInfo, FieldError
from archer_ws.core.limits import (
    MAX_STEPS,
    MAX_STEPS_MAX,
    PROVIDER_CALLS,
    REQUEST_MESSAGES_MAX,
    TOOL_TIMEOUT_MAX_S,
    TOOL_TIMEOUT_S,
)
from archer_ws.core.wire_model import Identifier, Text, WireModel, optional, unsupported, wrong
from archer_ws.core.wire_types import Count, Enumeration
from archer_ws.examples.chat import (
    CHAT_MESSAGES,
    CHAT_REQUESTS,
    CHAT_RESPONSES,
    PROVIDER_STATES,
    REFUSALS,
    STREAM_CHUNKS,
    TOKEN_USAGES,
)
from archer_ws.llm_gateway.content import MEDIA_PARTS_MAX, Content, MediaPart, Parts, TextPart, with_parts
from archer_ws.llm_gateway.extras import NO_EXTRAS, Extras, TakeLogprobs
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.not_served import refuse_not_served
from archer_ws.llm_gateway.request_size import refuse_too_many
from archer_ws.llm_gateway.tools import TOOLS_MAX, CallId, ResultStatus, Tool, ToolCall, ToolChoice, check_choice


def _empty_is_missing(given: Any) -> Any:
    """Some clients send what was left blank in a form."""
    return None if given in ("", []) else given


def _without_empty(stop: Any) -> Any:
    """A stop that is no text stops at nothing."""
    return _empty_is_missing([text for text in stop if text != ""] if isinstance(stop, list) else stop)


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
#: A stream's states: live (the first four) and ended (the rest).
StreamStatus = Annotated[
    Literal["queued", "running", "waiting", "cancelling", "completed", "cancelled", "incomplete", "failed"],
    Enumeration(
        "StreamStatus",
        "A stream's state. Live: queued, running, waiting (for the results of calls), cancelling. Ended: completed "
        "(the provider said it was done), cancelled, incomplete (it just stopped), failed. It may grow.",
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
OnToolCall = Annotated[Literal["end", "wait"], Enumeration("OnToolCall", "What a call does to its stream.")]


#: In the schemas of requests: `messages` may be empty beside `replace_from` alone.
EMPTY_ONLY_TO_ASK_AGAIN: JsonDict = {
    "anyOf": [
        {"properties": {"messages": {"minItems": 1}}, "additionalProperties": True},
        {"required": ["replace_from"]},
    ]
}


#: How much a model thinks, from nothing to all it can; a model has some of these.
ReasoningEffort = Annotated[
    Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"],
    Enumeration("ReasoningEffort", "How much a model thinks before it answers, in this order. It may grow."),
]


class MessageRole(StrEnum):
    """Who says a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


#: Who may say more than text.
_SAY_PARTS = frozenset({MessageRole.USER, MessageRole.TOOL})


class ChatMessage(WireModel):
    """One message of a chat."""

    model_config = ConfigDict(json_schema_extra={"examples": [*CHAT_MESSAGES]})

    role: MessageRole = Field(description="Who says it; `tool` for the result of a call.")
    content: Content = Field(
        description="The text, or parts, whose texts are joined by line breaks. May be missing beside `tool_calls`."
    )
    parts: Parts | None = optional(
        "All that it says, in order, where that is more than text: `content` is its text then. As it is received; "
        "what is sent may be a list as `content`."
    )
    name: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="Which of several speakers of that role; not every provider is told."
    )
    message_id: Identifier | None = Field(
        default=None, description="An id of your own for the message, unique in its session; the server's if missing."
    )
    tool_calls: Annotated[list[ToolCall] | None, Field(max_length=PROVIDER_CALLS)] = Field(
        default=None, description="The calls that the model made in this message (assistant alone)."
    )
    call_id: CallId | None = Field(default=None, description="Which call this is the result of (tool alone).")
    status: ResultStatus | None = Field(default=None, description="How the call ended (tool alone): ok by default.")

    def part_path(self, number: int) -> str:
        """Where a part stands in the message as it was sent."""
        part = (self.parts or [])[number]
        return part.path if isinstance(part, MediaPart) and part.path else f"parts.{number}"

    def request_path(self, number: int) -> str:
        """Where a picture or file stands in its request; one of the history is the session's."""
        part = (self.parts or [])[number]
        place = part.message_place if isinstance(part, MediaPart) else None
        return "session_id" if place is None else f"messages.{place}.{self.part_path(number)}"

    def without_place(self) -> Self:
        """The message as a later request finds it in the history."""
        if self.parts is None:
            return self
        parts = [part.without_place() if isinstance(part, MediaPart) else part for part in self.parts]
        return self.model_copy(update={"parts": parts})

    @property
    def file_ids(self) -> list[str]:
        """The uploaded files that it names."""
        return [part.file_id for part in self.parts or () if not isinstance(part, TextPart) and part.file_id]

    @property
    def text_bytes(self) -> int:
        """The size of its text and of its calls' arguments, in bytes of UTF-8."""
        size = len(self.content.encode())
        return size + sum(len(call.arguments.encode()) for call in self.tool_calls) if self.tool_calls else size

    @model_validator(mode="before")
    @classmethod
    def _text_beside_what_is_more(cls, given: Any) -> Any:
        """Calls need no text; parts have theirs beside them."""
        if not isinstance(given, dict) or (type(given.get("content")) is str and "parts" not in given):
            return given
        if given.get("content") is None and given.get("tool_calls"):
            given = {**given, "content": ""}
        return with_parts(given)

    @model_validator(mode="after")
    def _fields_fit_the_role(self) -> "ChatMessage":
        if self.parts is not None and self.role not in _SAY_PARTS:
            place = next(place for place, part in enumerate(self.parts) if not isinstance(part, TextPart))
            raise unsupported(
                f"{self.role.value} messages are text alone",
                "Send pictures and documents in a message of the user's, or in a tool's result.",
                self.part_path(place),
            )
        if self.tool_calls is not None:
            if self.role is not MessageRole.ASSISTANT:
                raise wrong("only the assistant makes calls", "tool_calls")
            ids = [call.call_id for call in self.tool_calls]
            if len(set(ids)) < len(ids):
                raise wrong("two calls have one call_id", "tool_calls")
        if self.role is MessageRole.TOOL:
            if self.call_id is None:
                raise wrong(
                    "a tool's result names its call", "call_id", "Send the call_id of the call that it answers."
                )
        elif self.call_id is not None or self.status is not None:
            raise wrong("belongs to a tool's result", "status" if self.call_id is None else "call_id")
        return self


class ChatRequest(WireModel):
    """What to generate: the same on every transport (protocol section 1).

    `stream_id` is the idempotency key: the same id with the same parameters attaches to the running stream.
    With `session_id`, `messages` holds the new turn only.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [*CHAT_REQUESTS], **EMPTY_ONLY_TO_ASK_AGAIN})

    messages: Annotated[list[ChatMessage], Field(max_length=REQUEST_MESSAGES_MAX)] = Field(
        description="The conversation so far, the new turn last; with `session_id` the new turn alone. Empty only "
        "where `replace_from` names an answer: its turn is asked again. With their parts and calls at most 10,000."
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
        description="Drop this stored message and what follows before the turn (an edit, or with the answer's id and "
        "no `messages` a retry); needs `session_id`.",
    )
    session_version: Annotated[int | None, Field(ge=0, le=2**53 - 1)] = Field(
        default=None,
        description="The `version` that the conversation must have, so that nothing is replaced that you have not "
        "seen; where it has another: `conflict`. Needs `session_id`.",
    )
    on_disconnect: OnDisconnect | None = Field(
        default=None,
        description="What to do when the last connection that holds the stream is gone: by default continue on the "
        "socket, cancel over HTTP.",
    )
    on_busy: OnBusy | None = Field(
        default=None, description="What to do where the session runs a stream already: reject by default."
    )
    instructions: Text | None = Field(
        default=None, description="Put before the whole conversation for this request; never stored."
    )
    tools: Annotated[list[Tool] | None, Field(max_length=TOOLS_MAX), AfterValidator(_empty_is_missing)] = Field(
        default=None, description="What the model may call."
    )
    tool_choice: ToolChoice | None = Field(
        default=None, description="Whether it must call: auto (by default), none, required, or one by its name."
    )
    parallel_tool_calls: bool | None = Field(
        default=None, description="Whether it may make several calls at once; the provider's own default if missing."
    )
    on_tool_call: OnToolCall | None = Field(
        default=None,
        description="What a call does to the stream: `end` it (by default), so that its results come as messages of "
        "the next request; or `wait`: it goes on in the same stream once `tool/result` has brought them all.",
    )
    max_steps: Annotated[int, Field(ge=1, le=MAX_STEPS_MAX)] | None = Field(
        default=None,
        description=f"With `wait`: the most answers of the model in this stream, {MAX_STEPS} if missing. Where the "
        "last of them calls tools, the stream ends incomplete.",
    )
    tool_timeout_s: Annotated[float, Field(gt=0, le=TOOL_TIMEOUT_MAX_S)] | None = Field(
        default=None,
        description=f"With `wait`: how long the calls of a step may take together, in seconds, "
        f"{TOOL_TIMEOUT_S:g} if missing, a day at most.",
    )
    response_format: ResponseFormat | None = Field(
        default=None,
        description="The form that the answer shall have: text (by default), JSON, or JSON by a schema. The provider "
        "is told, and the whole answer is judged by it.",
    )
    reasoning_effort: Annotated[ReasoningEffort | None, BeforeValidator(_empty_is_missing)] = Field(
        default=None,
        description="How much the model shall think before it answers; its own default if missing. A level that it "
        "does not have becomes the next lower one, else its lowest.",
    )

    @property
    def extras(self) -> Extras:
        """What OpenAI's dialect has beyond these fields; nothing of it where the request came by another way."""
        return NO_EXTRAS

    def with_extras(self, extras: Extras) -> "ChatRequest":
        """The same request, which has them."""
        if extras == NO_EXTRAS:
            return self
        extended = _ExtendedRequest.model_construct(self.model_fields_set, **self.__dict__)
        extended._extras = extras
        return extended

    @property
    def waits_for_results(self) -> bool:
        """Whether the stream goes on behind a call, instead of ending with it."""
        return self.on_tool_call == "wait"

    @property
    def asked_format(self) -> ResponseFormat | None:
        """The form of the answer, where it is to be more than text."""
        asked = self.response_format
        return None if asked is None or asked.type == "text" else asked

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_would_change_the_answer(cls, given: Any) -> Any:
        if isinstance(given, dict):
            refuse_not_served(given)
            refuse_too_many(given)
        return given

    @model_validator(mode="after")
    def _fields_fit_each_other(self) -> "ChatRequest":
        if not self.messages and self.replace_from is None:
            raise wrong("should have at least 1 message", "messages", "Send what is to be answered.")
        if self.tools is not None or self.tool_choice is not None:
            check_choice(self.tools, self.tool_choice)
        if not self.waits_for_results:
            for name in ("max_steps", "tool_timeout_s"):
                if getattr(self, name) is not None:
                    raise wrong('needs on_tool_call: "wait"', name, 'Send on_tool_call: "wait", or leave it out.')
        more = 0
        for place, message in enumerate(self.messages):
            for part in message.parts or ():
                if isinstance(part, MediaPart):
                    part.message_place = place
                    more += 1
        if more > MEDIA_PARTS_MAX:
            raise wrong(
                f"has more than {MEDIA_PARTS_MAX} pictures and documents", "messages", "Leave the oldest ones out."
            )
        return self


class _ExtendedRequest(ChatRequest):
    """One with extras. A class of its own, since an attribute that is no field costs every request that has it."""

    _extras: Extras = PrivateAttr(default_factory=lambda: NO_EXTRAS)

    @property
    def extras(self) -> Extras:
        return self._extras


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


#: What a model can beyond text.
Capability = Annotated[
    Literal["tools", "vision", "files", "json_schema", "reasoning"],
    Enumeration("Capability", "What a model can beyond text. It may grow."),
]


class ModelLimits(BaseModel):
    """How much a request may hold for a model, where its provider says so."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image_bytes": 7_864_320, "images": 100, "request_bytes": 31_457_280}]}
    )

    image_bytes: Count | None = optional("The most bytes of one picture, before base64.")
    images: Count | None = optional("The most pictures of one request, the session's history included.")
    request_bytes: Count | None = optional("The most bytes of all pictures and files of one request, as base64.")


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
                    "capabilities": ["tools"],
                    "reasoning_efforts": [],
                },
                {
                    "id": "gpt-5.1",
                    "name": "gpt-5.1",
                    "provider": "openai",
                    "context_window": 400000,
                    "supports_streaming": True,
                    "capabilities": ["tools", "json_schema", "reasoning"],
                    "reasoning_efforts": ["none", "low", "medium", "high"],
                },
                {
                    "id": "claude-haiku-4-5",
                    "name": "Claude Haiku 4.5",
                    "provider": "anthropic",
                    "context_window": 200000,
                    "supports_streaming": True,
                    "capabilities": ["tools", "vision", "files"],
                    "limits": {"image_bytes": 7864320, "images": 100, "request_bytes": 31457280},
                },
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
    capabilities: list[Capability] | None = optional("What it can beyond text; absent where that is not known.")
    reasoning_efforts: list[ReasoningEffort] | None = optional(
        "What `reasoning_effort` may be, the least first; empty where it takes none, absent where that is not known."
    )
    limits: ModelLimits | None = optional("How much of what it can; absent where nothing is known.")


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
    first token, `on_native_turn(turn)` at the good end of an answer that calls tools; neither may block or raise.
    `on_logprobs(tokens)` gets what `extras` asked for, and may raise an OutputTooLong.
    """

    stop: tuple[str, ...] = ()
    top_p: float | None = None
    seed: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    #: None for text.
    response_format: ResponseFormat | None = None
    #: One that the model has (see Route), or None for its own default.
    reasoning_effort: ReasoningEffort | None = None
    #: What came by OpenAI's dialect and its provider takes.
    extras: Extras = NO_EXTRAS
    #: The uploaded files that the messages name, by their ids.
    media: Mapping[str, Media] = field(default_factory=dict)
    #: What is kept of earlier answers, by the id of each call that they made.
    native_turns: Mapping[str, NativeTurn] = field(default_factory=dict)
    defaulted: frozenset[str] = frozenset()
    #: Whether the model goes on in a loop that offered tools before: a model that knows none, and was made to call one
    #: in the first step, is not refused for the tools that are still there.
    is_later_step: bool = False
    principal: str = ""
    on_progress: Callable[[ProgressPhase, str | None], None] | None = None
    on_native_turn: Callable[[NativeTurn], None] | None = None
    on_logprobs: TakeLogprobs | None = None

    def progress(self, phase: ProgressPhase, detail: str | None = None) -> None:
        """Report a phase to whoever listens."""
        if self.on_progress is not None:
            self.on_progress(phase, detail)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes, with the configured defaults filled in.

    `max_tokens` is what the provider is told; None leaves the answer's length to the model, which can say
    `model_max_tokens` at most where that is known.
    """

    provider: str
    model: str
    temperature: float | None
    max_tokens: int | None
    #: Whether the request itself named the model.
    model_was_named: bool = True
    #: Which of these values the request left open: `temperature`, `max_tokens`.
    defaulted: frozenset[str] = frozenset()
    model_max_tokens: int | None = None
    #: What the request's effort becomes with this model; None where it names none.
    reasoning_effort: ReasoningEffort | None = None

    @property
    def answer_tokens(self) -> int | None:
        """The most tokens the answer can have, where that is known."""
        return self.max_tokens or self.model_max_tokens
