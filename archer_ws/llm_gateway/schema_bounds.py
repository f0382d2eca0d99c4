"""The bounds on a JSON Schema that a client sends, for a tool's arguments or an answer's format."""

import json
from typing import Any

#: A schema, as JSON; and how deep values may stand in it. Providers compile schemas into grammars.
SCHEMA_BYTES_MAX, SCHEMA_LEVELS_MAX = 64 * 1024, 32


def bounded_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as it is.

    Raises:
        ValueError: it is past a bound, or cannot be sent as JSON in UTF-8.
    """
    try:
        encoded = json.dumps(schema, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise ValueError("must be plain JSON of whole Unicode characters") from None
    if len(encoded) > SCHEMA_BYTES_MAX:
        raise ValueError(f"must be at most {SCHEMA_BYTES_MAX} bytes of JSON, got {len(encoded)}")
    if _levels(schema) > SCHEMA_LEVELS_MAX:
        raise ValueError(f"must be nested at most {SCHEMA_LEVELS_MAX} deep")
    return schema


def _levels(value: Any) -> int:
    """How deep the deepest value stands; the walk ends behind the bound."""
    levels, row = 0, [value]
    while row and levels <= SCHEMA_LEVELS_MAX:
        levels += 1
        inner = [list(each.values()) if isinstance(each, dict) else each for each in row]
        row = [one for each in inner if isinstance(each, list) for one in each if isinstance(one, dict | list)]
    return levels
