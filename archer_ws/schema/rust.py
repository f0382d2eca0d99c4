"""The shapes as Rust: serde structures and enumerations, which need only serde and serde_json.

A field that is always sent is not an Option. A field that a client may leave out is an Option, or, if the server has a
default for it, a plain value with that default; `new` takes the required fields. What only the server sends may grow
and is `#[non_exhaustive]`; what clients write is not, since they build it by its fields. A tagged union keeps unknown
members, and its tag is not a field of its members' structures: serde writes it. rust_frame.rs has the text around the
generated declarations.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from archer_ws.rpc.messages import NOTIFICATIONS, PROTOCOL_VERSION, SUBPROTOCOL
from archer_ws.schema.catalog import METHODS, type_name
from archer_ws.schema.shapes import (
    Alias,
    Arm,
    Enumeration,
    Field,
    ListOf,
    MapOf,
    Named,
    Scalar,
    Shape,
    Structure,
    Type,
    Union,
    Word,
)

_WIDTH = 96  # rustfmt's 100 less "/// "
_SCALARS = {
    "string": "String",
    "integer": "i64",
    "natural": "u64",
    "number": "f64",
    "boolean": "bool",
    "any": "Value",
}
_KEYWORDS = frozenset({"as", "box", "dyn", "enum", "fn", "impl", "in", "match", "mod", "move", "ref", "type", "use"})
#: Rarely present, and larger than the structure around it: an event without one should be small.
_BOXED = Named("ErrorInfo")
_FRAME = Path(__file__).with_name("rust_frame.rs")


def rust(shapes: Mapping[str, Shape], schema_hash: str) -> str:
    """The file's text; `schema_hash` names the document that it was generated from."""
    marks = {
        "SUBPROTOCOL": SUBPROTOCOL,
        "PROTOCOL_VERSION": str(PROTOCOL_VERSION),
        "SCHEMA_HASH": schema_hash,
        "VARIANTS": "".join(_variants()),
        "PARSED": "".join(_parsed()),
        "WRITTEN": "".join(_written()),
        "STREAM_IDS": "".join(_stream_ids(shapes)),
        "NUMBERS": "".join(_numbers(shapes)),
    }
    text = _FRAME.read_text("utf-8")
    for name, value in marks.items():
        text = text.replace(f"@{name}@", value.rstrip("\n"))
    unions = frozenset(shape.name for shape in shapes.values() if isinstance(shape, Union))
    declared = (f"\n{''.join(_declaration(shape, unions))}" for shape in shapes.values())
    return text + "".join(declared) + "".join(_methods())


def _variants() -> Iterator[str]:
    for name, model in NOTIFICATIONS.items():
        yield f"    /// `{name}`\n    {model.__name__}({model.__name__}),\n"


def _parsed() -> Iterator[str]:
    for name, model in NOTIFICATIONS.items():
        yield f'            "{name}" => known(&method, params).map(Self::{model.__name__}),\n'


def _written() -> Iterator[str]:
    for name, model in NOTIFICATIONS.items():
        yield f'            Self::{model.__name__}(params) => write(serializer, "{name}", Some(params)),\n'


def _stream_ids(shapes: Mapping[str, Shape]) -> Iterator[str]:
    for name, fields in _notified(shapes):
        if "stream_id" in fields:
            yield f"            Self::{name}(params) => Some(&params.stream_id),\n"


def _numbers(shapes: Mapping[str, Shape]) -> Iterator[str]:
    for name, fields in _notified(shapes):
        if "seq" in fields:
            first = "from" if "from" in fields else "seq"
            yield f"            Self::{name}(params) => Some((params.{first}, params.seq)),\n"


def _notified(shapes: Mapping[str, Shape]) -> Iterator[tuple[str, set[str]]]:
    """Each notification's type, and the names of its fields."""
    for model in NOTIFICATIONS.values():
        shape = shapes[model.__name__]
        assert isinstance(shape, Structure)
        yield model.__name__, {field.name for field in shape.fields}


