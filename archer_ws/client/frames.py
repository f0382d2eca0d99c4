"""The client's half of JSON-RPC 2.0: encodes requests, decodes responses and notifications. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archer_ws.client.errors import ClientError, NotArcher
from archer_ws.client.events import parse_error
from archer_ws.core.exceptions import ErrorInfo


@dataclass(frozen=True, slots=True)
class Result:
    """A successful response."""

    id: int
    result: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """An error response; without an id, it is for a frame that the server could not read."""

    id: int | None
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification of the server."""

    method: str
    params: dict[str, Any]


def encode_request(identity: int, method: str, params: Mapping[str, Any]) -> bytes:
    """Encode a request. Lone surrogates are escaped, and the server refuses them.

    Raises:
        ClientError: the params are not JSON. NaN and infinity are not, either: a server that can't parse a frame has no
            id to respond to.
    """
    request = {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}
    try:
        try:
            return json.dumps(request, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:
            return json.dumps(request, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ClientError(f"{method} can't be sent as JSON: {error}", "Use values that JSON has.") from error


def decode_frame(frame: str | bytes) -> Result | Failure | Notification:
    """Decode a frame of the server.

    Raises:
        NotArcher: the frame is not a message of the protocol.
    """
    try:
        message = json.loads(frame) if isinstance(frame, str) else None
    except (ValueError, RecursionError):
        message = None
    match message:
        case {"method": str(method), "params": dict(params)}:
            return Notification(method, params)
        case {"method": str(method)}:
            return Notification(method, {})
        case {"id": int(identity), "result": result}:
            return Result(identity, result)
        case {"id": int() | None as identity, "error": dict(error)}:
            details = error.get("data")
            return Failure(identity, parse_error(details if isinstance(details, dict) else error))
    raise NotArcher(
        "the server sent a frame that does not follow archer.v1", "Check that it is an Archer server of this version."
    )
