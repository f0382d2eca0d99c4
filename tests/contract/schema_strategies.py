"""Hypothesis strategies made from the schemas of what clients send: values that fit, and values that nearly do."""

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

SAFE_INTEGER = 2**53 - 1
#: How deep values without a schema of their own go.
_LEAVES = 6

whole_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE_INTEGER, SAFE_INTEGER) | st.floats(-1e9, 1e9) | whole_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(whole_text, inner, max_size=3),
    max_leaves=_LEAVES,
)
#: What no field wants; the escapes of lone surrogates and what is no JSON at all come out of `json.dumps` as they are.
junk = st.one_of(
    json_values,
    st.sampled_from(
        [
            *(2**53, -(2**63), 10**400, 1e308, float("nan"), float("inf"), True, "", "\ud800", {"\udfff": 1}, "\x00"),
            *("x" * 5000, [[]], {"a": {"b": [None]}}, "null", -1, 0, 1.5),
        ]
    ),
    st.sampled_from([1, 50, 150, 300]).map(lambda depth: json.loads("[" * depth + "]" * depth)),
)


def fitting(schema: dict[str, Any], components: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit the schema; it knows the keywords that our requests use, and refuses others."""
    match schema:
        case {"$ref": reference}:
            found = fitting(components[reference.rpartition("/")[2]], components)
        case {"enum": values}:
            found = st.sampled_from(values)
        case {"const": value}:
            found = st.just(value)
        case {"anyOf": branches}:
            found = st.one_of([fitting(branch, components) for branch in branches])
        case {"type": "object"}:
            found = _objects(schema, components)
        case {"type": "array", "items": items}:
            most = min(schema.get("maxItems", 3), 3)
            found = st.lists(fitting(items, components), min_size=schema.get("minItems", 0), max_size=most)
        case {"type": kind}:
            found = _SCALARS[kind](schema)
        case _:
            raise NotImplementedError(str(schema))
    return found


def _strings(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    least = schema.get("minLength", 0)
    most = max(least, min(schema.get("maxLength", 20), 20))
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=most)


def _floats(schema: dict[str, Any]) -> st.SearchStrategy[float]:
    least = schema.get("minimum", schema.get("exclusiveMinimum", -1e9))
    return st.floats(least, schema.get("maximum", 1e9), exclude_min="exclusiveMinimum" in schema)


_SCALARS: dict[str, Callable[[dict[str, Any]], st.SearchStrategy[Any]]] = {
    "string": _strings,
    "number": _floats,
    "integer": lambda schema: st.integers(schema.get("minimum", -SAFE_INTEGER), schema.get("maximum", SAFE_INTEGER)),
    "boolean": lambda _: st.booleans(),
    "null": lambda _: st.none(),
}


def _objects(schema: dict[str, Any], components: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        return st.dictionaries(whole_text, json_values, max_size=3)
    fields = {name: fitting(each, components) for name, each in schema["properties"].items()}
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: each for name, each in fields.items() if name in required},
        optional={name: each for name, each in fields.items() if name not in required},
    )


@st.composite
def spoiled(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> Any:
    """A value with one place changed: another value, a field left out, or one too many."""
    value = copy.deepcopy(draw(values))
    places = list(_places(value))
    if not places:
        return draw(junk)
    holder, key = draw(st.sampled_from(places))
    match draw(st.sampled_from(["change", "drop", "add"])):
        case "change":
            holder[key] = draw(junk)
        case "drop":
            del holder[key]
        case _ if isinstance(holder, dict):
            holder[draw(whole_text)] = draw(junk)
        case _:
            holder.append(draw(junk))
    return value


def _places(value: Any) -> Any:
    """Every field and item, with what holds it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)
