"""The events of a stream, each defined once (protocol section 4).

All code that writes or reads an event's fields uses these definitions: the log stores these values, the socket sends
them as the params of `stream/KIND`, server-sent events send them as the data of `event: KIND`, the schemas and
generated types describe them, and the Python client returns them. A new kind of event is a class here and an entry in
`EVENTS`; a new field is one line. Only the code that acts on it is left to write.

Text is the exception, because a delta is made for every token and reader. The log returns it as a `Delta` of bytes, and
each transport formats it by hand. `StreamDelta` defines the result, and tests compare the two. A call's arguments are
text, too: the `arguments` of a `tool_call` are read from the log, which has them once.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

import msgspec
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic.config import JsonDict

from archer_ws.core.exceptions import ErrorInfo, FieldError
from archer_ws.core.lean_dataclass import lean_dataclass
from archer_ws.core.wire_model import optional
from archer_ws.core.wire_types import Count, NamedType, Seq, opened
from archer_ws.examples.events import (
    DELTAS,
    ENDED,
    PROGRESS,
    SHOWN,
    STARTED,
    STEERED,
    STEPS_BEGUN,
    TOOL_CALLS,
    TOOL_RESULTS,
    TOOL_UPDATES,
)
from archer_ws.llm_gateway.content import AnyParts
from archer_ws.llm_gateway.tools import ResultStatus
from archer_ws.llm_gateway.types import (
    FORMAT_ERRORS,
    FORMAT_VALID,
    MESSAGE_IDS,
    NOT_STORED,
    REFUSED,
    RESET,
    STEPS,
    CancelReason,
    FinishReasonText,
    ProgressPhase,
    ReasoningEffort,
    Refusal,
    StreamStatus,
    TokenUsage,
)

#: The kinds of a stream's text: the names of the delta's fields that carry it.
TextKind = Literal["content", "reasoning", "arguments"]
TEXT_KINDS: tuple[TextKind, ...] = get_args(TextKind)

#: Who runs a call.
CallRunner = Annotated[
    Literal["client", "server"],
    NamedType("CallRunner", "Who runs a tool call and sends its result. More may be added."),
]

StreamId = Annotated[str, Field(description="The stream's id.")]
# Clients must accept events of newer servers, so these are texts with known values and not closed enumerations.
Phase = Annotated[str, opened(ProgressPhase)]
Effort = Annotated[str, opened(ReasoningEffort)]
Status = Annotated[str, opened(StreamStatus)]
Reason = Annotated[str, opened(CancelReason)]
Runner = Annotated[str, opened(CallRunner)]
CallState = Annotated[
    Literal["pending", "running"],
    NamedType(
        "CallState",
        "The state of an open call: pending, or run by the client that claimed it. More may be added.",
    ),
]
State = Annotated[str, opened(CallState)]
ResultStatusText = Annotated[str, opened(ResultStatus)]


class SteeredMessage(BaseModel):
    """A user's message that was put into a running stream."""

    model_config = ConfigDict(json_schema_extra={"examples": [STEERED, SHOWN]})

    message_id: str = Field(description="The id that its sender gave it.")
    content: str = Field(description="Its text.")
    parts: AnyParts | None = optional("Text, pictures and files in order, if it has more than text.")


@lean_dataclass(frozen=True, slots=True, kw_only=True)
class ControlEvent:
    """An event that is not text; it has one number in its stream's log."""

    #: Its name in the notification `stream/KIND` and in the server-sent `event: KIND`.
    kind: ClassVar[str]
    examples: ClassVar[list[JsonDict]]

    stream_id: StreamId
    seq: Annotated[Seq, Field(description="The event's number in its stream's log, from 1.")]


@lean_dataclass(frozen=True, slots=True, kw_only=True)
class StreamStarted(ControlEvent):
    """The provider has responded. Sent once, however many attempts there were."""

    kind = "started"
    examples = STARTED

    session_id: Annotated[str | None, optional("The conversation the stream belongs to.")] = None
    provider: Annotated[str, Field(description="The provider.")]
    model: Annotated[str, Field(description="The model.")]
    reasoning_effort: Annotated[
        Effort | None,
        optional("The reasoning effort that was sent to the model, which may differ from the requested one."),
    ] = None


