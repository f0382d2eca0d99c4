"""Reads a server's frame strictly: what kind of message it is, and what about it breaks the protocol. Pure."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from archer_ws.conformance.methods import CODES, OWN_KINDS, RETRYABLE, Misfit, ResultShape
from archer_ws.core.exceptions import ErrorInfo
from archer_ws.rpc.messages import NOTIFICATIONS
from archer_ws.sessions.streams.events import (
    EVENTS,
    TEXT_KINDS,
    StreamDelta,
    StreamEnded,
    StreamProgress,
    StreamStarted,
    StreamToolCall,
)

RequestId = str | int

SAFE_INTEGER = 2**53 - 1
_SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_RFC_3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]00:00)")
_SHAPES: dict[str, ResultShape[Any]] = {
    method: ResultShape(model)
    for method, model in {**NOTIFICATIONS, **{f"stream/{event.kind}": event for event in EVENTS}}.items()
}
#: The fields of a delta beside its text.
_BARE_DELTA = frozenset({"stream_id", "from", "seq", "reset"})
_ERROR_INFO: ResultShape[ErrorInfo] = ResultShape(ErrorInfo)


@dataclass(frozen=True, slots=True)
class ReceivedError:
    """The error of a response."""

    code: int
    info: ErrorInfo


@dataclass(frozen=True, slots=True)
class Response:
    """A response; the form of its result depends on the request."""

    id: RequestId | None
    result: Any = None
    error: ReceivedError | None = None


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """The events `first` to `seq` of a stream's log, of a kind that this program does not know (protocol section
    5.6)."""

    method: str
    stream_id: str
    first: int
    seq: int


#: What is numbered in a stream's log.
StreamEvent: TypeAlias = StreamStarted | StreamProgress | StreamDelta | StreamToolCall | StreamEnded | UnknownEvent


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification; `params` is None if this program does not know the method, and it is not an event of a stream."""

    method: str
    params: Any


def parse(frame: str | bytes) -> list[Response | Notification]:
    """The messages in a frame: one, or the responses to a batch.

    Raises:
        Misfit: it is not a message of the protocol.
    """
    if isinstance(frame, bytes):
        raise Misfit("a binary message")
    try:
        message = json.loads(frame, parse_constant=_no_json)
    except (ValueError, RecursionError):
        raise Misfit("a frame that is not JSON") from None
    if not isinstance(message, list):
        return [_message(message)]
    messages = [_message(each) for each in message]
    if not messages or any(isinstance(each, Notification) for each in messages):
        raise Misfit("an array that is no responses to a batch")
    return messages


def _message(message: Any) -> Response | Notification:
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Misfit('no object with "jsonrpc": "2.0"')
    if "method" in message:
        return _notification(message)
    if "id" not in message or ("result" in message) == ("error" in message):
        raise Misfit("neither a notification nor a response with either a result or an error")
    identity = message["id"]
    if identity is not None and not is_request_id(identity):
        raise Misfit(f"a response with the id {identity!r}")
    if "error" in message:
        return Response(identity, error=_error(message["error"]))
    return Response(identity, result=message["result"])


def is_request_id(value: object) -> bool:
    """Whether the value can be a request's id."""
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def faults_of_result(value: Any, *, has_free_names: bool) -> list[str]:
    """What breaks the rules for all data (protocol section 1) in a result of the right form."""
    if has_free_names and isinstance(value, dict) and "openrpc" in value:
        return []  # The result is a document of another specification.
    return list(_faults(value, "result", has_free_names=has_free_names))


def faults_of_error(error: ReceivedError) -> list[str]:
    """Where an error differs from the protocol's table (section 11)."""
    info = error.info
    faults = []
    if info.kind in CODES and CODES[info.kind] != error.code:
        faults.append(f"{info.kind} came with the code {error.code}, it has {CODES[info.kind]}")
    if info.kind in OWN_KINDS and info.retryable != (info.kind in RETRYABLE):
        faults.append(f"{info.kind} came with retryable {info.retryable}")
    if not info.message:
        faults.append(f"{info.kind} came without words")
    return faults


def _notification(message: dict[str, Any]) -> Notification:
    method, params = message["method"], message.get("params", {})
    if "id" in message:
        raise Misfit("a request: servers send none")
    if not isinstance(method, str) or not isinstance(params, dict):
        raise Misfit("a notification whose method is no text or whose params are no object")
    shape = _SHAPES.get(method)
    if shape is None:
        return Notification(method, _unknown_event(method, params))
    try:
        fitting = shape.fit(params)
    except Misfit as misfit:
        raise Misfit(f"{method}: {misfit}") from None
    if faults := list(_faults(params, "params")):
        raise Misfit(f"{method}: {faults[0]}")
    if isinstance(fitting, StreamDelta) and _has_unknown_text(params):
        return Notification(method, _unknown_event(method, params))
    return Notification(method, fitting)


def _has_unknown_text(delta: dict[str, Any]) -> bool:
    """Whether a delta's text is of a kind that this program does not know."""
    return not any(kind in delta for kind in TEXT_KINDS) and not delta.keys() <= _BARE_DELTA


def _unknown_event(method: str, params: dict[str, Any]) -> UnknownEvent | None:
    stream_id, seq, first = params.get("stream_id"), params.get("seq"), params.get("from")
    if not isinstance(stream_id, str) or type(seq) is not int:
        return None
    return UnknownEvent(method, stream_id, first if type(first) is int else seq, seq)


def _error(error: Any) -> ReceivedError:
    if not isinstance(error, dict) or not is_request_id(error.get("code")) or not isinstance(error.get("message"), str):
        raise Misfit("an error without a code and a message")
    if not isinstance(error["code"], int):
        raise Misfit("an error whose code is no integer")
    try:
        info = _ERROR_INFO.fit(error.get("data"))
    except Misfit as misfit:
        raise Misfit(f"error.data: {misfit}") from None
    if faults := list(_faults(error["data"], "error.data")):
        raise Misfit(faults[0])
    return ReceivedError(error["code"], info)


def _faults(value: Any, path: str, *, has_free_names: bool = False) -> Iterator[str]:
    match value:
        case None:
            yield f"{path} is null, which the socket never sends"
        case bool():
            pass
        case int() if abs(value) > SAFE_INTEGER:
            yield f"{path} is {value}, which not every client can read"
        case str() if not _is_whole(value):
            yield f"{path} has a lone surrogate"
        case list():
            for index, item in enumerate(value):
                yield from _faults(item, f"{path}.{index}")
        case dict():
            for name, item in value.items():
                if not has_free_names and not _SNAKE_CASE.fullmatch(name):
                    yield f"{path}.{name} is not in snake_case"
                if name.endswith("_at") and not (isinstance(item, str) and _RFC_3339_UTC.fullmatch(item)):
                    yield f"{path}.{name} is no RFC 3339 time in UTC"
                if name != "metadata":  # the client's own
                    yield from _faults(item, f"{path}.{name}")


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_json(constant: str) -> NoReturn:
    raise ValueError(constant)
