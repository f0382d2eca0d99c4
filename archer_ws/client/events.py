"""What a stream tells, as values; and the protocol's notifications read into them. Pure.

The events that are not text are the protocol's own definitions. They are read leniently: a newer server may say a
status, a reason or a phase that is not listed (it is given as it came) and leave out what it no longer has.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from archer_ws.core.exceptions import ErrorInfo
from archer_ws.sessions.streams.events import EVENTS, ControlEvent
from archer_ws.sessions.streams.events import StreamEnded as Ended
from archer_ws.sessions.streams.events import StreamProgress as Progress
from archer_ws.sessions.streams.events import StreamStarted as Started
from archer_ws.sessions.streams.events import StreamStep as Step
from archer_ws.sessions.streams.events import StreamToolCall as ToolCall
from archer_ws.sessions.streams.events import StreamToolResult as ToolResult
from archer_ws.sessions.streams.events import StreamToolUpdate as ToolUpdate

__all__ = [
    "ArgumentsDelta",
    "ControlEvent",
    "Delta",
    "Ended",
    "Progress",
    "Started",
    "Step",
    "StreamEvent",
    "ToolCall",
    "ToolResult",
    "ToolUpdate",
    "UnknownEvent",
    "numbers_of",
    "parse_error",
    "parse_event",
    "texts_of",
]

_PLAIN: tuple[Literal["content", "reasoning"], ...] = ("content", "reasoning")
#: What a delta has beside its text.
_BARE = frozenset({"stream_id", "from", "seq", "reset"})


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer or of the model's reasoning; the other is empty.

    `reset` says that the text and the calls you have are to be discarded first: all of it comes again.
    """

    content: str = ""
    reasoning: str = ""
    reset: bool = False


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """A piece of a call's arguments as the model writes them, to be shown; what is to be run is told by `ToolCall`."""

    arguments: str
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of a newer server, or text of a kind that this client does not know; as it came."""

    method: str
    params: Mapping[str, Any]


StreamEvent = ControlEvent | Delta | ArgumentsDelta | UnknownEvent


class CallName(NamedTuple):
    """Which call some arguments are of."""

    call_id: str
    name: str


#: What a piece of text is of: the answer, the reasoning, or a call's arguments.
TextOf = Literal["content", "reasoning"] | CallName


def parse_event(method: str, params: Mapping[str, Any]) -> ControlEvent | UnknownEvent:
    """The event of a notification that is not text."""
    known = _READERS.get(method)
    if known is None:
        return UnknownEvent(method, params)
    event, readers = known
    return event(**{name: read(params.get(name)) for name, read in readers.items()})


def numbers_of(params: Mapping[str, Any]) -> tuple[int, int] | None:
    """The first and the last number of the events that a notification stands for, known or not (protocol 5.6).

    Returns:
        None for what is no event of a stream's log.
    """
    seq, first = params.get("seq"), params.get("from")
    if type(seq) is not int:
        return None
    return first if type(first) is int else seq, seq


def texts_of(delta: Mapping[str, Any]) -> list[tuple[TextOf, str]] | None:
    """A delta's pieces of text; none where it has none.

    Returns:
        None where its text is of a kind that is not known here, or belongs to no call.
    """
    found: list[tuple[TextOf, str]] = [(kind, text) for kind in _PLAIN if isinstance(text := delta.get(kind), str)]
    match delta:
        case {"arguments": str(text), "call_id": str(call_id), "name": str(name)}:
            found.append((CallName(call_id, name), text))
    return None if not found and not delta.keys() <= _BARE else found


def parse_error(error: Mapping[str, Any]) -> ErrorInfo:
    """The protocol's ErrorInfo; one that lacks something is completed."""
    given = {"kind": "unknown", "message": "an error without words", "retryable": False, "request_id": ""}
    try:
        return ErrorInfo.model_validate({**given, **error})
    except ValidationError:
        given["message"] = _text(error, "message") or given["message"]
        return ErrorInfo.model_validate({**given, "kind": _text(error, "kind") or "unknown"})


def _text(value: Mapping[str, Any], field: str) -> str | None:
    text = value.get(field)
    return text if isinstance(text, str) else None


def _reader(field: "Field[Any]") -> Callable[[Any], Any]:
    told = _as_told(field.type)
    adapter: TypeAdapter[Any] = TypeAdapter(told)
    nothing = told() if field.default is MISSING else field.default

    def read(value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError:
            return nothing

    return read


def _as_told(annotation: Any) -> Any:
    """The type of a field as a server of any age may tell it: an error is completed."""
    if get_origin(annotation) is Annotated:
        return _as_told(get_args(annotation)[0])
    if get_origin(annotation) in {UnionType, Union}:
        return Union[tuple(_as_told(option) for option in get_args(annotation))]  # noqa: UP007 - made of values
    if annotation is ErrorInfo:
        return Annotated[ErrorInfo, BeforeValidator(_completed)]
    return annotation


def _completed(error: Any) -> Any:
    return parse_error(error) if isinstance(error, dict) else error


#: By the notification's method: the event, and how each of its fields is read, whatever came in its place.
_READERS: dict[str, tuple[type[ControlEvent], dict[str, Callable[[Any], Any]]]] = {
    f"stream/{event.kind}": (event, {field.name: _reader(field) for field in fields(event)})
    for event in EVENTS
    if issubclass(event, ControlEvent)
}