def _methods() -> Iterator[str]:
    for method in METHODS:
        yield f"\nimpl Method for {type_name(method.name)}Params {{\n"
        yield f'    const NAME: &\'static str = "{method.name}";\n'
        yield f"    type Result = {method.result.__name__};\n}}\n"


def _declaration(shape: Shape, unions: Set[str]) -> Iterator[str]:
    match shape:
        case Enumeration():
            yield from _enumeration(shape)
        case Union():
            yield from _union(shape)
        case Alias():
            yield from _comment(shape.description, "")
            yield f"pub type {shape.name} = {_type(shape.type)};\n"
        case Structure():
            yield from _structure(shape, unions)


def _enumeration(enumeration: Enumeration) -> Iterator[str]:
    yield from _comment(enumeration.description, "")
    yield "#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]\n"
    if enumeration.is_open:
        yield "#[non_exhaustive]\n"
    yield f"pub enum {enumeration.name} {{\n"
    for value in enumeration.values:
        yield f'    /// `{value}`\n    #[serde(rename = "{value}")]\n    {type_name(value)},\n'
    if enumeration.is_open:
        yield "    /// A value of a newer server.\n    #[serde(untagged)]\n    Unknown(String),\n"
    yield "}\n\n"
    yield f"impl {enumeration.name} {{\n    /// The text on the wire.\n"
    yield "    pub fn as_str(&self) -> &str {\n        match self {\n"
    for value in enumeration.values:
        yield f'            Self::{type_name(value)} => "{value}",\n'
    if enumeration.is_open:
        yield "            Self::Unknown(text) => text,\n"
    yield "        }\n    }\n}\n\n"
    yield f"impl fmt::Display for {enumeration.name} {{\n"
    yield "    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {\n"
    yield "        formatter.write_str(self.as_str())\n    }\n}\n"


def _union(union: Union) -> Iterator[str]:
    has_words = any(isinstance(arm.type, Word) for arm in union.arms)
    yield from _comment(union.description, "")
    yield "#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]\n"
    if union.tag:
        yield f'#[serde(tag = "{union.tag}")]\n#[non_exhaustive]\n'
    elif not has_words:
        yield "#[serde(untagged)]\n"
    yield f"pub enum {union.name} {{\n"
    for arm in union.arms:
        if isinstance(arm.type, Word):
            yield f'    /// `{arm.type.text}`\n    #[serde(rename = "{arm.type.text}")]\n    {arm.name},\n'
            continue
        yield f"    /// {f'`{arm.tag}`' if arm.tag else _told(arm.type)}\n"
        if arm.tag:
            yield f'    #[serde(rename = "{arm.tag}")]\n'
        elif has_words:
            yield "    #[serde(untagged)]\n"
        yield f"    {arm.name}({_type(arm.type)}),\n"
    if union.tag:
        yield "    /// What is not known here, as it came.\n    #[serde(untagged)]\n    Unknown(Value),\n"
    yield "}\n"
    for arm in union.arms if union.tag is None else ():
        if not isinstance(arm.type, Word):
            yield from _conversion(union, arm)


def _conversion(union: Union, arm: Arm) -> Iterator[str]:
    sources = [("String", "value")]
    if arm.type == Scalar("string"):
        sources.append(("&str", "value.to_owned()"))
    else:
        sources = [(_type(arm.type), "value")]
    for source, value in sources:
        yield f"\nimpl From<{source}> for {union.name} {{\n    fn from(value: {source}) -> Self {{\n"
        yield f"        Self::{arm.name}({value})\n    }}\n}}\n"


def _told(kind: Type) -> str:
    match kind:
        case ListOf():
            return f"A list of {_type(kind.item)}."
        case Scalar("string"):
            return "Text."
        case _:
            return f"A {_type(kind)}."


