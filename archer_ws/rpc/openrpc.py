"""The OpenRPC document of archer.v1, generated from the messages' models (protocol section 12).

`rpc.discover` returns it, and `schema_hash` names its version. It contains no null: the socket never sends one.
"""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from typing import Any

from pydantic import BaseModel

from archer_ws.core import exceptions
from archer_ws.core.exceptions import ArcherError, ErrorInfo
from archer_ws.core.json_schema import Schema, Wire, examples_of, schemas_of, with_references
from archer_ws.rpc.messages import NOTIFICATIONS, PROTOCOL_VERSION
from archer_ws.rpc.registry import Method, Registry
from archer_ws.rpc.services import Description
from archer_ws.sessions.turn import NOT_ADMITTED

_COMPONENTS = "#/components/schemas/"
_DESCRIPTION = """Many chat streams over one WebSocket, each cancellable and resumable: JSON-RPC 2.0, subprotocol \
archer.v1.

Methods with `x-direction: server-to-client` are notifications that the server sends; those with `x-stream` are the \
events of a stream. An error's `message` here is its `data.kind`. Enumerations in what the server sends may grow: \
`x-known-values` lists the values known today, and clients must accept others, as they must unknown fields and \
unknown notifications. In what clients send, null means missing, and so do params that are an empty array. Batches are \
not supported: each request of one is answered -32600 under its own id, and nothing of it is done."""

#: The errors of whatever is stored.
_STORED = (exceptions.StorageFull, exceptions.StorageUnavailable)
#: The errors of a result or a steered message.
_SAID = (exceptions.ContentTooLarge, exceptions.FileNotFound, exceptions.Unsupported)
#: The error of every method about a stream that the server parked: it goes on after the next start.
_OF_STREAM = (exceptions.Draining,)
#: The errors of each method, beside those of every request.
_ERRORS: dict[str, tuple[type[ArcherError], ...]] = {
    "initialize": (
        exceptions.AlreadyInitialized,
        exceptions.UnsupportedVersion,
        exceptions.Unauthenticated,
    ),
    "chat/send": (
        exceptions.Conflict,
        exceptions.ContentTooLarge,
        exceptions.Draining,
        exceptions.FileNotFound,
        exceptions.SessionBusy,
        exceptions.SessionNotFound,
        *_STORED,
        exceptions.StreamIdConflict,
        exceptions.TooManyStreams,
        exceptions.Unsupported,
    ),
    # A client that subscribes before the request is accepted learns that it was refused.
    "stream/subscribe": (*_OF_STREAM, *NOT_ADMITTED, exceptions.StreamNotFound, exceptions.TooManyStreams),
    "stream/cancel": _OF_STREAM,
    # A stream has messages only once it is accepted, and they may have to be read from the disk.
    "stream/get": (*_OF_STREAM, *NOT_ADMITTED, exceptions.StreamNotFound),
    "tool/approve": (*_OF_STREAM, *_STORED),
    "tool/claim": (*_OF_STREAM, *_STORED),
    "tool/result": (*_SAID, *_OF_STREAM, *_STORED),
    "stream/steer": (*_SAID, *_OF_STREAM, *_STORED, exceptions.Overloaded),
    "session/create": _STORED,
    "session/list": (exceptions.StorageUnavailable,),
    "session/get": (exceptions.SessionNotFound, exceptions.StorageUnavailable),
    "session/update": (exceptions.Conflict, exceptions.SessionNotFound, *_STORED),
    "session/delete": (exceptions.Conflict, exceptions.SessionNotFound, *_STORED),
    "session/delete_all": _STORED,
    "session/fork": (exceptions.Conflict, exceptions.SessionNotFound, *_STORED),
    "session/search": (exceptions.StorageUnavailable,),
    "session/watch": (exceptions.SessionNotFound, exceptions.StorageUnavailable),
}


@cache
def describe(registry: Registry) -> Description:
    """The methods' document and its hash; made once for each registry, which takes a quarter of a second."""
    document = openrpc_document(registry)
    return Description(document, schema_hash(document))


