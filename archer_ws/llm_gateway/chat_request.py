"""What a client asks for: ChatRequest, the same on every transport (protocol section 1)."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator
from pydantic.config import JsonDict

from archer_ws.core.limits import (
    MAX_STEPS,
    MAX_STEPS_MAX,
    REQUEST_MESSAGES_MAX,
    TOOL_TIMEOUT_MAX_S,
    TOOL_TIMEOUT_S,
)
from archer_ws.core.wire_model import Identifier, Text, WireModel, wrong
from archer_ws.llm_gateway.chat_message import ChatMessage
from archer_ws.llm_gateway.content import MEDIA_PARTS_MAX, MediaPart
from archer_ws.llm_gateway.enumerations import OnBusy, OnDisconnect, OnToolCall, ReasoningEffort
from archer_ws.llm_gateway.examples import (
    CHAT_REQUESTS,
)
from archer_ws.llm_gateway.extras import NO_EXTRAS, Extras
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.not_served import refuse_not_served
from archer_ws.llm_gateway.request_size import refuse_too_many
from archer_ws.llm_gateway.tools import TOOLS_MAX, Tool, ToolChoice, check_choice


def _empty_is_missing(given: Any) -> Any:
    """Some clients send what was left blank in a form."""
    return None if given in ("", []) else given


def _without_empty(stop: Any) -> Any:
    """A stop that is no text stops at nothing."""
    return _empty_is_missing([text for text in stop if text != ""] if isinstance(stop, list) else stop)


#: In the schemas of requests: `messages` may be empty beside `replace_from` alone.
EMPTY_ONLY_TO_ASK_AGAIN: JsonDict = {
    "anyOf": [
        {"properties": {"messages": {"minItems": 1}}, "additionalProperties": True},
        {"required": ["replace_from"]},
    ]
}


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
