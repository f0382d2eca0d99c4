"""The limits of a JSON Schema from a client, for a tool's arguments or a response format."""

import json
from typing import Any

#: The limits of a schema's size as JSON, and of its nesting. Providers compile schemas into grammars.
SCHEMA_BYTES_MAX, SCHEMA_LEVELS_MAX = 64 * 1024, 32
#: No useful limit in a schema is larger; Python takes a tenth of a millisecond to write a number of 4,300 digits.
_NUMBER_BITS_MAX = 1024


def bounded_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The unchanged schema.

    Raises:
        ValueError: it exceeds a limit, or can't be sent as JSON in UTF-8.
    """
    _check_values(schema)
    try:
        encoded = json.dumps(schema, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise ValueError("must be plain JSON of whole Unicode characters") from None
    if len(encoded) > SCHEMA_BYTES_MAX:
        raise ValueError(f"must be at most {SCHEMA_BYTES_MAX} bytes of JSON, got {len(encoded)}")
    return schema


def _check_values(schema: dict[str, Any]) -> None:
    """Refuse schemas that are nested too deeply (the walk stops there), and numbers that take long to write each time
    that the schema is hashed, counted and sent.
    """
    levels, row = 1, [schema]
    while row:
        if levels > SCHEMA_LEVELS_MAX:
            raise ValueError(f"must be nested at most {SCHEMA_LEVELS_MAX} deep")
        inner: list[Any] = []
        for each in row:
            for one in each.values() if isinstance(each, dict) else each:
                if isinstance(one, dict | list):
                    inner.append(one)
                elif isinstance(one, int) and one.bit_length() > _NUMBER_BITS_MAX:
                    raise ValueError(f"must have no integers of more than {_NUMBER_BITS_MAX} bits")
        levels, row = levels + 1, inner