def openrpc_document(registry: Registry) -> dict[str, Any]:
    """The document: every method, and as methods with `x-direction: server-to-client` every notification."""
    methods = registry.all()
    results = [method.result for method in methods]
    taken = schemas_of((method.params for method in methods), Wire.CLIENT)
    given = schemas_of([*results, *NOTIFICATIONS.values(), ErrorInfo], Wire.SOCKET)
    # What both sides send (a message's role) is a closed enumeration in requests and an open one in responses: two
    # schemas.
    renamed = {name: f"{name}Output" for name, schema in given.items() if taken.get(name, schema) != schema}
    taken = {name: with_references(schema, _COMPONENTS, {}) for name, schema in taken.items()}
    given = {name: with_references(schema, _COMPONENTS, renamed) for name, schema in given.items()}
    shown_whole = {model.__name__ for model in (*NOTIFICATIONS.values(), *(method.params for method in methods))}
    schemas = taken | {renamed.get(name, name): schema for name, schema in given.items()}
    return {
        "openrpc": "1.3.2",
        "info": {
            "title": "Archer AI Engine, archer.v1",
            "description": _DESCRIPTION,
            "version": f"{PROTOCOL_VERSION}.0.0",
        },
        "methods": [
            *(_method(method, taken[method.params.__name__], given[method.result.__name__]) for method in methods),
            *(_notification(name, model, given[model.__name__]) for name, model in NOTIFICATIONS.items()),
        ],
        "components": {
            "schemas": {name: schema for name, schema in sorted(schemas.items()) if name not in shown_whole},
            "errors": {error.kind: _error(error) for error in _by_code(_all_errors())},
        },
    }


def schema_hash(document: dict[str, Any]) -> str:
    """A short name for this version of the document."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:16]


def _summary(schema: Schema) -> str:
    return str(schema.get("description", schema["title"])).partition("\n")[0]


def _method(method: Method, params: Schema, result: Schema) -> dict[str, Any]:
    results = examples_of(method.result, Wire.SOCKET)
    return {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "by-name",
        "params": _descriptors(params),
        "result": {
            "name": "result",
            "description": _summary(result),
            "schema": {"$ref": _COMPONENTS + method.result.__name__},
        },
        "errors": [{"$ref": f"#/components/errors/{kind}"} for kind in _kinds_of(method)],
        "examples": [
            {
                "name": f"example {number + 1}",
                "params": _values(given),
                "result": {"name": "result", "value": results[min(number, len(results) - 1)]},
            }
            for number, given in enumerate(examples_of(method.params, Wire.CLIENT))
        ],
    }


def _notification(name: str, model: type[BaseModel], params: Schema) -> dict[str, Any]:
    return {
        "name": name,
        "summary": _summary(params),
        "paramStructure": "by-name",
        "params": _descriptors(params),
        "examples": [
            {"name": f"example {number}", "params": _values(example)}
            for number, example in enumerate(examples_of(model, Wire.SOCKET), 1)
        ],
        "x-direction": "server-to-client",
        **({"x-stream": True} if name.startswith("stream/") else {}),
    }


def _descriptors(schema: Schema) -> list[dict[str, Any]]:
    """A params schema's fields as OpenRPC content descriptors."""
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "description": field.get("description", ""),
            "required": name in required,
            "schema": {key: value for key, value in field.items() if key != "description"},
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _values(params: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in params.items()]


def _kinds_of(method: Method) -> list[str]:
    errors = {exceptions.InvalidRequest, exceptions.InvalidParams, exceptions.InternalError}
    errors.update(_ERRORS.get(method.name, ()))
    if not method.is_open:
        errors.add(exceptions.NotInitialized)
    if not method.is_control:
        errors.add(exceptions.Overloaded)
    return [error.kind for error in _by_code(errors)]


def _all_errors() -> Iterator[type[ArcherError]]:
    """Every error class that has a kind of its own."""
    waiting = ArcherError.__subclasses__()
    while waiting:
        error = waiting.pop()
        if error.kind != ArcherError.kind or error is exceptions.InternalError:
            yield error
        waiting += error.__subclasses__()


def _error(error: type[ArcherError]) -> dict[str, Any]:
    return {"code": error.code, "message": error.kind, "data": {"kind": error.kind, "retryable": error.retryable}}


def _by_code(errors: Iterable[type[ArcherError]]) -> list[type[ArcherError]]:
    return sorted(errors, key=lambda error: -error.code)
