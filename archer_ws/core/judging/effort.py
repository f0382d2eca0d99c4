"""How much work it is at most to judge a text by a schema: what the event loop may do itself, and what it may not.

An estimate from above, by counting. Nothing is said of schemas for which counting gives no bound.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

#: What the event loop may do at once: 3 ms, on a slow processor.
STEPS_MAX = 100_000
#: A text and a schema that it may look at at all: parsing the one, or compiling the other, takes 2 ms at worst.
TEXT_CHARS_MAX, SCHEMA_CHARS_MAX = 32 * 1024, 8 * 1024

#: Keywords by which a value may be looked at any number of times, or at a cost that its size does not tell (a multiple
#: of 1e-300); and those that change what a reference means.
_UNCOUNTED = frozenset(
    {
        "$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveAnchor", "$recursiveRef", "contentEncoding",
        "contentMediaType", "id", "multipleOf", "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
#: Keywords that hold schemas by names of the client's.
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
#: Keywords whose number is compared with a count.
_SIZES = frozenset(
    {
        "maxContains", "maxItems", "maxLength", "maxProperties", "minContains", "minItems", "minLength",
        "minProperties",
    }
)  # fmt: skip
#: The engine compares numbers as exact fractions; and the items of short lists each with each.
_STEPS_OF_A_NUMBER, _STEPS_OF_UNIQUENESS = 32, 200
#: Fractions of these have hundreds of digits.
_HUGE_NUMBER = re.compile(r"\d{20}|\d[eE][-+]?\d{2}")
#: Schemas nested deeper, with references written out, are not counted: a chain of references can have any length.
_LEVELS_MAX = 64
#: Finding a length reads the text: so many bytes are as much work as one look at a value.
_BYTES_OF_A_STEP = 64
#: Matching a light regular expression, at worst (one whose automaton does not fit its cache), for each byte.
_STEPS_OF_A_MATCHED_BYTE = 4
#: Making one finding; and copying a value for it, as the engine does with all it finds wrong.
_STEPS_OF_A_FINDING, _STEPS_OF_A_COPY = 300, 2


@dataclass(frozen=True, slots=True)
class Places:
    """The size of a schema in which each reference is replaced by what it names.

    Attributes:
        all: how many values it has; those that take longer to compare count more than once.
        patterns: how many of them are regular expressions.
    """

    all: int
    patterns: int


@lru_cache(32)
def places(schema: str) -> Places | None:
    """The size of a schema, given as JSON; None where it has none, or where it tells nothing about the work."""
    counter = _Counter(json.loads(schema))
    return Places(*counter.total) if counter.counted and not _HUGE_NUMBER.search(schema) else None


def steps(schema: Places, text: str) -> int | None:
    """The most steps it takes to know whether a text is valid; a step is about 30 ns. None: no bound is known.

    Each place of the schema looks at each value of the text at most once.
    """
    if _HUGE_NUMBER.search(text):
        return None
    looks = schema.all * (values(text) + len(text) // _BYTES_OF_A_STEP)
    return looks + schema.patterns * len(text) * _STEPS_OF_A_MATCHED_BYTE


def steps_of_findings(steps: int, text: str) -> int:
    """The most steps it takes to list all that is wrong, where knowing whether something is takes `steps`."""
    return steps * (_STEPS_OF_A_FINDING + _STEPS_OF_A_COPY * values(text))


def values(text: str) -> int:
    """The most values that a JSON text can have."""
    return 1 + text.count(",") + text.count("[") + text.count("{")


class _Counter:
    """Counts a schema's places. A reference that leads back to itself has no end, and so no count.

    Attributes:
        counted: whether there is a count.
        total: of all places, and of the regular expressions among them.
    """

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        #: By reference; None while it is being counted.
        self._known: dict[str, tuple[int, int] | None] = {}
        self.counted = True
        self._levels = 0
        self.total = self._count(schema)

    def _count(self, value: Any) -> tuple[int, int]:
        match value:
            case bool():
                return 1, 0
            case int() | float():
                return _STEPS_OF_A_NUMBER, 0
            case dict() | list() if self.counted:
                self._levels += 1
                self.counted = self._levels <= _LEVELS_MAX
                places, patterns = self._count_inner(value)
                self._levels -= 1
                return places, patterns
        return 1, 0

    def _count_inner(self, value: dict[str, Any] | list[Any]) -> tuple[int, int]:
        if isinstance(value, list):
            parts = [self._count(each) for each in value]
        else:
            parts = [self._count_keyword(name, each) for name, each in value.items()]
        return 1 + sum(part[0] for part in parts), sum(part[1] for part in parts)

    def _count_keyword(self, name: str, value: Any) -> tuple[int, int]:
        self.counted = self.counted and name not in _UNCOUNTED
        if name == "$ref" and isinstance(value, str):
            return self._count_target(value)
        if name in _SIZES and isinstance(value, int):
            return 1, 0
        if name in _MAPS and isinstance(value, dict):
            # As a list: the names are no keywords.
            places, patterns = self._count(list(value.values()))
        else:
            places, patterns = self._count(value)
        if name == "uniqueItems":
            places += _STEPS_OF_UNIQUENESS
        if name == "patternProperties" and isinstance(value, dict):
            patterns += len(value)
        return places, patterns + (name == "pattern")

    def _count_target(self, reference: str) -> tuple[int, int]:
        if reference not in self._known:
            self._known[reference] = None
            self._known[reference] = self._count(self._target(reference))
        known = self._known[reference]
        if known is None:
            self.counted = False
            return 1, 0
        return known

    def _target(self, reference: str) -> Any:
        """What a JSON Pointer in a fragment names (RFC 6901); whatever else it may be, there is no count."""
        place: Any = self._schema
        if reference == "#":
            return place
        for escaped in reference.removeprefix("#/").split("/"):
            step = escaped.replace("~1", "/").replace("~0", "~")
            if isinstance(place, dict) and step in place:
                place = place[step]
            else:
                self.counted = False
                return None
        return place