@lean_dataclass(frozen=True, slots=True, kw_only=True)
class StreamProgress(ControlEvent):
    """Reports what happens before the first text of a step."""

    kind = "progress"
    examples = PROGRESS

    phase: Annotated[Phase, Field(description="What the stream is doing.")]
    detail: Annotated[str | None, optional("Details, for a person.")] = None


@lean_dataclass(frozen=True, slots=True, kw_only=True)
class StreamDelta:
    """The log's events `from` to `seq`; one of `content`, `reasoning` and `arguments` has their text."""

    kind: ClassVar[str] = "delta"
    examples: ClassVar[list[JsonDict]] = DELTAS

    stream_id: StreamId
    from_: Annotated[
        Seq, Field(alias="from", description="Its first event: always the last `seq` you have seen, plus 1.")
    ]
    seq: Annotated[Seq, Field(description="Its last event.")]
    content: Annotated[str | None, optional("A piece of the completion.")] = None
    reasoning: Annotated[str | None, optional("A piece of the model's visible reasoning.")] = None
    arguments: Annotated[
        str | None,
        optional("A piece of a tool call's arguments, as JSON; do not run the call before its tool_call."),
    ] = None
    call_id: Annotated[str | None, optional("The id of the call that the arguments belong to.")] = None
    name: Annotated[str | None, optional("The name of the tool.")] = None
    reset: Annotated[bool | None, optional(RESET)] = None


@lean_dataclass(frozen=True, slots=True, kw_only=True)
class StreamToolCall(ControlEvent):
    """A call is complete: run it. Sent after all text, in the order of the calls, and only if the step completed."""

    kind = "tool_call"
    examples = TOOL_CALLS

    call_id: Annotated[str, Field(description="The call's id; its result has the same.")]
    name: Annotated[str, Field(description="The name of the tool.")]
    #: Empty in the log, which has them as text; filled in when the event is read.
    arguments: Annotated[
        str, Field(description="All deltas of the call together: JSON, and an object unless the model made an error.")
    ]
    by: Annotated[Runner, Field(description="Who runs it.")]
    needs_approval: Annotated[bool | None, optional("True: a person must approve it first.")] = None
    deadline_at: Annotated[
        datetime | None,
        optional("The deadline of its result, RFC 3339 in UTC; only if the stream waits for it."),
    ] = None


@lean_dataclass(frozen=True, slots=True, kw_only=True)
class StreamToolUpdate(ControlEvent):
    """An open call has a new state: a person approved it, a client claimed it, or it is open again."""

    kind = "tool_update"
    examples = TOOL_UPDATES

    call_id: Annotated[str, Field(description="The call's id.")]
    state: Annotated[State, Field(description="The call's state.")]
    approved: Annotated[bool | None, optional("True: a person has approved it.")] = None


@lean_dataclass(frozen=True, slots=True, kw_only=True)
class StreamToolResult(ControlEvent):
    """A call has its result, which never changes."""

    kind = "tool_result"
    examples = TOOL_RESULTS

    call_id: Annotated[str, Field(description="The call's id.")]
    status: Annotated[ResultStatusText, Field(description="How the call ended.")]
    #: Complete in the log and in the journal; truncated when it is read.
    content: Annotated[str | None, optional("The text that the model is told, up to 64 KiB.")] = None
    parts: Annotated[
        AnyParts | None,
        optional("Text, pictures and files in order, if it has more than text; `content` is their text."),
    ] = None
    truncated: Annotated[bool | None, optional("True: the text was truncated here; the messages have it all.")] = None


@lean_dataclass(frozen=True, slots=True, kw_only=True)
class StreamStep(ControlEvent):
    """The next step begins: the model is called again. Sent before each step except the first."""

    kind = "step"
    examples = STEPS_BEGUN

    step: Annotated[int, Field(ge=2, description="The number of the step, from 2.")]
    messages: Annotated[list[SteeredMessage] | None, optional("The steered messages, which follow the results.")] = None


