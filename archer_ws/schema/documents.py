"""The files of schemas/ as texts, by path. They do not depend on the machine, and their order is fixed."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from archer_ws.core.json_schema import Schema, references
from archer_ws.main import openapi_document
from archer_ws.rpc.messages import NOTIFICATIONS, ErrorObject
from archer_ws.rpc.openrpc import describe
from archer_ws.schema.catalog import METHODS, REGISTRY, REST_REQUESTS, Definitions, definitions, file_name, type_name
from archer_ws.schema.rust import rust
from archer_ws.schema.shapes import shapes_of
from archer_ws.schema.typescript import typescript

#: The beginning of every schema's `$id`; a name, not an address.
ID_PREFIX = "urn:archer:v1:"
TYPESCRIPT = "archer.ts"
RUST = "archer.rs"


def documents() -> dict[str, str]:
    """Every generated file's text."""
    found = definitions()
    shapes = shapes_of(found)
    described = describe(REGISTRY)
    texts = {path: _json(schema) for path, schema in json_schemas(found).items()}
    texts["openrpc.json"] = _json(described.document)
    texts["openapi.json"] = _json(openapi_document())
    texts[TYPESCRIPT] = typescript(shapes)
    texts[RUST] = rust(shapes, described.hash)
    return dict(sorted(texts.items()))


def json_schemas(found: Definitions) -> dict[str, Schema]:
    """One JSON Schema for each message, by its path."""
    schemas: dict[str, Schema] = {}
    for path, title, name, origin in _messages(found):
        identity = ID_PREFIX + path.replace("/", ":")
        schemas[f"{path}.json"] = _whole(identity, title, name, origin)
    return schemas


def _messages(found: Definitions) -> Iterator[tuple[str, str, str, Mapping[str, Schema]]]:
    """Each schema's path, title and name, and the definitions that it belongs to."""
    for method in METHODS:
        path = f"messages/{file_name(method.name)}"
        yield f"{path}.params", f"{type_name(method.name)}Params", method.params.__name__, found.taken
        yield f"{path}.result", method.result.__name__, method.result.__name__, found.socket
    for notification, model in NOTIFICATIONS.items():
        yield f"messages/{file_name(notification)}", model.__name__, model.__name__, found.socket
    yield "messages/error", ErrorObject.__name__, ErrorObject.__name__, found.socket
    given = _with_objects(found.rest, found.rest)
    for name in _with_objects(found.taken, [model.__name__ for model in REST_REQUESTS]):
        # A schema of both requests and responses gets its file from the responses, which always have more fields.
        if name not in given:
            yield f"rest/{_snake(name)}", name, name, found.taken
    for name in given:
        yield f"rest/{_snake(name)}", name, name, found.rest


def _with_objects(origin: Mapping[str, Schema], names: Any) -> list[str]:
    """The names, and those of the objects that they refer to; enumerations and unions have no files of their own."""
    inner = {name for name in _closure(origin, names) if origin[name].get("type") == "object"}
    return sorted(inner.union(name for name in names if origin[name].get("type") == "array"))


def _whole(identity: str, title: str, name: str, origin: Mapping[str, Schema]) -> Schema:
    """The schema with everything that it refers to."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": identity,
        **origin[name],
        "title": title,
    }
    inner = sorted(_closure(origin, [name]) - {name})
    return schema | ({"$defs": {each: origin[each] for each in inner}} if inner else {})


def _closure(origin: Mapping[str, Schema], names: Any) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += references(origin[name])
    return found


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
