"""How much work it is at most to judge a text by a schema: what the event loop may do itself, and what it may not.

An estimate from above, by counting. Nothing is said of schemas for which counting gives no bound.
"""

from typing import Any

#: Keywords by which a value may be looked at any number of times, or at a cost that its size does not tell (a multiple
#: of 1e-300); and those that change what a reference means.
_UNCOUNTED = frozenset(
    {
        "$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveAnchor", "$recursiveRef", "contentEncoding",
        "contentMediaType", "id", "multipleOf", "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
#: Schemas nested deeper, with references written out, are not counted: a chain of references can have any length.
_LEVELS_MAX = 64
#: Finding a length reads the text: so many bytes are as much work as one look at a value.
_BYTES_OF_A_STEP = 64
#: Matching a light regular expression, at worst (one whose automaton does not fit its cache), for each byte.
_STEPS_OF_A_MATCHED_BYTE = 4


def steps(schema: dict[str, Any], text: str) -> int | None:
    """The most steps it takes to know whether the text is valid; a step is about 30 ns. None: there is no bound.

    Each place of the schema, with references written out, looks at each value of the text at most once.
    """
    places = _Places(schema)
    if not places.counted:
        return None
    looks = places.all * (values(text) + len(text) // _BYTES_OF_A_STEP)
    return looks + places.patterns * len(text) * _STEPS_OF_A_MATCHED_BYTE


def values(text: str) -> int:
    """The most values that a JSON text can have."""
    return 1 + text.count(",") + text.count("[") + text.count("{")


class _Places:
    """Counts the values in a schema as if each reference were replaced by what it names; recursion has no end.

    Attributes:
        counted: whether there is a count.
        all: how many.
        patterns: how many of them are regular expressions.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        #: By reference; None while it is being counted.
        self._known: dict[str, tuple[int, int] | None] = {}
        self.counted = True
        self._levels = 0
        self.all, self.patterns = self._count(schema)

    def _count(self, value: Any) -> tuple[int, int]:
        if not self.counted or not isinstance(value, dict | list):
            return 1, 0
        self._levels += 1
        self.counted = self._levels <= _LEVELS_MAX
        places, patterns = self._count_inner(value)
        self._levels -= 1
        return places, patterns

    def _count_inner(self, value: dict[str, Any] | list[Any]) -> tuple[int, int]:
        if isinstance(value, list):
            parts = [self._count(each) for each in value]
        else:
            parts = [self._count_keyword(name, each) for name, each in value.items()]
        return 1 + sum(part[0] for part in parts), sum(part[1] for part in parts)

    def _count_keyword(self, name: str, value: Any) -> tuple[int, int]:
        if name in _UNCOUNTED:
            self.counted = False
        if name == "$ref" and isinstance(value, str):
            return self._count_target(value)
        places, patterns = self._count(value)
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
