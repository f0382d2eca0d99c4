"""A stream's events as values, read from the protocol's notifications. Pure.

Events that are not text are the protocol's own classes. Reading is lenient, for newer servers: an unknown status,
reason or phase is passed on unchanged, and a field that no longer comes gets its default.
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
#: The fields of a delta that are not its text.
_BARE = frozenset({"stream_id", "from", "seq", "reset"})


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the completion's text or of the model's reasoning; the other field is empty.

    `reset`: first discard the text and the calls that came so far. All of it comes again.
    """

    content: str = ""
    reasoning: str = ""
    reset: bool = False


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """A piece of a call's arguments while the model writes them, for display only: the `ToolCall` is what to run."""

    arguments: str
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event, or a kind of text, that only a newer server knows; unchanged."""

    method: str
    params: Mapping[str, Any]


StreamEvent = ControlEvent | Delta | ArgumentsDelta | UnknownEvent


class CallName(NamedTuple):
    """The call that a piece of arguments belongs to."""

    call_id: str
    name: str


#: What a piece of text belongs to: the content, the reasoning, or a call's arguments.
TextOf = Literal["content", "reasoning"] | CallName


def parse_event(method: str, params: Mapping[str, Any]) -> ControlEvent | UnknownEvent:
    """Read a notification that is not a delta."""
    known = _READERS.get(method)
    if known is None:
        return UnknownEvent(method, params)
    event, readers = known
    return event(**{name: read(params.get(name)) for name, read in readers.items()})


def numbers_of(params: Mapping[str, Any]) -> tuple[int, int] | None:
    """The numbers of the first and the last event in a notification, known or not (protocol 5.6).

    Returns:
        None for a notification that is not an event of a stream's log.
    """
    seq, first = params.get("seq"), params.get("from")
    if type(seq) is not int:
        return None
    return first if type(first) is int else seq, seq


def texts_of(delta: Mapping[str, Any]) -> list[tuple[TextOf, str]] | None:
    """The pieces of text in a delta; an empty list where it has none.

    Returns:
        None where its text is of an unknown kind, or its arguments belong to no call.
    """
    found: list[tuple[TextOf, str]] = [(kind, text) for kind in _PLAIN if isinstance(text := delta.get(kind), str)]
    match delta:
        case {"arguments": str(text), "call_id": str(call_id), "name": str(name)}:
            found.append((CallName(call_id, name), text))
    return None if not found and not delta.keys() <= _BARE else found


def parse_error(error: Mapping[str, Any]) -> ErrorInfo:
    """Read an ErrorInfo; missing required fields get defaults."""
    given = {"kind": "unknown", "message": "an error without a message", "retryable": False, "request_id": ""}
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
    """A field's type for servers of any version: missing fields of an error get defaults."""
    if get_origin(annotation) is Annotated:
        return _as_told(get_args(annotation)[0])
    if get_origin(annotation) in {UnionType, Union}:
        return Union[tuple(_as_told(option) for option in get_args(annotation))]  # noqa: UP007 - made of values
    if annotation is ErrorInfo:
        return Annotated[ErrorInfo, BeforeValidator(_completed)]
    return annotation


def _completed(error: Any) -> Any:
    return parse_error(error) if isinstance(error, dict) else error


#: By the notification's method: the event class, and for each field the function that reads any JSON value as it.
_READERS: dict[str, tuple[type[ControlEvent], dict[str, Callable[[Any], Any]]]] = {
    f"stream/{event.kind}": (event, {field.name: _reader(field) for field in fields(event)})
    for event in EVENTS
    if issubclass(event, ControlEvent)
}
