"""What is wrong with a text by a schema, and what the event loop may find out itself."""

import json
from typing import Any

import grimp
import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archer_ws.core.judging import effort, engine
from archer_ws.core.judging.on_the_loop import judged_here

OBJECT = {"type": "object"}


def judged(text: str, schema: Any) -> list[engine.Finding] | None:
    return judged_here(text, json.dumps(schema))


def steps(schema: Any, text: str = "[]") -> int | None:
    size = effort.places(json.dumps(schema))
    return None if size is None else effort.steps(size, text)


def test_the_program_imports_nothing_of_ours() -> None:
    graph = grimp.build_graph("archer_ws", cache_dir=None)
    assert graph.find_modules_directly_imported_by("archer_ws.core.judging.engine") == set()


@pytest.mark.parametrize(
    "text",
    [
        "", "```json\n{}\n```", '{"a": 1', "{} {}", '{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 1}}', '{"a": NaN}',
        '{"a": -Infinity}', '{"a": "\\ud800"}', '{"\\udc00": 1}', '{"a": "\ud800"}', "{'a': 1}", '{"a": 01}',
        '{"a": ' + "[" * 10_000 + "]" * 10_000 + "}", "[" * 10_000, '{"a": ' + "9" * 5000 + "}",
    ],
)  # fmt: skip
def test_what_is_not_strictly_json_is_told_with_one_finding(text: str) -> None:
    with pytest.raises(engine.NotJson, match="not valid JSON"):
        engine.parsed(text)


def test_findings_have_paths_of_names_and_indices() -> None:
    schema = {"properties": {"a": {"items": {"type": "string"}}}, "required": ["b"], "additionalProperties": False}
    assert sorted(judged('{"a": ["x", 1], "c": 2}', schema) or ()) == [
        ("", '"b" is a required property'),
        ("", "Additional properties are not allowed ('c' was unexpected)"),
        ("a.1", 'it is not of type "string"'),
    ]


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"items": {"type": "integer"}}, json.dumps(["x" * 3000] * 5)),
        ({"additionalProperties": False}, json.dumps({"k" * 3000: 1})),
        ({"additionalProperties": {"type": "string"}}, json.dumps({"k" * 3000: 1})),
        ({"enum": ["e" * 3000]}, '"x"'),
        ({"items": {"type": "string"}}, json.dumps([1] * 100)),
    ],
)
def test_findings_are_few_and_short(schema: Any, text: str) -> None:
    found = engine.findings(engine.compiled(json.dumps(schema)), json.loads(text))
    assert 0 < len(found) <= engine.FINDINGS_MAX
    for path, message in found:
        assert len(path) <= engine.PATH_CHARS_MAX
        assert len(message) <= engine.MESSAGE_CHARS_MAX


def test_a_regular_expression_that_takes_too_long_decides_nothing() -> None:
    validator = engine.compiled(json.dumps({"pattern": r"(?:(a*)*)*b\1"}))
    with pytest.raises(engine.Undecided):
        engine.findings(validator, "a" * 300_000)


def bomb(levels: int) -> dict[str, Any]:
    """Each definition asks twice for the next."""
    definitions: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": definitions | {f"a{levels}": {"type": "integer"}}, "$ref": "#/$defs/a0"}


TOO_MUCH = {
    "a bomb of references": (bomb(22), "1"),
    "a reference to itself": ({"$ref": "#"}, "1"),
    "definitions in a circle": ({"$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, "1"),
    "recursion": ({"allOf": [{"items": {"$ref": "#"}}] * 2}, "[" * 30 + "]" * 30),
    "an anchor": ({"$defs": {"a": {"$anchor": "x"}}, "$ref": "#x"}, "1"),
    "many choices for many items": ({"items": {"enum": [[n] for n in range(1000)]}}, json.dumps([[999]] * 5000)),
    "many looks at many items": ({"allOf": [{"contains": {"const": n}} for n in range(500)]}, json.dumps([0] * 9000)),
    "unevaluated": ({"unevaluatedItems": False, "allOf": [{"contains": {"const": 1}}]}, "[1]"),
    "multiples": ({"multipleOf": 1e-300}, "1"),
    "a large number": ({"maximum": 10**400}, "1"),
    "large numbers": ({"items": {"maximum": 5}}, "[1e300]"),
    "a look-ahead": ({"pattern": r"(?=(a+)+b)"}, '"a"'),
    "a back-reference": ({"pattern": r"(a*)*b\1"}, '"a"'),
    "a heavy expression": ({"pattern": r"(\w{50}){50}"}, '"a"'),
    "an expression on a long text": ({"pattern": "^a+$"}, json.dumps("a" * 30_000)),
    "a long text": ({}, json.dumps("a" * 33_000)),
    "a long schema": ({"description": "a" * 17_000}, "1"),
    "findings beyond number": ({"items": {"type": "string"}}, json.dumps([1] * 5000)),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_could_hold_the_event_loop_is_left_to_the_child(name: str) -> None:
    schema, text = TOO_MUCH[name]
    engine.accept(schema)
    assert judged(text, schema) is None


def test_an_ordinary_answer_is_judged_at_once() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 100},
            "id": {"type": "integer"},
            "when": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "uniqueItems": True},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "required": ["name"],
        "additionalProperties": False,
        "$defs": {"tag": {"enum": ["a", "b", "c"]}},
    }
    assert judged('{"name": "Oslo", "id": 1, "when": "2024-01-01", "tags": ["a"], "score": 0.5}', schema) == []


