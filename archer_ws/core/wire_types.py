"""Annotations that say in the schemas what the wire's values mean; at run time they do nothing and cost nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args

from pydantic import GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

#: Where a schema says what an enumeration as such is about; its description is the field's.
MEANING = "x-meaning"
#: The values of an enumeration that may grow: what a newer server sends beside them is as valid (protocol section 1).
KNOWN_VALUES = "x-known-values"


@dataclass(frozen=True, slots=True)
class Enumeration:
    """Names a set of text values, or a union, so that the generated types have one type for it.

    Args:
        name: the type's name.
        meaning: what the values are about, a sentence.
        values: the known ones, where the annotated type is plain text; asked when a schema is made.
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


def opened(enumeration: Any) -> Enumeration:
    """Of an annotated Literal, what makes plain text of it: all texts are valid, and the schema still lists its own.

    For what a newer peer may say: `Annotated[str, opened(StreamStatus)]`.
    """
    values, named = get_args(enumeration)
    opened_one: Enumeration = replace(named, values=lambda: get_args(values))
    return opened_one


#: How many of something: 0 or more. Not checked: only what we send is counted.
Count = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
#: An event's number in its stream's log, from 1. Not checked either.
Seq = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1})]
