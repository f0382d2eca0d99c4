"""The response format: text, JSON, or JSON by a schema (protocol section 25)."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from archer_ws.core.judging.engine import SchemaRefused, accept
from archer_ws.core.wire_model import Text, WireModel, wrong
from archer_ws.core.wire_types import NamedType
from archer_ws.examples.chat import CITY_SCHEMA
from archer_ws.llm_gateway.schema_bounds import bounded_schema
from archer_ws.llm_gateway.tools import TOOL_NAME_PATTERN

FormatType = Annotated[
    Literal["text", "json_object", "json_schema"],
    NamedType("FormatType", "The form of the completion."),
]

_SCHEMA_ADVICE = f"Send the schema nested: {json.dumps({'type': 'json_schema', 'json_schema': CITY_SCHEMA})}"


def _usable(schema: dict[str, Any]) -> dict[str, Any]:
    bounded_schema(schema)
    try:
        accept(schema)
    except SchemaRefused as refused:
        raise wrong(refused.message, refused.path, "Correct the schema, or leave this part out.") from None
    except ModuleNotFoundError:
        pass  # a client installed without the server's packages has no engine: the server checks the schema
    return schema


class JsonSchemaFormat(WireModel):
    """A JSON Schema for the completion."""

    model_config = ConfigDict(populate_by_name=True, json_schema_extra={"examples": [CITY_SCHEMA]})

    name: Annotated[str, Field(pattern=TOOL_NAME_PATTERN)] = Field(description="Its name; some providers show it.")
    # `schema` is a method of pydantic's models.
    schema_: Annotated[dict[str, Any], AfterValidator(_usable)] = Field(
        alias="schema",
        description="JSON Schema, draft 2020-12 unless `$schema` says otherwise; references stay inside it.",
    )
    strict: bool | None = Field(default=None, description="Whether it must match, if the provider supports that.")
    description: Text | None = Field(default=None, description="The purpose of the completion, for the model.")


class ResponseFormat(WireModel):
    """The form that the completion must have."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "json_schema", "json_schema": CITY_SCHEMA}]})

    type: FormatType = Field(description="The form.")
    json_schema: JsonSchemaFormat | None = Field(default=None, description="The schema, for `json_schema` only.")

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_shapes(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("schema") is not None and given.get("json_schema") is None:
            raise wrong("belongs inside json_schema", "schema", _SCHEMA_ADVICE)
        return given

    @model_validator(mode="after")
    def _check_schema(self) -> "ResponseFormat":
        if self.type == "json_schema" and self.json_schema is None:
            raise wrong("is missing", "json_schema", _SCHEMA_ADVICE)
        if self.type != "json_schema" and self.json_schema is not None:
            raise wrong(f"is not allowed with type {self.type}", "json_schema", 'Send the type "json_schema" with it.')
        return self
