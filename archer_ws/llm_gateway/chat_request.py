"""What a client asks for: ChatRequest, the same on every transport (protocol section 1)."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator
from pydantic.config import JsonDict

from archer_ws.core.ids import DOT_SEGMENTS
from archer_ws.core.limits import (
    MAX_STEPS,
    MAX_STEPS_MAX,
    REQUEST_MESSAGES_MAX,
    TOOL_TIMEOUT_MAX_S,
    TOOL_TIMEOUT_S,
)
from archer_ws.core.wire_model import NUMBER, Identifier, Text, WireModel, wrong
from archer_ws.examples.chat import (
    CHAT_REQUESTS,
)
from archer_ws.llm_gateway.chat_message import ChatMessage
from archer_ws.llm_gateway.content import MEDIA_PARTS_MAX, MediaPart
from archer_ws.llm_gateway.enumerations import OnBusy, OnDisconnect, OnToolCall, ReasoningEffort
from archer_ws.llm_gateway.extras import NO_EXTRAS, Extras
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.not_served import refuse_not_served
from archer_ws.llm_gateway.request_size import refuse_too_many
from archer_ws.llm_gateway.tools import TOOLS_MAX, Tool, ToolChoice, check_choice


def _empty_is_missing(given: Any) -> Any:
    """Some clients send empty values for fields left blank in a form."""
    return None if given in ("", []) else given


def _without_empty(stop: Any) -> Any:
    """Empty texts as stop sequences have no effect."""
    return _empty_is_missing([text for text in stop if text != ""] if isinstance(stop, list) else stop)


#: In the schemas of requests: `messages` may only be empty beside `replace_from`.
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
        "where `replace_from` names a completion: its turn is asked again. With parts and calls, at most 10,000."
    )
    model: Annotated[str | None, Field(max_length=256), AfterValidator(_empty_is_missing)] = Field(
        default=None,
        description="The model, also as `provider/model`; the configured default where it is missing or empty.",
    )
    temperature: Annotated[float | None, Field(ge=0, le=2), NUMBER] = Field(
        default=None, description="The randomness of the completion, 0 to 2; the configured default if missing."
    )
    max_tokens: Annotated[int | None, Field(ge=1, le=2**31 - 1), NUMBER] = Field(
        default=None, description="The limit of the completion, in tokens; the configured default if missing."
    )
    stream: bool = Field(
        default=False, description="Send the completion as it is generated, instead of whole at its end."
    )

    provider: Annotated[str | None, Field(min_length=1, max_length=64)] = Field(
        default=None, description="The provider; if missing, the one that the model's name belongs to, or the default."
    )
    stop: Annotated[
        list[Text] | None,
        Field(max_length=16),
        BeforeValidator(_without_empty),
    ] = Field(
        default=None,
        description="Texts at which the model stops; they are not part of the completion. Empty ones are ignored.",
    )
    top_p: Annotated[float | None, Field(gt=0, le=1), NUMBER] = Field(
        default=None, description="Sample from the most likely tokens with this total probability, above 0 to 1."
    )
    seed: Annotated[int | None, Field(ge=-(2**53 - 1), le=2**53 - 1), NUMBER] = Field(
        default=None, description="Makes sampling repeatable, if the provider supports it."
    )
    stream_id: Identifier | None = Field(
        default=None,
        description="An id of your own for the stream, and the idempotency key; the server's if missing. Not `.` or "
        "`..`: URLs can't have them.",
    )
    session_id: Identifier | None = Field(
        default=None, description="The conversation this turn belongs to; without it nothing is stored."
    )
    replace_from: Identifier | None = Field(
        default=None,
        description="Drop this stored message and later ones before the turn (an edit, or with the completion's id and "
        "no `messages` a retry); needs `session_id`.",
    )
    session_version: Annotated[int | None, Field(ge=0, le=2**53 - 1), NUMBER] = Field(
        default=None,
        description="The `version` that the conversation must have, so that nothing is replaced that you have not "
        "seen; if it has another one: `conflict`. Needs `session_id`.",
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
        default=None, description="Instructions before the whole conversation, for this request only; never stored."
    )
    tools: Annotated[list[Tool] | None, Field(max_length=TOOLS_MAX), AfterValidator(_empty_is_missing)] = Field(
        default=None, description="The tools that the model may call."
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
    max_steps: Annotated[int, Field(ge=1, le=MAX_STEPS_MAX), NUMBER] | None = Field(
        default=None,
        description=f"With `wait`: the limit of steps of the model in this stream, {MAX_STEPS} if missing. If the "
        "last one calls tools, the stream ends incomplete.",
    )
    tool_timeout_s: Annotated[float, Field(gt=0, le=TOOL_TIMEOUT_MAX_S), NUMBER] | None = Field(
        default=None,
        description=f"With `wait`: the time limit for the calls of a step together, in seconds, "
        f"{TOOL_TIMEOUT_S:g} if missing, a day at most.",
    )
    response_format: ResponseFormat | None = Field(
        default=None,
        description="The format of the completion: text (by default), JSON, or JSON by a schema. It is sent to the "
        "provider, and the whole completion is checked against it.",
    )
    reasoning_effort: Annotated[ReasoningEffort | None, BeforeValidator(_empty_is_missing)] = Field(
        default=None,
        description="How much the model should think; its own default if missing. A level that the model "
        "does not have becomes the next lower one, else its lowest.",
    )

    @property
    def extras(self) -> Extras:
        """The extra parameters of OpenAI's dialect; none if the request came another way."""
        return NO_EXTRAS

    def with_extras(self, extras: Extras) -> "ChatRequest":
        """The same request with these extras."""
        if extras == NO_EXTRAS:
            return self
        extended = _ExtendedRequest.model_construct(self.model_fields_set, **self.__dict__)
        extended._extras = extras
        return extended

    @property
    def waits_for_results(self) -> bool:
        """Whether the stream waits for tool results, instead of ending with a call."""
        return self.on_tool_call == "wait"

    @property
    def asked_format(self) -> ResponseFormat | None:
        """The response format; None for text."""
        asked = self.response_format
        return None if asked is None or asked.type == "text" else asked

    @classmethod
    def _prepared(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Refuse what would change the completion but is not served, and too many messages."""
        refuse_not_served(given)
        refuse_too_many(given)
        return given

    @model_validator(mode="after")
    def _fields_fit_each_other(self) -> "ChatRequest":
        messages = self.messages
        if not messages and self.replace_from is None:
            raise wrong("should have at least 1 message", "messages", "Send the messages of the turn.")
        if self.stream_id in DOT_SEGMENTS:
            what = f"{self.stream_id!r} can't be in a URL, so REST could not reach the stream"
            raise wrong(what, "stream_id", "Choose another id.")
        if self.tools is not None or self.tool_choice is not None:
            check_choice(self.tools, self.tool_choice)
        if not self.waits_for_results:
            for name in ("max_steps", "tool_timeout_s"):
                if getattr(self, name) is not None:
                    raise wrong('needs on_tool_call: "wait"', name, 'Send on_tool_call: "wait", or leave it out.')
        more = 0
        for place, message in enumerate(messages):
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
    """A request with extras. A separate class, since a private attribute costs time for every request that has it."""

    _extras: Extras = PrivateAttr(default_factory=lambda: NO_EXTRAS)

    @property
    def extras(self) -> Extras:
        return self._extras