def _structure(whole: Structure, unions: Set[str]) -> Iterator[str]:
    # What is always null says nothing; a tag is written by its union.
    fields = (field for field in whole.fields if field.type != Scalar("null") and not isinstance(field.type, Word))
    structure = replace(whole, fields=tuple(fields))
    has_required = any(field.is_required for field in structure.fields)
    is_plain = all(field.is_required or not field.default for field in structure.fields)
    derived = "Debug, Clone, PartialEq, Serialize, Deserialize"
    if structure.is_sent and not has_required and is_plain:
        derived = derived.replace("Clone", "Clone, Default")
    yield from _comment(structure.description, "")
    yield f"#[derive({derived})]\n"
    if not structure.is_sent:
        yield "#[non_exhaustive]\n"
    yield f"pub struct {structure.name} {{"
    if structure.fields:
        yield "\n"
    for field in structure.fields:
        yield from _field(structure, field)
    yield "}\n"
    if structure.is_sent and has_required:
        yield from _constructor(structure, unions)
    elif structure.is_sent and not is_plain:
        yield f"\nimpl Default for {structure.name} {{\n    fn default() -> Self {{\n        Self {{\n"
        yield from (f"            {_identifier(field)}: {_absent(field)},\n" for field in structure.fields)
        yield "        }\n    }\n}\n"
    for field in structure.fields:
        if structure.is_sent and field.default:
            yield f"\nfn {_default_function(structure, field)}() -> {_type(field.type)} {{\n"
            yield f"    {_literal(field.default)}\n}}\n"


def _field(structure: Structure, field: Field) -> Iterator[str]:
    description, kind = field.description, _type(field.type)
    attribute = ""
    if field.default is not None:
        shown = json.dumps(field.default) if isinstance(field.default, str) else _literal(field.default)
        description += f" Default: {shown}."
        attribute = f'default = "{_default_function(structure, field)}"' if field.default else "default"
    elif not field.is_required:
        kind = f"Option<Box<{kind}>>" if field.type == _BOXED else f"Option<{kind}>"
        attribute = 'default, skip_serializing_if = "Option::is_none"'
    yield from _comment(description, "    ")
    if attribute:
        yield f"    #[serde({attribute})]\n"
    yield f"    pub {_identifier(field)}: {kind},\n"


def _constructor(structure: Structure, unions: Set[str]) -> Iterator[str]:
    required = [field for field in structure.fields if field.is_required]
    arguments = ", ".join(f"{_identifier(field)}: {_argument(field.type, unions)}" for field in required)
    yield f"\nimpl {structure.name} {{\n"
    yield "    /// With what must be given, and nothing else.\n"
    yield f"    pub fn new({arguments}) -> Self {{\n        Self {{\n"
    for field in structure.fields:
        name = _identifier(field)
        if not field.is_required:
            yield f"            {name}: {_absent(field)},\n"
        elif _is_converted(field.type, unions):
            yield f"            {name}: {name}.into(),\n"
        else:
            yield f"            {name},\n"
    yield "        }\n    }\n}\n"


def _argument(kind: Type, unions: Set[str]) -> str:
    return f"impl Into<{_type(kind)}>" if _is_converted(kind, unions) else _type(kind)


def _is_converted(kind: Type, unions: Set[str]) -> bool:
    """Whether `new` takes whatever can become it."""
    return kind == Scalar("string") or (isinstance(kind, Named) and kind.name in unions)


def _absent(field: Field) -> str:
    return "None" if field.default is None else _literal(field.default)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return f"{json.dumps(value)}.to_owned()"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _default_function(structure: Structure, field: Field) -> str:
    return f"default_{structure.name.lower()}_{field.name}"


def _identifier(field: Field) -> str:
    return f"r#{field.name}" if field.name in _KEYWORDS else field.name


def _type(kind: Type) -> str:
    match kind:
        case Scalar():
            return _SCALARS[kind.kind]
        case Named():
            return kind.name
        case Word():
            return "String"
        case ListOf():
            return f"Vec<{_type(kind.item)}>"
        case MapOf(value=Scalar(kind="any")):
            return "Map<String, Value>"
        case MapOf():
            return f"BTreeMap<String, {_type(kind.value)}>"


def _comment(text: str, indent: str) -> Iterator[str]:
    for paragraph in text.split("\n") if text else ():
        for line in textwrap.wrap(paragraph, _WIDTH - len(indent)) or [""]:
            yield f"{indent}/// {line}".rstrip() + "\n"
