"""The messages as shapes that the typed languages share: structures, enumerations of texts, unions, aliases.

This module decides what the languages' files contain; typescript.py and rust.py write it. The shapes are made from the
JSON Schemas, so the files cannot disagree. The socket's and REST's forms of a response become one shape: a field that
one of them may leave out, or send as null, is optional.

Existing generators do not fit: quicktype 26 and json-schema-to-typescript read our schemas, but turn open enumerations
into plain text, know neither a method's result nor an unknown notification, and need Node in addition to pip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from archer_ws.core.json_schema import Schema, references
from archer_ws.core.wire_types import KNOWN_VALUES
from archer_ws.schema.catalog import METHODS, REST_REQUESTS, Definitions, type_name


@dataclass(frozen=True)
class Scalar:
    """A plain value; `natural` is an integer of 0 or more."""

    kind: Literal["string", "integer", "natural", "number", "boolean", "null", "any"]


@dataclass(frozen=True)
class ListOf:
    """Values of one type."""

    item: "Type"


@dataclass(frozen=True)
class MapOf:
    """Values of one type, by text keys."""

    value: "Type"


@dataclass(frozen=True)
class Named:
    """Another shape."""

    name: str


@dataclass(frozen=True)
class Word:
    """One fixed text, an arm of a union."""

    text: str


Type: TypeAlias = Scalar | ListOf | MapOf | Named | Word


@dataclass(frozen=True)
class Field:
    """A structure's field. `default` is the server's value if it is missing."""

    name: str
    type: Type
    description: str
    is_required: bool
    default: Any = None


@dataclass(frozen=True)
class Structure:
    """An object with known fields."""

    name: str
    description: str
    fields: tuple[Field, ...]
    is_sent: bool
    """Whether clients send it."""


@dataclass(frozen=True)
class Enumeration:
    """One of several texts; open: newer servers may send others."""

    name: str
    description: str
    values: tuple[str, ...]
    is_sent: bool
    is_open: bool


@dataclass(frozen=True)
class Arm:
    """One of a union's types, under its name there. `tag` is the text that identifies it."""

    name: str
    type: Type
    tag: str | None = None


@dataclass(frozen=True)
class Union:
    """A value of one of several types: identified by the field `tag`, or by its JSON type if that is None.

    One with a tag is open: newer servers may send types that are unknown here.
    """

    name: str
    description: str
    arms: tuple[Arm, ...]
    tag: str | None


@dataclass(frozen=True)
class Alias:
    """A name for a list or a map."""

    name: str
    description: str
    type: Type


Shape: TypeAlias = Structure | Enumeration | Union | Alias


def shapes_of(definitions: Definitions) -> dict[str, Shape]:
    """Every shape by name; a method's params are named after the method."""
    shapes: dict[str, Shape] = {}
    params = {f"{type_name(method.name)}Params": definitions.taken[method.params.__name__] for method in METHODS}
    only_params = {method.params.__name__ for method in METHODS} - {model.__name__ for model in REST_REQUESTS}
    requests = {name: schema for name, schema in definitions.taken.items() if name not in only_params} | params
    for schemas, is_sent in ((requests, True), (definitions.socket, False), (definitions.rest, False)):
        for name, schema in schemas.items():
            _Reader(shapes, schemas, is_sent=is_sent).read(name, schema)
    for union in [shape for shape in shapes.values() if isinstance(shape, Union) and shape.tag]:
        for arm in union.arms:
            _tell_tag(shapes, union, arm)
    return dict(sorted(shapes.items()))


def _tell_tag(shapes: dict[str, Shape], union: Union, arm: Arm) -> None:
    """In a tagged union's structure, the tag's type is its one possible text."""
    assert isinstance(arm.type, Named)
    assert arm.tag is not None
    structure = shapes[arm.type.name]
    assert isinstance(structure, Structure)
    fields = (replace(field, type=Word(arm.tag)) if field.name == union.tag else field for field in structure.fields)
    shapes[structure.name] = replace(structure, fields=tuple(fields))


def _tag_of(options: Sequence[Schema]) -> str | None:
    """The field that identifies objects: each has another, single text in it. None if there is no such field."""
    fields: list[set[str]] = [set(option.get("properties", {})) for option in options]
    for name in sorted(set.intersection(*fields)):
        values = [_values_of(option["properties"][name]) for option in options]
        if all(len(each) == 1 for each in values) and len(set(values)) == len(options):
            return name
    return None


