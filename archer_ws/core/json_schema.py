"""JSON Schemas of the models, correct for each direction and transport of the wire (protocol section 1).

Pydantic's own schemas leave out three facts that differ by direction and transport (`Wire`):

- what clients send: null means missing, so every optional field may be null;
- what the server sends: which fields are always present, and that enumerations may grow: known values are listed in
  `x-known-values`, and any other text is valid, too;
- null: REST always sends the specification's fields, as null if there is no value; the socket never sends null.

Callers decide which messages exist, and how the documents look.
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from enum import Enum
from typing import Any, ClassVar

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from archer_ws.core.wire_types import KNOWN_VALUES, MEANING

Schema = dict[str, Any]

#: Keywords whose contents are values and not schemas.
_VALUES = frozenset({"examples", "default", "enum", "const", "required", KNOWN_VALUES})
_OTHER = "any other"
_ORDER = ("$ref", "title", "description", "type", "properties", "required", _OTHER, "examples")
_NULL: Schema = {"type": "null"}


class Wire(Enum):
    """The sender of a message, and the transport."""

    CLIENT = "client"
    SOCKET = "socket"
    REST = "rest"

    @property
    def mode(self) -> JsonSchemaMode:
        """Pydantic's name for the direction."""
        return "validation" if self is Wire.CLIENT else "serialization"


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, without titles made from field names; `required` lists the fields that are always sent."""

    wire: ClassVar[Wire]

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        return value

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        if self.mode == "serialization":
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        described.pop("examples", None)
        if examples := examples_of(schema["cls"], self.wire):
            described["examples"] = examples
        return described


_GENERATORS = {wire: type(f"_{wire.name.title()}Generator", (_Generator,), {"wire": wire}) for wire in Wire}


def schemas_of(models: Iterable[type[BaseModel]], wire: Wire) -> dict[str, Schema]:
    """The schemas, by name, of the models and of all models they refer to; references are `#/$defs/NAME`."""
    pairs: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, wire.mode) for model in dict.fromkeys(models)]
    _, found = models_json_schema(pairs, by_alias=True, schema_generator=_GENERATORS[wire])
    definitions: dict[str, Schema] = {}
    for name, schema in found["$defs"].items():
        definitions[name] = _true_to(wire, schema, definitions)
    return dict(sorted(definitions.items()))


def examples_of(model: type[BaseModel], wire: Wire) -> list[Any]:
    """The model's examples in the form that they have on this wire."""
    extra = model.model_config.get("json_schema_extra")
    if not isinstance(extra, dict) or any(
        issubclass(base, BaseModel) and base.model_config.get("json_schema_extra") is extra
        for base in model.__mro__[1:]
    ):
        return []
    examples: Any = extra.get("examples", [])
    if wire is Wire.CLIENT:
        return list(examples)
    return [
        model.model_validate(example).model_dump(mode="json", by_alias=True, exclude_none=wire is Wire.SOCKET)
        for example in examples
    ]


def references(schema: Any) -> Iterator[str]:
    """The names of the schemas that this schema refers to directly."""
    for reference in _reference_holders(schema):
        yield reference["$ref"].rpartition("/")[2]


def with_references(schema: Any, prefix: str, renamed: Mapping[str, str]) -> Any:
    """A copy in which references begin with `prefix`, and renamed schemas are referred to by their new names."""
    copied = deepcopy(schema)
    for holder in _reference_holders(copied):
        name = holder["$ref"].rpartition("/")[2]
        holder["$ref"] = prefix + renamed.get(name, name)
    return copied


def _reference_holders(schema: Any) -> Iterator[Schema]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema
        for name, inner in schema.items():
            if name == "properties":
                yield from _reference_holders(list(inner.values()))
            elif name not in _VALUES:
                yield from _reference_holders(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _reference_holders(inner)


def _true_to(wire: Wire, schema: Any, definitions: dict[str, Schema]) -> Any:
    """The schema for this wire. Schemas with a name of their own move to the definitions."""
    if isinstance(schema, list):
        return [_true_to(wire, inner, definitions) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if MEANING in schema:
        name = schema["title"]
        whole = {key: value for key, value in schema.items() if key != MEANING} | {"description": schema[MEANING]}
        definitions[name] = _true_to(wire, whole, definitions) if "anyOf" in schema else _enumeration(wire, whole)
        reference = {"$ref": f"#/$defs/{name}"}
        return reference | ({"description": schema["description"]} if "description" in schema else {})
    if "enum" in schema or "const" in schema:
        return _enumeration(wire, schema)
    changed = {
        name: inner if name in _VALUES else _true_to(wire, inner, definitions)
        for name, inner in schema.items()
        if name != "properties"
    }
    if wire is not Wire.CLIENT or changed.get("default", ...) is None:
        changed.pop("default", None)
    if "properties" in schema:
        fields = {name: _true_to(wire, field, definitions) for name, field in schema["properties"].items()}
        required = changed.get("required", [])
        for name, field in fields.items():
            if wire is Wire.CLIENT and name not in required:
                fields[name] = _with_null(field)
            elif wire is Wire.SOCKET and _is_nullable(field):
                fields[name] = _without_null(field)
                required = [each for each in required if each != name]
            elif name not in required:
                fields[name] = _without_null(field)
        changed |= {"properties": fields, **({"required": required} if required else {})}
    return _in_order(changed)


def _in_order(schema: Schema) -> Schema:
    """The keywords in order: the most important first, examples last, the rest alphabetically."""
    return dict(
        sorted(schema.items(), key=lambda each: (_ORDER.index(each[0] if each[0] in _ORDER else _OTHER), each[0]))
    )


def _enumeration(wire: Wire, schema: Schema) -> Schema:
    """Closed in what clients send, open in what they receive."""
    values = schema.get(KNOWN_VALUES) or schema.get("enum") or [schema["const"]]
    rest = {name: value for name, value in schema.items() if name not in {"enum", "const", "default", KNOWN_VALUES}}
    return _in_order(rest | {"enum" if wire is Wire.CLIENT else KNOWN_VALUES: list(values)})


def _is_nullable(schema: Schema) -> bool:
    return _NULL in schema.get("anyOf", ())


def _with_null(schema: Schema) -> Schema:
    if _is_nullable(schema):
        return schema
    outer: Schema = {name: schema[name] for name in ("description", "default") if name in schema}
    inner = {name: value for name, value in schema.items() if name not in outer}
    return _in_order({"anyOf": [inner, _NULL], **outer})


def _without_null(schema: Schema) -> Schema:
    if not _is_nullable(schema):
        return schema
    options = [option for option in schema["anyOf"] if option != _NULL]
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return _in_order({**options[0], **rest} if len(options) == 1 else {"anyOf": options, **rest})
