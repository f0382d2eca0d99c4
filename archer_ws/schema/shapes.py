"""The messages as the shapes that the typed languages have in common: structures, choices of text, aliases.

What the languages' files say is here; how they say it is typescript.py's and rust.py's. The shapes come from the JSON
Schemas, so that no file can say what another does not. The socket's and REST's forms of an answer become one shape: a
field that one of them may leave out, or give as null, may be absent.

Why not a generator that exists: quicktype 26 and json-schema-to-typescript read our schemas, but make plain text of
open enumerations, know neither a method's result nor an unknown notification, and need Node where pip is enough.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from archer_ws.core.json_schema import Schema
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
    """Values of one type by text."""

    value: "Type"


@dataclass(frozen=True)
class Named:
    """Another shape."""

    name: str


Type: TypeAlias = Scalar | ListOf | MapOf | Named


@dataclass(frozen=True)
class Field:
    """A structure's field. `default` is what the server takes where it is absent."""

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
class Choice:
    """One of some texts; open: others may come from newer servers."""

    name: str
    description: str
    values: tuple[str, ...]
    is_sent: bool
    is_open: bool


@dataclass(frozen=True)
class Alias:
    """A name for a list or a map."""

    name: str
    description: str
    type: Type


Shape: TypeAlias = Structure | Choice | Alias


def shapes_of(definitions: Definitions) -> dict[str, Shape]:
    """Every shape by name; a method's params are named after the method."""
    shapes: dict[str, Shape] = {}
    params = {f"{type_name(method.name)}Params": definitions.taken[method.params.__name__] for method in METHODS}
    only_params = {method.params.__name__ for method in METHODS} - {model.__name__ for model in REST_REQUESTS}
    requests = {name: schema for name, schema in definitions.taken.items() if name not in only_params} | params
    for schemas, is_sent in ((requests, True), (definitions.socket, False), (definitions.rest, False)):
        for name, schema in schemas.items():
            _Reader(shapes, is_sent=is_sent).read(name, schema)
    return dict(sorted(shapes.items()))


_NULL = {"type": "null"}


class _Reader:
    """Reads schemas of one direction into shapes."""

    def __init__(self, shapes: dict[str, Shape], *, is_sent: bool) -> None:
        self._shapes = shapes
        self._is_sent = is_sent

    def read(self, name: str, schema: Schema) -> None:
        """Add the shape of a schema, or merge it with what another direction or transport has under that name."""
        shape: Shape
        description = str(schema.get("description", ""))
        if "properties" in schema or (schema.get("type") == "object" and "additionalProperties" not in schema):
            shape = Structure(name, description, self._fields(name, schema), self._is_sent)
        elif "enum" in schema or KNOWN_VALUES in schema:
            shape = self._choice(name, schema)
        else:
            shape = Alias(name, description, self._type(name, schema))
        known = self._shapes.get(name)
        self._shapes[name] = shape if known is None else _merged(known, shape)

    def _fields(self, structure: str, schema: Schema) -> tuple[Field, ...]:
        fields = []
        for name, field in schema.get("properties", {}).items():
            options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
            assert len(options) <= 1, f"{structure}.{name}"
            fields.append(
                Field(
                    name,
                    self._type(structure + type_name(name), options[0]) if options else Scalar("null"),
                    field.get("description", ""),
                    name in schema.get("required", ()) and _NULL not in field.get("anyOf", ()),
                    field.get("default"),
                )
            )
        return tuple(fields)

    def _choice(self, name: str, schema: Schema) -> Choice:
        values = tuple(schema.get("enum") or schema[KNOWN_VALUES])
        return Choice(name, schema.get("description", ""), values, is_sent=self._is_sent, is_open=not self._is_sent)

    def _type(self, name: str, schema: Schema) -> Type:
        if "$ref" in schema:
            return Named(schema["$ref"].rpartition("/")[2])
        if len(schema.get("enum") or schema.get(KNOWN_VALUES) or ()) > 1:
            self.read(name, schema)
            return Named(name)
        kind = schema.get("type", "any")
        if kind == "array":
            return ListOf(self._type(name, schema["items"]))
        if kind == "object":
            inner = schema.get("additionalProperties", True)
            return MapOf(Scalar("any") if inner is True else self._type(name, inner))
        return Scalar("natural" if kind == "integer" and schema.get("minimum", -1) >= 0 else kind)


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
        case Choice(), Choice():
            return replace(one, is_sent=one.is_sent or other.is_sent, is_open=one.is_open or other.is_open)
        case _:
            assert one == other, f"two different shapes are called {one.name}"
            return one
