"""The schemas say what every message means and what the server really takes and gives."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from archer_ws.core.exceptions import ArcherError
from archer_ws.core.wire_types import KNOWN_VALUES
from archer_ws.llm_gateway.types import ChatRequest
from archer_ws.rpc.messages import NOTIFICATIONS, ErrorObject
from archer_ws.schema.catalog import METHODS, REST_REQUESTS, REST_RESPONSES, definitions, file_name
from archer_ws.schema.documents import ID_PREFIX, json_schemas
from tests.fakes.strict_schemas import strict

Schema = dict[str, Any]
SCHEMAS = json_schemas(definitions())
#: What takes a message in, by the schema's path.
TAKEN: dict[str, type[BaseModel]] = {
    **{f"messages/{file_name(method.name)}.params.json": method.params for method in METHODS},
    **{f"rest/{re.sub(r'(?<!^)(?=[A-Z])', '_', model.__name__).lower()}.json": model for model in REST_REQUESTS},
}


def objects(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The schema's own object and those it defines, by title."""
    for each in (schema, *schema.get("$defs", {}).values()):
        if each.get("type") == "object":
            yield each["title"], each


def used_names(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(used_names, value.values()))
    return set().union(*map(used_names, value)) if isinstance(value, list) else set()


def models() -> Iterator[tuple[str, type[BaseModel]]]:
    yield from TAKEN.items()
    for method in METHODS:
        yield f"messages/{file_name(method.name)}.result.json", method.result
    for name, model in NOTIFICATIONS.items():
        yield f"messages/{file_name(name)}.json", model
    yield "messages/error.json", ErrorObject
    for model in REST_RESPONSES:
        yield f"rest/{re.sub(r'(?<!^)(?=[A-Z])', '_', model.__name__).lower()}.json", model


def test_every_message_has_a_schema_and_every_field_of_its_model_is_in_it() -> None:
    for path, model in models():
        names = {field.alias or name for name, field in model.model_fields.items()} - {"root"}
        assert set(SCHEMAS[path].get("properties", {})) == names, path


@pytest.mark.parametrize("path", SCHEMAS)
def test_a_schema_is_valid_named_described_and_has_examples(path: str) -> None:
    schema = SCHEMAS[path]
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == ID_PREFIX + path.removesuffix(".json").replace("/", ":")
    assert schema["title"]
    assert schema["description"]
    assert schema["examples"]
    for title, each in objects(schema):
        assert each.get("description"), title
        for name, field in each.get("properties", {}).items():
            assert field.get("description", "").endswith("."), f"{title}.{name}"


@pytest.mark.parametrize("path", SCHEMAS)
def test_every_field_stands_in_an_example(path: str) -> None:
    schema = SCHEMAS[path]
    shown: dict[str, set[str]] = {}
    for title, each in objects(schema):
        shown.setdefault(title, set()).update(*map(used_names, each.get("examples", [])))
        # An adapter's chunk may have the usage and a refusal; a text event on the wire never does.
        unseen = {"usage", "refusal"} if title == "TextEvent" else set()
        assert set(each.get("properties", {})) - unseen <= shown[title], title


@pytest.mark.parametrize("path", SCHEMAS)
def test_every_example_fits_its_schema_and_the_strict_one(path: str) -> None:
    schema = SCHEMAS[path]
    for each in (schema, strict(schema)):
        validator = jsonschema_rs.Draft202012Validator(each, validate_formats=True)
        for example in schema["examples"]:
            validator.validate(example)


@pytest.mark.parametrize("path", TAKEN)
def test_the_server_accepts_every_example_of_what_clients_send(path: str) -> None:
    for example in SCHEMAS[path]["examples"]:
        TAKEN[path].model_validate(example)


@pytest.mark.parametrize("path", TAKEN)
def test_null_is_accepted_exactly_where_the_schema_says_so(path: str) -> None:
    schema, model = SCHEMAS[path], TAKEN[path]
    validator = jsonschema_rs.Draft202012Validator(schema)
    for name in schema.get("properties", {}):
        with_null = {**schema["examples"][0], name: None}
        assert validator.is_valid(with_null) == is_accepted(model, with_null), name
        assert validator.is_valid(with_null) == (name not in schema.get("required", ())), name


