"""Annotations that describe the wire's values in the schemas; at run time they have no effect and no cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args

from pydantic import GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

#: The keyword for an enumeration's own meaning; `description` is the field's.
MEANING = "x-meaning"
#: The keyword for the known values of an enumeration that may grow: other values of a newer server are valid, too
#: (protocol section 1).
KNOWN_VALUES = "x-known-values"


@dataclass(frozen=True, slots=True)
class NamedType:
    """Names a set of text values, or a union, so that the generated types have one type for it.

    Args:
        name: the type's name.
        meaning: what the values are about, as a sentence.
        values: the known values, if the annotated type is plain text; called when a schema is generated.
    """

    name: str
    meaning: str
    values: Callable[[], Sequence[str]] | None = None

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The type's schema with the name and the meaning."""
        described: dict[str, Any] = {**handler(schema), "title": self.name, MEANING: self.meaning}
        if self.values is not None:
            described[KNOWN_VALUES] = list(self.values())
        return described


def opened(enumeration: Any) -> NamedType:
    """For an annotated Literal: the annotation for plain text, so that all texts are valid, but the schema lists its
    values.

    Used for what a newer peer may send: `Annotated[str, opened(StreamStatus)]`.
    """
    values, named = get_args(enumeration)
    opened_one: NamedType = replace(named, values=lambda: get_args(values))
    return opened_one


#: A number of things: 0 or more. Not checked, since only the server sends it.
Count = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
#: An event's number in its stream's log, from 1. Not checked, either.
Seq = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1})]
