"""What a request may ask an answer's form to be."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from archer_ws.core.exceptions import RequestError
from archer_ws.core.judging import engine
from archer_ws.core.wire_model import request_error
from archer_ws.llm_gateway.formats import ResponseFormat

CITY = {"type": "object", "properties": {"name": {"type": "string", "pattern": r"^\w+$"}}, "required": ["name"]}


def given(schema: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, **fields}}


def refused(body: Any) -> RequestError:
    with pytest.raises(ValidationError) as caught:
        ResponseFormat.model_validate(body)
    return request_error(caught.value.errors(), whole="response_format", hint="")


def refused_in_schema(schema: Any) -> tuple[str, str]:
    error = refused(given(schema)).errors[0]
    path = error.path.removeprefix("json_schema.schema")
    assert path != error.path
    return path.removeprefix("."), error.message


def test_a_schema_is_kept_as_it_was_sent() -> None:
    body = given(CITY, strict=True, description="A city.")
    assert ResponseFormat.model_validate(body).model_dump(by_alias=True) == body
    assert list(ResponseFormat.model_validate(body).json_schema.schema_) == list(CITY)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["text", "json_object"])
def test_the_other_forms_need_nothing_more(kind: str) -> None:
    assert ResponseFormat.model_validate({"type": kind, "json_schema": None}).json_schema is None


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "type"),
        ({"type": "grammar"}, "type"),
        ({"type": "json_schema"}, "json_schema"),
        ({"type": "json_object", "json_schema": {"name": "city", "schema": CITY}}, "json_schema"),
        ({"type": "json_schema", "name": "city", "schema": CITY}, "schema"),
        ({"type": "json_schema", "json_schema": {"schema": CITY}}, "json_schema.name"),
        ({"type": "json_schema", "json_schema": {"name": "city"}}, "json_schema.schema"),
        (given(CITY) | {"json_schema": {"name": "my city", "schema": CITY}}, "json_schema.name"),
        (given("object"), "json_schema.schema"),
        (given(CITY, description="\ud800"), "json_schema.description"),
    ],
)
def test_what_is_no_format_is_refused_with_its_path(body: Any, path: str) -> None:
    assert refused(body).errors[0].path == path


def test_the_flat_form_of_the_responses_api_is_answered_with_ours() -> None:
    shown = (refused({"type": "json_schema", "name": "city", "schema": CITY}).hint or "").partition(": ")[2]
    ResponseFormat.model_validate(json.loads(shown))


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"properties": {"a": {"$ref": "https://example.com/a.json"}}}, "properties.a.$ref"),
        ({"items": {"anyOf": [True, {"$ref": "other.json#/a"}]}}, "items.anyOf.1.$ref"),
        ({"$defs": {"enum": {"$dynamicRef": "file:///etc/passwd"}}}, "$defs.enum.$dynamicRef"),
        ({"properties": {"const": {"$ref": ""}}}, "properties.const.$ref"),
    ],
)
def test_a_reference_to_another_document_is_refused_with_its_path(schema: Any, path: str) -> None:
    found, message = refused_in_schema(schema)
    assert (found, "another document" in message) == (path, True)


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"a": {"type": "string"}}, "items": {"$ref": "#/$defs/a"}},
        {"properties": {"children": {"items": {"$ref": "#"}}}},
        {"properties": {"$ref": {"type": "string"}}},
        {"enum": [{"$ref": "https://example.com"}], "default": {"pattern": "("}},
        {"$id": "https://example.com/city", "$ref": "#/$defs/a", "$defs": {"a": {}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}}, "$ref": "#/definitions/a"},
        {"pattern": r"^(?!abc)\p{L}+$"},
        {"type": "array"},
        {},
    ],
)
def test_a_schema_whose_references_stay_inside_it_is_taken(schema: Any) -> None:
    ResponseFormat.model_validate(given(schema))


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"properties": {"a": {"pattern": "("}}}, "properties.a.pattern"),
        ({"items": {"pattern": "(?:(?:a{1,999}){1,999}){1,999}"}}, "items.pattern"),
        ({"patternProperties": {"(": {}}}, "patternProperties.("),
        ({"properties": {"a": {"type": "strin"}}}, "properties.a.type"),
        ({"properties": []}, "properties"),
        ({"minLength": -1}, "minLength"),
        ({"$ref": "#/nowhere"}, ""),
        ({"$schema": "https://example.com/mine"}, ""),
    ],
)
def test_what_the_engine_cannot_take_is_refused_with_its_path(schema: Any, path: str) -> None:
    found, message = refused_in_schema(schema)
    assert found == path
    assert len(message) <= engine.MESSAGE_CHARS_MAX


@pytest.mark.parametrize(
    "schema",
    [
        {"description": "x" * 65536},
        {"allOf": [{}] * (engine.OBJECTS_MAX + 1)},
        {"allOf": [{"pattern": f"a{n}"} for n in range(engine.PATTERNS_MAX + 1)]},
        {"allOf": [{"pattern": f"{n}" * 1000} for n in range(10, 20)]},
        {"default": float("nan")},
        {"title": "\ud800"},
    ],
    ids=["bytes", "objects", "patterns", "pattern text", "NaN", "surrogate"],
)
def test_a_schema_past_a_bound_is_refused(schema: Any) -> None:
    assert refused_in_schema(schema)[0] == ""


def test_a_schema_that_is_too_deep_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(10_000):
        deep = {"not": deep}
    assert refused_in_schema(deep)[0] == ""
