"""Decodes text frames into requests, and encodes responses and notifications as text frames (protocol section 3).
Pure."""

import json
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, NamedTuple, NoReturn

from pydantic import BaseModel

from archer_ws.core.exceptions import ArcherError, FieldError, InvalidParams, InvalidRequest
from archer_ws.core.limits import ID_CHARS_MAX
from archer_ws.core.strict_json import decode_json
from archer_ws.sessions.streams.events import ControlEvent, Delta, as_json, call_fields

SAFE_INTEGER = 2**53 - 1
#: The most entries of a batch that each get their own error; an error may be fifty times as long as its request.
BATCH_MAX = 256

RequestId = str | int


class Call(NamedTuple):
    """A request, or a notification if `id` is None."""

    id: RequestId | None
    method: str
    params: dict[str, Any]


class BadMessage(Exception):
    """A frame that is not a valid request: `error` is the response, under `id` if one could be read."""

    def __init__(self, error: ArcherError, id: RequestId | None = None) -> None:  # noqa: A002 - JSON-RPC's name
        super().__init__(error.message)
        self.error = error
        self.id = id


class BadBatch(Exception):
    """A frame that is a batch: `refusals` are the errors of the response array; empty if all entries are
    notifications."""

    def __init__(self, refusals: list[BadMessage]) -> None:
        super().__init__("batches are not supported")
        self.refusals = refusals


def decode_call(text: str) -> Call:
    """The request in a frame.

    Raises:
        BadMessage: the frame is not JSON, not a request, or its text has a lone surrogate.
        BadBatch: the frame is a batch.
    """
    unreadable: InvalidParams | None = None
    try:
        # A lone surrogate never arrives over a wire, but it may over an in-memory channel; it must not raise here
        # either.
        message = decode_json(text.encode("utf-8", "replace"))
    except InvalidParams as error:
        # It is JSON, and probably a request whose id can be read for the response.
        unreadable, message = error, json.loads(text.removeprefix("\ufeff"))
    except ArcherError as error:
        raise BadMessage(error) from None
    if isinstance(message, list):
        _refuse_batch(message)
    call = _call(message)
    if unreadable is not None:
        raise BadMessage(_inside_params(unreadable), call.id)
    return call


def _call(message: Any) -> Call:
    if not isinstance(message, dict):
        raise BadMessage(InvalidRequest("a request is a JSON object", hint="See the JSON-RPC 2.0 specification."))
    identity = _id_of(message)
    if identity is None and message.get("id") is not None:
        raise BadMessage(
            InvalidRequest(
                f"id must be a string of at most {ID_CHARS_MAX} printable characters or an integer within ±(2^53-1)",
                hint="Count your requests from 1.",
            )
        )
    if message.get("jsonrpc") != "2.0" or not isinstance(message.get("method"), str):
        raise BadMessage(
            InvalidRequest('a request has "jsonrpc": "2.0" and a "method"', hint="See the JSON-RPC 2.0 specification."),
            identity,
        )
    params = message.get("params")
    if params is None or params == []:
        # Some clients send an empty array when a request has no params.
        params = {}
    if not isinstance(params, dict):
        error = InvalidParams(
            "params must be an object",
            hint="Give every parameter by its name.",
            errors=[FieldError(path="params", message="must be an object")],
        )
        raise BadMessage(error, identity)
    return Call(identity, message["method"], params)


def _refuse_batch(entries: list[Any]) -> NoReturn:
    """Raise the response to a batch: an error for each of its requests (JSON-RPC 2.0, section 6)."""
    if not entries or len(entries) > BATCH_MAX:
        raise BadMessage(InvalidRequest("batches are not supported", hint="Send one request a frame."))
    refusals: list[BadMessage] = []
    for entry in entries:
        try:
            identity = _call(entry).id
        except BadMessage as bad:
            if bad.error.kind == "invalid_request":
                refusals.append(bad)
                continue
            identity = bad.id
        if identity is not None:  # A notification is never answered.
            error = InvalidRequest(
                "batches are not supported: send one request a frame", hint="Nothing of the batch was done."
            )
            refusals.append(BadMessage(error, identity))
    raise BadBatch(refusals)


def _id_of(message: dict[str, Any]) -> RequestId | None:
    """The message's id, if it is one that the protocol allows."""
    identity = message.get("id")
    if type(identity) is int and -SAFE_INTEGER <= identity <= SAFE_INTEGER:  # not isinstance: true is no id
        return identity
    if isinstance(identity, str) and len(identity) <= ID_CHARS_MAX and identity.isprintable():
        return identity
    return None


def _inside_params(error: InvalidParams) -> InvalidParams:
    errors = [each.model_copy(update={"path": each.path.removeprefix("params.")}) for each in error.errors]
    return InvalidParams(error.message.removeprefix("params."), hint=error.hint, errors=errors)


def encode_result(identity: RequestId, result: BaseModel) -> str:
    """The response to a request that succeeded."""
    # Without model_dump_json, which costs as much.
    body = result.__pydantic_serializer__.to_json(result, exclude_none=True, by_alias=True).decode()
    shown = encode_basestring_ascii(identity) if isinstance(identity, str) else identity
    return f'{{"jsonrpc":"2.0","id":{shown},"result":{body}}}'


def encode_error(identity: RequestId | None, error: ArcherError, request_id: str) -> str:
    """The response to a request that failed."""
    body = {
        "jsonrpc": "2.0",
        "id": identity,
        "error": {
            "code": error.code,
            "message": error.message,
            "data": error.info(request_id).model_dump(mode="json", exclude_none=True),
        },
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def encode_errors(refusals: list[BadMessage], request_id: str) -> str:
    """The response to a batch."""
    return f"[{','.join(encode_error(each.id, each.error, request_id) for each in refusals)}]"


def encode_notification(method: str, params: BaseModel) -> str:
    """A notification from the server."""
    body = params.model_dump_json(exclude_none=True, by_alias=True)
    return f'{{"jsonrpc":"2.0","method":"{method}","params":{body}}}'


def delta_prefix(stream_id: str) -> str:
    """The constant beginning of a stream's delta frames."""
    return f'{{"jsonrpc":"2.0","method":"stream/delta","params":{{"stream_id":"{stream_id}","from":'


def encode_delta(prefix: str, delta: Delta) -> str:
    """A delta's frame, written by hand because it is encoded for every token."""
    text = encode_basestring(delta.text.decode())
    reset = ',"reset":true' if delta.reset else ""
    if delta.call is None:
        return f'{prefix}{delta.from_seq},"seq":{delta.seq},"{delta.kind}":{text}{reset}}}}}'
    return f'{prefix}{delta.from_seq},"seq":{delta.seq},"arguments":{text},{call_fields(delta.call)}{reset}}}}}'


def encode_event(event: ControlEvent) -> str:
    """The frame of an event that is not a delta."""
    return f'{{"jsonrpc":"2.0","method":"stream/{event.kind}","params":{as_json(event).decode()}}}'
