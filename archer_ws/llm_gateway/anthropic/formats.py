"""The response format for Anthropic's Messages API: JSON by a schema with fewer keywords. Pure.

A schema is reduced as Anthropic's own SDK does it: objects without `additionalProperties` are closed, and keywords that
the API refuses are moved into the description, where the model may follow them. Keywords whose removal would change the
meaning are refused. The completion is checked against the original schema (sessions/format_judge.py).
https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

import json
from typing import Any

from archer_ws.core.exceptions import FieldError, Unsupported
from archer_ws.llm_gateway.types import ChatOptions

_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"},
)
#: Keywords that the API accepts unchanged, and those that contain schemas.
_AS_THEY_ARE = frozenset({"type", "description", "title", "required"})
_MAPS, _LISTS = frozenset({"properties", "$defs", "definitions"}), frozenset({"anyOf", "allOf"})
_PATH = "response_format.json_schema.schema"


def format_fields(options: ChatOptions) -> dict[str, Any]:
    """The fields of `output_config` for the format; empty for text.

    Raises:
        Unsupported: the API has no such format, or can't enforce such a schema.
    """
    asked = options.response_format
    if asked is None:
        return {}
    if asked.json_schema is None:
        raise _refused(
            "response_format",
            "anthropic has no json_object",
            'Send {"type": "json_schema"} with a schema that lists the properties.',
        )
    return {"format": {"type": "json_schema", "schema": reduced(asked.json_schema.schema_)}}


def reduced(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with only what the API accepts.

    Raises:
        Unsupported: an object in it may have properties that it does not list.
    """
    found: dict[str, Any] = _reduced(schema, _PATH)
    return found


def _reduced(schema: Any, path: str) -> Any:
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        # Beside a reference only its definitions are accepted.
        kept = {name: value for name, value in schema.items() if name in ("$ref", "$defs", "definitions")}
        return {name: _taken(name, value, path) for name, value in kept.items()}
    taken: dict[str, Any] = {}
    moved: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "additionalProperties":
            if value is not False:
                raise _refused(
                    f"{path}.{name}",
                    "anthropic allows only listed properties in objects",
                    "Leave it out, or send false; list the properties, or use an array of names and values.",
                )
        elif name == "oneOf" and "anyOf" not in schema:
            taken["anyOf"] = _taken("anyOf", value, path)
        elif _is_taken(name, value):
            taken[name] = _taken(name, value, path)
        elif name != "$schema":
            moved[name] = value
    if _is_object(schema):
        taken = {"properties": {}, **taken, "additionalProperties": False}
    if moved:
        said = "{" + ", ".join(f"{name}: {_in_words(value)}" for name, value in moved.items()) + "}"
        before = schema.get("description")
        taken["description"] = f"{before}\n\n{said}" if before else said
    return taken


def _is_taken(name: str, value: Any) -> bool:
    match name, value:
        case "items", dict():
            return True
        case "enum", list():
            return not any(isinstance(each, dict | list) for each in value)
        case "const", _:
            return not isinstance(value, dict | list)
        case "format", str():
            return value in _FORMATS
        case "minItems", 0 | 1:
            return True
    return name in _AS_THEY_ARE or name in _MAPS or name in _LISTS


def _taken(name: str, value: Any, path: str) -> Any:
    """An accepted keyword, with the schemas in it reduced."""
    inner = f"{path}.{name}"
    if name in _MAPS and isinstance(value, dict):
        return {each: _reduced(schema, f"{inner}.{each}") for each, schema in value.items()}
    if name in _LISTS and isinstance(value, list):
        return [_reduced(schema, f"{inner}.{place}") for place, schema in enumerate(value)]
    return _reduced(value, inner) if name == "items" else value


def _is_object(schema: dict[str, Any]) -> bool:
    kind = schema.get("type", "object" if "properties" in schema else None)
    return kind == "object" or (isinstance(kind, list) and "object" in kind)


def _in_words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _refused(path: str, what: str, hint: str) -> Unsupported:
    return Unsupported(f"{path}: {what}", hint=hint, provider="anthropic", errors=[FieldError(path=path, message=what)])