@lean_dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded(ControlEvent):
    """The last event of every stream."""

    kind = "ended"
    examples = ENDED

    status: Annotated[Status, Field(description="How it ended: completed, cancelled, incomplete or failed.")]
    reason: Annotated[Reason | None, optional("Why it was cancelled.")] = None
    finish_reason: Annotated[FinishReasonText | None, optional("Why the model stopped; absent if it did not say.")] = (
        None
    )
    usage: Annotated[TokenUsage | None, optional("What it cost, in tokens.")] = None
    text_bytes: Annotated[Count, Field(description="The length of the text of all steps, in bytes of UTF-8.")]
    history_dropped: Annotated[
        Count | None, optional("Messages of the session left out to fit the model's context.")
    ] = None
    #: Never in the log, which has the text; added when the event is sent.
    content: Annotated[
        str | None, optional("The whole completion of the last step, if the request had `stream: false`.")
    ] = None
    error: Annotated[ErrorInfo | None, optional("Why it failed or is incomplete.")] = None
    stored: Annotated[bool | None, optional(NOT_STORED)] = None
    message_ids: Annotated[list[str] | None, optional(MESSAGE_IDS)] = None
    refusal: Annotated[Refusal | None, optional(REFUSED)] = None
    format_valid: Annotated[bool | None, optional(FORMAT_VALID)] = None
    format_errors: Annotated[list[FieldError] | None, optional(FORMAT_ERRORS)] = None
    steps: Annotated[Count | None, optional(STEPS)] = None
    unsteered: Annotated[
        list[SteeredMessage] | None,
        optional("Accepted steered messages that no step followed: send them again."),
    ] = None


#: All kinds of events, in the order of the documents.
EVENTS: tuple[type[ControlEvent] | type[StreamDelta], ...] = (
    StreamStarted,
    StreamProgress,
    StreamDelta,
    StreamToolCall,
    StreamToolUpdate,
    StreamToolResult,
    StreamStep,
    StreamEnded,
)


class CallName(NamedTuple):
    """The id and name of the call that a piece of arguments belongs to."""

    call_id: str
    name: str


@lru_cache(maxsize=1024)
def call_fields(call: CallName) -> str:
    """The JSON of a delta's fields `call_id` and `name`, which all pieces of a call have in common.

    The name comes from the model, and the id may come from another server, so both may need escaping.
    """
    return f'"call_id":{encode_basestring(call.call_id)},"name":{encode_basestring(call.name)}'


class Delta(msgspec.Struct, frozen=True, gc=False):
    """The UTF-8 text of the events `from_seq` to `seq`, of one kind and one call, from which a StreamDelta is made."""

    from_seq: int
    seq: int
    kind: TextKind
    text: bytes
    #: The call, if the kind is `arguments`.
    call: CallName | None = None
    #: Whether it replaces all text so far (see StreamDelta).
    reset: bool = False


Event = ControlEvent | Delta
#: Builds an event with the number that the log gives it.
MakeEvent = Callable[[int], ControlEvent]


def as_json(event: ControlEvent | StreamDelta) -> bytes:
    """The event as JSON, as the socket sends it: without fields that are None."""
    # Without the adapter's own methods, which cost as much.
    return _ADAPTERS[type(event)].serializer.to_json(event, by_alias=True, exclude_none=True)


def as_fields(event: ControlEvent | StreamDelta) -> dict[str, Any]:
    """The same fields in the same order, as plain JSON values."""
    fields_told: dict[str, Any] = _ADAPTERS[type(event)].serializer.to_python(
        event, mode="json", by_alias=True, exclude_none=True
    )
    return fields_told


def model_of(
    event: type[ControlEvent] | type[StreamDelta],
    *,
    name: str | None = None,
    description: str | None = None,
    examples: list[JsonDict] | None = None,
    replaced: Mapping[str, Any] | None = None,
) -> type[BaseModel]:
    """The definition as a Pydantic model, from which schemas and types are generated.

    Args:
        event: the definition.
        name: the model's name; by default the definition's.
        description: the model's description; by default the definition's docstring.
        examples: the model's examples; by default the definition's.
        replaced: fields that are different or additional in this form of the event, as for `create_model`.
    """
    defined = {field.name: (field.type, ... if field.default is MISSING else field.default) for field in fields(event)}
    model: type[BaseModel] = create_model(
        name or event.__name__,
        __config__=ConfigDict(json_schema_extra={"examples": [*(examples or event.examples)]}),
        __doc__=description or event.__doc__,
        **{**defined, **(replaced or {})},
    )
    return model


class _Adapters(dict[type, TypeAdapter[Any]]):
    def __missing__(self, event: type) -> TypeAdapter[Any]:
        adapter: TypeAdapter[Any] = TypeAdapter(event)
        self[event] = adapter
        return adapter


_ADAPTERS = _Adapters()
