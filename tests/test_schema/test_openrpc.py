"""The OpenRPC document: valid, whole, without null, and the same wherever it is asked for."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from archer_ws.core.exceptions import ArcherError
from archer_ws.rpc.messages import NOTIFICATIONS
from archer_ws.rpc.openrpc import openrpc_document, schema_hash
from archer_ws.schema.catalog import METHODS, REGISTRY
from archer_ws.schema.documents import documents

ROOT = Path(__file__).parents[2]
DOCUMENT = openrpc_document(REGISTRY)
METHODS_BY_NAME: dict[str, dict[str, Any]] = {method["name"]: method for method in DOCUMENT["methods"]}


def nulls(value: Any, path: str = "") -> Iterator[str]:
    if value is None:
        yield path
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from nulls(inner, f"{path}/{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from nulls(inner, f"{path}/{index}")


def test_it_has_every_method_and_every_notification() -> None:
    assert set(METHODS_BY_NAME) == {method.name for method in METHODS} | set(NOTIFICATIONS)
    for name, described in METHODS_BY_NAME.items():
        assert described.get("x-direction") == ("server-to-client" if name in NOTIFICATIONS else None)
        assert described.get("x-stream", False) == (name in NOTIFICATIONS and name.startswith("stream/"))
        assert ("result" in described) == (name not in NOTIFICATIONS)


def test_every_reference_leads_somewhere() -> None:
    references = re.findall(r'"\$ref": "([^"]+)"', json.dumps(DOCUMENT))
    assert references
    for reference in references:
        assert reference.startswith("#/components/")
        kind, name = reference.removeprefix("#/components/").split("/")
        assert name in DOCUMENT["components"][kind], reference


def test_nothing_in_it_is_null_since_the_socket_never_sends_that() -> None:
    assert list(nulls(DOCUMENT)) == []


def test_every_schema_in_it_is_valid_and_every_value_described() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
    for method in DOCUMENT["methods"]:
        assert method["summary"]
        assert method["examples"]
        for param in method["params"]:
            assert param["description"]
            jsonschema_rs.meta.validate(param["schema"])


def test_every_example_fits_the_method_it_belongs_to() -> None:
    for method in DOCUMENT["methods"]:
        schemas = {param["name"]: param for param in method["params"]}
        for example in method["examples"]:
            given = {param["name"]: param["value"] for param in example["params"]}
            assert {name for name, param in schemas.items() if param["required"]} <= set(given) <= set(schemas)
            for name, value in given.items():
                jsonschema_rs.validate({**schemas[name]["schema"], "components": DOCUMENT["components"]}, value)
            if "result" in method:
                result = {**method["result"]["schema"], "components": DOCUMENT["components"]}
                jsonschema_rs.validate(result, example["result"]["value"])


def test_errors_are_those_of_the_exception_tree() -> None:
    def classes(base: type[ArcherError]) -> Iterator[type[ArcherError]]:
        yield base
        for child in base.__subclasses__():
            yield from classes(child)

    described = DOCUMENT["components"]["errors"]
    codes = {error.kind: error.code for error in classes(ArcherError)}
    assert {kind: error["code"] for kind, error in described.items()} == codes
    assert all(error["message"] == kind for kind, error in described.items())
    for name, method in METHODS_BY_NAME.items():
        kinds = {error["$ref"].rpartition("/")[2] for error in method.get("errors", [])}
        assert ({"internal_error", "invalid_params"} <= kinds) == (name not in NOTIFICATIONS)


def test_the_file_is_what_rpc_discover_answers_and_schema_hash_names() -> None:
    assert json.loads(documents()["openrpc.json"]) == DOCUMENT
    assert f'"{schema_hash(DOCUMENT)}"' in documents()["archer.rs"]
    assert len(schema_hash(DOCUMENT)) == 16


@pytest.mark.interop
def test_it_is_valid_against_the_meta_schema_of_openrpc() -> None:
    package = ROOT / "tests" / "interop" / "node" / "node_modules" / "@open-rpc" / "meta-schema"
    code = "process.stdout.write(JSON.stringify(require(process.argv[1]).openrpcDocument))"
    shown = subprocess.run(
        ["node", "-e", code, str(package)], capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    # It leaves JSON Schemas to a document elsewhere, in a dialect of its own; ours are checked above.
    text = shown.stdout.replace("https://meta.json-schema.tools/#", "https://meta.json-schema.tools#")
    meta = {**json.loads(text), "$schema": "http://json-schema.org/draft-07/schema#"}
    elsewhere = {"definitions": {"JSONSchemaObject": {"properties": {"$ref": {"type": "string"}}}}}
    validator = jsonschema_rs.Draft7Validator(meta, retriever=lambda _: elsewhere)
    validator.validate(DOCUMENT)
    broken = json.loads(json.dumps(DOCUMENT))
    del broken["methods"][0]["params"]
    assert not validator.is_valid(broken)
