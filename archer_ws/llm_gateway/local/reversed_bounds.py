"""Refuses schemas with an upper limit below the lower one, before llama.cpp makes a grammar of them. Pure.

Its parser counts from the lower limit up to the upper one: with limits in the wrong order it adds rules until the
machine has no memory left, whether or not the request still waits (measured; ggml-org/llama.cpp, src/llama-grammar.cpp,
handle_repetitions). With such limits of an integer it fails in the middle of the completion.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from archer_ws.core.exceptions import FieldError, InvalidParams

#: The limits that its grammar has.
_LIMITS = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minimum", "maximum"))
#: A pattern's repetition, whose numbers Python converts fast.
_REPETITION = re.compile(r"\{(\d{1,18}),(\d{1,18})\}")


def refuse_reversed_bounds(schema: Mapping[str, Any], path: str) -> None:
    """Refuse a schema in which an upper limit is below the lower one.

    Args:
        schema: the schema.
        path: its place in the request.

    Raises:
        InvalidParams: at the limit's place.
    """
    for place, what in _reversed(schema, path):
        raise InvalidParams(
            f"{place}: {what}",
            hint="Correct the schema: no value is within these limits.",
            errors=[FieldError(path=place, message=what)],
        )


def _reversed(schema: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(schema, list):
        for position, each in enumerate(schema):
            yield from _reversed(each, f"{path}.{position}")
        return
    if not isinstance(schema, Mapping):
        return
    for lower, upper in _LIMITS:
        least, most = schema.get(lower), schema.get(upper)
        if isinstance(least, int | float) and isinstance(most, int | float) and most < least:
            yield f"{path}.{upper}", f"is less than {lower}"
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and any(int(most) < int(least) for least, most in _REPETITION.findall(pattern)):
        yield f"{path}.pattern", "has a repetition whose upper limit is less than its lower one"
    for key, each in schema.items():
        yield from _reversed(each, f"{path}.{key}")