def _values_of(schema: Schema) -> tuple[str, ...]:
    """The texts of an enumeration, closed or open."""
    return tuple(schema.get("enum") or schema.get(KNOWN_VALUES) or ())


_NULL: Schema = {"type": "null"}


class _Reader:
    """Reads schemas of one direction into shapes."""

    def __init__(self, shapes: dict[str, Shape], definitions: Mapping[str, Schema], *, is_sent: bool) -> None:
        self._shapes = shapes
        self._definitions = definitions
        self._is_sent = is_sent

    def read(self, name: str, schema: Schema) -> None:
        """Add the shape of a schema, or merge it with the shape that another direction or transport has under that
        name."""
        shape: Shape
        description = str(schema.get("description", ""))
        if "properties" in schema or (schema.get("type") == "object" and "additionalProperties" not in schema):
            shape = Structure(name, description, self._fields(name, schema), self._is_sent)
        elif "enum" in schema or KNOWN_VALUES in schema:
            shape = self._enumeration(name, schema)
        elif "anyOf" in schema:
            shape = self._union(name, schema)
        else:
            shape = Alias(name, description, self._type(name, schema))
        known = self._shapes.get(name)
        self._shapes[name] = shape if known is None else _merged(known, shape)

    def _fields(self, structure: str, schema: Schema) -> tuple[Field, ...]:
        fields = []
        for name, field in schema.get("properties", {}).items():
            fields.append(
                Field(
                    name,
                    self._type(structure + type_name(name), field),
                    field.get("description", ""),
                    name in schema.get("required", ()) and _NULL not in field.get("anyOf", ()),
                    field.get("default"),
                )
            )
        return tuple(fields)

    def _enumeration(self, name: str, schema: Schema) -> Enumeration:
        return Enumeration(
            name, schema.get("description", ""), _values_of(schema), is_sent=self._is_sent, is_open=not self._is_sent
        )

    def _union(self, name: str, schema: Schema) -> Union:
        options = schema["anyOf"]
        objects = [self._definitions[name] for option in options for name in references(option) if "$ref" in option]
        tag = _tag_of(objects) if len(objects) == len(options) else None
        arms: list[Arm] = []
        for option in options:
            if words := _values_of(option):
                arms += [Arm(type_name(word), Word(word)) for word in words]
            elif tag:
                (text,) = _values_of(objects[len(arms)]["properties"][tag])
                arms.append(Arm(type_name(text), self._type(name, option), text))
            else:
                kind = self._type(name, option)
                arms.append(Arm(_arm_name(kind), kind))
        return Union(name, schema.get("description", ""), tuple(arms), tag)

    def _type(self, name: str, schema: Schema) -> Type:
        options = [option for option in schema.get("anyOf", [schema]) if option != _NULL]
        if len(options) > 1:
            self.read(name, {"anyOf": options, "description": schema.get("description", "")})
            return Named(name)
        schema = options[0] if options else _NULL
        if "$ref" in schema:
            return Named(schema["$ref"].rpartition("/")[2])
        if len(_values_of(schema)) > 1:
            self.read(name, schema)
            return Named(name)
        kind = schema.get("type", "any")
        if kind == "array":
            return ListOf(self._type(name, schema["items"]))
        if kind == "object":
            inner = schema.get("additionalProperties", True)
            return MapOf(Scalar("any") if inner is True else self._type(name, inner))
        return Scalar("natural" if kind == "integer" and schema.get("minimum", -1) >= 0 else kind)


def _arm_name(kind: Type) -> str:
    """The name of a type among others: `string` is Text, a list of Part is Parts."""
    match kind:
        case ListOf(item):
            return f"{_arm_name(item)}s"
        case Named(name):
            return name
        case Scalar("string"):
            return "Text"
        case _:
            return type(kind).__name__


def _merged(one: Shape, other: Shape) -> Shape:
    match one, other:
        case Structure(), Structure():
            assert [(field.name, field.type) for field in one.fields] == [
                (field.name, field.type) for field in other.fields
            ], f"two different shapes are called {one.name}"
            fields = tuple(
                replace(field, is_required=field.is_required and twin.is_required)
                for field, twin in zip(one.fields, other.fields, strict=True)
            )
            return replace(one, fields=fields, is_sent=one.is_sent or other.is_sent)
        case Enumeration(), Enumeration():
            return replace(one, is_sent=one.is_sent or other.is_sent, is_open=one.is_open or other.is_open)
        case _:
            assert one == other, f"two different shapes are called {one.name}"
            return one
