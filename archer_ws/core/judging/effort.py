"""Estimates the work of checking a text against a schema, to decide whether the event loop may do it itself.

The estimate is an upper limit, found by counting. Schemas for which counting gives no limit get no estimate.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

#: The work that the event loop may do at once: 3 ms on a slow processor.
STEPS_MAX = 100_000
#: The sizes of a text and a schema that it may handle: parsing the text, or compiling the schema, takes at most 2 ms.
TEXT_CHARS_MAX, SCHEMA_CHARS_MAX = 32 * 1024, 8 * 1024

#: Keywords that may check a value any number of times, or at a cost that its size does not show (a multiple of 1e-300);
#: and those that change the meaning of references.
_UNCOUNTED = frozenset(
    {
        "$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveAnchor", "$recursiveRef", "contentEncoding",
        "contentMediaType", "id", "multipleOf", "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
#: Keywords that contain schemas by names that the client chose.
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
#: Keywords with a number that is compared with a count.
_SIZES = frozenset(
    {
        "maxContains", "maxItems", "maxLength", "maxProperties", "minContains", "minItems", "minLength",
        "minProperties",
    }
)  # fmt: skip
#: The engine compares numbers as exact fractions, and each item of a short list with each other one.
_STEPS_OF_A_NUMBER, _STEPS_OF_UNIQUENESS = 32, 200
#: Fractions of such numbers have hundreds of digits.
_HUGE_NUMBER = re.compile(r"\d{20}|\d[eE][-+]?\d{2}")
#: Schemas nested deeper than this, with references expanded, are not counted: a chain of references can have any
#: length.
_LEVELS_MAX = 64
#: Finding a length reads the text: so many bytes are as much work as checking one value.
_BYTES_OF_A_STEP = 64
#: Matching a light regular expression, at worst (one whose automaton does not fit its cache), for each byte.
_STEPS_OF_A_MATCHED_BYTE = 4
#: The work of making one finding, and of copying the value for it, as the engine does with all invalid values.
_STEPS_OF_A_FINDING, _STEPS_OF_A_COPY = 300, 2


@dataclass(frozen=True, slots=True)
class Places:
    """The size of a schema in which each reference is replaced by its target.

    Attributes:
        all: the number of its values; those that take longer to compare count more than once.
        patterns: the number of regular expressions among them.
    """

    all: int
    patterns: int


@lru_cache(32)
def places(schema: str) -> Places | None:
    """The size of a schema, given as JSON; None if it has no finite size, or the size does not limit the work."""
    counter = _Counter(json.loads(schema))
    return Places(*counter.total) if counter.counted and not _HUGE_NUMBER.search(schema) else None


def steps(schema: Places, text: str) -> int | None:
    """The upper limit of the steps for deciding whether a text is valid; a step is about 30 ns. None: no limit is
    known.

    Each place in the schema checks each value of the text at most once.
    """
    if _HUGE_NUMBER.search(text):
        return None
    looks = schema.all * (values(text) + len(text) // _BYTES_OF_A_STEP)
    return looks + schema.patterns * len(text) * _STEPS_OF_A_MATCHED_BYTE


def steps_of_findings(steps: int, text: str) -> int:
    """The upper limit of the steps for listing all errors, if deciding whether there is one takes `steps`."""
    return steps * (_STEPS_OF_A_FINDING + _STEPS_OF_A_COPY * values(text))


def values(text: str) -> int:
    """The upper limit of the values of a JSON text."""
    return 1 + text.count(",") + text.count("[") + text.count("{")


class _Counter:
    """Counts a schema's places. A reference that leads back to itself has no finite count.

    Attributes:
        counted: whether the count is finite.
        total: the number of all places, and of the regular expressions among them.
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
            # As a list: the names are not keywords.
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
        """The target of a JSON Pointer in a fragment (RFC 6901); other references make the schema uncountable."""
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
