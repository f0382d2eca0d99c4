"""Validators for what our own server sends, made from its documents and stricter than they are.

Clients must ignore fields and values they do not know. Our server may send none of them all the same: what is not in
the documents has drifted from them. So objects are closed here, enumerations too, and on the socket nothing is null.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema_rs

from archer_ws.api.openapi.events import EVENT_MODELS
from archer_ws.core.exceptions import ArcherError
from archer_ws.core.wire_types import KNOWN_VALUES
from archer_ws.main import openapi_document
from archer_ws.rpc.methods import archer_v1
from archer_ws.rpc.openrpc import openrpc_document

Validator = jsonschema_rs.Draft202012Validator


def _errors(base: type[ArcherError]) -> Iterator[type[ArcherError]]:
    yield base
    for child in base.__subclasses__():
        yield from _errors(child)


CODE_OF_KIND = {error.kind: error.code for error in _errors(ArcherError)}
#: Errors of these kinds say where in the request they are (protocol section 11).
_SAY_WHERE = {
    "if": {"properties": {"kind": {"enum": ["invalid_params", "unsupported"]}}},
    "then": {"required": ["errors"]},
}


def strict(schema: Any, *, without_null: bool = False) -> Any:
    """The schema with objects and enumerations closed."""
    if isinstance(schema, list):
        return [strict(each, without_null=without_null) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(value, without_null=without_null) for name, value in schema.items()}
    if isinstance(branches := closed.get("anyOf"), list):
        closed["anyOf"] = _closed_branches(branches, without_null=without_null)
    if isinstance(closed.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    if known := closed.get(KNOWN_VALUES):
        closed["enum"] = known
    return closed


def _closed_branches(branches: list[Any], *, without_null: bool) -> list[Any]:
    """Without the branch that leaves an enumeration open, and without null where it is never sent."""
    kept = [each for each in branches if not (without_null and each == {"type": "null"})]
    if any("enum" in each or "const" in each for each in kept):
        kept = [each for each in kept if each.get("type") != "string" or "enum" in each or "const" in each]
    return kept


def _strict_components(document: Any, *, without_null: bool = False) -> Any:
    components = strict(document["components"]["schemas"], without_null=without_null)
    return {**components, "ErrorInfo": {**components["ErrorInfo"], **_SAY_WHERE}}


def validator(schema: dict[str, Any], components: dict[str, Any]) -> Validator:
    """Of one schema among the document's others."""
    return Validator({**schema, "components": {"schemas": components}}, validate_formats=True)


class SocketSchemas:
    """What may come over a socket."""

    def __init__(self) -> None:
        document = openrpc_document(archer_v1())
        components = _strict_components(document, without_null=True)
        self.results: dict[str, Validator] = {}
        self.notifications: dict[str, Validator] = {}
        #: The kinds of error that a method is said to give.
        self.kinds: dict[str, set[str]] = {}
        for method in document["methods"]:
            if "x-direction" in method:
                params = strict(params_schema(method), without_null=True)
                self.notifications[method["name"]] = validator(params, components)
            else:
                result = strict(method["result"]["schema"], without_null=True)
                self.kinds[method["name"]] = {error["$ref"].rpartition("/")[2] for error in method["errors"]}
                self.results[method["name"]] = validator(result, components)
        error = {
            "type": "object",
            "properties": {
                "code": {"enum": sorted(CODE_OF_KIND.values())},
                "message": {"type": "string", "minLength": 1},
                "data": {"$ref": "#/components/schemas/ErrorInfo"},
            },
            "required": ["code", "message", "data"],
            "additionalProperties": False,
        }
        self.error = validator(error, components)


def params_schema(method: dict[str, Any]) -> dict[str, Any]:
    """The object that an OpenRPC method's params are."""
    return {
        "type": "object",
        "properties": {each["name"]: each["schema"] for each in method["params"]},
        "required": [each["name"] for each in method["params"] if each.get("required")],
    }


class HttpSchemas:
    """What may come over HTTP, by the route's path and method."""

    def __init__(self) -> None:
        document = openapi_document()
        components = _strict_components(document)
        self.error = validator({"$ref": "#/components/schemas/ErrorBody"}, components)
        self.events = {
            name: validator({"$ref": f"#/components/schemas/{model.__name__}"}, components)
            for name, model in EVENT_MODELS.items()
        }
        #: (path, method) → status → media type → its schema, None where the body is no JSON.
        self.answers: dict[tuple[str, str], dict[int, dict[str, Validator | None]]] = {
            (path, method.upper()): {
                int(status): {
                    media_type: validator(strict(content["schema"]), components)
                    if media_type == "application/json"
                    else None
                    for media_type, content in response.get("content", {}).items()
                }
                for status, response in operation["responses"].items()
            }
            for path, item in document["paths"].items()
            for method, operation in item.items()
        }


@cache
def socket_schemas() -> SocketSchemas:
    """Compiled once."""
    return SocketSchemas()


@cache
def http_schemas() -> HttpSchemas:
    """Compiled once."""
    return HttpSchemas()