@pytest.mark.parametrize(
    "change",
    [
        {"messages": []},
        {"temperature": 2.1},
        {"max_tokens": 0},
        {"top_p": 0},
        {"seed": 2**53},
        {"stream_id": "with space"},
        {"on_busy": "wait"},
        {"messages": [{"role": "robot", "content": ""}]},
        {"stop": [""]},
        {"model": ""},
        {"unknown": 1},
        {"on_disconnect": "cancel"},
    ],
)
def test_the_schema_of_a_request_refuses_what_the_server_refuses(change: dict[str, Any]) -> None:
    request = {"messages": [{"role": "user", "content": "x"}], **change}
    validator = jsonschema_rs.Draft202012Validator(SCHEMAS["rest/chat_request.json"])
    assert validator.is_valid(request) == is_accepted(ChatRequest, request)


def is_accepted(model: type[BaseModel], value: Any) -> bool:
    try:
        model.model_validate(value)
    except ValidationError:
        return False
    return True


def test_unknown_fields_and_values_of_newer_servers_are_valid_but_not_for_our_own() -> None:
    schema = SCHEMAS["messages/stream_ended.json"]
    ended = {"stream_id": "a", "seq": 1, "status": "melted", "text_bytes": 0, "novelty": {"a": 1}}
    assert jsonschema_rs.is_valid(schema, ended)
    assert not jsonschema_rs.is_valid(strict(schema), {**ended, "status": "completed"})
    assert not jsonschema_rs.is_valid(strict(schema), {name: ended[name] for name in ended if name != "novelty"})


def test_no_schema_of_what_the_server_sends_is_closed_and_none_over_the_socket_allows_null() -> None:
    only_taken = definitions().taken.keys() - definitions().rest.keys()
    for path, schema in SCHEMAS.items():
        # Examples may be of schemas that clients send.
        text = json.dumps(_without_examples(schema))
        if path not in TAKEN and schema["title"] not in only_taken:
            assert '"enum"' not in text, path
            assert '"const"' not in text, path
        if path.startswith("messages/") and path not in TAKEN:
            assert '"null"' not in text, path
        assert '"additionalProperties": false' not in text, path


def _without_examples(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_examples(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _without_examples(each) for name, each in schema.items() if name != "examples"}


def test_every_kind_of_error_is_known() -> None:
    def kinds(base: type[ArcherError]) -> set[str]:
        return {base.kind}.union(*map(kinds, base.__subclasses__()))

    assert set(definitions().socket["ErrorKind"][KNOWN_VALUES]) == kinds(ArcherError)


def test_over_rest_what_the_specification_names_is_always_there() -> None:
    assert SCHEMAS["rest/model_info.json"]["required"] == [
        "id",
        "name",
        "provider",
        "context_window",
        "supports_streaming",
    ]
    over_socket = SCHEMAS["messages/model_list.result.json"]["$defs"]["ModelInfo"]["required"]
    assert over_socket == ["id", "name", "provider", "supports_streaming"]


@pytest.mark.parametrize("model", REST_RESPONSES)
def test_an_answer_as_it_is_sent_fits_its_schema(model: type[BaseModel]) -> None:
    schema = definitions().rest[model.__name__]
    whole = {**schema, "$defs": dict(definitions().rest)}
    for example in schema["examples"]:
        sent = TypeAdapter(model).dump_python(model.model_validate(example), mode="json", by_alias=True)
        jsonschema_rs.validate(strict(whole), sent)


def test_the_files_can_be_read_one_by_one() -> None:
    for schema in SCHEMAS.values():
        for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(schema)):
            assert reference.removeprefix("#/$defs/") in schema["$defs"]


def test_directions_differ_only_where_they_must() -> None:
    assert definitions().taken["PeerInfo"] == definitions().socket["PeerInfo"]
    assert "enum" in definitions().taken["MessageRole"]
    assert KNOWN_VALUES in definitions().socket["MessageRole"]


def test_true_and_false_are_numbers_in_no_request() -> None:
    numbers = 0
    for model in TAKEN.values():
        for field in model.model_fields.values():
            taken: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
            schema = taken.json_schema()
            if {"integer", "number"} & {each.get("type") for each in (schema, *schema.get("anyOf", ()))}:
                numbers += 1
                for value in (True, False):
                    with pytest.raises(ValidationError, match="a number, not a boolean"):
                        taken.validate_python(value)
    assert numbers > 20
