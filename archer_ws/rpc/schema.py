"""The OpenRPC document of archer.v1, made from the messages' models (protocol section 12)."""

import json
from functools import cache
from hashlib import sha256
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from archer_ws.rpc.messages import NOTIFICATIONS, PROTOCOL_VERSION

_REF = "#/components/schemas/{model}"


@cache
def openrpc_document() -> dict[str, Any]:
    """The document: every method, and as methods with `x-direction: server-to-client` every notification."""
    from archer_ws.rpc.methods import archer_v1  # the registry's methods ask for this document themselves

    methods = archer_v1().all()
    models: list[tuple[type[BaseModel], Any]] = []
    for method in methods:
        models += [(method.params, "validation"), (method.result, "serialization")]
    models += [(model, "serialization") for model in NOTIFICATIONS.values()]
    refs, definitions = models_json_schema(models, by_alias=True, ref_template=_REF)
    described: list[dict[str, Any]] = [
        {
            "name": method.name,
            "summary": method.summary,
            "paramStructure": "by-name",
            "params": _params(refs[method.params, "validation"], definitions),
            "result": {"name": "result", "schema": refs[method.result, "serialization"]},
        }
        for method in methods
    ]
    described += [
        {
            "name": name,
            "summary": (model.__doc__ or "").split("\n")[0],
            "paramStructure": "by-name",
            "params": _params(refs[model, "serialization"], definitions),
            "x-direction": "server-to-client",
            **({"x-stream": True} if name.startswith("stream/") else {}),
        }
        for name, model in NOTIFICATIONS.items()
    ]
    return {
        "openrpc": "1.3.2",
        "info": {"title": "Archer AI Engine, archer.v1", "version": f"{PROTOCOL_VERSION}.0.0"},
        "methods": described,
        "components": {"schemas": definitions.get("$defs", {})},
    }


@cache
def schema_hash() -> str:
    """A short name for this version of the document."""
    text = json.dumps(openrpc_document(), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:16]


def _params(ref: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """A params model's fields as OpenRPC content descriptors."""
    model = definitions["$defs"][ref["$ref"].rpartition("/")[2]]
    required = set(model.get("required", ()))
    return [
        {"name": name, "required": name in required, "schema": schema}
        for name, schema in model.get("properties", {}).items()
    ]