CHAIN = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(1600)} | {"a1600": {}}


def test_a_chain_of_references_may_be_longer_than_our_stack() -> None:
    assert effort.places(json.dumps({"$defs": CHAIN, "$ref": "#/$defs/a0"})) is None


def test_each_reference_counts_as_what_it_names() -> None:
    one, two = steps(bomb(1)), steps(bomb(2))
    assert one
    assert two
    assert two > one
    assert (steps(bomb(12)) or 0) > 1000 * one


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
TYPES = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"])
SCHEMAS = st.recursive(
    st.booleans()
    | st.builds(lambda kind: {"type": kind}, TYPES)
    | st.builds(lambda value: {"const": value}, JSON)
    | st.sampled_from(
        [{"pattern": "^a"}, {"minLength": 2}, {"minimum": 0.5}, {"uniqueItems": True}, {"required": ["a"]}]
    ),
    lambda inner: (
        st.builds(
            lambda keyword, one, two: {keyword: {"a": one, "": two} if keyword in {"properties"} else [one, two]},
            st.sampled_from(["allOf", "anyOf", "oneOf", "prefixItems", "properties"]),
            inner,
            inner,
        )
        | st.builds(
            lambda keyword, one: {keyword: one},
            st.sampled_from(["not", "items", "contains", "additionalProperties", "propertyNames"]),
            inner,
        )
    ),
    max_leaves=8,
).map(lambda schema: schema if isinstance(schema, dict) else {"not": not schema})


@given(JSON, SCHEMAS)
def test_what_is_judged_at_once_is_what_the_engine_says_without_bounds(value: Any, schema: Any) -> None:
    engine.accept(schema)
    text = json.dumps(value)
    found = judged(text, schema)
    if found is not None:
        assert (found == []) == jsonschema_rs.is_valid(schema, json.loads(text))


@given(st.text() | JSON.map(json.dumps).flatmap(lambda text: st.integers(0, len(text)).map(lambda end: text[:end])))
def test_no_text_raises(text: str) -> None:
    judged(text, OBJECT)


@given(JSON)
def test_a_text_has_no_more_values_than_are_counted(value: Any) -> None:
    def count(one: Any) -> int:
        inner = one if isinstance(one, list) else one.values() if isinstance(one, dict) else ()
        return 1 + sum(map(count, inner))

    assert count(value) <= effort.values(json.dumps(value))


MANY_EXPRESSIONS = [{"pattern": f"a{{{n}}}"} for n in range(engine.PATTERNS_MAX + 1)]


@pytest.mark.parametrize(
    "schema",
    [
        {"default": {"allOf": MANY_EXPRESSIONS}, "$ref": "#/default"},
        {"const": [{"anyOf": MANY_EXPRESSIONS}], "$ref": "#/const/0"},
        {
            "properties": {"patternProperties": {each["pattern"]: True for each in MANY_EXPRESSIONS}},
            "$ref": "#/properties",
        },
    ],
)
def test_regular_expressions_count_wherever_a_reference_may_find_them(schema: dict[str, Any]) -> None:
    with pytest.raises(engine.SchemaRefused, match="regular expressions"):
        engine.accept(schema)


def test_what_looks_like_a_reference_in_a_value_is_none() -> None:
    engine.accept({"const": {"$ref": "https://example.com/a"}, "properties": {"$ref": {"type": "string"}}})


@pytest.mark.parametrize("place", [[{}], [[]], "a", 1])
def test_a_keyword_with_something_else_in_it_is_refused(place: Any) -> None:
    with pytest.raises(engine.SchemaRefused):
        engine.accept({"patternProperties": place})


@given(JSON)
def test_any_object_is_a_schema_or_refused(value: Any) -> None:
    schema = value if isinstance(value, dict) else {"items": value}
    try:
        engine.accept(schema)
    except engine.SchemaRefused:
        return
    judged("[1]", schema)
