"""Checks a text on the event loop, if that takes less than 5 ms."""

from archer_ws.core.judging.effort import (
    SCHEMA_CHARS_MAX,
    STEPS_MAX,
    TEXT_CHARS_MAX,
    places,
    steps,
    steps_of_findings,
)
from archer_ws.core.judging.engine import Finding, NotJson, SchemaRefused, compiled, findings, parsed


def judged_here(text: str, schema: str) -> list[Finding] | None:
    """What is wrong with a text; None if checking could take too long.

    Args:
        schema: as JSON; `accept` has accepted it.
    """
    needed = _steps(text, schema)
    if needed is None or needed > STEPS_MAX:
        return None
    try:
        validator, value = compiled(schema, light=True), parsed(text)
    except SchemaRefused:
        # Its regular expressions are not light.
        return None
    except NotJson as error:
        return [("", str(error))]
    if validator.is_valid(value):
        return []
    if steps_of_findings(needed, text) > STEPS_MAX:
        return None
    # This never raises Undecided: light regular expressions do not backtrack.
    return findings(validator, value)


def _steps(text: str, schema: str) -> int | None:
    if len(text) > TEXT_CHARS_MAX or len(schema) > SCHEMA_CHARS_MAX:
        return None
    size = places(schema)
    return None if size is None else steps(size, text)
