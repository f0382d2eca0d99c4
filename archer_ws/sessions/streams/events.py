"""The events of a stream, each defined once (protocol section 4).

Everything that writes or reads an event's fields takes them from here: the log holds these values, the socket sends
them as the params of `stream/KIND`, server-sent events as the data of `event: KIND`, the schemas and generated types
describe them, the Python client gives them to its user. A new kind of event is a class below and its place in `EVENTS`;
a new field is a line. What is left is for those who act on it.

Text is the exception: one delta is made for every token and reader. The log gives it as a `Delta` of bytes, whose form
on each wire is written out by hand where it is sent; `StreamDelta` is what it must amount to, and the tests hold it to
that. The arguments of a call are text too: what a `tool_call` says of them is read from the log, which has them once.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic.config import JsonDict

from archer_ws.core.exceptions import ErrorInfo, FieldError
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

#: What a stream's text is: the field of a delta that carries it.
TextKind = Literal["content", "reasoning", "arguments"]
TEXT_KINDS: tuple[TextKind, ...] = get_args(TextKind)

#: Who runs a call.
CallRunner = Annotated[
    Literal["client", "server"], NamedType("CallRunner", "Who runs a tool call and gives its result. It may grow.")
]

StreamId = Annotated[str, Field(description="The stream it is about.")]
# Clients read events of newer servers, which may say more: text, and not the values alone that are known.
Phase = Annotated[str, opened(ProgressPhase)]
Effort = Annotated[str, opened(ReasoningEffort)]
Status = Annotated[str, opened(StreamStatus)]
Reason = Annotated[str, opened(CancelReason)]
Runner = Annotated[str, opened(CallRunner)]
CallState = Annotated[
    Literal["pending", "running"],
    NamedType("CallState", "Where an open call stands: nobody runs it, or who claimed it does. It may grow."),
]
State = Annotated[str, opened(CallState)]
ResultStatusText = Annotated[str, opened(ResultStatus)]


class SteeredMessage(BaseModel):
    """A user's message that was put into a running stream."""

    model_config = ConfigDict(json_schema_extra={"examples": [STEERED, SHOWN]})

    message_id: str = Field(description="Its id, from who sent it.")
    content: str = Field(description="Its text.")
    parts: AnyParts | None = optional("All that it says, in order, where that is more than text.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlEvent:
    """An event that is not text; it takes one number of its stream's log."""

    #: Its name: of the notification `stream/KIND`, and of the server-sent `event: KIND`.
    kind: ClassVar[str]
    examples: ClassVar[list[JsonDict]]

    stream_id: StreamId
    seq: Annotated[Seq, Field(description="The event's number in its stream's log, from 1.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStarted(ControlEvent):
    """The provider answered; once, however many attempts."""

    kind = "started"
    examples = STARTED

    session_id: Annotated[str | None, optional("The conversation the stream belongs to.")] = None
    provider: Annotated[str, Field(description="The provider that answers.")]
    model: Annotated[str, Field(description="The model that answers.")]
    reasoning_effort: Annotated[
        Effort | None,
        optional("How much the model was told to think: what `reasoning_effort` became with it."),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamProgress(ControlEvent):
    """What happens before the first text of a step."""

    kind = "progress"
    examples = PROGRESS

    phase: Annotated[Phase, Field(description="What the stream does.")]
    detail: Annotated[str | None, optional("More about it, for a person.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDelta:
    """The log's events `from`..`seq`; one of `content`, `reasoning` and `arguments` has their text."""

    kind: ClassVar[str] = "delta"
    examples: ClassVar[list[JsonDict]] = DELTAS

    stream_id: StreamId
    from_: Annotated[
        Seq, Field(alias="from", description="The first event in it: always the last `seq` you have seen, plus 1.")
    ]
    seq: Annotated[Seq, Field(description="The last event in it.")]
    content: Annotated[str | None, optional("A piece of the answer.")] = None
    reasoning: Annotated[str | None, optional("A piece of the model's visible reasoning.")] = None
    arguments: Annotated[
        str | None, optional("A piece of the JSON text of a tool call's arguments; run nothing before its tool_call.")
    ] = None
    call_id: Annotated[str | None, optional("Which call the arguments are of.")] = None
    name: Annotated[str | None, optional("Which tool is called.")] = None
    reset: Annotated[bool | None, optional(RESET)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamToolCall(ControlEvent):
    """A call is complete: run it. Only where the model ended its answer well; behind all text, in the calls' order."""

    kind = "tool_call"
    examples = TOOL_CALLS

    call_id: Annotated[str, Field(description="Names the call; its result carries the same id.")]
    name: Annotated[str, Field(description="Which tool.")]
    #: Empty in a log, which has them as text: filled in when the event is read.
    arguments: Annotated[
        str, Field(description="JSON text, of an object unless the model erred: the deltas of the call together.")
    ]
    by: Annotated[Runner, Field(description="Who runs it.")]
    needs_approval: Annotated[bool | None, optional("True: a person must agree first, as the request said.")] = None
    deadline_at: Annotated[
        datetime | None,
        optional("When its result must be there, RFC 3339 in UTC; only where the stream waits for it."),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamToolUpdate(ControlEvent):
    """An open call has moved: a person agreed, somebody began to run it, or it is open again."""

    kind = "tool_update"
    examples = TOOL_UPDATES

    call_id: Annotated[str, Field(description="Which call.")]
    state: Annotated[State, Field(description="Whether somebody runs it now.")]
    approved: Annotated[bool | None, optional("True: a person has agreed.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamToolResult(ControlEvent):
    """A call has its result, from whoever ran it; nothing of it changes any more."""

    kind = "tool_result"
    examples = TOOL_RESULTS

    call_id: Annotated[str, Field(description="Which call.")]
    status: Annotated[ResultStatusText, Field(description="How it ended.")]
    #: The whole in a log, and in what is kept of it; cut where it is read.
    content: Annotated[str | None, optional("What the model is told of it: its text, the first 64 KiB.")] = None
    parts: Annotated[AnyParts | None, optional("All that it says, in order, where that is more than text.")] = None
    truncated: Annotated[
        bool | None, optional("True: there is more text than told here; the messages have it all.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStep(ControlEvent):
    """The model is asked again: its next answer follows. Before each step but the first."""

    kind = "step"
    examples = STEPS_BEGUN

    step: Annotated[int, Field(ge=2, description="Which step begins, from 2.")]
    messages: Annotated[
        list[SteeredMessage] | None, optional("What was steered in, and is said behind the results.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded(ControlEvent):
    """The last event of every stream."""

    kind = "ended"
    examples = ENDED

    status: Annotated[Status, Field(description="How it ended: completed, cancelled, incomplete or failed.")]
    reason: Annotated[Reason | None, optional("Who cancelled it.")] = None
    finish_reason: Annotated[
        FinishReasonText | None, optional("Why the model stopped; absent where it did not say.")
    ] = None
    usage: Annotated[TokenUsage | None, optional("What it cost, in tokens.")] = None
    text_bytes: Annotated[
        Count, Field(description="The length of the whole answer, in bytes of UTF-8: of all steps' text.")
    ]
    history_dropped: Annotated[
        Count | None, optional("Messages of the session left out to fit the model's context.")
    ] = None
    #: Never in the log, which has the text: added where it is sent.
    content: Annotated[
        str | None, optional("The whole answer, where the request said `stream: false`: that of the last step.")
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
        optional("Messages that were accepted to be steered in, and that no step came for: send them again."),
    ] = None


#: Every kind of event, in the order in which the documents have them.
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
    """Which call some arguments are of: what stands with each piece of them."""

    call_id: str
    name: str


@lru_cache(maxsize=1024)
def call_fields(call: CallName) -> str:
    """The fields of a delta that say which call its arguments are of, as JSON: the same for each of a call's pieces.

    Names come from the model, and ids perhaps from another server: they may need escaping.
    """
    return f'"call_id":{encode_basestring(call.call_id)},"name":{encode_basestring(call.name)}'


class Delta(NamedTuple):
    """The text of the events `from_seq..seq`, all of one kind (and one call), as UTF-8: what a StreamDelta is made
    from."""

    from_seq: int
    seq: int
    kind: TextKind
    text: bytes
    #: Which call, where the kind is `arguments`.
    call: CallName | None = None
    #: Whether it stands for all text so far (see StreamDelta).
    reset: bool = False


Event = ControlEvent | Delta
#: Builds the event that a log has a number for.
MakeEvent = Callable[[int], ControlEvent]


def as_json(event: ControlEvent | StreamDelta) -> bytes:
    """The event as the socket sends it: without what is None."""
    return _ADAPTERS[type(event)].dump_json(event, by_alias=True, exclude_none=True)


def as_fields(event: ControlEvent | StreamDelta) -> dict[str, Any]:
    """The same fields in their order, as plain JSON values."""
    fields_told: dict[str, Any] = _ADAPTERS[type(event)].dump_python(
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
    """The definition as a Pydantic model, from which schemas and generated types are made.

    Args:
        event: the definition.
        name: the model's name, its description and examples; by default the definition's own.
        description: see `name`.
        examples: see `name`.
        replaced: fields that this form of the event has otherwise or besides: types and defaults, as for create_model.
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
